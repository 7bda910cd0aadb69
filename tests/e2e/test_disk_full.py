#!/usr/bin/env python3
"""A full disk: the lease log has its room already, so ACKs go on, and what was acknowledged is
there after a kill. Live hosts change as long as there is room for the change, and what else the
server writes keeps it from no start. Without room for a new log the start fails, with an error that
names the place.
"""

import contextlib
import json
import os
import socket

import lab as laboratory
from lab import Lab, sh
from load import Load
from relay import Relay
from server import Server, configuration, subnet
from suite import Suite

RELAY = "10.77.9.8"


def fill(path):
    """Takes every free byte of a file system."""
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as filler:
        while True:
            filler.write(bytes(1 << 16))


def hosts_change(suite, lab):
    """The disk has room for changes of live hosts, and none for all of them."""
    place = lab.path("hosts")
    os.makedirs(place)
    sh(f"mount -t tmpfs -o size=80m none {place}")
    server = Server(lab, configuration(f"{place}/state"), name="hosts")
    suite.explain_with(server.log)
    journal, filler = f"{place}/state/hosts.journal", f"{place}/filler"
    many = [{"name": f"h{number:03}-" + "x" * 200,
             "hardware": f"52:54:07:00:{number >> 8:02x}:{number & 255:02x}"}
            for number in range(1000)]
    file = lab.write("many.json", json.dumps(many))

    def change(*arguments):
        return server.tool("host", "set", *arguments, seconds=60)

    with suite.step("hosts change on a full disk"):
        server.start()
        change("--file", file)
        each = os.path.getsize(journal)
        while os.path.getsize(journal) + each <= 1 << 20:
            change("--file", file)
        fill(filler)
        # For a thousand, and some more.
        os.truncate(filler, os.path.getsize(filler) - each - (1 << 16))
        for what, arguments in (("many", ("--file", file)),
                                ("one", ("n1", "--hardware", "52:54:08:00:00:01")),
                                ("another", ("n2", "--hardware", "52:54:08:00:00:02"))):
            status, output = change(*arguments)
            suite.check(f"{what} can be changed", status == 0, output)
        suite.check("that they are not written anew is told",
                    "the journal of live hosts grows" in server.log(), server.log())
        suite.check("nothing is left behind", not os.path.exists(f"{place}/state/hosts.toml.new"))
        os.remove(filler)
        status, output = change("n3", "--hardware", "52:54:08:00:00:03")
        suite.check("with room they are written anew",
                    status == 0 and not os.path.exists(journal), output)
        server.kill()
        server.start()
        listed = [json.loads(line)["name"] for line in server.tool("host", "list")[1].splitlines()]
        suite.check("all are there", len(listed) == 1003 and listed[-1] == "n3", listed[-3:])
        server.stop()


def main():
    laboratory.own_mounts()
    suite = Suite("Disk full")
    lab = Lab()
    namespace = lab.namespace("load")
    lab.plug(namespace, 0)
    sh(f"ip -n {namespace} addr add {RELAY}/16 dev eth0")
    small = lab.path("small")
    os.makedirs(small)
    sh(f"mount -t tmpfs -o size=96m none {small}")
    server = Server(lab, configuration(
        f"{small}/state", server="shards = 2",
        dhcp='min-lease-time = "1s"\non = [{ event = "expiry", execute = ["/bin/true"] }]',
        subnets=[subnet(pool="16.0-{net}.255.250")]))
    relay = Relay(lab)
    ended = f"{small}/state/ended"
    suite.explain_with(server.log)
    with suite.step("a disk with room"):
        server.start()
        load = Load(namespace, RELAY, "10.77.0.1")
        load.start()
        suite.check("leases are acknowledged",
                    laboratory.wait_until(lambda: load.acks > 100, 10), load.acks)
        second = (51, (1).to_bytes(4, "big"))
        offer = relay.answer("DISCOVER", "52:54:00:ff:ff:01", [second])
        chosen = (50, socket.inet_aton(offer.yiaddr))
        relay.answer("REQUEST", "52:54:00:ff:ff:01", [second, chosen, (54, offer.options[54])])
        suite.check("the end of a lease is noted", laboratory.wait_until(
            lambda: offer.yiaddr in _read(ended), 15), _read(ended))
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
        suite.check("the end is still noted", offer.yiaddr in _read(ended), _read(ended))
        suite.check("nothing unfinished is left of it", not os.path.exists(f"{ended}.new"))
        server.stop()
        tiny = lab.path("tiny")
        os.makedirs(tiny)
        sh(f"mount -t tmpfs -o size=2m none {tiny}")
        server.configure(configuration(f"{tiny}/state"))
        code, output = server.tool("serve")
        suite.check("without room for a new log it fails", code not in (0, None), output)
        suite.check("and says where", f"{tiny}/state/lease-log" in output, output)
    hosts_change(suite, lab)
    suite.finish()


def _read(path):
    with open(path) as file:
        return file.read()


if __name__ == "__main__":
    main()
