#!/usr/bin/env python3
"""A disk that hangs: no ACK leaves before its lease is on it, OFFERs go on, the log says what is
the matter, and everything goes on when the disk does. A start waits for who reads the store of a
stopped server, and ends beside another server.
"""

import fcntl
import os
import threading

import lab as laboratory
import wire
from disks import Disk
from lab import Lab, sh
from load import Load
from server import BINARY, Server, configuration, subnet
from suite import Suite

TAKES_SECONDS = 35
MOSTLY_WAITS = True

RELAY = "10.77.9.9"
# The watchdog looks every ten seconds.
WARNING_SECONDS = 40


def offer(namespace, number):
    """The OFFER to a machine that nobody has seen before, or None."""
    with laboratory.inside(namespace):
        raw = wire.Raw("eth0")
    answer = raw.ask("DISCOVER", f"52:54:00:d1:5c:{number:02x}", number, seconds=5)
    raw.close()
    return answer


def hangs(suite, lab, server, disk, namespace):
    """The disk hangs under load, and comes back."""
    load = Load(namespace, RELAY, "10.77.0.1")
    load.start()
    suite.check("leases are acknowledged",
                laboratory.wait_until(lambda: load.acks > 100, 20), load.acks)
    with disk.hanging():
        # Those whose leases were on the disk before.
        laboratory.wait_until(lambda: False, 1)
        before = load.acks
        suite.check("an OFFER comes", offer(namespace, 1))
        suite.check("the log says for how long the disk is waited for", laboratory.wait_until(
            lambda: "has waited for the disk for" in server.process.output(), WARNING_SECONDS))
        suite.equal("ACKs meanwhile", load.acks - before, 0)
        suite.check("the server can be asked", server.tool("status")[0] == 0)
    suite.check("ACKs go on with the disk",
                laboratory.wait_until(lambda: load.acks > before + 100, 30), load.acks - before)
    load.settle().close()
    suite.equal("no lease failed to be written", server.process.output().count(" ERROR "), 0)
    server.kill()
    lost = load.ledger.lost(load.ledger.held, server.leases())
    suite.equal(f"of {load.acks} ACKs, lost", lost[:5], [])
    suite.equal("addresses given twice", load.ledger.given_twice[:5], [])


def is_read(suite, lab, server, state, namespace):
    """Somebody reads the store while the server starts."""
    with open(os.path.join(state, "lease-log", "lock")) as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        timer = threading.Timer(1.5, fcntl.flock, (lock, fcntl.LOCK_UN))
        timer.start()
        server.start()
        suite.check("the server has waited for who reads its store", not timer.is_alive())
        timer.join()
    # Elsewhere, where port 67 is free.
    other = Server(lab, configuration(state), name="other")
    status, output = lab.run(namespace, [BINARY, "serve", "--config", other.config], 15)
    suite.check("a second server on the same store ends", status not in (0, None), output)
    suite.check("and says where the other is", "another bootstorm is running" in output
                and f"{state}/control.sock" in output, output)
    server.stop()


def main():
    laboratory.own_mounts()
    suite = Suite("Disk hangs")
    lab = Lab()
    namespace = lab.namespace("relay")
    lab.plug(namespace, 0)
    sh(f"ip -n {namespace} addr add {RELAY}/16 dev eth0")
    disk = Disk(lab, "slow", "ext4")
    state = f"{disk.place}/state"
    server = Server(lab, configuration(state, server="shards = 2",
                                       subnets=[subnet(pool="16.0-{net}.255.250")]))
    suite.explain_with(server.log)
    suite.explain_with(disk.log)
    with suite.step("a disk that hangs"):
        server.start(seconds=60)
        hangs(suite, lab, server, disk, namespace)
    with suite.step("a store that is read"):
        is_read(suite, lab, server, state, namespace)
    disk.close()
    suite.finish()


if __name__ == "__main__":
    main()
