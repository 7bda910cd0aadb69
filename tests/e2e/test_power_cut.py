#!/usr/bin/env python3
"""A power cut: what was acknowledged is on the disk itself, not in a cache.

    tests/e2e/test_power_cut.py [CUTS [FILESYSTEM ...]]    1 cut in make test, 20 in make soak

The state directory lies on a disk that loses what was not flushed (disks.py). It is cut off under
load, and images of it are made: each is mounted, a server is started on it, and every lease that a
machine was told before the cut must be there, with no address given to anybody else. The last
image is the disk of the next cut, so what a recovery leaves behind is cut off as well.
"""

import mmap
import os
import random
import sys
import time

import lab as laboratory
from disks import KINDS, Disk
from lab import Lab
from load import Ledger, Load
from server import Server, configuration, subnet
from suite import Suite

TAKES_SECONDS = 45

RELAY = "10.77.9.9"
SETTINGS = {"server": "shards = 2", "subnets": [subnet(pool="16.0-{net}.255.250")]}
# The shares of what was not synced that are on the disk all the same, an image for each.
SHARES = (0.5, 0.95, 0.0)
# A new disk after so many cuts: before it and the pool are full.
FRESH_AFTER = 5
# Ways to write: flags for open, whether fdatasync follows, whether a power cut may forget it.
WAYS = {
    "a plain write": (0, False, True),
    "O_DIRECT": (os.O_DIRECT, False, True),
    "O_DIRECT and O_DSYNC": (os.O_DIRECT | os.O_DSYNC, False, False),
    "fdatasync": (0, True, False),
}


def overwrite(path, flags, content, sync):
    """Writes whole blocks into a file that has them."""
    aligned = mmap.mmap(-1, len(content))
    aligned[:] = content
    file = os.open(path, os.O_RDWR | flags)
    os.pwrite(file, aligned, 0)
    if sync:
        os.fdatasync(file)
    os.close(file)


def is_kept(disk, path, flags, sync):
    """Whether a block written in this way outlives a power cut right after it."""
    with open(path, "wb") as made:
        made.write(bytes([1]) * 65536)
    os.sync()
    mark = os.urandom(32)
    overwrite(path, flags, mark * 256, sync)
    cut = disk.cut("cut")
    with open(cut.image(random, 0.0), "rb") as image:
        kept = mark in image.read()
    cut.remove()
    return kept


def forgets(suite, lab, kind):
    """The disk keeps what the kernel flushes, and nothing else."""
    disk = Disk(lab, f"{kind}-ways", kind)
    for number, (way, (flags, sync, forgotten)) in enumerate(WAYS.items()):
        path = os.path.join(disk.place, f"file{number}")
        # The file system flushes now and then for reasons of its own: more than one try.
        kept = [is_kept(disk, path, flags, sync) for _ in range(3)]
        if forgotten:
            suite.check(f"{kind}: {way} is forgotten", not all(kept), kept)
        else:
            suite.check(f"{kind}: {way} is kept", all(kept), kept)
    disk.close()


class Trial:
    """Power cuts of one file system."""

    def __init__(self, suite, lab, namespace, kind, dice):
        self.suite, self.lab, self.namespace = suite, lab, namespace
        self.kind, self.dice = kind, dice
        self.machines = self.acks = self.unsynced = 0
        self.image = self.ledger = self.last = self.disk = None
        suite.explain_with(lambda: self.last.log(10))
        suite.explain_with(lambda: self.disk.log())

    def run(self, cuts):
        for number in range(cuts):
            fresh = number % FRESH_AFTER == 0
            with self.suite.step(f"{self.kind}, cut {number + 1}"):
                if fresh:
                    self.image, self.ledger = None, Ledger()
                try:
                    self.cut(f"{self.kind}-{number + 1}")
                finally:
                    self.end_all()
        self.suite.check(f"{self.kind}: the cuts came under load", self.acks > 50 * cuts,
                         self.acks)
        self.suite.check(f"{self.kind}: something was not synced when they came",
                         self.unsynced > 0)

    def cut(self, name):
        """One cut and its images."""
        self.disk = disk = Disk(
            self.lab, name, self.kind, self.dice.choice((1, 4, 8)), self.image)
        server = self.server(disk.place, name).start(seconds=60)
        load = self.load(leave=0.3)
        time.sleep(self.dice.uniform(0.3, 1.5))
        before = self.ledger.snapshot()
        cut = disk.cut("cut", self.dice.randint(1, 4))
        after = self.ledger.snapshot()
        # What a machine gave back meanwhile it may have lost.
        held = {address: mac for address, mac in before.items() if after.get(address) == mac}
        server.kill()
        self.end(load)
        disk.close()
        self.unsynced += len(cut.cache)
        self.suite.say(f"   {load.acks} ACKs, {len(held)} leases held, {load.releases} RELEASEs, "
                       f"{len(cut.cache)} writes not synced")
        self.suite.equal(f"{name}: addresses given twice", self.ledger.given_twice[:5], [])
        for share in self.dice.sample(SHARES, len(SHARES)):
            self.image = cut.image(self.dice, share)
            with disk.mounted(self.image) as place:
                self.look(f"{name}, {share:.0%} of the cache written", place, held)
        cut.remove(keep=self.image)

    def end_all(self):
        """Ends what a cut has started and a failure left: a disk goes after who uses it."""
        if self.last and self.last.process:
            self.last.kill()
        if self.disk:
            self.disk.close()

    def look(self, what, place, held):
        """What a server that is started on an image knows and does."""
        self.ledger = Ledger(held)
        server = self.server(place, "after").start(seconds=60)
        lost = Ledger.lost(held, server.leases())
        self.suite.equal(f"{what}: leases lost", lost[:5], [])
        load = self.load()
        told = laboratory.wait_until(lambda: load.acks > 100, 30)
        self.end(load)
        self.suite.check(f"{what}: it serves", told, load.acks)
        self.suite.equal(f"{what}: addresses given twice", self.ledger.given_twice[:5], [])
        self.suite.check(f"{what}: no alarm", " ERROR " not in server.process.output(),
                         server.log())
        server.stop()

    def server(self, place, name):
        self.last = Server(self.lab, configuration(f"{place}/state", **SETTINGS), name=name)
        return self.last

    def load(self, **how):
        load = Load(self.namespace, RELAY, "10.77.0.1", self.machines, ledger=self.ledger, **how)
        load.start()
        return load

    def end(self, load):
        load.settle().close()
        self.machines, self.acks = load.last, self.acks + load.acks


def main():
    laboratory.own_mounts()
    cuts = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    kinds = sys.argv[2:] or list(KINDS)
    if set(kinds) - set(KINDS):
        sys.exit(f"test_power_cut.py: file systems are {', '.join(KINDS)}")
    suite = Suite("Power cut")
    lab = Lab()
    namespace = lab.namespace("relay")
    lab.plug(namespace, 0)
    laboratory.sh(f"ip -n {namespace} addr add {RELAY}/16 dev eth0")
    seed = time.time_ns() % 1_000_000
    suite.say(f" - {cuts} cuts each of {', '.join(kinds)}; seed {seed}")
    for kind in kinds:
        with suite.step(f"{kind}: the disk forgets what was not flushed"):
            forgets(suite, lab, kind)
        Trial(suite, lab, namespace, kind, random.Random(seed)).run(cuts)
    suite.finish()


if __name__ == "__main__":
    main()
