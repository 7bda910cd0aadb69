#!/usr/bin/env python3
"""A generator that was not able to tell says so, and does not blame the server: one that was
stopped in the middle of a storm, and one that hardly gets a share of a processor."""

import re
import signal
import time

import lab as laboratory
import storm
from lab import Lab
from storm import INVALID, VERDICTS, FaultyServer, Storm, scenario
from suite import Suite

RUNS_ALONE = True

SLO = "giveups=0,duplicates=0,p99=500ms"
# Machines begin all the time, so that whenever the generator is not there it is missed.
STEADY = {"arrival": "rate = 30.0", "limit": "30s"}
MACHINES = 150
# A scheduler that gives the generator an eighth of a processor, in seconds.
AWAY, RUNNING = 0.15, 0.02
# The server may be named, as where there is no route to it; it may not be what did something.
BLAME = re.compile(r"\bserver('s\b|,? (\w+ )?(is|was|did|does|has|had|lost|dropped|gave|took|sent|"
                   r"answer|stop|repl|fail|ignor|miss))", re.IGNORECASE)


def acks(sniffer, run, more_than):
    """Waits until so many ACKs have gone by."""
    return laboratory.wait_until(
        lambda: len(sniffer.dhcp("ACK")) > more_than or not run.process.running(), 20
    ) and run.process.running()


def stopped(suite, lab, namespace):
    sniffer = lab.sniff()
    with FaultyServer(lab):
        run = Storm(lab, namespace, scenario("stopped", **STEADY), SLO, machines=MACHINES)
        suite.check("the storm is under way", acks(sniffer, run, 20), run.process.output())
        run.process.signal(signal.SIGSTOP)
        time.sleep(2)
        run.process.signal(signal.SIGCONT)
        before = len(sniffer.dhcp("ACK"))
        suite.check("it goes on afterwards", acks(sniffer, run, before), run.process.output())
        run.end()
    good = [suite.equal("exit status", run.status, INVALID),
            suite.equal("verdict", run.verdict, VERDICTS[INVALID])]
    if not all([*good, *reasons_given(suite, run)]):
        suite.say(run.story())


def starved(suite, lab, namespace):
    """Stopped and continued all the time: how busy the host is does not matter then."""
    with FaultyServer(lab):
        run = Storm(lab, namespace, scenario("starved", **STEADY), SLO, machines=MACHINES)
        end = time.monotonic() + 80
        while run.process.running() and time.monotonic() < end:
            run.process.signal(signal.SIGSTOP)
            time.sleep(AWAY)
            run.process.signal(signal.SIGCONT)
            time.sleep(RUNNING)
        run.end(10)
    good = [suite.equal("exit status", run.status, INVALID),
            suite.equal("verdict", run.verdict, VERDICTS[INVALID])]
    if not all([*good, *reasons_given(suite, run)]):
        suite.say(run.story())


def reasons_given(suite, run):
    """What the report gives as its reasons."""
    return [suite.check("the report says why", run.reasons),
            suite.equal("reasons that blame the server",
                        [reason for reason in run.reasons if BLAME.search(reason)], []),
            suite.equal("violations", run.violations, {})]


def main():
    suite = Suite("Load invalid")
    if not storm.built(suite):
        suite.finish()
    lab = Lab()
    storm.files(lab)
    namespace = storm.namespace(lab)
    with suite.step("stopped for two seconds in the middle of a storm"):
        stopped(suite, lab, namespace)
    with suite.step("an eighth of a processor"):
        starved(suite, lab, namespace)
    suite.finish()


if __name__ == "__main__":
    main()
