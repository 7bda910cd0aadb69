#!/usr/bin/env python3
"""Simulated machines against bootstorm itself, and the generator's command line.

A rack of every firmware boots through a relay agent and directly, renews, declines, loses
power; its page is looked at by a browser.
"""

import json
import re
import signal
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import lab as laboratory
import storm
from lab import Lab
from server import Server, subnet
from storm import FAILED, MET, RELAY_TOLD, SERVER, Storm, scenario, valid
from suite import Suite, share
from test_load_page import check_page

TAKES_SECONDS = 60
MOSTLY_WAITS = True
PARTS = 3

MACHINES = 40
LOWER_BOUND = 4  # of find-limit
BOOT = 'boot = [ { user-class = "iPXE", file = "boot.ipxe" }, { file = "loader.img" } ]'
HEAD = 'expect-boot-file = { edk2 = "loader.img", pxe-bios = "loader.img", ipxe = "boot.ipxe" }'
RACK = """
[[stage]]
dhcp = "firmware"
[[stage]]
tftp = ["@boot-file"]
[[stage]]
dhcp = "ipxe"
[[stage]]
tftp = ["@boot-file", "kernel.img"]
[[stage]]
dhcp = "installer"
"""


def rack(tables=RACK, **settings):
    """The usual rack, with the other firmware as well."""
    text = scenario("rack", limit="60s", head=settings.pop("head", HEAD), tables=tables, **settings)
    return text.replace("pxe-bios = 1", "pxe-bios = 1\nedk2 = 1")


def play(suite, lab, namespace, text, slo="giveups=0,duplicates=0", **options):
    """A run that says something."""
    return valid(suite, lambda: Storm(lab, namespace, text, slo, **options).end())


def came_up(suite, run, machines=MACHINES):
    suite.equal("exit status", run.status, MET) or suite.say(run.story())
    suite.equal("machines that came up", run.machines.get("up"), machines)
    suite.equal("violations", run.violations, {})


def local_routes(namespace):
    """Routes that a run has added and not taken back."""
    return [line for line in laboratory.sh(f"ip -n {namespace} route show table local").splitlines()
            if "proto static" in line]


class Preseed(BaseHTTPRequestHandler):
    """What an installer asks for."""

    def do_GET(self):
        body = Preseed.body
        self.send_response(200 if self.path == "/preseed.cfg" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        Preseed.clients.add(self.client_address[0])

    def log_message(self, *_):
        pass

    body = b"d-i preseed/early_command string true\n" * 50
    clients = set()


def commands(suite, lab, namespace, server):
    """What a person types, rightly and wrongly."""
    def load(*words):
        return lab.run(namespace, [storm.BINARY, *words])

    status, output = load("scenarios")
    suite.check("scenarios are listed", status == MET and "hall-10k" in output, output)
    status, output = load("scenarios", "hall-10k")
    suite.check("one is printed", status == MET and "machines = 10_000" in output, output)
    wrong = {
        ("dora", "--server", "nowhere"): "invalid value 'nowhere'",
        ("dora", "--server", SERVER, "--slo", "p98=1s"): "no limit is called `p98`",
        ("dora", "--server", SERVER, "--interface", "eth9"): "no interface is called `eth9`",
        ("storm", "--server", SERVER, "--scenario", "hall-11k"): "no scenario is called `hall-11k`",
        ("storm", "--server", SERVER, "--scenario", "flap", "--set", "machines=many"): "machines",
        ("storm", "--server", SERVER, "--scenario", "decline"): "--attack",
        ("tftp", "--server", SERVER, "--file", "x", "--blksize", "7"): "--blksize: 8 to",
        ("compare", "/nowhere.json", "/nowhere.json"): "/nowhere.json",
    }
    for words, told in wrong.items():
        status, output = load(*words)
        suite.check(" ".join(words[:1] + words[-2:]),
                    status == FAILED and told in output and "panicked" not in output, output)
    outside = subprocess.run([storm.BINARY, "dora", "--server", "192.0.2.1", "--seconds", "1"],
                             capture_output=True, text=True, timeout=30, check=False)
    suite.check("the host's own network is refused",
                outside.returncode == FAILED and "--i-own-this-network" in outside.stderr,
                outside.stderr)


def interrupted(suite, lab, namespace, server):
    """Ctrl-C ends a run early, and it still reports."""
    run = Storm(lab, namespace, rack(head=HEAD + "\nrenew = true"), "giveups=0")
    time.sleep(6)
    run.process.signal(signal.SIGINT)
    run.end(20)
    suite.check("it reports", run.report.get("interrupted") is True, run.story())
    suite.equal("its routes are gone", local_routes(namespace), [])


def behind_relay(suite, lab, namespace, server):
    run = play(suite, lab, namespace, rack(), options=("--root", lab.path("tftp")), measured=True)
    came_up(suite, run)
    files = {row["name"]: row for row in run.report.get("files", [])}
    suite.equal("compared with copies",
                {row["compared_with"] for row in files.values()}, {"local-copy"})
    own = run.report["generator"].get("own_latency") or {}
    suite.check("the generator knows what it takes itself",
                own.get("answers", 0) > 0 and 0 < own["p50"] <= own["p99"], own)
    suite.equal("its routes are gone", local_routes(namespace), [])
    check_page(suite, run.page)


def seeds(suite, lab, namespace, server):
    plain = scenario("seeds", **storm.PLAIN)
    one, again, other = (play(suite, lab, namespace, plain, seed=seed) for seed in (1, 1, 2))
    schedules = [run.report["run"]["schedule"] for run in (one, again, other)]
    suite.equal("the same seed is the same schedule", schedules[1], schedules[0])
    suite.check("another seed is another", schedules[2] != schedules[0], schedules)
    status, output = lab.run(namespace, [storm.BINARY, "compare", one.json, again.json])
    suite.check("two reports are compared", status == MET and "boot longest" in output, output)


def installed(suite, lab, namespace, server):
    run = play(suite, lab, namespace, scenario("installed", **storm.INSTALLED))
    came_up(suite, run)
    dhcp = run.report["dhcp"]
    suite.equal("INIT-REBOOT, INFORM, RELEASE",
                [dhcp[what] for what in ("reboots", "informs", "releases")], [MACHINES] * 3)


def by_broadcast(suite, lab, namespace, server):
    came_up(suite, play(suite, lab, namespace, rack(), relay=None, options=("--direct",)))
    suite.equal("its routes are gone", local_routes(namespace), [])


def lossy_through_mmsg(suite, lab, namespace, server):
    bad = '[network]\nloss = "0.5%"\nduplicate = "2%"\njitter = "3ms"\n' + RACK
    came_up(suite, play(suite, lab, namespace, rack(tables=bad), options=("--engine", "mmsg")))


def power_cuts(suite, lab, namespace, server):
    cuts = '[power-cuts]\ntimes = 2\nafter = ["1s", "8s"]\noff = "500ms"\n' + RACK
    run = play(suite, lab, namespace, rack(tables=cuts))
    came_up(suite, run)
    suite.check("machines booted again", run.machines.get("boots", 0) >= 2 * MACHINES,
                run.machines)


def renewals(suite, lab, namespace, server):
    plain = 'renew = true\nlease-time = "3s"\n'
    text = rack(head=plain, tables='[[stage]]\ndhcp = "plain"\n').replace('"60s"', '"9s"')
    run = play(suite, lab, namespace, text, slo="expired=0")
    came_up(suite, run)
    suite.check("each at half of its time", run.report["dhcp"]["renewals"] >= 3 * MACHINES,
                run.report["dhcp"])


def declines(suite, lab, namespace, server):
    declined = '[decline]\nshare = "50%"\ntimes = 1\n[[stage]]\ndhcp = "plain"\n'
    run = play(suite, lab, namespace, rack(head="", tables=declined), options=("--attack",))
    came_up(suite, run)
    suite.check("machines declined", run.report["dhcp"]["declines"] > 0, run.report["dhcp"])


def attacked(suite, lab, namespace, server):
    attack = '[attack]\nrate = 200\nlasts = "5s"\n[[stage]]\ndhcp = "firmware"\n'
    run = play(suite, lab, namespace, rack(head="", tables=attack), options=("--attack",))
    came_up(suite, run)
    suite.check("it was asked", run.report["dhcp"]["attack_messages"] > 1000, run.report["dhcp"])


def by_http(suite, lab, namespace, server):
    with laboratory.inside(lab.srv):
        web = ThreadingHTTPServer((SERVER, 8080), Preseed)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    fetch = '[[stage]]\ndhcp = "installer"\n[[stage]]\nhttp = ["/preseed.cfg"]\n'
    lab.write("copies/preseed.cfg", Preseed.body)
    options = ("--http", f"{SERVER}:8080", "--root", lab.path("copies"))
    run = play(suite, lab, namespace, rack(head="", tables=fetch), options=options)
    came_up(suite, run)
    files = {row["name"]: row["compared_with"] for row in run.report.get("files", [])}
    suite.equal("compared with the copy", files.get("http:/preseed.cfg"), "local-copy")
    suite.equal("no fetch waited for the generator",
                run.report["generator"].get("late_fetches"), 0)
    suite.check("each from its own address", len(Preseed.clients) == MACHINES
                and all(ip.startswith("10.100.") for ip in Preseed.clients), Preseed.clients)
    lab.write("copies/preseed.cfg", Preseed.body.replace(b"true", b"echo", 1))
    run = play(suite, lab, namespace, rack(head="", tables=fetch), options=options)
    suite.equal("bytes that are not the copy's", run.violations, {"content": MACHINES})
    web.shutdown()


def limit_is_searched(suite, lab, namespace, server):
    search = [storm.BINARY, "find-limit", "--server", SERVER, "--interface", "eth0", "--start",
              "50", "--most", "200", "--seconds", "1", "--confirm", "1", "--short", "--relay",
              RELAY_TOLD, "--slo", "loss=1%"]

    def attempt():
        status, output = lab.run(namespace, search, 60)
        return SimpleNamespace(status=status, output=output, reasons=output.splitlines()[-1:])

    run = valid(suite, attempt)
    # On a busy host the generator may be the bottleneck.
    suite.check("it is found", run.status in (MET, LOWER_BOUND)
                and re.search(r"limit: (at least )?\d+ exchanges/s, (not )?confirmed", run.output),
                run.output)
    # The second trial has machines of its own, and none of a trial holds an address afterwards.
    rows = [row for row in server.leases().values()
            if row["hardware"].startswith("02:b0:01:")]
    suite.check("a trial has new machines", rows, run.output)
    suite.equal("which hold nothing afterwards",
                [row for row in rows if row["state"] == "active"], [])
    search_is_interrupted(suite, lab, namespace, search)


def search_is_interrupted(suite, lab, namespace, search):
    """What was met until then is a lower bound."""
    path = lab.path("limit.json")
    words = ["ip", "netns", "exec", namespace, *search, "--json", path]

    def attempt():
        output = []
        process = subprocess.Popen(words, text=True, stdout=subprocess.PIPE)
        for line in process.stdout:
            # A second signal would end it at once.
            if ": met;" in line and not any(": met;" in row for row in output):
                process.send_signal(signal.SIGINT)
            output.append(line)
        return SimpleNamespace(status=process.wait(), output=output, reasons=output[-1:])

    run = valid(suite, attempt)
    suite.equal("an interrupted search ends with a lower bound", run.status, LOWER_BOUND)
    with open(path) as text:
        limit = json.load(text)["limit"]
    suite.check("and with the highest load that was met",
                limit["bound"] == "lower" and not limit["confirmed"]
                and 0 < limit["load"] <= 200 and "interrupted" in limit["bottleneck"],
                (limit, run.output))


STEPS = {
    "the command line": commands,
    "a rack behind a relay agent": behind_relay,
    "the same rack on the server's own network, by broadcast": by_broadcast,
    "through recvmmsg, over a bad network": lossy_through_mmsg,
    "power cuts": power_cuts,
    "seeds": seeds,
    "installed machines confirm, ask and release": installed,
    "leases are renewed": renewals,
    "addresses in use": declines,
    "somebody asks in many names": attacked,
    "an installer that fetches by HTTP": by_http,
    "a limit is searched": limit_is_searched,
    "Ctrl-C": interrupted,
}


def main():
    suite = Suite("Storm")
    if not storm.built(suite):
        suite.finish()
    lab = Lab()
    namespace = storm.namespace(lab)
    storm.files(lab)
    lab.write("tftp/boot.ipxe", "#!ipxe\n")
    relayed = ('[[dhcp.subnet]]\nsubnet = "10.100.0.0/16"\n'
               f'pools = ["10.100.4.0-10.100.9.250"]\n{BOOT}')
    server = Server(lab, server="shards = 2", dhcp='min-lease-time = "2s"', tftp=lab.path("tftp"),
                    subnets=[subnet(extra=BOOT), relayed])
    server.start()
    suite.explain_with(server.log)
    for what in share(list(STEPS)):
        with suite.step(what):
            STEPS[what](suite, lab, namespace, server)
    suite.equal("the server ends", server.stop(), 0)
    lab.close()
    suite.finish()


if __name__ == "__main__":
    main()
