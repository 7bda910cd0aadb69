#!/usr/bin/env python3
"""ISC dhcpd serves real clients, and `rehearse` listens beside it: with dhcpd's own file it is
safe to switch, with a planted difference it is not, and nothing is sent."""

import json

import lab as laboratory
from clients import Dhclient, Udhcpc
from debian import unpack
from lab import Lab
from server import BINARY
from suite import Suite

TAKES_SECONDS = 15

_CONF = """
authoritative;
ping-check false;
default-lease-time 60;
max-lease-time 60;
option domain-name "rack.example";
option domain-name-servers 10.77.0.2, 10.77.0.3;
subnet 10.77.0.0 netmask 255.255.0.0 {
  range 10.77.4.0 10.77.4.250;
  option routers 10.77.0.1;
  next-server 10.77.0.6;
  filename "pxelinux.0";
}
host rack1-n02 {
  hardware ethernet %s;
  fixed-address 10.77.0.33;
  option host-name "rack1-n02";
}
"""


class Dhcpd:
    """The server that is there."""

    def __init__(self, lab, text):
        binary = unpack("isc-dhcp-server") + "/usr/sbin/dhcpd"
        leases = lab.write("dhcpd.leases", "")
        self.process = lab.start(lab.srv, [
            binary, "-4", "-f", "-d", "-cf", lab.write("dhcpd.conf", text), "-lf", leases,
            "-pf", lab.path("dhcpd.pid"), "eth0"], "dhcpd")

    def serves(self):
        return "Server starting service" in self.process.output()


def rehearse(lab, name, text):
    config = lab.write(f"{name}.conf", text)
    return lab.start(lab.srv, [BINARY, "rehearse", "--config", config, "--interface", "eth0",
                               "--json"], name)


def end(suite, process, name):
    """Stops it; its exit status and its lines."""
    status = process.stop()
    lines = [json.loads(line) for line in process.output().splitlines() if line.startswith("{")]
    if not suite.check(f"{name} sums up", lines and "summary" in lines[-1], process.output()):
        return status, [], {}
    return status, [line["differing"] for line in lines[:-1]], lines[-1]["summary"]


def main():
    suite = Suite("Rehearsal beside dhcpd")
    lab = Lab()
    dhclient, udhcpc = Dhclient(lab), Udhcpc(lab)
    text = _CONF % udhcpc.mac
    dhcpd = Dhcpd(lab, text)
    suite.explain_with(dhcpd.process.output)
    with suite.step("dhcpd and two rehearsals start"):
        suite.check("dhcpd serves", laboratory.wait_until(dhcpd.serves, 10))
        same = rehearse(lab, "same", text)
        other = rehearse(lab, "other", text.replace("option routers 10.77.0.1",
                                                    "option routers 10.77.0.99"))
        suite.check("both listen", laboratory.wait_until(
            lambda: all("listening on eth0" in each.output() for each in (same, other)), 10))
    sniffer = lab.sniff("srv0")
    with suite.step("clients come, and come back"):
        for client in (dhclient, udhcpc):
            client.start()
            event = client.wait(("bound",))
            suite.check(f"{client.name} has a lease of dhcpd", event, client.process.output())
            client.crash()
            mark = client.mark()
            client.start()
            again = client.wait(("bound",), since=mark)
            suite.equal(f"{client.name} comes back to it", again and again.address,
                        event and event.address)
            client.crash()
    with suite.step("what the rehearsals say"):
        status, differing, summary = end(suite, same, "the one with dhcpd's file")
        suite.equal("with dhcpd's own file nothing differs",
                    (status, differing, summary.get("safe")), (0, [], True))
        suite.check("and all was compared", summary.get("clients") == 2 and
                    summary.get("compared", 0) >= 6, summary)
        status, differing, summary = end(suite, other, "the one with another router")
        found = {difference["what"]: (difference["theirs"], difference["ours"])
                 for each in differing for difference in each["differences"]}
        suite.equal("another router differs, and nothing else, and that is exit 1",
                    (status, found, summary.get("clients-differing")),
                    (1, {"option 3 routers": ("10.77.0.1", "10.77.0.99")}, 2))
    suite.equal("one OFFER to each DISCOVER: no rehearsal answered", len(sniffer.dhcp("OFFER")),
                len(sniffer.dhcp("DISCOVER")))
    dhcpd.process.stop()
    suite.finish()


if __name__ == "__main__":
    main()
