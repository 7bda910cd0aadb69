#!/usr/bin/env python3
"""A reload takes an interface on and leaves it again. One that fails, at whichever step, changes
nothing. And an address that answers ping is not offered."""

import contextlib
import json
import os
import socket
import threading

import lab as laboratory
import wire
from clients import Udhcpc
from lab import Lab
from server import BINARY, Server, configuration, subnet
from suite import Suite
from test_interfaces import fetch

TAKES_SECONDS = 41

PING = 'ping-check = "300ms"'
OLD, NEW = b"old" * 500, b"new" * 500
_numbers = iter(range(1, 1_000_000))


def text(server, interfaces):
    return configuration(server.state, subnets=[subnet(0), subnet(1)], dhcp=PING,
                         interfaces=interfaces)


def take_over(suite, server, interfaces):
    """Writes the configuration and has it read."""
    server.configure(text(server, interfaces))
    suite.equal(f"reload with {', '.join(interfaces)}", server.tool("reload")[0], 0)


def lease(lab, bridge, seconds):
    """What a new udhcpc on a bridge is bound to within the time."""
    client = Udhcpc(lab, bridge=bridge)
    client.start()
    event = client.wait(("bound",), seconds=seconds)
    client.crash()
    return event and event.address


def offer(namespace, seconds):
    """The OFFER to a machine that nobody has seen before, or None."""
    number = next(_numbers)
    with laboratory.inside(namespace):
        raw = wire.Raw("eth0")
    answer = raw.ask("DISCOVER", f"52:54:00:2e:{number >> 8:02x}:{number & 255:02x}", number,
                     seconds=seconds)
    raw.close()
    return answer


class Manager:
    """Keeps sockets as systemd does: what the server leaves with it stays open."""

    def __init__(self, path):
        self.kept = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(path)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        while True:
            text, fds, _, _ = socket.recv_fds(self._socket, 4096, 1)
            fields = dict(line.split("=", 1) for line in text.decode().splitlines())
            name = fields.get("FDNAME")
            if "FDSTORE" in fields:
                self.kept.setdefault(name, []).extend(fds)
                continue
            if "FDSTOREREMOVE" in fields:
                fds = self.kept.pop(name, [])
            # Those of BARRIER, too.
            for number in fds:
                os.close(number)


class Whole:
    """A server whose old and new configuration differ in everything that a reload changes."""

    def __init__(self, suite, lab):
        self.suite, self.lab = suite, lab
        self.namespaces = [lab.namespace(f"namespace{bridge}") for bridge in (0, 1)]
        for bridge, namespace in enumerate(self.namespaces):
            lab.plug(namespace, bridge)
            laboratory.sh(f"ip -n {namespace} addr add 10.{77 + bridge}.9.1/16 dev eth0")
        for root, content in (("old", OLD), ("new", NEW)):
            lab.write(f"{root}/file", content)
        self.server = Server(lab, name="whole", text="")
        self.server.configure(self.old())
        self.manager = Manager(lab.path("notify"))
        self.server.wrapper = ["env", f"NOTIFY_SOCKET={lab.path('notify')}"]

    def old(self):
        return self.text(("eth0",), "old", "4.0-{net}.4.250")

    def new(self, interfaces=("eth0", "eth1"), root="new", tftp=""):
        return self.text(interfaces, root, "5.0-{net}.5.250", tftp + 'max-blksize = 700\n')

    def text(self, interfaces, root, pool, tftp=""):
        return configuration(self.server.state, interfaces=interfaces, server="shards = 2",
                             subnets=[subnet(0, pool), subnet(1, pool)],
                             tftp=self.lab.path(root), after=tftp)

    def behaviour(self):
        """Everything that the two configurations differ in."""
        near, far = offer(self.namespaces[0], 10), offer(self.namespaces[1], 2)
        content, oack = fetch(self.namespaces[0], "10.77.9.1", "10.77.0.1", seconds=10)
        return {"pool": near and near.yiaddr[:8], "eth1": far and far.yiaddr[:8],
                "file": content, "blksize": oack.split(b"\0")[2:3],
                "interfaces": self.status()["interfaces"],
                "ports on eth1": self.ports("eth1")}

    def tool(self, *arguments):
        """One of the server's commands, whatever the configuration file says."""
        return self.lab.run(self.lab.srv,
                            [BINARY, *arguments, "--state-dir", self.server.state])

    def status(self):
        return json.loads(self.tool("status", "--json")[1])

    def ports(self, interface):
        """The ports below 1024 that are bound on an interface."""
        lines = laboratory.sh(f"ip netns exec {self.lab.srv} ss -Hlun").splitlines()
        bound = {line.split()[3] for line in lines if f"%{interface}:" in line}
        return sorted({int(address.rsplit(":", 1)[1]) for address in bound})

    def refused(self, what, candidate, cause, around=None):
        """A reload fails, says why, and nothing has changed."""
        self.server.configure(candidate)
        with around or contextlib.nullcontext():
            status, output = self.tool("reload")
        self.suite.check(f"{what}: refused, with the cause", status != 0 and cause in output,
                         f"exit {status}: {output}")
        self.suite.check(f"{what}: status says so",
                         cause in self.status().get("reload-error", ""), self.status())
        self.suite.equal(f"{what}: nothing has changed", self.behaviour(), self.before)

    @contextlib.contextmanager
    def port_taken(self, port):
        """Another program has a port on eth1."""
        with laboratory.inside(self.lab.srv):
            other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth1")
            other.bind(("0.0.0.0", port))
            yield

    @contextlib.contextmanager
    def few_descriptors(self, free):
        """The server can open so many descriptors more."""
        pid = self.server.process.child.pid
        limits = laboratory.sh(f"prlimit --pid {pid} --nofile --noheadings --output SOFT,HARD")
        soft, hard = limits.split()
        used = set(map(int, os.listdir(f"/proc/{pid}/fd")))
        limit = next(limit for limit in range(free, int(soft))
                     if limit - sum(number < limit for number in used) == free)
        laboratory.sh(f"prlimit --pid {pid} --nofile={limit}:{hard}")
        try:
            yield
        finally:
            laboratory.sh(f"prlimit --pid {pid} --nofile={soft}:{hard}")

    def run(self):
        self.server.start()
        self.before = self.behaviour()
        self.suite.check("a manager keeps its sockets", self.manager.kept, self.manager.kept)
        self.suite.equal("the old configuration", self.before, {
            "pool": "10.77.4.", "eth1": None, "file": OLD, "blksize": [b"1024"],
            "interfaces": ["eth0"], "ports on eth1": []})
        self.refused("no TOML", self.new() + "\n[dhcp", "whole.toml")
        self.refused("an impossible interface name", self.new(("eth0", "eth/1")), "eth/1")
        self.refused("no TFTP root", self.new(root="nowhere"), "nowhere")
        self.refused("a wrong map rule", self.new(
            tftp='map = [{ match = "(", replace = "x" }]\n'), "map")
        self.refused("no map file", self.new(tftp='map-file = "absent.map"\n'), "absent.map")
        self.lab.write("broken.map", "r ( x\n")
        self.refused("a wrong map file", self.new(tftp='map-file = "broken.map"\n'),
                     "broken.map")
        for port in (67, 69):
            self.refused(f"port {port} in use", self.new(), "another server has the port",
                         self.port_taken(port))
        # The command's connection takes one and the TFTP root another, each of two shards three.
        for free in (1, 3, 4, 5, 7):
            self.refused(f"{free} descriptors left", self.new(), "Too many open files",
                         self.few_descriptors(free))
        self.server.configure(self.new())
        self.suite.equal("without a fault it is in force", self.tool("reload")[0], 0)
        self.suite.equal("as a whole", self.behaviour(), {
            "pool": "10.77.5.", "eth1": "10.78.5.", "file": NEW, "blksize": [b"700"],
            "interfaces": ["eth0", "eth1"], "ports on eth1": [67, 69]})
        self.server.configure(self.old())
        self.suite.equal("and back", (self.tool("reload")[0], self.behaviour()),
                         (0, self.before))
        self.suite.equal("SIGTERM, exit status", self.server.stop(), 0)


def main():
    suite = Suite("Reload")
    lab = Lab(bridges=2)
    server = Server(lab)
    server.configure(text(server, ("eth0",)))
    suite.explain_with(server.log)
    with suite.step("interfaces come and go"):
        server.start()
        suite.equal("a client on an interface that is not served", lease(lab, 1, 3), None)
        take_over(suite, server, ("eth0", "eth1"))
        address = lease(lab, 1, 15)
        suite.check("is served after the reload", (address or "").startswith("10.78.4."), address)
        take_over(suite, server, ("eth0",))
        suite.equal("and no more after the next", lease(lab, 1, 3), None)
        held = server.leases().get(address, {}).get("state")
        suite.equal("its lease stays", held, "active")
    with suite.step("an address in use"):
        squatter = lab.namespace("squatter")
        lab.plug(squatter, 0)
        for last in (0, 1):
            laboratory.sh(f"ip -n {squatter} addr add 10.77.4.{last}/16 dev eth0")
        address = lease(lab, 0, 15)
        suite.check("a client gets one that nobody answers for",
                    address and address not in ("10.77.4.0", "10.77.4.1"), address)
        squatted = {server.lease_state(f"10.77.4.{last}") for last in (0, 1)}
        suite.check("what answered is in quarantine", "declined" in squatted, squatted)
    with suite.step("the server ends"):
        suite.equal("SIGTERM, exit status", server.stop(), 0)
    with suite.step("a reload that fails changes nothing"):
        whole = Whole(suite, lab)
        suite.explain_with(whole.server.log)
        whole.run()
    suite.finish()


if __name__ == "__main__":
    main()
