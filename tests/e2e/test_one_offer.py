#!/usr/bin/env python3
"""One DISCOVER, one OFFER: whatever the number of shards, and whichever way it came.

The kernel hands a broadcast to every socket of a port and a relay's packets to one of them;
the server must answer each machine once, and keep answering it with the same address.
"""

import signal
import time

import lab as laboratory
import wire
from lab import Lab
from server import Server, subnet
from suite import Suite

TAKES_SECONDS = 34

MACHINES = 40
_RELAY = "10.77.9.9"


def macs(salt):
    """Forty cards four apart, as the cards of a real rack are."""
    return [f"52:54:00:0f:{salt:02x}:{number * 4:02x}" for number in range(MACHINES)]


def offers(raw, seconds=1.5):
    """The offers that arrive, by xid."""
    found = {}
    for _, answer in raw.replies(seconds):
        if answer.kind == "OFFER":
            found.setdefault(answer.xid, []).append(answer)
    return found


def check_offers(suite, how, machines, found):
    counts = [len(found.get(number, ())) for number in range(len(machines))]
    suite.equal(f"{how}: one offer each", sorted(set(counts)), [1])
    addresses = {number: replies[0].yiaddr for number, replies in found.items()}
    suite.equal(f"{how}: no address twice", len(set(addresses.values())), len(addresses))
    suite.check(f"{how}: each in its machine's name",
                all(replies[0].chaddr == machines[number] for number, replies in found.items()))
    return addresses


def storm(suite, lab, namespace, salt):
    machines = macs(salt)
    with laboratory.inside(namespace):
        raw = wire.Raw("eth0")
    first = None
    for flag, how in ((False, "broadcast"), (True, "broadcast, broadcast flag set")):
        for number, mac in enumerate(machines):
            raw.send(wire.message("DISCOVER", mac, number, broadcast=flag), mac)
        addresses = check_offers(suite, how, machines, offers(raw))
        first = first or addresses
        suite.equal(f"{how}: a machine is offered one address", addresses, first)
    mac_of_relay = laboratory.sh(
        f"ip netns exec {namespace} cat /sys/class/net/eth0/address").strip()
    server_mac = laboratory.sh(
        f"ip netns exec {lab.srv} cat /sys/class/net/eth0/address").strip()
    for number, mac in enumerate(machines):
        options = [(82, b"\x01\x04rack\x02\x03top")]
        raw.send(wire.message("DISCOVER", mac, number, options, giaddr=_RELAY, hops=1),
                 mac_of_relay, source=_RELAY, destination="10.77.0.1", sport=67,
                 to=server_mac)
    found = {}
    for datagram, answer in raw.replies(1.5):
        if answer.kind == "OFFER":
            found.setdefault(answer.xid, []).append(answer)
            if (datagram.destination, datagram.dport) != (_RELAY, 67):
                suite.check("a relayed offer goes to the relay", False, vars(datagram))
    relayed = check_offers(suite, "relayed", machines, found)
    suite.equal("relayed or not, a machine has one address", relayed, first)
    suite.check("option 82 comes back as it was sent",
                all(replies[0].options.get(82) == b"\x01\x04rack\x02\x03top"
                    for replies in found.values()))
    raw.close()


def behind_a_balancer(suite, lab, namespace):
    """Machines know the server by an address that leads to it and is none of its own."""
    extra = 'server-identifier = "192.0.2.80"'
    server = Server(lab, name="balanced", subnets=[subnet(extra=extra)])
    server.start()
    with laboratory.inside(namespace):
        raw = wire.Raw("eth0")
    mac, balancer = macs(9)[0], bytes([192, 0, 2, 80])
    offer = raw.ask("DISCOVER", mac, 1)
    suite.equal("the OFFER names the balancer", offer.address(54), "192.0.2.80")
    requested = bytes(map(int, offer.yiaddr.split(".")))
    ack = raw.ask("REQUEST", mac, 2, [(50, requested), (54, balancer)])
    suite.equal("a REQUEST that names it gets its ACK", (ack.kind, ack.address(54)),
                ("ACK", "192.0.2.80"))
    other = raw.ask("REQUEST", mac, 3, [(50, requested), (54, bytes([192, 0, 2, 81]))], seconds=1)
    suite.equal("one that names another server gets nothing", other, None)
    warned = [line for line in server.log().splitlines() if "server-identifier 192.0.2.80" in line]
    suite.check("the start says that it is no address of this host, and where it stands",
                len(warned) == 1 and ".toml:" in warned[0], server.log())
    status, told = server.tool("check")
    suite.check("so does check", status == 0 and "no address of this host" in told, told)
    raw.close()
    server.stop()


def patient(suite, lab, namespace):
    """Replies to some machines wait; those to others, and the server's end, do not."""
    extra = '[[dhcp.class]]\nname = "pi"\nmac-prefix = "b8:27:eb"\nreply-delay = "1s"'
    server = Server(lab, name="patient", server="shards = 1", subnets=[subnet(extra=extra)])
    server.start()
    with laboratory.inside(namespace):
        raw = wire.Raw("eth0")
    slow, fast = "b8:27:eb:00:00:01", macs(10)[0]

    def exchange(kind, options=()):
        """What the slow machine and then the other one are told: order, and the slow one's time."""
        start = time.monotonic()
        for xid, mac in ((1, slow), (2, fast)):
            raw.send(wire.message(kind, mac, xid, options(mac) if options else ()), mac)
        order, addresses = [], {}
        for datagram, answer in raw.replies(4):
            order.append((answer.xid, answer.kind))
            addresses[answer.chaddr] = answer.yiaddr
            if answer.xid == 1:
                return order, addresses, datagram.when - start
        return order, addresses, 0

    order, offered, waited = exchange("DISCOVER")
    suite.equal("the OFFER of one machine waits, and no other with it", order,
                [(2, "OFFER"), (1, "OFFER")])
    suite.check("for as long as it is told", waited >= 1, waited)

    def take(mac):
        requested = bytes(map(int, offered[mac].split(".")))
        return [(50, requested), (54, bytes([10, 77, 0, 1]))]
    order, _, waited = exchange("REQUEST", take)
    suite.equal("so does its ACK", order, [(2, "ACK"), (1, "ACK")])
    suite.check("counted from its REQUEST", waited >= 1, waited)
    raw.send(wire.message("REQUEST", slow, 3, take(slow)), slow)
    raw.send(wire.message("REQUEST", fast, 4, take(fast)), fast)
    told = raw.replies(4)
    suite.equal("the other's comes", next(told)[1].xid, 4)
    server.process.signal(signal.SIGTERM)
    suite.equal("a server that stops sends what waits", [answer.xid for _, answer in told], [3])
    suite.equal("and ends", server.stop(), 0)
    raw.close()


def nobody_elses(suite, lab, namespace):
    """Addresses that something else has are given to nobody, from the moment it has them."""
    # 10.77.0.1 is the server and the router, 10.77.0.2 the boot server.
    server = Server(lab, name="crowded", server="shards = 1",
                    subnets=[subnet(pool="0.1-{net}.0.6", extra='next-server = "10.77.0.2"')])
    status, told = server.tool("check")
    suite.check("check says which addresses are left out of pools",
                status == 0 and "10.77.0.1 (" in told and "10.77.0.2 (a next-server)" in told, told)
    server.start()
    with laboratory.inside(namespace):
        raw = wire.Raw("eth0")

    def offered():
        for number, mac in enumerate(macs(11)[:8]):
            raw.send(wire.message("DISCOVER", mac, number), mac)
        return sorted({replies[0].yiaddr for replies in offers(raw).values()})
    suite.equal("the others are offered", offered(), [f"10.77.0.{n}" for n in (3, 4, 5, 6)])
    laboratory.sh(f"ip -n {lab.srv} addr add 10.77.0.5/16 dev eth0")
    try:
        suite.check("an address that the server gets while it runs is not offered any more",
                    laboratory.wait_until(lambda: "10.77.0.5" not in offered(), 15), server.log())
        suite.equal("the others are", offered(), [f"10.77.0.{n}" for n in (3, 4, 6)])
    finally:
        laboratory.sh(f"ip -n {lab.srv} addr del 10.77.0.5/16 dev eth0")
    raw.close()
    server.stop()


def main():
    suite = Suite("One offer")
    lab = Lab()
    namespace = lab.namespace("machines")
    lab.plug(namespace, 0)
    laboratory.sh(f"ip -n {namespace} addr add {_RELAY}/16 dev eth0")
    for shards in (1, 2, 4):
        with suite.step(f"{shards} shards" if shards > 1 else "1 shard"):
            server = Server(lab, name=f"server{shards}", server=f"shards = {shards}",
                            subnets=[subnet()])
            server.start()
            storm(suite, lab, namespace, shards)
            suite.equal("SIGTERM, exit status", server.stop(), 0)
        if suite.failed:
            suite.say(server.log())
    with suite.step("behind a load balancer"):
        behind_a_balancer(suite, lab, namespace)
    with suite.step("replies that wait"):
        patient(suite, lab, namespace)
    with suite.step("addresses that something else has"):
        nobody_elses(suite, lab, namespace)
    suite.finish()


if __name__ == "__main__":
    main()
