#!/usr/bin/env python3
"""The two dhcpds of a failover pair are replaced by one server, and put back as a pair: nobody
changes address, though each of the two has heard of clients that the other has not.
"""

import time

import lab as laboratory
from lab import Lab
from other_servers import Dhcpd, holders
from relay import SERVER
from relayed_machines import Machine, Machines, keep, newcomers
from server import OfDhcpd
from suite import Suite

TAKES_SECONDS = 30
MOSTLY_WAITS = True

MACHINES = 60
SECONDARY = "10.77.0.3"


def conf(role, mclt):
    """dhcpd.conf of one of the two. A lease that is new lasts for `mclt` seconds, until the other
    server has heard of it."""
    own, other = (SERVER, SECONDARY) if role == "primary" else (SECONDARY, SERVER)
    primary = f"mclt {mclt}; split 128;" if role == "primary" else ""
    return f"""
authoritative;
ping-check false;
default-lease-time 3600;
max-lease-time 3600;
failover peer "pair" {{
    {role};
    address {own};
    port 647;
    peer address {other};
    peer port 647;
    max-response-delay 5;
    max-unacked-updates 10;
    load balance max seconds 3;
    {primary}
}}
subnet 10.77.0.0 netmask 255.255.0.0 {{
    option routers 10.77.0.254;
    pool {{
        failover peer "pair";
        range 10.77.16.0 10.77.16.250;
    }}
}}
"""


class Pair:
    """The primary where the server under test stands, the secondary in a namespace of its own."""

    def __init__(self, lab):
        peer = lab.namespace("peer")
        lab.plug(peer, 0)
        laboratory.sh(f"ip -n {peer} addr add {SECONDARY}/16 dev eth0")
        self.primary = Dhcpd(lab, conf("primary", 600), "primary")
        self.secondary = Dhcpd(lab, conf("secondary", 600), "secondary", peer)

    def both_normal(self):
        """Whether both end up in the state `normal` of the failover protocol."""
        return all(laboratory.wait_until(lambda one=one: state(one) == "normal", 30)
                   for one in (self.primary, self.secondary))

    def alone(self, dhcpd):
        """Whether this one knows that the other is gone."""
        return laboratory.wait_until(
            lambda: state(dhcpd) == "communications-interrupted", 30)


def state(dhcpd):
    """The state of the failover protocol that a dhcpd has said last that it is in."""
    said = [line for line in dhcpd.process.output().splitlines() if "I move from" in line]
    return said[-1].split()[-1] if said else None


def partner_down(now):
    """What an operator writes behind the leases: this server gives all addresses away."""
    date = time.strftime("%w %Y/%m/%d %H:%M:%S", time.gmtime(now))
    return (f'failover peer "pair" state {{\n  my state partner-down at {date};\n'
            f'  partner state communications-interrupted at {date};\n}}\n')


def main():
    suite = Suite("a failover pair moves in and out")
    lab = Lab()
    pair = Pair(lab)
    both = Machines(lab, (SERVER, SECONDARY))
    server = OfDhcpd(lab, conf("primary", 600))
    suite.explain_with(server.log)
    machines = [Machine(number) for number in range(1, MACHINES + 1)]

    with suite.step("the pair gives addresses away"):
        pair.primary.start()
        pair.secondary.start()
        suite.check("both are in the state normal", pair.both_normal())
        for machine in machines:
            machine.address = both.boot(machine)
        suite.check(f"{MACHINES} machines have an address",
                    None not in {machine.address for machine in machines})
        suite.check("both have given some away", all(
            "DHCPACK on" in one.process.output() for one in (pair.primary, pair.secondary)))
        time.sleep(1)

    with suite.step("each hears of machines that the other does not"):
        pair.secondary.stop()
        suite.check("the primary is alone", pair.alone(pair.primary))
        first, left = [Machine(1000 + number) for number in range(10)], machines[:5]
        for machine in first:
            machine.address = both.boot(machine)
        for machine in left:
            both.leave("RELEASE", machine)
        time.sleep(1)
        pair.primary.stop()
        pair.secondary.start()
        suite.check("the secondary is alone", pair.alone(pair.secondary))
        second = [Machine(2000 + number) for number in range(10)]
        for machine in second:
            machine.address = both.boot(machine)
        renewed = machines[20:40]
        keep(suite, "the secondary", both, renewed)
        pair.secondary.stop()
        suite.check("new machines have addresses of their own",
                    None not in {machine.address for machine in first + second}
                    and len({machine.address for machine in machines + first + second})
                    == MACHINES + 20)
        machines += first + second
        del machines[:5]

    with suite.step("one server takes their place"):
        status, output = server.tool("migrate", "--leases", pair.primary.leases,
                                     pair.secondary.leases)
        suite.check("migrate takes all of both", status == 0
                    and f"{MACHINES + 15} active, 5 that have ended" in output, output)
        server.start()
        keep(suite, "bootstorm", both, machines)
        newcomers(suite, "bootstorm", both, machines, 100_000, 10, set())
        server.stop()

    with suite.step("the pair is put back"):
        status, output = server.tool("leases", "export", "--format", "dhcpd", "-o",
                                     pair.primary.leases)
        suite.check("export", status == 0, output)
        with open(pair.primary.leases, "a") as leases:
            leases.write(partner_down(time.time()))
        pair.secondary.forget()
        # The secondary does not serve before so much time is over.
        lab.write("primary.conf", conf("primary", 5))
        status, output = pair.primary.accepts_leases()
        suite.check("dhcpd takes the file", status == 0 and "corrupt" not in output
                    and "line " not in output, output)
        pair.primary.start()
        alone = laboratory.wait_until(lambda: state(pair.primary) == "partner-down", 30)
        suite.check("the primary serves alone", alone, pair.primary.process.output()[-2000:])
        keep(suite, "the primary", both, machines)
        pair.secondary.start()
        suite.check("both are in the state normal again", pair.both_normal(),
                    pair.secondary.process.output()[-2000:])
        keep(suite, "the pair", both, machines)
        newcomers(suite, "the pair", both, machines, 200_000, 10, set())
        pair.primary.stop()
        keep(suite, "the secondary", both, machines)
        pair.secondary.stop()
        known = holders(pair.secondary.written())
        suite.equal("the secondary knows all of them", {
            machine.mac for machine in machines
            if known.get(machine.mac, ("",))[0] != machine.address}, set())

    lab.close()
    suite.finish()


if __name__ == "__main__":
    main()
