#!/usr/bin/env python3
"""Clients behind ISC's relay agent: the server is on another network than they are.

The relay appends option 82 and strips it from the reply; it drops a reply that does not
echo it. Renewals go past it, straight to the server, by routing.
"""

import lab as laboratory
from clients import Dhclient, Dhcpcd, Udhcpc
from debian import unpack
from lab import Lab
from server import Server, subnet
from suite import Suite

LEASE = 40
_RELAY_UP, _RELAY_DOWN = "10.77.0.9", "10.78.0.9"


def relay(lab):
    """A router between br0, where the server is, and br1, where it is not."""
    namespace = lab.namespace("relay")
    lab.plug(namespace, 0, interface="up0")
    below = lab.plug(namespace, 1, interface="down0")
    laboratory.sh(f"ip -n {namespace} addr add {_RELAY_UP}/16 dev up0")
    laboratory.sh(f"ip -n {namespace} addr add {_RELAY_DOWN}/16 dev down0")
    laboratory.sh(f"ip netns exec {namespace} sysctl -qw net.ipv4.ip_forward=1")
    laboratory.sh(f"ip -n {lab.srv} route add 10.78.0.0/16 via {_RELAY_UP}")
    dhcrelay = unpack("isc-dhcp-relay") + "/usr/sbin/dhcrelay"
    agent = lab.start(namespace, [dhcrelay, "-4", "-d", "-a", "-m", "append", "-iu", "up0", "-id",
                            "down0", "--no-pid", "10.77.0.1"], "dhcrelay")
    return agent, below


def main():
    suite = Suite("Relay")
    lab = Lab()
    laboratory.sh(f"ip -n {lab.sw} link add br1 type bridge forward_delay 0 mcast_snooping 0")
    laboratory.sh(f"ip -n {lab.sw} link set br1 up")
    agent, below = relay(lab)
    server = Server(lab, subnets=[subnet(0), subnet(1).replace("10.78.0.1\"]", "10.78.0.9\"]")],
                    dhcp=f'lease-time = "{LEASE}s"')
    suite.explain_with(server.log)
    suite.explain_with(lambda: "\n".join(agent.output().splitlines()[-12:]))
    with suite.step("the server starts"):
        server.start()
    near, behind = lab.sniff("srv0"), lab.sniff(below)
    for kind in (Dhclient, Udhcpc, Dhcpcd):
        client = kind(lab, bridge=1)
        with suite.step(f"{client.name} behind the relay"):
            client.start()
            event = client.wait(("bound",))
            if not suite.check("gets a lease", event, client.process.output()[-600:]):
                continue
            suite.check("with an address of its own network",
                        event.address.startswith("10.78.4."), event.address)
            suite.equal("and the router of its own network",
                        event.get("new_routers", "router"), "10.78.0.9")
            offers, acks = (near.dhcp(word, client.mac) for word in ("OFFER", "ACK"))
            suite.check("replies went to the relay's giaddr, port 67",
                        offers and acks and all((d.destination, d.dport) == (_RELAY_DOWN, 67)
                                                for d, _ in offers + acks))
            asked = near.dhcp("DISCOVER", client.mac)[0][1].options.get(82)
            suite.check("option 82 was sent and came back the same", asked and all(
                m.options.get(82) == asked for _, m in offers + acks), asked)
            suite.check("one OFFER to each DISCOVER",
                        len(offers) == len(near.dhcp("DISCOVER", client.mac)))
            server.explains(suite, near, client.mac, "to the relay agent")
            row = server.leases().get(event.address, {})
            suite.equal("the lease is in the list", row.get("hardware"), client.mac)
            if hasattr(client, "renew"):
                mark = client.mark()
                laboratory.sh(f"ip -n {client.namespace} route replace default via {_RELAY_DOWN}")
                client.renew()
                renewed = client.wait(("renew",), since=mark, seconds=10)
                suite.equal("renews by unicast past the relay", renewed and renewed.address,
                            event.address)
            client.crash()
    suite.equal("the relay saw no reply without its option",
                [line for line in agent.output().splitlines() if "discard" in line.lower()], [])
    suite.equal("what clients saw was of their own network, without option 82",
                {(m.yiaddr[:6], 82 in m.options) for _, m in behind.dhcp("OFFER")},
                {("10.78.", False)})
    with suite.step("the server ends"):
        suite.equal("SIGTERM, exit status", server.stop(), 0)
    suite.finish()


if __name__ == "__main__":
    main()
