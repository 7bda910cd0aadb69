#!/usr/bin/env python3
"""Machines run and renew while dhcpd is replaced by this server, and while it is put back:
nobody changes address.

    tests/e2e/test_switching.py [MACHINES [LEASE_SECONDS [QUIET]]]

Both servers have the same dhcpd.conf. The machines are those of one run of bootstorm-load, which
goes on through both changes. Beside theirs there are QUIET leases of machines that say nothing
meanwhile, which last longer than the test.
"""

import ipaddress
import signal
import sys
import time

import lab as laboratory
from lab import Lab
from other_servers import Dhcpd, holders, lease_file
from server import BINARY, OfDhcpd
from storm import Storm, built, namespace
from suite import Suite

TAKES_SECONDS = 80
MOSTLY_WAITS = True

MACHINES = int(sys.argv[1]) if len(sys.argv) > 1 else 1500
LEASE_SECONDS = int(sys.argv[2]) if len(sys.argv) > 2 else 24
QUIET = int(sys.argv[3]) if len(sys.argv) > 3 else 500
_LEASES = MACHINES + QUIET
# Machines that come up in a second: at any time some of them renew, also when no server is there.
_A_SECOND = 2 * MACHINES / LEASE_SECONDS


# A relay agent and a subnet for so many leases, which are pools of 512 addresses: dhcpd looks
# through the pools of a subnet, and through the leases of a pool, one by one.
_EACH = 3500
_POOL = range(16, 4096 - 512)
_NETWORKS = [ipaddress.IPv4Network((0x0a640000 + (number << 12), 20))
             for number in range(-(-_LEASES // _EACH))]
_RELAYS = [f"{network[1]}/20,rack{number}" for number, network in enumerate(_NETWORKS)]


def _quiet():
    """Hardware and IP address of each machine that says nothing."""
    for number in range(QUIET):
        place, which = divmod(number, len(_NETWORKS))
        hardware = "52:55:" + ":".join(f"{byte:02x}" for byte in number.to_bytes(4, "big"))
        yield hardware, str(_NETWORKS[which][_POOL[-1 - place]])


def _subnet(network):
    pools = "".join(f"    pool {{ range {network[start]} {network[start + 511]}; }}\n"
                    for start in _POOL[::512])
    return (f"subnet {network[0]} netmask {network.netmask} {{\n"
            f"    option routers {network[1]};\n{pools}}}\n")


_CONF = f"""
authoritative;
ping-check false;
default-lease-time {LEASE_SECONDS};
max-lease-time {LEASE_SECONDS};
dhcp-cache-threshold 0;
option domain-name "example.org";
ddns-update-style none;
subnet 10.77.0.0 netmask 255.255.0.0 {{ }}
{"".join(map(_subnet, _NETWORKS))}"""
_SCENARIO = f"""
name = "switching"
summary = "Machines that are up for long while their server is replaced."
machines = {MACHINES}
limit = "1h"
renew = true
one-address = true
# dhcpd is slow on a busy host: whoever gets no answer at first asks again.
boot-attempts = 50
boot-pause = "2s"
lease-time = "{LEASE_SECONDS}s"
[arrival]
rate = {_A_SECOND}
rack = 40
[[stage]]
dhcp = "plain"
"""


class Watch:
    """Waits until every machine has renewed with the server that runs, and compares addresses."""

    def __init__(self, suite):
        self._suite = suite
        self._first = None
        self._quiet = dict(_quiet())

    def all_renew(self, who, begin, leases):
        """`leases` gives a dhcpd.leases as it is now; `begin` is when the server began."""
        now, silent = {}, []

        def renewed():
            nonlocal now, silent
            now = holders(leases())
            silent = [mac for mac, (_, heard) in now.items()
                      if heard < begin and mac not in self._quiet]
            return len(now) == _LEASES and not silent

        # A renewal may come a quarter of a lease late: the change was in its way.
        limit = LEASE_SECONDS + 60
        done = laboratory.wait_until(renewed, limit, every=1 + _LEASES / 10_000)
        self._suite.check(f"{who}: {MACHINES} machines renew, {_LEASES} leases are there", done,
                          f"{len(now)} leases, {len(silent)} machines have not renewed: "
                          f"{silent[:8]}")
        addresses = {mac: address for mac, (address, _) in now.items()}
        if self._first is None:
            self._first = addresses
            still = {mac: address for mac, address in addresses.items() if mac in self._quiet}
            self._suite.check(f"{who}: the others have their leases", still == self._quiet)
            return
        moved = [f"{mac}: {address} -> {addresses.get(mac)}"
                 for mac, address in self._first.items() if addresses.get(mac) != address]
        self._suite.check(f"{who}: nobody has changed address", not moved,
                          f"{len(moved)} moved: " + "\n".join(moved[:8]))


class Rehearsal:
    """`rehearse` beside dhcpd."""

    def __init__(self, lab, config):
        self._process = lab.start(lab.srv, [BINARY, "rehearse", "--config", config,
                                            "--interface", "eth0"], "rehearse")
        laboratory.wait_until(lambda: "listening on eth0" in self._process.output(), 60)

    def ends(self, suite):
        status = self._process.stop(60)
        said = self._process.output()
        suite.check("a rehearsal beside it says that it is safe to switch",
                    status == 0 and "\nsafe to switch:" in said, said[-3000:])
        clients = [line for line in said.splitlines() if " clients compared: " in line]
        suite.say(f"   {clients}")


def explained(suite, lab, server):
    """What `explain` says of the last packets of some machines is what was sent to them. It plans
    them again, so it says the same only if a lease that was just renewed is renewed again."""
    sniffer = lab.sniff("srv0")
    try:
        enough = laboratory.wait_until(lambda: len(sniffer.dhcp("ACK")) >= 20, LEASE_SECONDS)
        suite.check("ACKs to explain are seen", enough, len(sniffer.dhcp("ACK")))
        for _, message in sniffer.dhcp("ACK")[-8:]:
            server.explains(suite, sniffer, message.chaddr, f"to {message.chaddr}")
    finally:
        sniffer.close()


def main():
    suite = Suite("switching under running machines")
    if not built(suite):
        suite.finish()
    lab = Lab()
    dhcpd, server, watch = Dhcpd(lab, _CONF), OfDhcpd(lab, _CONF), Watch(suite)
    suite.explain_with(server.log)
    room = namespace(lab, "10.100.0.0/14")

    def exported():
        status, output = server.tool("leases", "export", "--format", "dhcpd", seconds=300)
        return output if status == 0 else ""

    with suite.step("dhcpd serves"):
        with open(dhcpd.leases, "w") as text:
            text.writelines(lease_file(_quiet(), seconds=43_200))
        dhcpd.start(quiet=True)
        storm = Storm(lab, room, _SCENARIO, "violations=0", relay=None, machines=MACHINES,
                      options=[word for relay in _RELAYS for word in ("--relay", relay)])
        laboratory.wait_until(lambda: len(holders(dhcpd.written())) == _LEASES,
                              LEASE_SECONDS + 60, every=1 + _LEASES / 10_000)
        rehearsal = Rehearsal(lab, dhcpd.config)
        # Only what comes from here on is a renewal.
        watch.all_renew("dhcpd", int(time.time()) + 1, dhcpd.written)
        rehearsal.ends(suite)

    with suite.step("bootstorm takes its place"):
        began = time.monotonic()
        dhcpd.stop()
        begin = int(time.time())
        status, output = server.tool("migrate", "--leases", dhcpd.leases, seconds=300)
        suite.check("migrate takes all", status == 0 and f"{_LEASES} active" in output, output)
        server.start(seconds=60)
        suite.say(f"   {time.monotonic() - began:.1f} s without a server")
        explained(suite, lab, server)
        watch.all_renew("bootstorm", begin, exported)

    with suite.step("dhcpd is put back"):
        began = time.monotonic()
        server.stop(60)
        begin = int(time.time())
        status, output = server.tool("leases", "export", "--format", "dhcpd", "-o", dhcpd.leases,
                                     seconds=300)
        suite.check("all are exported", status == 0 and f"{_LEASES} leases" in output, output)
        dhcpd.start(quiet=True)
        suite.say(f"   {time.monotonic() - began:.1f} s without a server")
        watch.all_renew("dhcpd again", begin, dhcpd.written)

    with suite.step("what the machines say"):
        storm.process.signal(signal.SIGINT)
        storm.end()
        suite.equal("violations", storm.violations, {})
        dhcp = storm.report.get("dhcp", {})
        said = {key: dhcp.get(key) for key in ("exchanges", "naks", "expired")}
        # A machine that loses its address begins again, with another exchange.
        suite.equal("no machine begins again", said,
                    {"exchanges": MACHINES, "naks": 0, "expired": 0})
        suite.say(f"   {dhcp.get('renewals')} renewals, "
                  f"{dhcp.get('retransmissions')} messages again")
        suite.check("each renews with each server", dhcp.get("renewals", 0) >= 3 * MACHINES)
        dhcpd.stop()

    lab.close()
    suite.finish()


if __name__ == "__main__":
    main()
