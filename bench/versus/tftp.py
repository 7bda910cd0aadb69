#!/usr/bin/env python3
"""TFTP of bootstorm beside its peers and beside the bare limit of the machine, medians of several
rounds in one run.

Server on CPU 0, bootstorm-load on CPU 1, two network namespaces joined by a veth pair. One client
fetches every file before anything is measured, so that files are in the page cache and images
framed. A round runs everything once, in turn: the bare packet engine (bench/src/bin/packet-engine:
echo, ping-pong and blasts of datagrams of 1,472 bytes), a bare TFTP responder
(bench/src/bin/tftp-responder.rs, which shows what the generator itself can take), bootstorm, atftpd
and dnsmasq. Runs as root; sends only inside the namespaces it makes.

  bench/versus/tftp.py [--rounds 5] [--only REGEX] [--json FILE] bench/versus/tftp.py --dhcp
  # instead: what DHCP waits while TFTP runs at full speed bench/versus/tftp.py --flame docs      #
  instead: where the server's time goes, as SVG (wants perf, `cargo install inferno`)
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

from pair import BINARIES, CLIENT_IP, ROOT, SERVER_IP, Lab, bootstorm, cpu, generate, resident, running, sh

sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))

from debian import unpack  # noqa: E402 - the path above comes first

BLKSIZE, NET = 1468, "10.100.128.0/17"
KIB, MIB = 1 << 10, 1 << 20

# What is measured: clients, windowsize, more words for the generator. The size of a file makes a
# run last a few seconds.
LOADS = {
    "1 client, window 1": (1, 1, []),
    "1 client, window 1, polls": (1, 1, ["--busy-poll"]),
    "1 client, window 64": (1, 64, []),
    "1 client, window 64, polls": (1, 64, ["--busy-poll"]),
    "64 clients, window 1": (64, 1, []),
    "1000 clients, window 1": (1000, 1, []),
    "10000 clients, window 1": (10000, 1, []),
    "64 clients, window 16, GRO": (64, 16, []),
    "64 clients, window 64, GRO": (64, 64, []),
    "64 clients, window 16": (64, 16, ["--no-gro"]),
    "64 clients, window 64": (64, 64, ["--no-gro"]),
    "64 clients, one stream": (64, 1, ["--multicast"]),
    "10000 clients, one stream": (10000, 16, ["--multicast"]),
}
SIZES = {"1 client, window 1": 24 * MIB, "1 client, window 1, polls": 24 * MIB, "1 client, window 64": 8 * MIB,
         "1 client, window 64, polls": 8 * MIB, "64 clients, window 1": 8 * MIB, "64 clients, one stream": 24 * MIB,
         "10000 clients, one stream": 8 * MIB,
         "1000 clients, window 1": 512 * KIB, "10000 clients, window 1": 512 * KIB, "64 clients, window 64, GRO": 96 * MIB}
# What keeps 64 clients with windows busy while DHCP is measured.
LONG = 256 * MIB
# How often a client fetches the file: one of a size that the processors' caches hold, so that a
# single client's memory is not what is measured.
TIMES = {("1 client, window 64", "atftpd"): 8, ("1 client, window 64, polls", "atftpd"): 8,
         ("1 client, window 64", None): 32, ("1 client, window 64, polls", None): 32}
# The generator's own limit is shown for these.
ALONE = ("1 client, window 64", "1 client, window 64, polls", "64 clients, window 1", "64 clients, window 64, GRO")
BARE = {
    "1 client, window 1": "pingpong1472 uring:32:128:50", "64 clients, window 1": "echo1472", "1000 clients, window 1": "echo1472",
    "64 clients, window 16, GRO": "blast16gro", "64 clients, window 64, GRO": "blast44gro",
    "64 clients, window 16": "blast16", "64 clients, window 64": "blast44",
}
PEERS = {
    "atftpd": {"1 client, window 1": 24 * MIB, "1 client, window 1, polls": 24 * MIB, "1 client, window 64": 8 * MIB,
               "1 client, window 64, polls": 8 * MIB, "64 clients, window 1": 2 * MIB, "64 clients, one stream": 24 * MIB,
               "64 clients, window 16, GRO": 4 * MIB, "64 clients, window 64, GRO": 4 * MIB,
               "64 clients, window 16": 4 * MIB, "64 clients, window 64": 4 * MIB},
    "dnsmasq": {"1 client, window 1": 24 * MIB, "1 client, window 1, polls": 24 * MIB, "64 clients, window 1": 8 * MIB, "1000 clients, window 1": 512 * KIB},
}


def size_of(load):
    return SIZES.get(load, 64 * MIB)


def bare(what):
    """MB/s of file data, if every datagram of the bare loop carried a block."""
    what, engine = (what.split() + ["uring"])[:2]
    text = sh(f"{BINARIES}/packet-engine", what, "1", engine).stdout
    return float(re.search(rf"median {engine}: ([0-9.]+)/s", text)[1]) * BLKSIZE / 1e6


def servers(directory, files):
    subnets = [("10.77.0.0/16", "10.77.4.0-10.77.255.250"), ("10.100.0.0/16", "10.100.4.0-10.100.127.250")]
    ours = f'[tftp]\nroot = "{files}"\nimage-budget = "1GiB"\nmulticast = "239.255.1.0/24"\n'
    return {
        "bootstorm": bootstorm(directory, subnets, rest=ours),
        "atftpd": [f"{unpack('atftpd')}/usr/sbin/atftpd", "--daemon", "--no-fork", "--user", "root.root", "--maxthread", "20000",
                   "--bind-address", SERVER_IP, files],
        "dnsmasq": ["dnsmasq", "--no-daemon", "--port=0", "--user=root", "--log-facility=-", f"--pid-file={directory}/pid",
                    "--interface=vs", "--bind-interfaces", "--enable-tftp", f"--tftp-root={files}", "--tftp-max=20000", "-q"],
    }


def generator(lab, *words, nice=()):
    return generate(lab, *words, "--seed", "1", before=nice)[0]


def play(lab, process, load, name, *more, server=None):
    """What one run of the generator measured."""
    clients, window, own = LOADS[load]
    times = TIMES.get((load, server), TIMES.get((load, None), 1))
    before = cpu(process)
    report = generator(lab, "tftp", *(["--file", name] * times), "--clients", str(clients), "--windowsize", str(window), "--client-net", NET,
                       "--set", "limit=120s", *own, *more)
    tftp, transfer = report["tftp"], report["latency"].get("transfer", {"p50": 0, "max": 0})
    wrong = sum(violation["count"] for violation in report["violations"])
    return {"mb": tftp["megabytes_per_second"], "server": (cpu(process) - before) / report["run"]["seconds"],
            "generator": report["generator"]["busy"], "failed": tftp["failed"] + wrong, "again": tftp["retransmissions"],
            "last": transfer["max"] / transfer["p50"] if transfer["p50"] else 0, "resident": resident(process)}


def make_files(folder):
    os.makedirs(folder)
    sizes = {LONG} | {size_of(load) for load in LOADS} | {size for sizes in PEERS.values() for size in sizes.values()}
    for size in sizes:
        with open(os.path.join(folder, str(size)), "wb") as out:
            for _ in range(0, size, MIB):
                out.write(os.urandom(min(MIB, size)))
    # Else their way to the disk is measured, too: leases wait for the same one.
    os.sync()
    for path in (os.path.dirname(folder), folder, *(os.path.join(folder, name) for name in os.listdir(folder))):
        os.chmod(path, 0o755)


def rounds(args, lab, directory):
    files = os.path.join(directory, "tftp")
    make_files(files)
    wanted = [load for load in LOADS if re.search(args.only, load)]
    figures = {}

    def note(who, load, result):
        figures.setdefault((load, who), []).append(result)
        print(f"{load:28} {who:10} " + ", ".join(f"{key} {value:.2f}" for key, value in result.items()), flush=True)

    for _ in range(args.rounds):
        for load in wanted:
            if load in ALONE:
                responder = [f"{BINARIES}/tftp-responder", "--listen", SERVER_IP, "--size", str(size_of(load))]
                with running(lab, responder) as process:
                    note("responder", load, play(lab, process, load, "any"))
        for name, argv in servers(directory, files).items():
            sizes = PEERS.get(name) or {load: size_of(load) for load in LOADS}
            mine = [load for load in wanted if load in sizes]
            if not mine:
                continue
            with running(lab, argv) as process:
                for size in {sizes[load] for load in mine}:
                    generator(lab, "tftp", "--file", str(size), "--clients", "1", "--windowsize", "64", "--client-net", NET,
                              "--set", "limit=120s")
                for load in mine:
                    # Side by side with what it is compared with: the speed of a virtual machine
                    # changes from minute to minute.
                    if name == "bootstorm" and load in BARE:
                        note("bare", load, {"mb": bare(BARE[load])})
                    # With a copy at hand the generator compares bytes; else it would hash the first
                    # client's.
                    note(name, load, play(lab, process, load, str(sizes[load]), "--root", files, server=name))
    return wanted, figures


def table(wanted, figures):
    """Medians of each figure, as rows of docs/PERFORMANCE.md."""
    def median(load, who, key="mb"):
        found = [result[key] for result in figures.get((load, who), []) if key in result]
        return statistics.median(found) if found else None

    def part(load, who):
        """Median over the rounds of bootstorm's rate as a part of the other's in the same round."""
        pairs = zip(figures[load, "bootstorm"], figures[load, who])
        return statistics.median(own["mb"] / other["mb"] for own, other in pairs if other["mb"])

    def cell(load, who):
        value = median(load, who)
        return "" if value is None else f"{value:,.0f}" + ("" if who == "bootstorm" else f" ({part(load, who):.2f})")

    print("\n| MB/s, medians (bootstorm's part of it, round by round) | bootstorm | bare | responder | atftpd | dnsmasq | cores: server, generator |"
          "\n| --- | --- | --- | --- | --- | --- | --- |")
    for load in wanted:
        cells = " | ".join(cell(load, who) for who in ("bootstorm", "bare", "responder", "atftpd", "dnsmasq"))
        cores = f"{median(load, 'bootstorm', 'server'):.2f}, {median(load, 'bootstorm', 'generator'):.2f}"
        print(f"| {load} | {cells} | {cores} |")
    for load in wanted:
        results = figures[load, "bootstorm"]
        print(f"{load}: bootstorm failed or wrong {sum(result['failed'] for result in results)}, slowest after "
              f"{median(load, 'bootstorm', 'last'):.2f} times the median, resident at most "
              f"{max(result['resident'] for result in results):.0f} MiB")


def dhcp_waits(args, lab, directory):
    """p99 of OFFERs and ACKs, idle and beside transfers at full speed.

    The DHCP clients share CPU 1 with the generator of the transfers, so they run at a real-time
    priority, else their own wait for the core would be measured.
    """
    files = os.path.join(directory, "tftp")
    make_files(files)
    loads = {"idle": None, "64 clients, window 1": (64, 1), "64 clients, window 16": (64, 16), "64 clients, window 64": (64, 64),
             "2000 clients, window 1": (2000, 1)}
    found = {}
    with running(lab, servers(directory, files)["bootstorm"]):
        for number in range(args.rounds):
            for name, load in loads.items():
                background = None
                if load:
                    clients, window = load
                    size = {1: 24 * MIB, 2000: 512 * KIB}.get(clients if clients > 64 else window, LONG)
                    background = subprocess.Popen(
                        ["ip", "netns", "exec", lab.client, "taskset", "-c", "1", "nice", "-n", "19", f"{BINARIES}/bootstorm-load",
                         "tftp", "--server", SERVER_IP, "--interface", "vc", "-q", "--file", str(size), "--clients", str(clients),
                         "--windowsize", str(window), "--client-net", NET], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                    time.sleep(0.8)
                report = generator(lab, "dora", "--relay", "10.100.0.1/17", "--rate", "500", "--seconds", "2",
                                   nice=("chrt", "-f", "10"))
                beside = background is not None and background.poll() is None
                if background:
                    background.wait()
                latency = report["latency"]
                result = {kind: latency[kind]["p99"] for kind in ("offer", "ack")}
                if number > 0:  # the first round fills the images
                    found.setdefault(name, []).append(result)
                print(f"{name:24} " + ", ".join(f"{kind} p50 {latency[kind]['p50']:.2f} p99 {latency[kind]['p99']:.2f} ms"
                                                for kind in result) + ("" if beside or not load else "; ended early"), flush=True)
    print("\n| DHCP p99, ms, medians (of idle) | OFFER | ACK, its lease on disk |\n| --- | --- | --- |")
    idle = {kind: statistics.median(result[kind] for result in found["idle"]) for kind in ("offer", "ack")}
    for name, results in found.items():
        cells = []
        for kind, base in idle.items():
            value = statistics.median(result[kind] for result in results)
            cells.append(f"{value:.2f} ({value / base:.1f})")
        print(f"| {name} | {' | '.join(cells)} |")


def flames(lab, directory, folder):
    """Flame graphs of the server, in lockstep and with large windows."""
    files = os.path.join(directory, "tftp")
    make_files(files)
    for load, name in (("64 clients, window 1", "lockstep"), ("64 clients, window 64", "windows")):
        clients, window, own = LOADS[load]
        data = os.path.join(directory, f"{name}.perf")
        with running(lab, servers(directory, files)["bootstorm"]) as process:
            # The image is framed first.
            play(lab, process, load, str(8 * MIB))
            background = subprocess.Popen(
                ["ip", "netns", "exec", lab.client, "taskset", "-c", "1", f"{BINARIES}/bootstorm-load", "tftp", "--server", SERVER_IP,
                 "--interface", "vc", "-q", *(["--file", str(8 * MIB)] * 8), "--clients", str(clients), "--windowsize", str(window),
                 "--client-net", NET, *own], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(0.5)
            sh("perf", "record", "-F", "1999", "-g", "-p", str(process.pid), "-o", data, "--", "sleep", "1.5")
            background.wait()
        stacks = subprocess.run(f"perf script -i {data} | inferno-collapse-perf", shell=True, check=True, capture_output=True)
        drawn = subprocess.run(["inferno-flamegraph", "--title", f"bootstorm, {load}", "--minwidth", "0.2", "--hash"],
                               input=stacks.stdout, check=True, capture_output=True)
        path = os.path.join(folder, f"flame-tftp-{name}.svg")
        with open(path, "wb") as out:
            out.write(drawn.stdout)
        print(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="loads whose name matches")
    parser.add_argument("--json", help="where every single figure goes")
    parser.add_argument("--dhcp", action="store_true")
    parser.add_argument("--flame", metavar="FOLDER")
    args = parser.parse_args()
    with Lab() as lab, tempfile.TemporaryDirectory(prefix="tftp-", dir=os.path.join(ROOT, "target")) as directory:
        sh("ip", "-n", lab.server, "route", "add", "10.100.0.0/16", "via", CLIENT_IP)
        if args.dhcp:
            args.rounds += 1
            dhcp_waits(args, lab, directory)
            return
        if args.flame:
            flames(lab, directory, args.flame)
            return
        wanted, figures = rounds(args, lab, directory)
    table(wanted, figures)
    if args.json:
        with open(args.json, "w") as out:
            json.dump([{"load": load, "server": who, "rounds": results} for (load, who), results in figures.items()], out, indent=1)


if __name__ == "__main__":
    main()
