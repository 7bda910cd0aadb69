#!/usr/bin/env python3
"""Programs that drive ISC dhcpd drive this server: omshell as Foreman and MAAS do, and pypureomapi
as scripts do."""

import base64
import json
import socket

from lab import Lab
from other_servers import Dhcpd
from relay import Relay
from server import OfDhcpd, Server, configuration, subnet
from suite import Suite

TAKES_SECONDS = 15

_SECRET = base64.b64encode(b"only for this test").decode()
_STATIC = """
[[dhcp.host]]
name = "static"
hardware = "52:54:00:aa:00:01"
ip = "10.77.8.1"
"""
# pypureomapi speaks HMAC-MD5 only.
_PYTHON = """
import sys
import pypureomapi
omapi = pypureomapi.Omapi("127.0.0.1", 7911, b"k", sys.argv[1].encode())
omapi.add_host("10.77.8.20", "52:54:00:cc:00:01")
omapi.add_host_supersede_name("10.77.8.21", "52:54:00:cc:00:02", "second")
print("mac", omapi.lookup_mac(sys.argv[2]))
print("ip", omapi.lookup_ip("52:54:00:cc:00:09"))
print("host", omapi.lookup_host("second"))
try:
    omapi.add_host("10.77.8.22", "52:54:00:cc:00:01")
except pypureomapi.OmapiError as error:
    print("again", error)
omapi.del_host("52:54:00:cc:00:01")
try:
    omapi.del_host("52:54:00:cc:00:01")
except pypureomapi.OmapiErrorNotFound:
    print("gone")
"""


def control(algorithm):
    return ('\n[control]\nmetrics = "off"\nomapi = "127.0.0.1:7911"\n'
            f'omapi-key = {{ name = "k", algorithm = "{algorithm}", secret = "{_SECRET}" }}\n')


def main():
    suite = Suite("OMAPI")
    lab = Lab()
    ask = Relay(lab).answer
    server = Server(lab, "")
    suite.explain_with(server.log)

    def configure(algorithm):
        server.configure(configuration(
            server.state, [subnet(pool="4.0-{net}.4.250")], after=_STATIC + control(algorithm)))

    def omshell(*lines, algorithm=None, secret=_SECRET):
        """What omshell says to these lines."""
        start = ["server 127.0.0.1", "port 7911"]
        if algorithm:
            start.append(f"key-algorithm {algorithm}")
        if secret:
            start.append(f'key k "{secret}"')
        start.append("connect")
        text = "\n".join([*start, *lines]) + "\n"
        script = lab.write("omshell.txt", text)
        return lab.run(lab.srv, ["sh", "-c", f"timeout 20 omshell < {script} 2>&1"])[1]

    def listed():
        return {host["name"]: host for host in
                map(json.loads, server.tool("host", "list")[1].splitlines())}

    with suite.step("omshell, as Foreman writes to it"):
        configure("hmac-md5")
        server.start()
        mac = "52:54:00:bb:00:01"
        create = ("new host", 'set name = "rack1-n07"', "set ip-address = 10.77.8.10",
                  f"set hardware-address = {mac}", "set hardware-type = 1",
                  'set statements = "filename = \\"pxelinux.0\\"; next-server = 0a:4d:00:07; '
                  'option host-name = \\"rack1-n07\\";"', "create")
        output = omshell(*create)
        suite.check("a host is created", "rack1-n07" in output and "can't" not in output, output)
        answer = ask("DISCOVER", mac)
        suite.equal("it is offered its address", answer.yiaddr, "10.77.8.10")
        suite.equal("its server", answer.siaddr, "10.77.0.7")
        suite.equal("its boot file", answer.file or answer.options.get(67), b"pxelinux.0")
        suite.equal("its name", answer.options.get(12), b"rack1-n07")
        output = omshell(*create)
        suite.check("a second time it exists", "already exists" in output, output)
        output = omshell("new host", 'set name = "other"', f"set hardware-address = {mac}",
                         "set hardware-type = 1", "create")
        suite.check("a card of another host is a conflict", "can't open object" in output
                    or "key conflict" in output, output)
        output = omshell("new host", f"set hardware-address = {mac}", "set hardware-type = 1",
                         "open", "set ip-address = 10.77.8.11", "update")
        suite.check("it is changed", "can't" not in output, output)
        suite.equal("it is offered its other address", ask("DISCOVER", mac).yiaddr, "10.77.8.11")
        server.kill()
        server.start()
        suite.equal("a kill does not lose it", listed().get("rack1-n07", {}).get("ip"),
                    ["10.77.8.11"])
        output = omshell("new host", f"set hardware-address = {mac}", "set hardware-type = 1",
                         "open", "remove")
        suite.check("it is removed", "can't" not in output and not listed(), output)
        suite.check("it is anybody now", ask("DISCOVER", mac).yiaddr.startswith("10.77.4."))
        output = omshell("new host", f"set hardware-address = {mac}", "set hardware-type = 1",
                         "open")
        suite.check("and not found any more", "not found" in output, output)
        output = omshell("new host", 'set name = "static"', "open", "remove")
        suite.check("a host of the configuration stays", "can't" in output, output)

    with suite.step("leases"):
        mac = "52:54:00:cc:00:09"
        offer = ask("DISCOVER", mac, [(12, b"leased")])
        ack = ask("REQUEST", mac, [(50, socket.inet_aton(offer.yiaddr)),
                                   (54, socket.inet_aton("10.77.0.1")), (12, b"leased")])
        output = omshell("new lease", f"set ip-address = {ack.yiaddr}", "open")
        suite.check("omshell looks one up", "state = 00:00:00:02" in output
                    and f"hardware-address = {mac}" in output and "leased" in output, output)

    with suite.step("pypureomapi"):
        script = lab.write("drive.py", _PYTHON)
        status, output = lab.run(lab.srv, ["/usr/bin/python3", script, _SECRET, ack.yiaddr])
        for line in (f"mac {mac}", f"ip {ack.yiaddr}", "gone"):
            suite.check(line, status == 0 and line in output.splitlines(), output)
        suite.check("what it adds twice is refused", "again add failed" in output, output)
        suite.equal("what it added is offered", ask("DISCOVER", "52:54:00:cc:00:02").yiaddr,
                    "10.77.8.21")
        suite.equal("with its name", ask("DISCOVER", "52:54:00:cc:00:02").options.get(12),
                    b"second")

    with suite.step("keys"):
        output = omshell("new host", 'set name = "static"', "open",
                         secret=base64.b64encode(b"guessed").decode())
        suite.check("a wrong secret gets nothing", "10.77.8.1" not in output
                    and "0a:4d:08:01" not in output, output)
        server.stop()
        for algorithm in ("hmac-sha1", "hmac-sha256", "hmac-sha512"):
            configure(algorithm)
            server.start()
            output = omshell("new host", 'set name = "static"', "open", algorithm=algorithm)
            suite.check(algorithm, "0a:4d:08:01" in output, output)
            server.stop()

    with suite.step("omshell, as MAAS writes to it"):
        both = {}
        for drive in (Dhcpd(lab, _DHCPD, name="maas"), OfDhcpd(lab, _DHCPD)):
            drive.start()
            both[drive.name] = maas(suite, ask, omshell)
            drive.stop()
        suite.equal("dhcpd answers the same", both["server"], both["maas"])

    with suite.step("hosts that dhcpd has from OMAPI move in"):
        moves_in(suite, lab, ask, omshell)

    lab.close()
    suite.finish()


def maas(suite, ask, omshell):
    """What MAAS 2 has omshell do with its server. How it goes, where MAAS looks at that."""
    cards = [f"52:54:00:ee:00:0{number}" for number in (1, 2)]
    names = [card.replace(":", "-") for card in cards]

    def said(output):
        """The errors, and whether nothing is open at the end."""
        return ([line for line in output.splitlines() if "can't" in line],
                "obj: <null" in output.strip("\n >").splitlines()[-1])

    def create(card, name, ip):
        return said(omshell("new host", f"set ip-address = {ip}", f"set hardware-address = {card}",
                            "set hardware-type = 1", f'set name = "{name}"', "create"))

    def remove(name):
        return said(omshell("new host", f'set name = "{name}"', "open", "remove"))

    done = [said(omshell(secret=None))]
    done += [create(cards[0], names[0], "10.77.8.40"), create(cards[0], names[0], "10.77.8.40")]
    # The cards of a bond have one address. Here one of them has it at a time.
    done += [create(cards[1], names[1], "10.77.8.40")]
    suite.equal("a card of a bond is offered its address", ask("DISCOVER", cards[0]).yiaddr,
                "10.77.8.40")
    omshell("new host", f'set name = "{names[1]}"', "open", "set ip-address = 10.77.8.41",
            f"set hardware-address = {cards[1]}", "set hardware-type = 1", "update")
    done += [remove(names[0]), remove(names[1]), remove(names[0])]
    card = "52:54:00:ee:00:09"
    offer = ask("DISCOVER", card)
    ack = ask("REQUEST", card, [(50, socket.inet_aton(offer.yiaddr)),
                                (54, socket.inet_aton("10.77.0.1"))])

    def end(ip):
        output = omshell("new lease", f"set ip-address = {ip}", "open",
                         "set ends = 00:00:00:00", "update")
        return "invalid" not in output and "\nends = 00:00:00:00" in output, said(output)[0]

    done += [end(ack.yiaddr), end("10.77.200.1")]
    output = omshell("new lease", f"set ip-address = {ack.yiaddr}", "open")
    suite.check("a lease is ended", "state = 00:00:00:01" in output, output)
    return done


_DHCPD = f"""
authoritative;
ping-check false;
omapi-port 7911;
omapi-key k;
key k {{ algorithm hmac-md5; secret "{_SECRET}"; }}
option space SUNW;
option SUNW.root-path-name code 4 = text;
option SUNW.root-server-ip-address code 2 = ip-address;
subnet 10.77.0.0 netmask 255.255.0.0 {{ range 10.77.4.0 10.77.4.250; }}
host static {{ hardware ethernet 52:54:00:aa:00:01; fixed-address 10.77.8.1; }}
"""


def moves_in(suite, lab, ask, omshell):
    """Hosts that omshell made in dhcpd, and what Foreman says of a Solaris machine."""
    def create(name, mac, ip, statements):
        return omshell("new host", f'set name = "{name}"', f"set ip-address = {ip}",
                       f"set hardware-address = {mac}", "set hardware-type = 1",
                       'set statements = "' + statements.replace('"', '\\"') + '"', "create")

    solaris = ('filename = "inetboot"; next-server = 0a:4d:00:07; option host-name = "{}"; '
               'option SUNW.root-path-name "/boot"; option SUNW.root-server-ip-address 10.77.0.8; '
               'vendor-option-space SUNW;')
    dhcpd, server = Dhcpd(lab, _DHCPD), OfDhcpd(lab, _DHCPD)
    first, second, third = (f"52:54:00:dd:00:0{number}" for number in (1, 2, 3))
    dhcpd.start()
    output = create("sun1", first, "10.77.8.31", solaris.format("sun1"))
    output += create("gone", second, "10.77.8.32", 'option host-name "gone";')
    output += omshell("new host", 'set name = "gone"', "open", "remove")
    suite.check("dhcpd takes them", "can't" not in output, output)
    dhcpd.stop()
    status, output = server.tool("migrate", "--leases", dhcpd.leases)
    suite.check("migrate takes those that were not removed",
                status == 0 and "1 hosts made by OMAPI" in output, output)
    server.start()
    names = [json.loads(line)["name"] for line in server.tool("host", "list")[1].splitlines()]
    suite.equal("they are live hosts", names, ["sun1"])
    server.tool("host", "set", "sun2", "--hardware", third, "--json", json.dumps(
        {"vendor-option-space": "SUNW", "options": {"SUNW": {"root-path-name": "/boot"}}}))
    for mac, address in ((first, "10.77.8.31"), (third, None)):
        answer = ask("DISCOVER", mac, [(60, b"SUNW.Ultra")])
        vendor = b"\x04\x05/boot" if address is None else b"\x02\x04\x0a\x4d\x00\x08\x04\x05/boot"
        suite.equal(f"options of a space go to {mac}",
                    [answer.yiaddr if address else None, answer.options.get(43)],
                    [address, vendor])
    answer = ask("DISCOVER", first)
    suite.equal("with boot server, file and name",
                [answer.siaddr, answer.file or answer.options.get(67), answer.options.get(12)],
                ["10.77.0.7", b"inetboot", b"sun1"])
    suite.check("one that was removed is anybody",
                ask("DISCOVER", second).yiaddr.startswith("10.77.4."))
    server.stop()


if __name__ == "__main__":
    main()
