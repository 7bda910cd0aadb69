"""The measurements of leases.py: each notes its figures by name and engine.

`args` are those of leases.py; `figures.note(name, engine, value)` takes a figure of a round.
"""

import contextlib
import itertools
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import pair
from dhcp import SERVERS, perfdhcp as run_perfdhcp
from pair import (BINARIES, CLIENT_CPU, CLIENT_IP, INVALID, ROOT, SERVER_CPU, SERVER_IP, Lab, core_busy, generate, most_resident, resident,
                  running, serve, sh, stop, threads_cpu)
from storms import NETWORK, play

sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))

import wire  # noqa: E402 - the path above comes first
from lab import inside  # noqa: E402

POOL = "10.80.0.0-10.127.255.250"  # 3,145,723 addresses
RESERVED = "10.72.0.0"  # reservations count up from here, outside of the pool
RESERVATIONS, LEASES = 200_000, 1_000_000
# For a million hosts, which begin where the pool does otherwise.
HALF_A_POOL, MANY_RESERVED = "10.96.0.0-10.127.255.250", "10.80.0.0"
RELAYED = "10.77.0.3"  # the relay agent behind which the excess comes
IN_FLIGHT, SECONDS = 256, 4
TRIES = 5
OURS = {"uring": "bootstorm", "mmsg": "bootstorm-mmsg"}  # as the other scripts call it
PERFDHCP = ("-g", "single", "-W", "1000000")


def bootstorm(directory, engine, shards=1, reservations=0, form="toml", options=False, pool=POOL, first=RESERVED):
    """Its command line, with a state directory inside `directory`. Reservations stand in the
    configuration, or with `form` csv in a host file; with `form` dhcpd all is in dhcpd's language.
    With `options` each has one of its own."""
    dhcp, hosts = "", written_hosts(reservations, form, options, first)
    if form == "dhcpd":
        low, high = pool.split("-")
        text = "ping-check off;\ndefault-lease-time 43200;\n" + f"subnet 10.64.0.0 netmask 255.192.0.0 {{ range {low} {high}; }}\n"
        return [f"{pair.BINARIES}/bootstorm", "serve", "--state-dir", f"{directory}/state", "--interface", "vs",
                "--config", pair.write(directory, "dhcpd.conf", text + hosts)]
    if form == "csv":
        dhcp, hosts = 'host-file = "hosts.csv"', pair.write(directory, "hosts.csv", hosts) and ""
    return pair.bootstorm(directory, [("10.64.0.0/10", pool)], engine=engine, shards=shards, lease_time="12h", dhcp=dhcp, rest=hosts)


def written_hosts(number, form, options, first):
    """Reservations as the configuration or a host file has them."""
    first = int.from_bytes(socket.inet_aton(first), "big")
    rows = ["name,hardware,ip" + ",host-name" * options + "\n"] if form == "csv" else []
    for host in range(number):
        mac = ":".join(f"{byte:02x}" for byte in (0x02_5e_00_000000 + host).to_bytes(6, "big"))
        ip = socket.inet_ntoa((first + host).to_bytes(4, "big"))
        if form == "csv":
            rows.append(f"node{host},{mac},{ip}" + f",rack{host}" * options + "\n")
        elif form == "dhcpd":
            rows.append(f"host node{host} {{\n  hardware ethernet {mac};\n  fixed-address {ip};\n"
                        + f'  option host-name "rack{host}";\n' * options + "}\n")
        else:
            rows.append(f'[[dhcp.host]]\nname = "node{host}"\nhardware = "{mac}"\nip = "{ip}"\n'
                        + f'options = {{ host-name = "rack{host}" }}\n' * options)
    return "".join(rows)


def fresh(directory, name, counter=itertools.count(1)):
    """A folder for one trial."""
    path = os.path.join(directory, f"{name}{next(counter)}")
    os.makedirs(path)
    return path


@contextlib.contextmanager
def lab_for_many():
    """A lab whose network has room for millions of clients, and a second relay agent."""
    with Lab(prefix=10) as lab:
        sh("ip", "-n", lab.client, "addr", "add", f"{RELAYED}/10", "dev", "vc")
        yield lab


def valid(args, lab, *words, counters=(), **how):
    """The report of the first run that says something, and how far each counter moved in it."""
    for _ in range(TRIES):
        before = [counter() for counter in counters]
        report, status = generate(lab, *words, **how)
        if status != INVALID or args.anyway:
            return report, *(counter() - old for counter, old in zip(counters, before))
        print(f"       thrown away: {'; '.join(report['invalid_because'])}", flush=True)
    sys.exit(f"{TRIES} runs in a row were not valid: {' '.join(map(str, words))}")


class Costs:
    """DORAs of one run: how many a second, and what each took of processor time in µs."""

    def __init__(self, args, lab, process, *words, cpus=CLIENT_CPU, cores=(SERVER_CPU,)):
        counters = (lambda: threads_cpu(process), lambda: sum(map(core_busy, cores)))
        report, threads, core = valid(args, lab, "dora", "--seconds", SECONDS, "--no-own-latency", *words, counters=counters, cpus=cpus)
        self.rate = report["dhcp"]["exchanges_per_second"]
        count = self.rate * report["run"]["seconds"]
        self.threads, self.core = threads / count * 1e6, core / count * 1e6


def echo(engine):
    """A bare echo of 300 bytes: how many a second, µs of the server's thread and of its core."""
    with subprocess.Popen([f"{BINARIES}/packet-engine", "echo", "1", engine], stdout=subprocess.PIPE, text=True) as process:
        time.sleep(0.7)  # it warms up for 0.3 s, then it measures for 1.5 s
        busy, began = core_busy(), time.monotonic()
        time.sleep(0.8)
        share = (core_busy() - busy) / (time.monotonic() - began)
        found = re.search(rf"median {engine}: ([0-9.]+)/s, ([0-9.]+) us", process.communicate()[0])
    rate = float(found[1])
    return rate, float(found[2]), share / rate * 1e6


def cost(args, figures, directory):
    with lab_for_many() as lab:
        for _, engine in itertools.product(range(args.rounds), args.engines):
            rate, threads, core = echo(engine)
            with running(lab, bootstorm(fresh(directory, "cost"), engine)) as process:
                generate(lab, "dora", "--seconds", 1, "--in-flight", IN_FLIGHT, "--no-own-latency")
                dora = Costs(args, lab, process, "--in-flight", IN_FLIGHT)
            figures.note("bare echo, a second", engine, rate)
            figures.note("bare echo, µs of its thread", engine, threads)
            figures.note("bare echo, µs of the whole core", engine, core)
            figures.note("DORA, a second", engine, dora.rate)
            figures.note("DORA, µs of the server's threads", engine, dora.threads)
            figures.note("DORA, µs of the whole core", engine, dora.core)
            figures.note("processor time, threads, of two echoes", engine, dora.threads / threads / 2)
            figures.note("processor time, whole core, of two echoes", engine, dora.core / core / 2)
            figures.note("rate, of half the echo", engine, dora.rate / rate * 2)


def perfdhcp(args, figures, directory):
    """What it loses with a server that answers at once and keeps nothing is its own loss."""
    bare = [f"{BINARIES}/responder", "--listen", SERVER_IP, "--net", "10.77.0.0/16"]
    with Lab() as lab:
        for _, engine in itertools.product(range(args.rounds), args.engines):
            for name, argv in (("perfdhcp at 16,000/s of the bare responder", [*bare, "--engine", engine]),
                               ("perfdhcp at 16,000/s", SERVERS[OURS[engine]]().start(lab, fresh(directory, "perfdhcp")))):
                with running(lab, argv):
                    run_perfdhcp(lab, 50, 1, 60000)  # the first packets pay for ARP
                    loss, done = run_perfdhcp(lab, 16000, 6, 60000, *PERFDHCP)
                figures.note(f"{name}, lost, %", engine, loss * 100)
            figures.note("perfdhcp at 16,000/s, done a second", engine, done)


def find_limit(lab, argv, start, within, args):
    """What find-limit found: `load`, `bound` and so on, as in its report; None where not even the
    lowest load is met. When the time is over, the load is not confirmed."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "report.json")
        command = ["ip", "netns", "exec", lab.client, "taskset", "-c", CLIENT_CPU, f"{BINARIES}/bootstorm-load", "find-limit",
                   "--server", SERVER_IP, "--interface", "vc", "--start", str(start), "--seconds", "3", "--within", within, "--confirm",
                   "1", "--confirm-seconds", str(args.confirm_seconds), "--json", path]
        with running(lab, argv, settle=2), subprocess.Popen(command, text=True, stdout=subprocess.PIPE) as search:
            timer = threading.Timer(args.search_seconds, search.send_signal, [signal.SIGINT])
            timer.start()
            for line in search.stdout:
                print(f"       {line.rstrip()}", flush=True)
            timer.cancel()
        if not os.path.exists(path):
            return None
        with open(path) as text:
            return json.load(text)["limit"]


def limit(args, figures, directory):
    limits = {}
    with Lab() as lab:
        # The same pool for all, of 64,000 addresses.
        for name, start, within in (*((engine, 16000, args.within) for engine in args.engines), ("kea", 4000, "20%"), ("dhcpd", 100, "20%")):
            if name in args.engines and args.limit:
                limits[name] = {"load": args.limit}
            elif name in args.engines or name in args.peers:
                argv = SERVERS[OURS.get(name, name)]().start(lab, fresh(directory, name))
                limits[name] = find_limit(lab, argv, start, within, args)
    for engine in args.engines:
        if not limits[engine] or args.limit:
            continue
        figures.note("find-limit, DORA/s", engine, limits[engine]["load"])
        figures.note("find-limit is a lower bound (1) or the limit (0)", engine, int(limits[engine]["bound"] == "lower"))
        for peer, name in (("kea", "of Kea's"), ("dhcpd", "of dhcpd's")):
            if limits.get(peer):
                figures.note(f"find-limit of {peer}, DORA/s", engine, limits[peer]["load"])
                figures.note(f"find-limit, {name}", engine, limits[engine]["load"] / limits[peer]["load"])
    with lab_for_many() as lab:
        for _, engine in itertools.product(range(args.rounds), args.engines):
            if limits[engine]:
                at_the_limit(args, lab, figures, directory, engine, limits[engine]["load"])


def at_the_limit(args, lab, figures, directory, engine, limit):
    """One round of latency at half of the limit, and of what is done beyond it."""
    with running(lab, bootstorm(fresh(directory, "half"), engine)):
        report, = valid(args, lab, "dora", "--rate", limit / 2, "--seconds", 6)
        latency, generator = report["latency"], report["generator"]
        figures.note("p99 of any answer at half of the limit, ms", engine, latency["answer"]["p99"])
        figures.note("p99 of an ACK at half of the limit, ms", engine, latency["ack"]["p99"])
        figures.note("p99.9 of how late the generator itself was then, ms", engine, generator["p999_delay"])
        figures.note("the latest that it was, ms", engine, generator["worst_delay"])
        if generator["own_latency"]:
            figures.note("p99 of the generator with a bare responder, ms", engine, generator["own_latency"]["p99"])
    for times in (2, 3):
        for _ in range(TRIES):
            with running(lab, bootstorm(fresh(directory, "over"), engine)):
                done, sent = overloaded(lab, limit, limit * (times - 1))
            if sent > 0.95 or args.anyway:
                break
            print(f"       thrown away: {sent:.0%} of the excess was sent", flush=True)
        figures.note(f"done at {times} times the limit, of it", engine, done / limit)
        figures.note(f"excess at {times} times the limit, of what was asked for", engine, sent)


def overloaded(lab, rate, excess):
    """DORAs a second that are done at a rate beside an excess of DISCOVERs, and the share of these
    that was sent. What the generator thinks of such a run does not count: it loses, of course."""
    beside = subprocess.Popen(
        ["ip", "netns", "exec", lab.client, "taskset", "-c", CLIENT_CPU, f"{BINARIES}/excess", "--server", SERVER_IP, "--relay",
         RELAYED, "--rate", str(excess), "--seconds", str(SECONDS + 2)], stdout=subprocess.PIPE, text=True)
    time.sleep(0.5)
    report, _ = generate(lab, "dora", "--rate", rate, "--seconds", SECONDS, "--no-own-latency")
    told = json.loads(beside.communicate()[0])
    return report["dhcp"]["exchanges_per_second"], told["sent"] / (told["sent"] + told["too_late"])


def hall(args, figures, directory):
    for _, engine in itertools.product(range(min(args.rounds, 2)), args.engines):
        path = os.path.join(fresh(directory, "hall"), "report.json")
        words = ["storm", "--scenario", "hall-10k", "--set", "limit=3m", "-q"]
        with Lab() as lab:
            sh("ip", "-n", lab.server, "route", "add", f"{NETWORK}/16", "via", CLIENT_IP)
            for _ in range(TRIES):
                if play(lab, OURS[engine], None, words, path) != INVALID:
                    break
        with open(path) as text:
            report = json.load(text)
        figures.note("hall-10k, p99 of an ACK, ms", engine, report["latency"]["ack"]["p99"])
        figures.note("hall-10k, p99 of an OFFER, ms", engine, report["latency"]["offer"]["p99"])
        figures.note("hall-10k, machines up", engine, report["machines"]["up"])


def shards(args, figures, directory):
    with lab_for_many() as lab:
        for _, engine in itertools.product(range(args.rounds), args.engines):
            one, two = (shared(args, lab, fresh(directory, "shards"), engine, number) for number in (1, 2))
            figures.note("two shards, µs of the server's threads", engine, two.threads)
            figures.note("two shards, processor time, of one's", engine, two.threads / one.threads)


def shared(args, lab, directory, engine, number):
    with running(lab, bootstorm(directory, engine, shards=number), cpus="0,1") as process:
        return Costs(args, lab, process, "--rate", 10_000, cpus="0,1", cores=(SERVER_CPU, CLIENT_CPU))


def first_offer(lab, argv, cold=True):
    """Starts a server: seconds until it answers a DISCOVER, and its process."""
    if cold:
        os.sync()
        with open("/proc/sys/vm/drop_caches", "w") as drop:
            drop.write("3\n")
    with inside(lab.client):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.bind((CLIENT_IP, 67))
    began = time.monotonic()
    process = serve(lab, argv, subprocess.DEVNULL)
    with client:
        for number in itertools.count(1):
            mac = "02:5f:" + ":".join(f"{byte:02x}" for byte in number.to_bytes(4, "big"))
            with contextlib.suppress(OSError):
                client.sendto(wire.message("DISCOVER", mac, number, giaddr=CLIENT_IP, hops=1), (SERVER_IP, 67))
            if select.select([client], [], [], 0.02)[0] and heard(client):
                return time.monotonic() - began, process
            if process.poll() is not None or number > 6000:
                sys.exit(f"no OFFER: {' '.join(argv)}")


def heard(client):
    """Whether an OFFER came; before the server listens there are only ICMP errors."""
    with contextlib.suppress(OSError):
        return wire.Message(client.recv(4096)).kind == "OFFER"
    return False


def hosts(args, figures, directory):
    with lab_for_many() as lab:
        for engine in args.engines:
            argv = bootstorm(fresh(directory, "hosts"), engine, reservations=RESERVATIONS)
            for _ in range(args.rounds):
                seconds, process = first_offer(lab, argv)
                figures.note("200,000 reservations, start, s", engine, seconds)
                figures.note("200,000 reservations, MiB", engine, resident(process))
                stop(process)
        # How they are written makes a difference, and the engine none.
        engine = args.engines[0]
        for number in (RESERVATIONS, LEASES):
            for form, options in itertools.product(("toml", "csv", "dhcpd"), (False, True)):
                many_hosts(lab, figures, fresh(directory, "hosts"), engine, number, form, options)


def many_hosts(lab, figures, directory, engine, number, form, options):
    """Memory after a start, and the most that a reload of the same hosts takes."""
    name = f"{number:,} hosts, {form.upper()}{', an option each' * options}"
    argv = bootstorm(directory, engine, reservations=number, form=form, options=options, pool=HALF_A_POOL, first=MANY_RESERVED)
    seconds, process = first_offer(lab, argv)
    loaded = resident(process)
    state = ["--state-dir", f"{directory}/state"] * (form == "dhcpd")
    sh(argv[0], "reload", *state, "--config", argv[-1])
    figures.note(f"{name}: start, s", engine, seconds)
    figures.note(f"{name}: MiB", engine, loaded)
    figures.note(f"{name}: most MiB in a reload, of that", engine, most_resident(process) / loaded)
    stop(process)


def active(argv):
    """How many leases are active, by the server's own word."""
    return json.loads(sh(argv[0], "status", "--json", "--config", argv[-1]).stdout)["leases"]["active"]


def fill(lab, argv, machines):
    """Has so many machines fetch a lease."""
    load = subprocess.Popen(
        ["ip", "netns", "exec", lab.client, "taskset", "-c", CLIENT_CPU, f"{BINARIES}/bootstorm-load", "dora", "--server", SERVER_IP,
         "--interface", "vc", "-q", "--machines", str(machines), "--in-flight", "512", "--seconds", "600", "--no-own-latency"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while active(argv) < machines and load.poll() is None:
        time.sleep(1)
    load.send_signal(signal.SIGINT)
    load.wait()


def million(args, figures, directory):
    with lab_for_many() as lab:
        for engine in args.engines:
            folder = fresh(directory, "million")
            argv = bootstorm(folder, engine)
            _, process = first_offer(lab, argv)
            fill(lab, argv, LEASES)
            figures.note("1,000,000 leases, MiB", engine, resident(process))
            for _ in range(args.rounds):
                process = starts(lab, argv, process, figures, engine)
            stop(process)
            for number in range(args.rounds):
                figures.note("1,000,000 leases and 200,000 reservations, rate, of empty", engine,
                             full_beside_empty(args, directory, lab, folder, engine, number))
            shutil.rmtree(folder)


def starts(lab, argv, process, figures, engine):
    """One start after each way to end, with a cold cache; the process of the last."""
    for how, end in (("SIGTERM", signal.SIGTERM), ("SIGKILL", signal.SIGKILL)):
        process.send_signal(end)
        process.wait()
        seconds, process = first_offer(lab, argv)
        figures.note(f"1,000,000 leases, start after {how}, s", engine, seconds)
        if how == "SIGTERM":
            time.sleep(1)
            figures.note("1,000,000 leases, MiB after a start", engine, resident(process))
            # What is written after a clean end has to be read as well after a kill.
            generate(lab, "dora", "--seconds", 2, "--machines", LEASES, "--in-flight", "256", "--no-own-latency")
    return process


def full_beside_empty(args, directory, lab, folder, engine, number):
    """Rate of new machines with a million leases and many reservations, of that without."""
    rates = []
    for path, reservations in ((folder, RESERVATIONS), (fresh(directory, "empty"), 0)):
        _, process = first_offer(lab, bootstorm(path, engine, reservations=reservations), cold=False)
        warm = 1 + 2 * number
        generate(lab, "dora", "--seconds", 1, "--in-flight", IN_FLIGHT, "--generation", warm, "--no-own-latency")
        rates.append(Costs(args, lab, process, "--in-flight", IN_FLIGHT, "--generation", warm + 1).rate)
        stop(process)
    return rates[0] / rates[1]
