#!/usr/bin/env python3
"""Where io_uring is denied the server says so once and serves without it, unless it was told
that nothing else will do."""

import os
import sys

import lab as laboratory
import wire
from lab import Lab
from server import BINARY, Server, configuration, subnet
from suite import Suite

TAKES_SECONDS = 12

_DENY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "deny_uring.py")
MACHINES = 20


def offered(lab, namespace):
    """How many of some machines get exactly one offer."""
    with laboratory.inside(namespace):
        raw = wire.Raw("eth0")
    for number in range(MACHINES):
        mac = f"52:54:00:e9:00:{number * 4:02x}"
        raw.send(wire.message("DISCOVER", mac, number), mac)
    counts = {}
    for _, answer in raw.replies(1.5):
        counts[answer.xid] = counts.get(answer.xid, 0) + (answer.kind == "OFFER")
    raw.close()
    return sum(count == 1 for count in counts.values())


def fetched(lab, namespace):
    """Whether a file comes through whole, by blocks and by windows."""
    with open(lab.path("tftp/image"), "rb") as image:
        wanted = image.read()
    for options in ([], ["--option", "blksize 1468", "--option", "windowsize 32"]):
        status, output = lab.run(namespace, ["atftp", *options, "--get", "-r", "image", "-l",
                                        lab.path("got"), "10.77.0.1"])
        with open(lab.path("got"), "rb") as got:
            if status != 0 or got.read() != wanted:
                return False
    return True


def main():
    suite = Suite("Engine")
    lab = Lab()
    namespace = lab.namespace("machines")
    lab.plug(namespace, 0)
    laboratory.sh(f"ip -n {namespace} addr add 10.77.9.1/16 dev eth0")
    lab.write("tftp/image", os.urandom(2_000_000))
    for how, engine, wrapper in (("io_uring", 'engine = "uring"', []),
                                 ("recvmmsg", 'engine = "mmsg"', []),
                                 ("io_uring denied", "", [sys.executable, _DENY])):
        with suite.step(how):
            server = Server(lab, name=how.replace(" ", "-"), server=f"shards = 2\n{engine}",
                            subnets=[subnet()], tftp=lab.path("tftp"))
            server.wrapper = wrapper
            server.start()
            suite.equal("one offer to each machine", offered(lab, namespace), MACHINES)
            suite.check("files come whole", fetched(lab, namespace))
            warned = [line for line in server.log(200).splitlines()
                      if "WARN" in line and "io_uring" in line]
            suite.equal("warnings about io_uring", len(warned), 1 if wrapper else 0)
            suite.equal("SIGTERM, exit status", server.stop(), 0)
    with suite.step("io_uring denied, and nothing else will do"):
        state = lab.path("forced")
        config = lab.write("forced.toml", configuration(state, server='engine = "uring"'))
        status, output = lab.run(lab.srv, [sys.executable, _DENY, BINARY, "serve", "--config",
                                           config])
        suite.check("exit 2, and what was denied", status == 2 and "io_uring" in output,
                    f"exit {status}: {output}")
    suite.finish()


if __name__ == "__main__":
    main()
