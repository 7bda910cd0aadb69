#!/usr/bin/env python3
"""kill -9 under load: no acknowledged lease is lost, no address is given twice.

    tests/e2e/test_kill9.py [ROUNDS [SEED]]      10 rounds in make test, 100 in make soak

Each round loads the server through a relay agent, kills it at a moment of its own, and reads
the leases from the disk; then the next server takes over the same state directory.
"""

import random
import sys
import time

import lab as laboratory
from lab import Lab
from load import Load
from server import Server, subnet
from suite import Suite

TAKES_SECONDS = 23

RELAY = "10.77.9.9"


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
    server = Server(lab, server="shards = 2", subnets=[subnet(pool="16.0-{net}.255.250")])
    suite.explain_with(server.log)
    told, machines, acks, lost, twice = {}, 0, 0, [], []
    with suite.step("load, kill, compare"):
        for number in range(rounds):
            server.start()
            load = Load(namespace, RELAY, "10.77.0.1", first=machines)
            load.start()
            time.sleep(dice.uniform(0.1, 1.2))
            server.kill()
            load.settle().close()
            machines, acks = load.last, acks + load.acks
            twice += load.given_twice
            for address, mac in load.acked.items():
                if told.setdefault(address, mac) != mac:
                    twice.append((address, told[address], mac))
            rows = server.leases()
            gone = [(number, address, mac) for address, mac in told.items()
                    if rows.get(address, {}).get("hardware") != mac]
            lost += gone
            if gone or twice:
                break
    suite.say(f"   {acks} ACKs, {len(told)} leases over {rounds} kills")
    suite.check("every round was under load", acks > 50 * rounds, acks)
    suite.equal("acknowledged leases lost", lost[:10], [])
    suite.equal("addresses given twice", twice[:10], [])
    suite.finish()


if __name__ == "__main__":
    main()
