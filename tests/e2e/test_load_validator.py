#!/usr/bin/env python3
"""bootstorm-load against a correct server, and against one with one fault at a time: each must be
found under its name, and nothing else. test_faulty_server.py checks that the faults are injected.

    tests/e2e/test_load_validator.py             all of them
    tests/e2e/test_load_validator.py flip late   these faults only
"""

import sys

import lab as laboratory
import storm
from lab import Lab
from faulty_server import FAULTS
from storm import (DECLINE, INVALID, LEASES, MET, MISSED, PLAIN, RELAY, RELAY_TOLD, VERDICTS,
                   FaultyServer, Storm, scenario)
from suite import Suite

SLO = "giveups=0,duplicates=0"
TRIES = 3

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
}
# Faults that make one answer wrong, and nothing after it.
SINGLE = {"relay-option", "xid", "chaddr", "giaddr", "lease-zero", "t1-after-t2", "wrong-file",
          "ack-other", "malformed"}
# Faults that are no single wrong answer: the limit, and that limit alone, that is missed.
MISSES = {"late": "p99", "silent": "giveups"}

# Scenarios of faults that the usual scenario does not show.
SCENARIOS = {"silent": PLAIN, "declined": DECLINE, "duplicate": LEASES, "subnet": LEASES,
             "reserved": LEASES, "ack-other": LEASES}
SLOS = {"late": f"{SLO},p99=500ms"}
OPTIONS = {"declined": ("--attack",)}
# Looked for a second time: without copies, machines' files are compared with each other's.
WITH_COPIES = {"flip", "short-file"}


def play(lab, room, fault, text, slo, network="10.100", **options):
    """A storm against a new server. A run may be invalid where other programs take the
    processors, and says so; what is asked here is what a valid one says."""
    for _ in range(TRIES):
        with FaultyServer(lab, fault, network) as server:
            run = Storm(lab, room, text, slo, **options).end()
        if run.status != INVALID:
            break
        print(f"   not valid: {'; '.join(run.reasons)}", flush=True)
    return server, run


def correct(suite, lab, room):
    for what, network, relay, options in (
            ("behind a relay agent", "10.100", RELAY_TOLD, ()),
            ("behind one that adds nothing, in a network that is not named", "10.100", RELAY, ()),
            ("behind this host's own address as relay agent", "10.77", None, ()),
            ("that broadcast", "10.77", None, ("--direct",)),
            ("whose files are compared with copies", "10.100", RELAY_TOLD, known(lab))):
        with suite.step(f"correct, machines {what}"):
            server, run = play(lab, room, None, scenario("correct"), f"{SLO},unfinished=0",
                             network, relay=relay, options=options)
            suite.equal("faults injected", server.injected, 0)
            good = [suite.equal("exit status", run.status, MET),
                    suite.equal("verdict", run.verdict, VERDICTS[MET]),
                    suite.equal("violations", run.violations, {}),
                    suite.equal("machines that came up", run.machines.get("up"), 40),
                    suite.check("a page for people", run.has_page)]
            if not all(good):
                suite.say(f"{run.story()}\n{server.log()}")


def relay_without_network(suite, lab, room):
    """A relay agent whose address is on an interface, but in no subnet (/32), and not said with a
    prefix: addresses cannot be checked against a network, and the report says so."""
    laboratory.sh(f"ip -n {room} addr add {RELAY}/32 dev eth0")
    for relay, checked in ((RELAY, False), (RELAY_TOLD, True)):
        with suite.step(f"--relay {relay}, an address without a subnet"):
            _, run = play(lab, room, None, scenario("relay", **LEASES), SLO, relay=relay)
            good = [suite.equal("exit status", run.status, MET),
                    suite.equal("violations", run.violations, {}),
                    suite.equal("a note says what is not checked",
                                any("is not checked" in note for note in run.notes), not checked)]
            if not all(good):
                suite.say(run.story())
    laboratory.sh(f"ip -n {room} addr del {RELAY}/32 dev eth0")


def known(lab):
    """Lets the validator know what is in the files."""
    return "--root", lab.path("tftp")


def faulty(suite, lab, room, fault, options=()):
    text = scenario(fault, **SCENARIOS.get(fault, {}))
    server, run = play(lab, room, fault, text, SLOS.get(fault, SLO),
                     options=(*OPTIONS.get(fault, ()), *options))
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
                                 sum(run.violations.values()) <= server.injected,
                                 f"{run.violations}, injected {server.injected}")]
    if not all(good):
        suite.say(f"{run.story()}\n{server.log()}")


def main():
    suite = Suite("Load validator")
    suite.equal("every fault has a name in the report", set(KINDS) | set(MISSES), set(FAULTS))
    if not storm.built(suite):
        suite.finish()
    lab = Lab()
    storm.files(lab)
    room = storm.room(lab)
    faults = sys.argv[1:] or FAULTS
    if faults is FAULTS:
        correct(suite, lab, room)
        relay_without_network(suite, lab, room)
    for fault in faults:
        with suite.step(f"{fault}: {FAULTS[fault][1]}"):
            faulty(suite, lab, room, fault)
        if fault in WITH_COPIES:
            with suite.step(f"{fault}, compared with copies"):
                faulty(suite, lab, room, fault, known(lab))
    suite.finish()


if __name__ == "__main__":
    main()
