#!/usr/bin/env python3
"""kill -9 under load: no acknowledged lease is lost, no address is given twice.

    tests/e2e/test_kill9.py [ROUNDS [SEED]]      10 rounds in make test, 100 in make soak

Each round loads the server through a relay agent, kills it at a moment of its own, and reads
the leases from the disk; then the next server takes over the same state directory. Some machines
give their address back by RELEASE or DECLINE, and others ask for it, so these are in flight, too.
"""

import random
import sys
import time

import lab as laboratory
from lab import Lab
from load import Ledger, Load
from server import Server, subnet
from suite import Suite

TAKES_SECONDS = 23

RELAY = "10.77.9.9"
SETTINGS = {"server": "shards = 2", "subnets": [subnet(pool="16.0-{net}.255.250")]}
LEAVE = 0.5
# A new state directory after so many rounds: before the pool has no free address.
FRESH_AFTER = 20


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns() % 1_000_000
    suite = Suite("Kill")
    suite.say(f" - {rounds} rounds, seed {seed}")
    dice = random.Random(seed)
    lab = Lab()
    namespace = lab.namespace("relay")
    lab.plug(namespace, 0)
    laboratory.sh(f"ip -n {namespace} addr add {RELAY}/16 dev eth0")
    machines, lost = 0, []
    seen = dict.fromkeys(("ACKs", "RELEASEs", "DECLINEs", "given again"), 0)
    with suite.step("load, kill, compare"):
        for number in range(rounds):
            if number % FRESH_AFTER == 0:
                server, ledger = Server(lab, **SETTINGS), Ledger()
                suite.explain_with(server.log)
            server.start()
            load = Load(namespace, RELAY, "10.77.0.1", machines, ledger=ledger, leave=LEAVE)
            load.start()
            time.sleep(dice.uniform(0.1, 1.2))
            server.kill()
            load.settle().close()
            machines = load.last
            for what, count in zip(seen, (load.acks, load.releases, load.declines,
                                          load.given_again)):
                seen[what] += count
            lost = [(number, *lease) for lease in ledger.lost(ledger.held, server.leases())]
            if lost or ledger.given_twice:
                break
    suite.say(f"   {seen} over {rounds} kills")
    suite.check("every round was under load", seen["ACKs"] > 50 * rounds, seen)
    suite.check("addresses were given back, and given again", min(seen.values()) > rounds, seen)
    suite.equal("acknowledged leases lost", lost[:10], [])
    suite.equal("addresses given twice", ledger.given_twice[:10], [])
    suite.finish()


if __name__ == "__main__":
    main()
