#!/usr/bin/env python3
"""bootstorm-load against an honest server, and against one that tells one lie at a time: each
must be found and named, and nothing else be found. test_liar.py has seen that the lies are told.

    tests/e2e/test_load_judge.py             all of them
    tests/e2e/test_load_judge.py flip late   these lies only
"""

import sys

import storm
from lab import Lab
from liar import LIES
from storm import (DECLINE, INVALID, LEASES, MET, MISSED, PLAIN, RELAY, RELAY_TOLD, VERDICTS,
                   Liar, Storm, scenario)
from suite import Suite

SLO = "giveups=0,duplicates=0"
TRIES = 3

# What a lie is called in a report: one of these must be found, and nothing else.
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
# Lies that make one answer wrong, and nothing after it.
SINGLE = {"relay-option", "xid", "chaddr", "giaddr", "lease-zero", "t1-after-t2", "wrong-file",
          "ack-other", "malformed"}
# Lies that are no single wrong answer: the limit, and that limit alone, that is missed.
MISSES = {"late": "p99", "silent": "giveups"}

# How a lie is looked for, where not in the same way as the others.
SCENARIOS = {"silent": PLAIN, "declined": DECLINE, "duplicate": LEASES, "subnet": LEASES,
             "reserved": LEASES, "ack-other": LEASES}
SLOS = {"late": f"{SLO},p99=500ms"}
OPTIONS = {"declined": ("--attack",)}
# Looked for a second time: without copies, machines' files are compared with each other's.
WITH_COPIES = {"flip", "short-file"}


def play(lab, room, lie, text, slo, network="10.100", **options):
    """A storm against a new liar. A run may be invalid where other programs take the
    processors, and says so; what is asked here is what a valid one says."""
    for _ in range(TRIES):
        with Liar(lab, lie, network) as liar:
            run = Storm(lab, room, text, slo, **options).end()
        if run.status != INVALID:
            break
        print(f"   not valid: {'; '.join(run.reasons)}", flush=True)
    return liar, run


def honest(suite, lab, room):
    for what, network, relay, options in (
            ("behind a relay agent", "10.100", RELAY_TOLD, ()),
            ("behind one that adds nothing, in a network to be learned", "10.100", RELAY, ()),
            ("behind this host's own address as relay agent", "10.77", None, ()),
            ("that broadcast", "10.77", None, ("--direct",)),
            ("whose files are compared with copies", "10.100", RELAY_TOLD, known(lab))):
        with suite.step(f"honest, machines {what}"):
            liar, run = play(lab, room, None, scenario("honest"), f"{SLO},unfinished=0",
                             network, relay=relay, options=options)
            suite.equal("lies told", liar.told, 0)
            good = [suite.equal("exit status", run.status, MET),
                    suite.equal("verdict", run.verdict, VERDICTS[MET]),
                    suite.equal("violations", run.violations, {}),
                    suite.equal("machines that came up", run.machines.get("up"), 40),
                    suite.check("a page for people", run.has_page)]
            if not all(good):
                suite.say(f"{run.story()}\n{liar.log()}")


def known(lab):
    """Lets the judge know what is in the files."""
    return "--root", lab.path("tftp")


def lying(suite, lab, room, lie, options=()):
    text = scenario(lie, **SCENARIOS.get(lie, {}))
    liar, run = play(lab, room, lie, text, SLOS.get(lie, SLO),
                     options=(*OPTIONS.get(lie, ()), *options))
    good = [suite.check("the lie was told", liar.told),
            suite.equal("exit status", run.status, MISSED),
            suite.equal("verdict", run.verdict, VERDICTS[MISSED])]
    found = set(run.violations)
    if lie in MISSES:
        good += [suite.equal("limits that were missed", run.missed, {MISSES[lie]}),
                 suite.equal("violations", run.violations, {})]
    else:
        good += [suite.check(f"found: {' or '.join(sorted(KINDS[lie]))}", found & KINDS[lie],
                             run.violations),
                 suite.equal("found besides", found - KINDS[lie], set())]
        if lie in SINGLE:
            good += [suite.check("no more often than it was told",
                                 sum(run.violations.values()) <= liar.told,
                                 f"{run.violations}, told {liar.told}")]
    if not all(good):
        suite.say(f"{run.story()}\n{liar.log()}")


def main():
    suite = Suite("Load judge")
    suite.equal("every lie has a name in the report", set(KINDS) | set(MISSES), set(LIES))
    if not storm.built(suite):
        suite.finish()
    lab = Lab()
    storm.files(lab)
    room = storm.room(lab)
    lies = sys.argv[1:] or LIES
    if lies is LIES:
        honest(suite, lab, room)
    for lie in lies:
        with suite.step(f"{lie}: {LIES[lie][1]}"):
            lying(suite, lab, room, lie)
        if lie in WITH_COPIES:
            with suite.step(f"{lie}, compared with copies"):
                lying(suite, lab, room, lie, known(lab))
    suite.finish()


if __name__ == "__main__":
    main()
