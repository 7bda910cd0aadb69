#!/usr/bin/env python3
"""A reload takes an interface on and leaves it again, and an address that answers ping is not
offered."""

import lab as laboratory
from clients import Udhcpc
from lab import Lab
from server import Server, configuration, subnet
from suite import Suite

PING = 'ping-check = "300ms"'


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
    suite.finish()


if __name__ == "__main__":
    main()
