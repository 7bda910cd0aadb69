#!/usr/bin/env python3
"""One stream for many machines (RFC 2090): atftp in a namespace each, all at once; the generator's
machines, on a good network and on a bad one; a machine that knows no multicast beside them."""

import hashlib
import os
import re

import lab as laboratory
import storm
from lab import Lab
from server import Server, configuration
from suite import Suite

TAKES_SECONDS = 14

HOST = "10.77.0.1"
ROOMS = 4
SIZE = 3_000_000
STREAMS = 'multicast = "239.255.7.0/24"\n'


def count(lab, name):
    """The value of a counter of the server's only shard."""
    _, page = lab.run(lab.srv, ["curl", "-sS", "http://127.0.0.1:9547/metrics"])
    found = re.search(rf'^{name}{{shard="0"}} (\d+)$', page, re.MULTILINE)
    return int(found[1]) if found else -1


def namespaces_of(lab):
    """Rooms with an address each, and a route to groups, which atftp needs to join one."""
    namespaces = []
    for number in range(ROOMS):
        namespace = lab.namespace(f"namespace{number}")
        lab.plug(namespace, 0)
        laboratory.sh(f"ip -n {namespace} addr add 10.77.1.{number + 1}/16 dev eth0")
        laboratory.sh(f"ip -n {namespace} route add 224.0.0.0/4 dev eth0")
        namespaces.append(namespace)
    return namespaces


def fetch_together(lab, namespaces):
    """atftp in every namespace at once: (status, whether the copy is whole) of each."""
    fetches = []
    for number, namespace in enumerate(namespaces):
        copy = lab.path(f"copy{number}")
        arguments = ["atftp", "--option", "multicast", "--option", "blksize 1428", "--get",
                     "-r", "image", "-l", copy, HOST]
        fetches.append((lab.start(namespace, arguments, f"atftp{number}"), copy))
    return [(process.wait(30), digest(copy)) for process, copy in fetches]


def digest(path):
    if not os.path.exists(path):
        return None
    with open(path, "rb") as copy:
        return hashlib.sha256(copy.read()).hexdigest()


def load(lab, namespace, *arguments):
    """A run of the generator's machines in a namespace."""
    return lab.run(namespace, [storm.BINARY, "tftp", "--server", HOST, "--interface", "eth0",
                          "--client-net", "10.100.0.0/16", "--file", "image", "--multicast",
                          "--root", lab.path("tftp"), "-q", *arguments], seconds=90)


def all_whole(clients, status, output):
    """Whether every machine has every byte. A generator that a busy host held up says so, which is
    no matter here."""
    return (status in (storm.MET, storm.INVALID) and f"{clients} of {clients} transfers complete, 0 failed" in output
            and "violations  <= 0  found 0" in output)


def main():
    suite = Suite("TFTP multicast")
    lab = Lab()
    content = os.urandom(SIZE)
    lab.write("tftp/image", content)
    whole = hashlib.sha256(content).hexdigest()
    namespaces = namespaces_of(lab)
    server = Server(lab)

    def configure(streams):
        server.configure(configuration(server.state, server="shards = 1\n",
                                       tftp=lab.path("tftp"), after=streams))

    configure(STREAMS)
    suite.explain_with(server.log)
    server.start()
    laboratory.sh(f"ip -n {lab.srv} route add 10.100.0.0/16 via 10.77.1.1")
    with suite.step("atftp, four at once"):
        suite.equal("every copy is whole", fetch_together(lab, namespaces), [(0, whole)] * ROOMS)
        suite.check("they shared a stream", count(lab, "bootstorm_tftp_listeners_total") >= 1,
                    server.log())
        sent = count(lab, "bootstorm_tftp_sent_bytes_total")
        suite.check("the file went out less often than it was asked for",
                    SIZE <= sent < ROOMS * SIZE, f"{sent} bytes of {SIZE}")
        suite.equal("no stream is left", laboratory.wait_until(
            lambda: count(lab, "bootstorm_tftp_streams") == 0, 5), True)
    with suite.step("without multicast"):
        status, output = lab.run(namespaces[1], ["atftp", "--option", "blksize 1428", "--get", "-r",
                                            "image", "-l", lab.path("alone"), HOST])
        suite.check("a client that does not ask gets the file by itself",
                    status == 0 and digest(lab.path("alone")) == whole, output)
    with suite.step("a hundred machines"):
        before = count(lab, "bootstorm_tftp_sent_bytes_total")
        status, output = load(lab, namespaces[0], "--clients", "100", "--windowsize", "4",
                              "--over", "200ms")
        suite.check("every machine has every byte", all_whole(100, status, output), output)
        sent = count(lab, "bootstorm_tftp_sent_bytes_total") - before
        suite.check("for a few times the file", SIZE <= sent < 10 * SIZE, f"{sent} bytes")
    with suite.step("a bad network"):
        status, output = load(lab, namespaces[0], "--clients", "20", "--windowsize", "4",
                              "--set", "network.loss=2%", "--set", "network.reorder=1%",
                              "--set", "network.duplicate=1%", "--set", "limit=80s")
        suite.check("every machine has every byte", all_whole(20, status, output), output)
    with suite.step("settings"):
        configure("")
        suite.equal("a reload without groups", server.tool("reload")[0], 0)
        status, output = load(lab, namespaces[0], "--clients", "10")
        suite.check("machines that ask for a stream get the file by themselves",
                    all_whole(10, status, output), output)
        suite.equal("and no stream", count(lab, "bootstorm_tftp_streams"), 0)
        configure('multicast = "10.77.0.0/24"\n')
        status, output = server.tool("check")
        suite.check("groups that are none are refused, with some that are", status != 0 and
                    "239.255.1.0/24" in output, output)
    with suite.step("the server ends"):
        suite.equal("SIGTERM, exit status", server.stop(), 0)
    suite.finish()


if __name__ == "__main__":
    main()
