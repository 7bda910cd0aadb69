#!/usr/bin/env python3
"""Whatever happens to interfaces while the server runs is followed, after it has given up its
privileges: deleted and made again, rebuilt, renamed, down, another address or MTU, absent at
the start and there later. DHCP and TFTP, direct and relayed."""

import json
import os
import signal
import socket

import lab as laboratory
import wire
from lab import Lab
from server import Server, configuration, subnet
from suite import Suite
from test_one_offer import storm

TAKES_SECONDS = 45

RELAY = "10.77.9.9"
# Behind the relay: where it says that its clients are, and one that has an address already.
GIADDR, ROUTED = "10.79.0.9", "10.79.0.5"
DIRECT = "10.77.9.9"
BEHIND = ('[[dhcp.subnet]]\nsubnet = "10.79.0.0/16"\npools = ["10.79.4.0-10.79.4.250"]\n')
FILE = os.urandom(40_000)
ALL = ("direct DHCP", "relayed DHCP", "direct TFTP", "relayed TFTP")
_numbers = iter(range(1, 1_000_000))


class Site:
    """A laboratory with machines on br0, and a network behind them."""

    def __init__(self):
        self.lab = Lab(bridges=2)
        # The server becomes a user that has to reach its state and its files.
        os.chmod(self.lab.directory, 0o755)
        self.namespace = self.lab.namespace("machines")
        self.lab.plug(self.namespace, 0)
        laboratory.sh(f"ip -n {self.namespace} addr add {RELAY}/16 dev eth0")
        laboratory.sh(f"ip -n {self.namespace} addr add {ROUTED}/32 dev lo")
        laboratory.sh(f"ip netns exec {self.namespace} sysctl -qw net.ipv4.ip_forward=1")
        self.lab.write("tftp/file", FILE)
        os.chmod(self.lab.path("tftp"), 0o755)
        self.route()

    def server(self, name, shards, interfaces=("eth0",), tables=""):
        server = Server(self.lab, name=name, interfaces=interfaces or ("eth0",),
                        server=f'shards = {shards}\nuser = "nobody"\n{tables}',
                        subnets=[subnet(0), subnet(1), BEHIND], tftp=self.lab.path("tftp"))
        if not interfaces:
            with open(server.config) as text:
                server.configure(text.read().replace('interfaces = ["eth0"]\n', ""))
        return server

    def srv(self, command):
        """`ip` in the server's namespace."""
        return laboratory.sh(f"ip -n {self.lab.srv} {command}")

    def route(self):
        """The way to the machines behind the relay: it goes with the interface."""
        self.srv(f"route replace 10.79.0.0/16 via {RELAY}")

    def make(self, port, address="10.77.0.1"):
        """The cable to br0, its address and its route, made again."""
        self.lab.plug(self.lab.srv, 0, interface="eth0", port=port)
        self.srv(f"addr add {address}/16 dev eth0")
        self.route()

    def offer(self, giaddr="0.0.0.0", bridge_namespace=None, server="10.77.0.1", seconds=1.5):
        """The OFFER to a machine that nobody has seen before, or None."""
        number = next(_numbers)
        mac = f"52:54:00:1f:{number >> 8:02x}:{number & 255:02x}"
        with laboratory.inside(bridge_namespace or self.namespace):
            raw = wire.Raw("eth0")
        try:
            if giaddr == "0.0.0.0":
                return raw.ask("DISCOVER", mac, number, seconds=seconds)
            own = laboratory.sh(f"ip netns exec {self.namespace} cat /sys/class/net/eth0/address")
            to = laboratory.sh(f"ip netns exec {self.lab.srv} cat /sys/class/net/eth0/address")
            raw.send(wire.message("DISCOVER", mac, number, giaddr=giaddr, hops=1), own.strip(),
                     source=RELAY, destination=server, sport=67, to=to.strip())
            answers = (answer for _, answer in raw.replies(seconds))
            return next((answer for answer in answers if answer.xid == number), None)
        finally:
            raw.close()

    def working(self, server="10.77.0.1"):
        """What of DHCP and TFTP, direct and relayed, is answered."""
        def begins(offer, network):
            return bool(offer) and offer.yiaddr.startswith(network)
        found = {"direct DHCP": begins(self.offer(), "10.77.4."),
                 "relayed DHCP": begins(self.offer(GIADDR, server=server), "10.79.4."),
                 "direct TFTP": fetch(self.namespace, DIRECT, server)[0] == FILE,
                 "relayed TFTP": fetch(self.namespace, ROUTED, server)[0] == FILE}
        return tuple(name for name, works in found.items() if works)


def fetch(namespace, source, server, blksize=1024, halfway=lambda: None, seconds=1.5):
    """A file by TFTP from an address of a namespace: its content as far as it came, and the OACK.
    Halfway it is interrupted for what the caller wants to do."""
    with laboratory.inside(namespace):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    content, oack, wanted = b"", b"", 1
    with sock:
        sock.bind((source, 0))
        sock.settimeout(seconds)
        request = b"\0\1file\0octet\0blksize\0%d\0" % blksize
        try:
            sock.sendto(request, (server, 69))
            while True:
                packet, peer = sock.recvfrom(65536)
                if packet[:2] == b"\0\6":
                    oack = packet
                    blksize = int(packet.split(b"\0")[2])
                    sock.sendto(b"\0\4\0\0", peer)
                elif packet[:2] == b"\0\3" and packet[2:4] == wanted.to_bytes(2, "big"):
                    content += packet[4:]
                    if wanted == len(FILE) // blksize // 2:
                        halfway()
                        # What is sent to an interface that is not there is not sent.
                        sock.settimeout(10)
                    sock.sendto(b"\0\4" + packet[2:4], peer)
                    wanted += 1
                    if len(packet) < 4 + blksize:
                        return content, oack
                elif packet[:2] == b"\0\3":
                    # A block that came before: its ACK was lost.
                    sock.sendto(b"\0\4" + packet[2:4], peer)
                elif packet[:2] == b"\0\5":
                    return None, packet
        except OSError:
            return content, oack


def states(server):
    """What `status` says of each interface, by name."""
    status, output = server.tool("status", "--json")
    rows = json.loads(output).get("interface-states", []) if status == 0 else []
    return {row["name"]: row for row in rows}


def becomes(suite, what, condition, wanted, seconds=10):
    """A thing that is soon as wanted."""
    last = []

    def holds():
        last[:] = [condition()]
        return last[0] == wanted
    laboratory.wait_until(holds, seconds)
    suite.equal(what, last[0], wanted)


def served(server, name):
    """(present, up, served) of an interface, from `status`."""
    row = states(server).get(name, {})
    return tuple(row.get(key) for key in ("present", "up", "served"))


HERE, GONE = (True, True, True), (False, False, False)


def logged(server, text):
    return sum(text in line for line in server.process.output().splitlines())


def made_again(suite, site, server, port):
    """Deletes eth0 and makes it again under its name."""
    site.srv("link del eth0")
    if "eth0" in states(server):
        becomes(suite, "status says that it is gone", lambda: served(server, "eth0"), GONE)
    site.make(port)
    becomes(suite, "all of it works again", site.working, ALL)
    becomes(suite, "status says that it is served", lambda: served(server, "eth0"), HERE)


def by_name(suite, site):
    """Interfaces that the configuration names, one of which is absent at first."""
    server = site.server("named", 2, interfaces=("eth0", "lan0"))
    suite.explain_with(server.log)
    with suite.step("absent at the start"):
        status, output = server.tool("check")
        suite.check("check warns", status == 0 and "no interface `lan0`" in output, output)
        server.start()
        becomes(suite, "the other interface is served", site.working, ALL)
        suite.equal("status says that it is absent", served(server, "lan0"), GONE)
        reason = states(server).get("lan0", {}).get("reason", "")
        suite.check("and why it is not served", "no interface" in reason, reason)
        suite.check("so it does for people",
                    "lan0: NOT SERVED" in server.tool("status")[1], server.tool("status"))
        suite.check("it is logged once", logged(server, "lan0 is not served") == 1, server.log())
    far = site.lab.namespace("far")
    site.lab.plug(far, 1)

    def build():
        site.srv("link add lan0 type bridge forward_delay 0 mcast_snooping 0")
        site.srv("link set eth1 master lan0")
        site.srv("link set lan0 up")
        site.srv("addr add 10.78.0.1/16 dev lan0")

    def far_offer():
        offer = site.offer(bridge_namespace=far)
        return bool(offer) and offer.yiaddr.startswith("10.78.4.")
    with suite.step("there later, and rebuilt"):
        site.srv("addr flush dev eth1")
        build()
        becomes(suite, "a bridge that comes later is served", far_offer, True)
        becomes(suite, "status says so", lambda: served(server, "lan0"), HERE)
        site.srv("link del lan0")
        becomes(suite, "a bridge that goes is absent", lambda: served(server, "lan0"), GONE)
        build()
        becomes(suite, "a bridge that is rebuilt is served", far_offer, True)
    with suite.step("deleted and made again"):
        made_again(suite, site, server, "again0")
        storm(suite, site.lab, site.namespace, 2)

        def rebuild():
            site.srv("link del eth0")
            laboratory.wait_until(lambda: served(server, "eth0") == GONE, 10)
            site.make("again00")
        for what, source in (("direct", DIRECT), ("relayed", ROUTED)):
            laboratory.wait_until(lambda: served(server, "eth0") == HERE, 10)
            content, _ = fetch(site.namespace, source, "10.77.0.1", halfway=rebuild)
            suite.check(f"a transfer goes on over it, {what}", content == FILE,
                        f"{len(content or ())} bytes")
        # Three times it was made again.
        becomes(suite, "its coming is logged once",
                lambda: logged(server, "interface eth0 is there"), 3)
    with suite.step("another address"):
        site.srv("addr add 10.77.0.200/16 dev eth0")
        site.srv("addr del 10.77.0.1/16 dev eth0")
        site.srv("addr replace 10.77.0.200/16 dev eth0")
        site.route()
        becomes(suite, "all of it works", lambda: site.working("10.77.0.200"), ALL)
        offer = site.offer()
        suite.equal("the server says its new address", offer and offer.address(54),
                    "10.77.0.200")
        becomes(suite, "status says it, too",
                lambda: states(server)["eth0"]["addresses"], ["10.77.0.200"])
        site.srv("addr flush dev eth0")
        becomes(suite, "without an address it is not served",
                lambda: served(server, "eth0"), (True, True, False))
        site.srv("addr add 10.77.0.1/16 dev eth0")
        site.route()
        becomes(suite, "the old address works again", site.working, ALL)
    with suite.step("renamed"):
        for old, new in (("eth0", "other0"), ("other0", "eth0")):
            site.srv(f"link set {old} down")
            site.srv(f"link set {old} name {new}")
            site.srv(f"link set {new} up")
            if new != "eth0":
                becomes(suite, "its name is absent", lambda: served(server, "eth0"), GONE)
                becomes(suite, "its machines are not served", site.offer, None)
        site.route()
        becomes(suite, "renamed back, all of it works", site.working, ALL)
    with suite.step("down and up"):
        site.srv("link set eth0 down")
        becomes(suite, "down", lambda: served(server, "eth0"), (True, False, False))
        site.srv("link set eth0 up")
        site.route()
        becomes(suite, "up again, all of it works", site.working, ALL)
        laboratory.sh(f"ip -n {site.lab.sw} link set again00 down")
        becomes(suite, "without a carrier", lambda: served(server, "eth0"), (True, False, False))
        laboratory.sh(f"ip -n {site.lab.sw} link set again00 up")
        site.route()
        becomes(suite, "with a carrier again, all of it works", site.working, ALL)
    with suite.step("MTU"):
        for mtu, blksize in ((1280, b"1248"), (1500, b"1400")):
            site.srv(f"link set eth0 mtu {mtu}")
            becomes(suite, f"MTU {mtu}: blocks fit it", lambda: fetch(
                site.namespace, DIRECT, "10.77.0.1", 1400)[1].split(b"\0")[2:3], [blksize])
            becomes(suite, "status says it", lambda: states(server)["eth0"]["mtu"], mtu)
    with suite.step("its port in use"):
        site.srv("link del lan0")
        becomes(suite, "absent again", lambda: served(server, "lan0"), GONE)
        # The server does not run while the other program takes the port.
        server.process.signal(signal.SIGSTOP)
        build()
        with laboratory.inside(site.lab.srv):
            other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lan0")
            other.bind(("0.0.0.0", 67))
            server.process.signal(signal.SIGCONT)
            becomes(suite, "it is there and not served",
                    lambda: served(server, "lan0"), (True, True, False))
            reason = states(server)["lan0"].get("reason", "")
            suite.check("status says why", "another server has the port" in reason, reason)
        becomes(suite, "served when the port is free", far_offer, True)
        becomes(suite, "status says so", lambda: served(server, "lan0"), HERE)
        suite.equal("it is logged once", logged(server, "another server has the port"), 1)
    with suite.step("absent at a reload"):
        text = configuration(server.state, subnets=[subnet(0), subnet(1), BEHIND],
                             server='shards = 2\nuser = "nobody"', tftp=site.lab.path("tftp"),
                             interfaces=("eth0", "never0"))
        server.configure(text)
        status, output = server.tool("reload")
        suite.check("it is in force, with a warning",
                    status == 0 and "never0 is not served" in output, output)
        becomes(suite, "all of it works", site.working, ALL)
        becomes(suite, "what left the configuration is not served", far_offer, False)
        becomes(suite, "status says so", lambda: (sorted(states(server)), served(
            server, "never0")), (["eth0", "never0"], GONE))
    with suite.step("the server ends"):
        suite.equal("SIGTERM, exit status", server.stop(), 0)


def main():
    suite = Suite("Interfaces")
    site = Site()
    by_name(suite, site)
    with suite.step("deleted and made again, 4 shards"):
        server = site.server("four", 4)
        suite.explain_with(server.log)
        server.start()
        made_again(suite, site, server, "again1")
        storm(suite, site.lab, site.namespace, 4)
        suite.equal("SIGTERM, exit status", server.stop(), 0)
    with suite.step("deleted and made again, by recvmmsg"):
        server = site.server("mmsg", 2, tables='engine = "mmsg"')
        suite.explain_with(server.log)
        server.start()
        made_again(suite, site, server, "again2")
        storm(suite, site.lab, site.namespace, 3)
        suite.equal("SIGTERM, exit status", server.stop(), 0)
    with suite.step("deleted and made again, all interfaces served"):
        server = site.server("all", 2, interfaces=None)
        suite.explain_with(server.log)
        server.start()
        site.srv("link del eth0")
        becomes(suite, "it is gone", lambda: "eth0" in states(server), False)
        site.make("again3")
        becomes(suite, "all of it works again", site.working, ALL)
        storm(suite, site.lab, site.namespace, 5)
        suite.equal("SIGTERM, exit status", server.stop(), 0)
    suite.finish()


if __name__ == "__main__":
    main()
