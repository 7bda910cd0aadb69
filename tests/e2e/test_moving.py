#!/usr/bin/env python3
"""A dhcpd is replaced with all its leases, and put back: nobody changes address.

    tests/e2e/test_moving.py [MACHINES]

Of more than 2,000 machines only some ask; the leases of the others are written into dhcpd's file
by this script, and the files are compared as a whole.
"""

import os
import re
import socket
import sys
import time

import lab as laboratory
from lab import Lab
from other_servers import Dhcpd, Kea, lease_file
from relayed_machines import MOST_ASKING, Machine, Machines, keep, newcomers
from server import BINARY, OfDhcpd, Server
from suite import Suite

TAKES_SECONDS = 20

MACHINES = int(sys.argv[1]) if len(sys.argv) > 1 else 300
# Of 10.64.0.0/10: room for twice as many machines as there are.
_LOW, _HIGH = "10.77.16.0", socket.inet_ntoa((0x0a4d1000 + 2 * MACHINES + 50).to_bytes(4, "big"))

_DHCPD = f"""
authoritative;
ping-check false;
default-lease-time 7200;
max-lease-time 7200;
stash-agent-options true;
class "odd" {{
    match if suffix(hardware, 1) = 01;
    lease limit 1000000;
    set seen = "yes";
}}
subnet 10.64.0.0 netmask 255.192.0.0 {{
    range {_LOW} {_HIGH};
    option routers 10.77.0.254;
    set kind = pick-first-value(option vendor-class-identifier, "none");
}}
"""


def own(state):
    return (f'[server]\ninterfaces = ["eth0"]\nstate-dir = "{state}"\n'
            '[dhcp]\nauthoritative = true\nidentity = "client-id"\nlease-time = "2h"\n'
            f'[[dhcp.subnet]]\nsubnet = "10.64.0.0/10"\npools = ["{_LOW}-{_HIGH}"]\n'
            f'options = {{ routers = ["10.77.0.254"] }}\n'
            '[[dhcp.class]]\nname = "odd"\ntest = "suffix(hardware, 1) = 01"\n'
            'lease-limit = 1000000\n')


def given(machines):
    """Gives each machine an address: what stands in the lease of it."""
    first = int.from_bytes(socket.inet_aton(_LOW), "big")
    for number, machine in enumerate(machines):
        machine.address = socket.inet_ntoa((first + number).to_bytes(4, "big"))
        client_id = dict(machine.options).get(61)
        uid = "".join(f"\\{byte:03o}" for byte in client_id or b"")
        yield (machine.mac, machine.address, *([f'uid "{uid}"'] if client_id else []),
               *(['billing class "odd"'] if machine.mac.endswith(":01") else []),
               'set kind = "none"')


def main():
    suite = Suite("moving in and out")
    lab = Lab()
    relay, dhcpd = Machines(lab), Dhcpd(lab, _DHCPD)
    server = Server(lab, "")
    server.configure(own(server.state))
    suite.explain_with(server.log)
    machines = [Machine(number) for number in range(1, MACHINES + 1)]

    with suite.step("dhcpd gives addresses away"):
        if MACHINES > MOST_ASKING:
            with open(dhcpd.leases, "w") as text:
                text.writelines(lease_file(given(machines), seconds=7060))
        dhcpd.start()
        for machine in machines:
            machine.address = machine.address or relay.boot(machine)
        suite.check(f"{MACHINES} machines have an address",
                    None not in {machine.address for machine in machines})
        gone, declined = machines[-8:-4], machines[-4:]
        for machine in gone:
            relay.leave("RELEASE", machine)
        for machine in declined:
            relay.leave("DECLINE", machine)
        quarantine = {machine.address for machine in declined}
        del machines[-4:]
        time.sleep(1)
        dhcpd.stop()

    with suite.step("the leases move in"):
        status, output = server.tool("migrate", "--leases", dhcpd.leases, "--dry-run",
                                     seconds=300)
        suite.check("a dry run writes nothing", status == 0 and "nothing is written" in output
                    and not os.path.exists(f"{server.state}/lease-log"), output)
        began = time.monotonic()
        status, output = server.tool("migrate", "--leases", dhcpd.leases, seconds=300)
        suite.say(f"   {time.monotonic() - began:.1f} s")
        suite.check("migrate takes all", status == 0 and
                    f"{MACHINES - 8} active, 4 that have ended" in output
                    and "4 in quarantine" in output, output)
        status, output = server.tool("migrate", "--leases", dhcpd.leases, seconds=300)
        suite.check("a second time it writes nothing",
                    status == 0 and "written: 0 leases" in output, output)
        exported = server.tool("leases", "export", "--format", "dhcpd", seconds=300)[1]
        suite.check("variables of leases are among it", 'set kind = "none";' in exported)
        odd = sum(machine.mac.endswith(":01") for machine in machines)
        suite.equal("and the class that they count for", exported.count('billing class "odd";'),
                    odd)
        server.start()
        status, output = server.tool("leases", "import", dhcpd.leases, seconds=300)
        suite.check("a running server's store is not written to",
                    status == 2 and "in use" in output, output)
        # Whoever has given its address back has it again.
        keep(suite, "bootstorm", relay, machines, surely=gone)
        newcomers(suite, "bootstorm", relay, machines, 100_000, 20, quarantine)
        leaver = machines.pop(0)
        relay.leave("RELEASE", leaver)
        laboratory.wait_until(lambda: '"released"' in server.tool(
            "leases", "show", leaver.address, "--json", seconds=60)[1], 10)

    with suite.step("the leases are written for others"):
        running = server.tool("leases", "export", "--format", "dhcpd", seconds=300)[1]
        server.stop()
        stopped = server.tool("leases", "export", "--format", "dhcpd", seconds=300)[1]
        suite.equal("from the running server and from its store they are the same",
                    running.splitlines()[6:], stopped.splitlines()[6:])
        for form in ("csv", "kea", "dhcpd"):
            path = lab.path(f"out.{form}")
            status, output = server.tool("leases", "export", "--format", form, "-o", path,
                                         seconds=300)
            suite.check(f"export --format {form}", status == 0, output)
            other = Server(lab, "", name=f"from-{form}")
            other.configure(own(other.state))
            status, output = other.tool("leases", "import", path, seconds=300)
            suite.check(f"an empty server takes {form}", status == 0, output)
            again = other.tool("leases", "export", "--format", form, seconds=300)[1]
            with open(path) as text:
                suite.equal(f"and says the same in {form}", _comparable(again, form),
                            _comparable(text.read(), form))

    with suite.step("Kea takes its place"):
        kea = Kea(lab, [{"id": 1, "subnet": "10.64.0.0/10", "valid-lifetime": 7200,
                         "pools": [{"pool": f"{_LOW} - {_HIGH}"}]}])
        status, output = server.tool("leases", "export", "--format", "kea", "-o", kea.leases,
                                     seconds=300)
        suite.check("export", status == 0, output)
        kea.start()
        keep(suite, "Kea", relay, machines)
        newcomers(suite, "Kea", relay, machines, 150_000, 20, quarantine)
        kea.stop()
        wrong = [line for line in kea.process.output().splitlines()
                 if " ERROR " in line or " WARN " in line and "LEASE" in line]
        suite.check("it finds nothing wrong with the file", not wrong, "\n".join(wrong[:8]))
        status, output = server.tool("leases", "import", "--merge", kea.leases, seconds=300)
        suite.check("what it gave away is taken back", status == 0
                    and f"{len(machines)} active" in output, output)

    with suite.step("dhcpd is put back"):
        status, output = server.tool("leases", "export", "--format", "dhcpd", "-o", dhcpd.leases,
                                     seconds=300)
        suite.check("export", status == 0, output)
        status, output = dhcpd.accepts_leases()
        suite.check("dhcpd takes the file as it is", status == 0 and "corrupt" not in output
                    and "line " not in output, output)
        dhcpd.start()
        keep(suite, "dhcpd", relay, machines)
        newcomers(suite, "dhcpd", relay, machines, 200_000, 20, quarantine)
        dhcpd.stop()

    with suite.step("dhcpd's leases where they usually are"):
        forgotten(suite, lab, dhcpd)

    lab.close()
    suite.finish()


def forgotten(suite, lab, dhcpd):
    """A server with dhcpd's configuration does not start without dhcpd's leases; what it says to
    do is right."""
    other = OfDhcpd(lab, _DHCPD)

    def run(command):
        """A command line of a person's, with a directory of dhcpd's of its own."""
        return lab.run(lab.srv, ["unshare", "-m", "sh", "-c",
                                 f"mount -t tmpfs none /var/lib/dhcp && cp {dhcpd.leases} "
                                 f"/var/lib/dhcp/dhcpd.leases && exec timeout -s INT 3 {command}"])

    serve = f"{BINARY} serve --config {other.config} --state-dir {other.state}"
    status, output = run(serve)
    said = re.search(r"run `bootstorm ([^`]*)`", output)
    suite.check("a start without them is refused", status and said
                and "--no-import" in output, output)
    status, output = run(f"{BINARY} {said[1]} --dry-run")
    suite.check("the command that is named takes them", status == 0 and " active" in output
                and "/var/lib/dhcp/dhcpd.leases" in said[1], output)
    status, output = run(f"{serve} --no-import")
    suite.check("--no-import starts", "serving with" in output, output)


def _comparable(text, form):
    """Lines of an export but for seconds, which are cut off when times are read and written."""
    if form == "kea":
        return [",".join(cell for place, cell in enumerate(line.split(",")) if place not in (3, 4))
                for line in text.splitlines()]
    lines = []
    for line in text.splitlines():
        words = line.split(",") if form == "csv" else line.split()
        lines.append([word for word in words if word.count(":") not in (2,)])
    return lines


if __name__ == "__main__":
    main()
