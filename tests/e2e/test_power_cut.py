#!/usr/bin/env python3
"""A power cut: what was acknowledged is on the disk itself, not in the page cache.

    tests/e2e/test_power_cut.py [ROUNDS]

The state directory lies on a file system of its own inside a file. The server is stopped
under load (SIGSTOP), the file copied as the disk would be found, the copy mounted, and the
leases read from it: whatever was not fsynced is not there.
"""

import os
import random
import sys
import time

import lab as laboratory
from lab import Lab, sh
from load import Load
from server import Server, configuration, subnet
from suite import Suite

RELAY = "10.77.9.9"


class Disk:
    """An ext4 file system in a file, mounted in this script's own mount namespace."""

    def __init__(self, lab, name):
        self.file, self.place = lab.path(f"{name}.ext4"), lab.path(name)
        os.makedirs(self.place)

    def make(self):
        sh(f"truncate -s 512M {self.file} && mkfs.ext4 -q {self.file}")
        return self

    def mount(self):
        sh(f"mount -o loop {self.file} {self.place}")
        return self

    def unmount(self):
        sh(f"umount {self.place}")


def cut(suite, lab, namespace, number, dice, machines):
    """One power cut; returns the number of ACKs before it and of machines so far."""
    disk = Disk(lab, f"disk{number}").make().mount()
    settings = {"server": "shards = 2", "subnets": [subnet(pool="16.0-{net}.255.250")]}
    server = Server(lab, configuration(f"{disk.place}/state", **settings), name=f"srv{number}")
    suite.explain_with(server.log)
    server.start()
    load = Load(namespace, RELAY, "10.77.0.1", first=machines)
    load.start()
    time.sleep(dice.uniform(0.3, 1.5))
    server.process.signal(laboratory.signal.SIGSTOP)
    load.settle().close()
    found = Disk(lab, f"found{number}")
    sh(f"cp --sparse=always {disk.file} {found.file}")
    server.kill()
    disk.unmount()
    found.mount()
    after = Server(lab, configuration(f"{found.place}/state", **settings), name=f"after{number}")
    rows = after.leases()
    lost = [(address, mac) for address, mac in load.acked.items()
            if rows.get(address, {}).get("hardware") != mac]
    suite.equal(f"cut {number}: of {load.acks} ACKs, lost", lost[:5], [])
    after.start()
    suite.check(f"cut {number}: the server starts from what is left", after.serves())
    after.stop()
    found.unmount()
    for used in (disk, found):
        os.unlink(used.file)
    return load.acks, load.last


def main():
    laboratory.own_mounts()
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    suite = Suite("Power cut")
    lab = Lab()
    namespace = lab.namespace("relay")
    lab.plug(namespace, 0)
    laboratory.sh(f"ip -n {namespace} addr add {RELAY}/16 dev eth0")
    seed = time.time_ns() % 1_000_000
    suite.say(f" - {rounds} rounds, seed {seed}")
    dice, machines, total = random.Random(seed), 0, 0
    for number in range(1, rounds + 1):
        with suite.step(f"cut {number}"):
            acks, machines = cut(suite, lab, namespace, number, dice, machines)
            total += acks
    suite.check("the cuts came under load", total > 50 * rounds, total)
    suite.finish()


if __name__ == "__main__":
    main()
