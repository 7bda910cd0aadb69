#!/usr/bin/env python3
"""A full disk: the lease log has its room already, so ACKs go on, and what was acknowledged is
there after a kill. Without room for a new log the start fails, with an error that names the place.
"""

import contextlib
import os

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
        before = load.acks
        suite.check("ACKs go on", laboratory.wait_until(
            lambda: load.acks > before + 5000, 60), f"{load.acks - before} ACKs")
        text = server.process.output()
        suite.equal("no lease failed to be written", text.count(" ERROR "), 0)
        suite.check("the server can still be asked", server.tool("status")[0] == 0)
    with suite.step("what was acknowledged is on the disk"):
        server.kill()
        load.settle().close()
        rows = server.leases()
        lost = load.ledger.lost(load.ledger.held, rows)
        suite.equal(f"of {load.acks} ACKs, lost", lost[:5], [])
        suite.equal("addresses given twice", load.ledger.given_twice[:5], [])
    with suite.step("starts on a full disk"):
        server.start()
        suite.equal("the leases are there", len(server.leases()), len(rows))
        server.stop()
        tiny = lab.path("tiny")
        os.makedirs(tiny)
        sh(f"mount -t tmpfs -o size=2m none {tiny}")
        server.configure(configuration(f"{tiny}/state"))
        code, output = server.tool("serve")
        suite.check("without room for a new log it fails", code not in (0, None), output)
        suite.check("and says where", f"{tiny}/state/lease-log" in output, output)
    suite.finish()


if __name__ == "__main__":
    main()
