#!/usr/bin/env python3
"""bootstorm-load against a correct server, and against one with one fault at a time: each must be
found under its name, and nothing else. test_faulty_server.py checks that the faults are injected.

    tests/e2e/test_load_validator.py             all of them
    tests/e2e/test_load_validator.py flip late   these faults only

Several runs go on at the same time, each in a laboratory of its own.
"""

import queue
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor

import lab as laboratory
import storm
from faulty_server import FAULTS
from lab import Lab
from storm import (DECLINE, INSTALLED, LEASES, MET, MISSED, PLAIN, REFUSED, RELAY,
                   RELAY_TOLD, SERVER, SIZES, SLOW, STAGES, VERDICTS, WEB, WEB_PORT, FaultyServer,
                   Storm, scenario, valid)
from suite import Suite

RUNS_ALONE = True

SLO = "giveups=0,duplicates=0"
AT_ONCE = 4

# The violations that a fault is reported as: one of these must be found, and nothing else.
KINDS = {
    "duplicate": {"duplicate-address", "held-address-offered"},
    "flip": {"content"},
    "server-id": {"server-identifier"},
    "relay-option": {"relay-option"},
    "xid": {"xid"},
    "chaddr": {"chaddr"},
    "giaddr": {"giaddr"},
    "subnet": {"subnet"},
    "reserved": {"reserved-address"},
    "lease-zero": {"lease-time"},
    "t1-after-t2": {"lease-time"},
    "wrong-file": {"boot-file"},
    "short-file": {"file-size", "content"},
    "ack-other": {"address-changed"},
    "declined": {"declined-address"},
    "malformed": {"malformed"},
    "offer-moves": {"offer-changed"},
    "ack-twice": {"address-changed"},
    "late-lease": {"lease-time"},
    "stages": {"stage-address"},
    "nak": {"nak-unwarranted"},
    "nak-held": {"nak-unwarranted"},
    "nak-malformed": {"nak-malformed"},
    "mask": {"subnet-mask"},
    "router": {"router"},
    "next-server": {"next-server"},
    "option-43": {"option-43"},
    "lease-differs": {"lease-time"},
    "broadcast": {"delivery"},
    "unicast": {"delivery"},
    "inform-lease": {"inform-ack"},
    "double-blocks": {"duplicate-blocks"},
    "one-blksize": {"content"},
    "http-flip": {"content"},
    "http-short": {"file-size"},
    "http-partial": {"http-protocol"},
}
# Faults that make one answer wrong, and nothing after it.
SINGLE = {"relay-option", "xid", "chaddr", "giaddr", "lease-zero", "t1-after-t2", "wrong-file",
          "ack-other", "malformed", "ack-twice", "late-lease", "nak", "nak-held", "nak-malformed",
          "mask", "router", "next-server", "option-43", "lease-differs", "broadcast", "unicast",
          "inform-lease", "double-blocks", "http-flip", "http-short", "http-partial"}
# Faults that are no single wrong answer: the limit, and that limit alone, that is missed.
MISSES = {"late": "p99", "silent": "giveups"}

# Scenarios of faults that the usual scenario does not show.
SCENARIOS = {"silent": PLAIN, "declined": DECLINE, "duplicate": LEASES, "subnet": LEASES,
             "reserved": LEASES, "ack-other": LEASES, "offer-moves": SLOW, "stages": STAGES,
             "nak-held": INSTALLED, "nak-malformed": REFUSED, "next-server": LEASES,
             "broadcast": LEASES, "unicast": LEASES, "inform-lease": INSTALLED,
             "one-blksize": SIZES, "http-flip": WEB, "http-short": WEB, "http-partial": WEB}
SLOS = {"late": f"{SLO},p99=500ms"}
# What the generator is told besides.
WEB_AT = ("--http", f"{SERVER}:{WEB_PORT}")
OPTIONS = {"declined": ("--attack",), "http-flip": WEB_AT, "http-short": WEB_AT,
           "http-partial": WEB_AT}
# Where it matters whether a machine takes unicast.
DIRECT = {"broadcast", "unicast"}
# What the server is told besides.
SERVED = {"nak-malformed": ("--authoritative",)}
# Looked for a second time: without copies, machines' files are compared with each other's.
WITH_COPIES = {"flip", "short-file", "one-blksize", "http-flip", "http-short"}


class Findings:
    """What a run that goes on beside others has to tell a suite, once it has ended."""

    def __init__(self):
        self._calls = []

    def __getattr__(self, name):
        def call(*arguments):
            self._calls.append((name, arguments))
            return bool(arguments[1]) if name == "check" else arguments[1:2] == arguments[2:3]
        return call

    def tell(self, suite):
        for name, arguments in self._calls:
            getattr(suite, name)(*arguments)


def play(suite, lab, namespace, fault, text, slo, network="10.100", served=(), **options):
    """A storm that says something, against a new server."""
    servers = []

    def attempt():
        with FaultyServer(lab, fault, network, options=served) as server:
            servers.append(server)
            return Storm(lab, namespace, text, slo, **options).end()

    run = valid(suite, attempt)
    return servers[-1], run


def correct(suite, lab, namespace, settings, served=(), network="10.100", relay=RELAY_TOLD,
            options=()):
    """Nothing is found where there is nothing."""
    server, run = play(suite, lab, namespace, None, scenario("correct", **settings),
                       f"{SLO},unfinished=0", network, served, relay=relay, options=options)
    good = [suite.equal("faults injected", server.injected, 0),
            suite.equal("exit status", run.status, MET),
            suite.equal("verdict", run.verdict, VERDICTS[MET]),
            suite.equal("violations", run.violations, {}),
            suite.equal("machines that came up", run.machines.get("up"), 40),
            suite.check("a page for people", run.has_page)]
    if not all(good):
        suite.say(f"{run.story()}\n{server.log()}")


def corrects(lab):
    """The runs against a correct server: (what, arguments of correct())."""
    return [
        ("behind a relay agent", {"settings": {}}),
        ("behind one that adds nothing, in a network that is not named",
         {"settings": {}, "relay": RELAY}),
        ("behind this host's own address as relay agent",
         {"settings": {}, "network": "10.77", "relay": None}),
        ("that broadcast",
         {"settings": {}, "network": "10.77", "relay": None, "options": ("--direct",)}),
        ("whose files are compared with copies", {"settings": {}, "options": known(lab)}),
        ("that repeat their questions", {"settings": SLOW}),
        ("that keep one address", {"settings": STAGES}),
        ("that are installed", {"settings": INSTALLED}),
        ("that are refused", {"settings": REFUSED, "served": ("--authoritative",)}),
        ("with two lengths of blocks", {"settings": SIZES}),
        ("that load by HTTP", {"settings": WEB, "options": WEB_AT}),
        ("that load by HTTP, compared with copies",
         {"settings": WEB, "options": (*WEB_AT, *known(lab))}),
    ]


def relay_without_network(suite, lab, namespace):
    """A relay agent whose address is on an interface, but in no subnet (/32), and not said with a
    prefix: addresses cannot be checked against a network, and the report says so."""
    laboratory.sh(f"ip -n {namespace} addr add {RELAY}/32 dev eth0")
    for relay, checked in ((RELAY, False), (RELAY_TOLD, True)):
        _, run = play(suite, lab, namespace, None, scenario("relay", **LEASES), SLO,
                      relay=relay)
        good = [suite.equal(f"{relay}: exit status", run.status, MET),
                suite.equal(f"{relay}: violations", run.violations, {}),
                suite.equal(f"{relay}: a note says what is not checked",
                            any("is not checked" in note for note in run.notes), not checked)]
        if not all(good):
            suite.say(run.story())
    laboratory.sh(f"ip -n {namespace} addr del {RELAY}/32 dev eth0")


def known(lab):
    """Lets the generator know what is in the files."""
    return "--root", lab.path("tftp")


def faulty(suite, lab, namespace, fault, copies=False):
    text = scenario(fault, **SCENARIOS.get(fault, {}))
    options = (*OPTIONS.get(fault, ()), *(known(lab) if copies else ()))
    network, relay = "10.100", RELAY_TOLD
    if fault in DIRECT:
        network, relay, options = "10.77", None, (*options, "--direct")
    server, run = play(suite, lab, namespace, fault, text, SLOS.get(fault, SLO),
                       network, SERVED.get(fault, ()), relay=relay, options=options)
    good = [suite.check("the fault was injected", server.injected),
            suite.equal("exit status", run.status, MISSED),
            suite.equal("verdict", run.verdict, VERDICTS[MISSED])]
    found = set(run.violations)
    if fault in MISSES:
        good += [suite.equal("limits that were missed", run.missed, {MISSES[fault]}),
                 suite.equal("violations", run.violations, {})]
    else:
        good += [suite.check(f"found: {' or '.join(sorted(KINDS[fault]))}", found & KINDS[fault],
                             run.violations),
                 suite.equal("found besides", found - KINDS[fault], set())]
        if fault in SINGLE:
            good += [suite.check("no more often than it was injected",
                                 sum(run.violations.values()) <= (server.injected or 0),
                                 f"{run.violations}, injected {server.injected}")]
    if not all(good):
        suite.say(f"{run.story()}\n{server.log()}")


def jobs(lab, faults):
    """All runs: (title, function of suite, laboratory and namespace)."""
    if faults is FAULTS:
        for what, arguments in corrects(lab):
            yield (f"correct, machines {what}",
                   lambda *where, arguments=arguments: correct(*where, **arguments))
        yield "a relay agent's address without a subnet", relay_without_network
    for fault in faults:
        title = f"{fault}: {FAULTS[fault][1]}"
        yield title, lambda *where, fault=fault: faulty(*where, fault)
        if fault in WITH_COPIES:
            yield (f"{title}, compared with copies",
                   lambda *where, fault=fault: faulty(*where, fault, copies=True))


def main():
    suite = Suite("Load validator")
    suite.equal("every fault has a name in the report", set(KINDS) | set(MISSES), set(FAULTS))
    if not storm.built(suite):
        suite.finish()
    namespaces = queue.Queue()
    for _ in range(AT_ONCE):
        lab = Lab()
        storm.files(lab)
        namespaces.put((lab, storm.namespace(lab)))

    def run(job):
        findings, (lab, namespace) = Findings(), namespaces.get()
        try:
            job(findings, lab, namespace)
        except Exception:  # a defect of one run must not hide the others
            findings.check("ran to its end", False, traceback.format_exc(limit=4))
        finally:
            namespaces.put((lab, namespace))
        return findings

    # The path of the files is the same in each run, whichever laboratory it has.
    planned = list(jobs(lab, sys.argv[1:] or FAULTS))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for (title, _), findings in zip(planned, pool.map(run, [job for _, job in planned])):
            with suite.step(title):
                findings.tell(suite)
    suite.finish()


if __name__ == "__main__":
    main()
