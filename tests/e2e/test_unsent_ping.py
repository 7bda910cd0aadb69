#!/usr/bin/env python3
"""A ping that cannot be sent is no answer. Where it was only wished for, the address is offered at
once; where the lease store is damaged, it is not. Both are counted, and warned of with what would
help. A damaged store stands out in `status` and in the metrics.
"""

import os

import lab as laboratory
import wire
from lab import Lab, sh
from server import Server, configuration, subnet
from suite import Suite

TAKES_SECONDS = 12
MOSTLY_WAITS = True

WAIT_MS = 1000
WAIT = WAIT_MS / 1000
FIREWALL = """table ip firewall {
    chain out {
        type filter hook output priority 0;
        icmp type echo-request drop
    }
}
"""


class Site:
    """A server with a long ping, and a machine that asks it."""

    def __init__(self):
        self.lab = Lab()
        self.namespace = self.lab.namespace("machine")
        self.lab.plug(self.namespace, 0)
        self.server = Server(self.lab, name="pinger")
        self.server.configure(configuration(
            self.server.state, subnets=[subnet()], server="shards = 1",
            dhcp=f'ping-check = "{WAIT_MS}ms"'))
        self.machines = 0
        with laboratory.inside(self.namespace):
            self.raw = wire.Raw("eth0")

    def offer(self, seconds):
        """The OFFER to a machine that nobody has seen before, or None."""
        self.machines += 1
        return self.raw.ask("DISCOVER", f"52:54:00:2e:01:{self.machines:02x}", self.machines,
                            seconds=seconds)

    def metric(self, name):
        """A counter of all shards."""
        _, page = self.lab.run(self.lab.srv, ["curl", "-sS", "http://127.0.0.1:9547/metrics"])
        return sum(float(line.split()[-1]) for line in page.splitlines()
                   if line.startswith((f"{name} ", f"{name}{{")))

    def firewall(self, rules):
        """Replaces the rules of the server's host."""
        sh(f"ip netns exec {self.lab.srv} nft flush ruleset")
        if rules:
            sh(f"ip netns exec {self.lab.srv} nft -f -", input=rules)

    def damage(self):
        """Flips bits in the head of the checkpoint."""
        path = os.path.join(self.server.state, "lease-log", "checkpoint")
        with open(path, "r+b") as file:
            head = file.read(64)
            file.seek(0)
            file.write(bytes(byte ^ 0x55 for byte in head))


def warnings(server):
    return [line for line in server.process.output().splitlines() if "not pinged" in line]


def main():
    suite = Suite("Unsent ping")
    site = Site()
    server = site.server
    suite.explain_with(server.log)
    with suite.step("pings that are sent"):
        server.start()
        suite.check("an address waits for its ping", site.offer(WAIT * 0.6) is None)
        suite.check("and is offered then", site.offer(WAIT + 2))
        suite.equal("pings that were not sent", site.metric("bootstorm_ping_failures_total"), 0)
    with suite.step("a firewall forbids them"):
        site.firewall(FIREWALL)
        suite.check("an address is offered without one, at once", site.offer(WAIT * 0.6))
        suite.check("and another", site.offer(WAIT * 0.6))
        suite.equal("pings that were not sent", site.metric("bootstorm_ping_failures_total"), 2)
        suite.check("one warning for both", laboratory.wait_until(
            lambda: len(warnings(server)) == 1, 5), warnings(server))
        said = warnings(server)[0]
        suite.check("it names interface, cause and way out", all(
            word in said for word in ("via=eth0", "offered without a ping", "firewall")), said)
    with suite.step("the same, after damage of the lease store"):
        server.stop()
        site.damage()
        server.start()
        suite.check("status says so", "DAMAGE" in server.tool("status")[1], server.tool("status"))
        suite.equal("and the metrics", site.metric("bootstorm_lease_store_damaged"), 1)
        suite.check("an address is not offered", site.offer(WAIT + 1) is None)
        suite.check("a warning says why", laboratory.wait_until(
            lambda: warnings(server) and "not offered, because the lease store is damaged" in
            warnings(server)[-1], 5), warnings(server))
        site.firewall(None)
        suite.check("it is when the firewall lets pings out", site.offer(WAIT + 2))
        suite.equal("pings that were not sent", site.metric("bootstorm_ping_failures_total"), 1)
        server.stop()
    suite.finish()


if __name__ == "__main__":
    main()
