#!/usr/bin/env python3
"""A full disk: nobody is told of a lease that is not written, one clear line says why, and
service goes on when there is room again."""

import contextlib
import glob
import os
import time

import lab as laboratory
from lab import Lab, sh
from load import Load
from server import Server, configuration, subnet
from suite import Suite

RELAY = "10.77.9.9"


def fill(path):
    """Takes every free byte of a file system."""
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as filler:
        while True:
            filler.write(bytes(1 << 16))


def still(load, small):
    """Whether no ACK comes for a while. When the store is reopened it may give some room back:
    that is taken, too."""
    fill(f"{small}/filler{load.acks}")
    before = load.acks
    time.sleep(1.5)
    return load.acks == before


def main():
    laboratory.own_mounts()
    suite = Suite("Disk full")
    lab = Lab()
    namespace = lab.namespace("relay")
    lab.plug(namespace, 0)
    sh(f"ip -n {namespace} addr add {RELAY}/16 dev eth0")
    small = lab.path("small")
    os.makedirs(small)
    sh(f"mount -t tmpfs -o size=96m none {small}")
    server = Server(lab, configuration(f"{small}/state", server="shards = 2",
                                       subnets=[subnet(pool="16.0-{net}.255.250")]))
    suite.explain_with(server.log)
    with suite.step("a disk with room"):
        server.start()
        load = Load(namespace, RELAY, "10.77.0.1")
        load.start()
        suite.check("leases are acknowledged",
                    laboratory.wait_until(lambda: load.acks > 100, 10), load.acks)
    with suite.step("the disk fills up under load"):
        fill(f"{small}/filler")
        suite.check("a line at level error says that", laboratory.wait_until(
            lambda: " ERROR " in server.process.output(), 10), server.log())
        suite.check("ACKs stop", laboratory.wait_until(lambda: still(load, small), 20),
                    load.acks)
        text = server.process.output()
        suite.equal("one such line each time that writing fails, not one a try",
                    text.count(" ERROR "), text.count("leases are written again") + 1)
        suite.check("the server can still be asked", server.tool("status")[0] == 0)
    with suite.step("room again"):
        before = load.acks
        for name in glob.glob(f"{small}/filler*"):
            os.unlink(name)
        suite.check("ACKs leave again", laboratory.wait_until(
            lambda: load.acks > before + 100, 15), f"{load.acks - before} ACKs")
    with suite.step("what was acknowledged is on the disk"):
        server.kill()
        load.settle().close()
        rows = server.leases()
        lost = load.ledger.lost(load.ledger.held, rows)
        suite.equal(f"of {load.acks} ACKs, lost", lost[:5], [])
        suite.equal("addresses given twice", load.ledger.given_twice[:5], [])
    suite.finish()


if __name__ == "__main__":
    main()
