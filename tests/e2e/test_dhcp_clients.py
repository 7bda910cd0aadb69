#!/usr/bin/env python3
"""dhclient, udhcpc and dhcpcd: get, renew, rebind, release, come back, and be moved.

The lease is short, so that T1 and T2 come of themselves: each client renews by its own
clock. For rebinding the server's own address is made deaf, and only broadcasts reach it.
"""

import socket

import lab as laboratory
import wire
from clients import Dhclient, Dhcpcd, Udhcpc
from lab import Lab
from server import Server, subnet
from suite import Suite

TAKES_SECONDS = 42

LEASE = 20  # seconds; dhcpcd takes anything less for a mistake
HOST_MAC = "52:54:00:c1:1e:03"  # the third client has a reservation
_HOST = f"""
[[dhcp.host]]
name = "rack1-n03"
hardware = "{HOST_MAC}"
ip = "10.77.0.33"
options = {{ host-name = "rack1-n03" }}
"""
_LOG = """
[log]
level = "debug"
"""
_DEAF = """table ip deaf {
    chain in {
        type filter hook input priority 0;
        udp dport 67 ip daddr 10.77.0.1 drop
    }
}
"""


def in_pool(address, network=77):
    parts = [int(part) for part in address.split(".")]
    return parts[:3] == [10, network, 4] and parts[3] <= 250


def get(suite, server, client):
    client.start()
    event = client.wait(("bound",))
    if not suite.check(f"{client.name} gets a lease", event, client.process.output()):
        return None
    reserved = client.mac == HOST_MAC
    if reserved:
        suite.equal(f"{client.name} gets the address reserved for it", event.address,
                    "10.77.0.33")
        suite.equal(f"{client.name} is told its name",
                    event.get("new_host_name", "hostname"), "rack1-n03")
    else:
        suite.check(f"{client.name}'s address is of the pool", in_pool(event.address),
                    event.address)
    told = {
        "mask": event.get("new_subnet_mask", "subnet"),
        "router": event.get("new_routers", "router"),
        "dns": event.get("new_domain_name_servers", "dns"),
        "ntp": event.get("new_ntp_servers", "ntpsrv"),
        "domain": event.get("new_domain_name", "domain"),
        "mtu": event.get("new_interface_mtu", "mtu"),
        "server": event.get("new_dhcp_server_identifier", "serverid"),
        "lease": event.get("new_dhcp_lease_time", "lease"),
    }
    suite.equal(f"{client.name} is told all that is configured", told, {
        "mask": "255.255.0.0", "router": "10.77.0.1", "dns": "10.77.0.2 10.77.0.3",
        "ntp": "10.77.0.4", "domain": "rack.example", "mtu": "1400", "server": "10.77.0.1",
        "lease": str(LEASE)})
    suite.equal(f"{client.name}'s interface has it", client.addresses(), [event.address])
    row = server.leases().get(event.address, {})
    suite.equal(f"{client.name}'s lease is in the server's list",
                (row.get("hardware"), row.get("state")), (client.mac, "active"))
    return event.address


def extend(suite, sniffer, client, address, since, how, seconds):
    """Waits for a renewal or rebinding by the client's own clock."""
    def seen():
        for datagram, message in sniffer.dhcp("REQUEST", client.mac):
            if datagram.when < since or message.ciaddr != address:
                continue
            broadcast = datagram.destination == "255.255.255.255"
            if broadcast == (how == "rebinds"):
                acks = [ack for got, ack in sniffer.dhcp("ACK", client.mac)
                        if got.when >= datagram.when and ack.xid == message.xid]
                if acks:
                    return acks[0]
        return None
    ack = laboratory.wait_until(seen, seconds)
    if suite.check(f"{client.name} {how} and is acknowledged", ack,
                   "\n".join(client.process.output().splitlines()[-6:])):
        suite.equal(f"{client.name} keeps its address, for a whole lease again",
                    (ack.yiaddr, ack.seconds(51)), (address, LEASE))
    suite.equal(f"{client.name}'s interface still has it", client.addresses(), [address])


def restart(suite, sniffer, client, address):
    """A reboot with the lease remembered: INIT-REBOOT, RFC 2131 section 4.3.2."""
    client.crash()
    mark, before = client.mark(), laboratory.time.monotonic()
    client.start()
    event = client.wait(("bound",), since=mark)
    suite.equal(f"{client.name} comes back to its address", event and event.address, address)
    first = next((m for d, m in sniffer.dhcp(mac=client.mac)
                  if d.when >= before and m.op == 1), None)
    suite.equal(f"{client.name} asked for it by INIT-REBOOT",
                first and (first.kind, first.address(50), first.address(54)),
                ("REQUEST", address, None))


def move(suite, lab, far, client):
    """Another network, the old lease in its hand: NAK, and an address that fits."""
    client.crash()
    lab.replug(client.port, bridge=1)
    mark = client.mark()
    client.start()
    event = client.wait(("bound",), since=mark, seconds=25)
    naks = far.dhcp("NAK", client.mac)
    suite.check(f"{client.name}, moved, is told NAK", naks, client.process.output()[-800:])
    suite.check("the NAK is a broadcast",
                naks and naks[0][0].destination == "255.255.255.255")
    suite.check(f"{client.name} then has an address of the new network",
                event and in_pool(event.address, 78), event and event.address)


def release(suite, lab, server, sniffer, client, address):
    client.release()
    told = laboratory.wait_until(lambda: sniffer.dhcp("RELEASE", client.mac), 5)
    suite.check(f"{client.name} releases", told)
    state = laboratory.wait_until(lambda: server.lease_state(address) != "active", 5)
    suite.check(f"the server has {client.name}'s address back", state,
                server.lease_state(address))
    client.crash()


def decline(suite, lab, server):
    """An address that somebody uses without a lease: DECLINE, and another one."""
    client = Udhcpc(lab)
    client.arguments = "-a1000"
    with laboratory.inside(client.namespace):
        raw = wire.Raw("eth0")
    offer = raw.ask("DISCOVER", client.mac, 0x5eed)
    raw.close()
    squatter = lab.namespace("squatter")
    lab.plug(squatter, 0)
    laboratory.sh(f"ip -n {squatter} addr add {offer.yiaddr}/16 dev eth0")
    sniffer = lab.sniff()
    client.start()
    event = client.wait(("bound",), seconds=25)
    declined = sniffer.dhcp("DECLINE", client.mac)
    suite.equal("udhcpc declines the address in use",
                declined and declined[0][1].address(50), offer.yiaddr)
    suite.check("and is given another", event and event.address != offer.yiaddr,
                event and event.address)
    suite.equal("the address is set aside", server.lease_state(offer.yiaddr), "declined")
    client.crash()


def old_address_in_ciaddr(suite, lab):
    """NetworkManager's client and VPCS fill in ciaddr before they have an address, and send from
    0.0.0.0: nobody answers ARP for it, so the replies go to chaddr and yiaddr."""
    namespace, mac, old = lab.namespace("raw"), "52:54:00:c1:1e:77", "10.77.200.200"
    lab.plug(namespace, 0)
    with laboratory.inside(namespace):
        raw = wire.Raw("eth0")
    for flag in (False, True):
        xid, asked, names = 0xc1add0 + flag, (), ("DISCOVER", "REQUEST")
        for kind, wanted, name in zip(names, ("OFFER", "ACK"), ("a DISCOVER", "SELECTING")):
            raw.send(wire.message(kind, mac, xid, asked, broadcast=flag, ciaddr=old), mac)
            datagram, answer = next(
                (reply for reply in raw.replies(3) if reply[1].xid == xid), (None, None))
            what = f"{name} with an old ciaddr" + (" and the broadcast flag" if flag else "")
            if not suite.check(f"{what} is answered", answer and answer.kind == wanted):
                break
            way = ("ff:ff:ff:ff:ff:ff", "255.255.255.255") if flag else (mac, answer.yiaddr)
            suite.equal(f"{what}: where the reply goes", (datagram.to, datagram.destination), way)
            asked = ((50, socket.inet_aton(answer.yiaddr)), (54, answer.options[54]))
    raw.close()


def malformed(suite, lab, server):
    """At level debug a message that is dropped is explained with the option's place."""
    namespace, mac = lab.namespace("broken"), "52:54:00:c1:1e:78"
    lab.plug(namespace, 0)
    with laboratory.inside(namespace):
        raw = wire.Raw("eth0")
    # A host name of nine bytes that says it has 250: the option's code is byte 243.
    payload = wire.message("DISCOVER", mac, 0xbad, ((12, b"malformed"),))
    raw.send(payload[:244] + b"\xfa" + payload[245:], mac)
    raw.close()
    line = f"malformed mac={mac}"
    suite.check("a malformed message is logged", laboratory.wait_until(
        lambda: line in server.process.output(), 5))
    found = next((text for text in server.process.output().splitlines() if line in text), "")
    suite.check("with the option's code and offset", "option 12 at offset 243" in found, found)


def main():
    suite = Suite("DHCP clients")
    lab = Lab(bridges=2)
    server = Server(lab, interfaces=("eth0", "eth1"), subnets=[subnet(0), subnet(1)],
                    dhcp=f'lease-time = "{LEASE}s"', after=_HOST + _LOG)
    suite.explain_with(server.log)
    near, far = lab.sniff("srv0"), lab.sniff("srv1")
    clients = dhclient, udhcpc, dhcpcd = Dhclient(lab), Udhcpc(lab), Dhcpcd(lab)
    with suite.step("the server starts"):
        server.start()
    held, since = {}, {}
    for client in clients:
        with suite.step(f"{client.name} asks"):
            held[client] = get(suite, server, client)
            server.explains(suite, near, client.mac, f"to {client.name}")
            since[client] = laboratory.time.monotonic()
    clients = [client for client in clients if held.get(client)]
    suite.check("three clients, three addresses", len(set(held.values())) == 3, held)
    with suite.step("at T1 each asks the server itself"):
        for client in clients:
            extend(suite, near, client, held[client], since[client], "renews", LEASE * 0.6 + 5)
            server.explains(suite, near, client.mac, f"when {client.name} renews")
    with suite.step("at T2, unheard, each asks everybody"):
        lab.write("deaf.nft", _DEAF)
        laboratory.sh(f"ip netns exec {lab.srv} nft -f {lab.path('deaf.nft')}")
        now = laboratory.time.monotonic()
        for client in clients:
            extend(suite, near, client, held[client], now, "rebinds", LEASE + 5)
            server.explains(suite, near, client.mac, f"when {client.name} rebinds")
        laboratory.sh(f"ip netns exec {lab.srv} nft delete table ip deaf")
    for client in (dhclient, dhcpcd):
        with suite.step(f"{client.name} restarts"):
            restart(suite, near, client, held[client])
    for client in clients:
        with suite.step(f"{client.name} lets go"):
            release(suite, lab, server, near, client, held[client])
    with suite.step("a client that comes back after its release"):
        mark = udhcpc.mark()
        udhcpc.start()
        event = udhcpc.wait(("bound",), since=mark)
        suite.equal("has the same address as before", event and event.address,
                    held[udhcpc])
        udhcpc.crash()
    for client in (Dhclient(lab), Dhcpcd(lab)):
        with suite.step(f"{client.name} is carried to another network"):
            client.start()
            suite.check("it has an address of the first", client.wait(("bound",)))
            move(suite, lab, far, client)
            client.crash()
    with suite.step("an address in use without a lease"):
        decline(suite, lab, server)
    with suite.step("ciaddr is filled in by a client that has no address"):
        old_address_in_ciaddr(suite, lab)
    with suite.step("a message that breaks off inside an option"):
        malformed(suite, lab, server)
    with suite.step("the server ends"):
        suite.equal("SIGTERM, exit status", server.stop(), 0)
    suite.finish()


if __name__ == "__main__":
    main()
