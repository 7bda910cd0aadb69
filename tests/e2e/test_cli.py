#!/usr/bin/env python3
"""The command line, as a person and as systemd meet it: mistakes, signals, reloads, and
another server on the cable."""

import glob
import os
import threading

import lab as laboratory
import wire
from lab import ROOT, Lab
from server import BINARY, Server, configuration, foreign_server, subnet
from suite import Suite

TAKES_SECONDS = 15

_FOREIGN = "10.77.0.99"


def mistakes(suite, lab):
    def run(*arguments):
        return lab.run(lab.srv, [BINARY, *arguments])

    status, output = run("--version")
    suite.check("--version names program and version", status == 0 and
                output.startswith("bootstorm "), output)
    status, output = run("--help")
    suite.check("--help names every command", status == 0 and all(
        f"  {word}" in output for word in ("serve", "check", "leases", "status", "events",
                                           "explain", "probe", "fetch", "reload")), output)
    status, output = run("serve", "--confg", "x")
    suite.check("a wrong flag: exit 2, and the right one named",
                status == 2 and "--config" in output, output)
    status, output = run("check", "--config", lab.path("nowhere.toml"))
    suite.check("a missing file: exit status and its name",
                status == 78 and "nowhere.toml" in output, output)
    for what, text, line, words in (
            ("an unknown key", '[server]\ninterfacs = ["eth0"]\n', 2, ["interfacs"]),
            ("a pool outside its subnet", '[[dhcp.subnet]]\nsubnet = "10.77.0.0/16"\n'
             'pools = ["10.78.0.1-10.78.0.9"]\n', 3, ["10.78.0.1"]),
            ("overlapping pools", '[[dhcp.subnet]]\nsubnet = "10.77.0.0/16"\n'
             'pools = ["10.77.1.1-10.77.1.9", "10.77.1.9-10.77.1.20"]\n', 3, ["10.77.1.9"]),
            ("broken TOML", '[server\n', 1, []),
            ("a wrong type", '[server]\nshards = "two"\n', 2, ["two"])):
        path = lab.write("broken.toml", text)
        status, output = run("check", "--config", path)
        # miette shows file:line:column, and the line itself below.
        suite.check(f"{what}: refused with place and line",
                    status == 78 and f"broken.toml:{line}:" in output
                    and text.splitlines()[line - 1].strip()[:12] in output
                    and all(word in output for word in words), output)
        served, _ = run("serve", "--config", path)
        suite.equal(f"{what}: serve does not start", served, status)


def examples(suite, lab):
    for path in [*glob.glob(f"{ROOT}/packaging/examples/*.toml"), f"{ROOT}/demo/bootstorm.toml"]:
        status, output = lab.run(lab.srv, [BINARY, "check", "--config", path])
        suite.check(f"{os.path.relpath(path, ROOT)} is good", status == 0, output)


def tools(suite, server):
    status, output = server.tool("check")
    suite.equal("check of a good file", status, 0)
    status, output = server.tool("status")
    suite.check("status of a running server", status == 0 and output.strip(), output)
    status, output = server.tool("serve")
    suite.check("a second server on one state-dir is refused, which may pass",
                status == 2, f"exit {status}: {output}")


class Traffic(threading.Thread):
    """A machine a time, each getting a lease; whoever is not served is counted."""

    def __init__(self, namespace):
        super().__init__(daemon=True)
        with laboratory.inside(namespace):
            self._raw = wire.Raw("eth0")
        self._going = True
        self.served, self.unserved = [], []

    def run(self):
        number = 0
        while self._going:
            number += 1
            mac = f"52:54:00:aa:{number >> 8:02x}:{number & 255:02x}"
            offer = self._raw.ask("DISCOVER", mac, number)
            ack = offer and self._raw.ask("REQUEST", mac, number, [
                (50, bytes(map(int, offer.yiaddr.split(".")))), (54, offer.options[54])])
            good = ack and ack.kind == "ACK"
            (self.served if good else self.unserved).append((mac, ack))

    def stop(self):
        self._going = False
        self.join()
        self._raw.close()


def lease(namespace, mac):
    """One machine's four messages; the ACK, or None."""
    with laboratory.inside(namespace):
        raw = wire.Raw("eth0")
    offer = raw.ask("DISCOVER", mac, 0xbeef)
    ack = offer and raw.ask("REQUEST", mac, 0xbeef, [
        (50, bytes(map(int, offer.yiaddr.split(".")))), (54, offer.options[54])])
    raw.close()
    return ack


def reloads(suite, lab, server, namespace):
    traffic = Traffic(namespace)
    traffic.start()
    laboratory.time.sleep(0.5)
    with open(server.config) as text:
        good = text.read()
    server.configure(good.replace('"rack.example"', '"changed.example"'))
    server.reload()
    changed = laboratory.wait_until(
        lambda: (got := lease(namespace, "52:54:00:bb:00:01")) and
        got.options.get(15, b"").rstrip(b"\0") == b"changed.example", 5)
    suite.check("SIGHUP takes up a changed file", changed)
    server.configure(good.replace("[dhcp]", "[dhpc]"))
    server.reload()
    suite.check("SIGHUP with a broken file says what is wrong with it",
                laboratory.wait_until(lambda: "dhpc" in server.process.output(), 5),
                server.log(10))
    ack = lease(namespace, "52:54:00:bb:00:02")
    suite.equal("and goes on with the old one", ack and ack.options.get(15, b"").rstrip(b"\0"),
                b"changed.example")
    status, output = server.tool("reload")
    suite.check("`reload` of a broken file fails and says why", status not in (0, None) and
                "dhpc" in output, f"exit {status}: {output}")
    server.configure(good)
    status, output = server.tool("reload")
    suite.equal("`reload` of a good file", status, 0)
    for _ in range(20):
        server.reload()
        laboratory.time.sleep(0.05)
    traffic.stop()
    suite.check("machines were served all the while, and none was left out",
                len(traffic.served) > 20 and not traffic.unserved,
                f"{len(traffic.served)} served, not: {traffic.unserved[:5]}")
    rows = server.leases()
    lost = [mac for mac, ack in traffic.served
            if rows.get(ack.yiaddr, {}).get("hardware") != mac]
    suite.equal("no acknowledged lease is missing from the list", lost, [])
    return rows


def explains(suite, server, rows):
    """`explain` of a running server: what it would answer, and why, and the exit status."""
    address, mac = next((ip, row["hardware"]) for ip, row in rows.items()
                        if row["state"] == "active")
    status, said = server.explain("--mac", mac)
    suite.equal("explain: a machine is offered its lease",
                status == 0 and (said["answer"]["kind"], said["address"]["ip"],
                                 said["address"]["through"], said["address"]["source"]["name"]),
                ("offer", address, "lease", "pool 10.77.4.0-10.77.15.250"))
    domain = next((option for option in said["options"] if option["code"] == 15), {})
    with open(server.config) as text:
        line = [number for number, row in enumerate(text, 1) if "domain-name" in row][0]
    suite.equal("explain names the file and line of an option",
                domain.get("source"), {"name": "[dhcp]", "at": f"{server.config}:{line}"})
    status, said = server.explain("--mac", mac, "--message", "request")
    suite.equal("explain: its REQUEST is acknowledged", status == 0 and said["answer"]["kind"], "ack")
    status, said = server.explain("--mac", mac, "--message", "request", "--address", "10.99.0.1")
    suite.equal("explain: a NAK is exit 1, with the reason",
                (status, said["answer"]["kind"], said["answer"].get("reason")),
                (1, "nak", "address is not on this network"))
    status, said = server.explain("--mac", mac, "--relay", "10.9.9.9")
    suite.check("explain: silence is exit 1, with the way out",
                status == 1 and said["answer"]["kind"] == "silence" and
                "add a [[dhcp.subnet]] that holds 10.9.9.9" in said["answer"]["remedy"], said)
    status, output = server.tool("explain", "--mac", mac, "--option", "55=3,15")
    suite.check("explain for people: options, where each comes from, in 100 columns",
                status == 0 and "3 routers 10.77.0.1  subnet 10.77.0.0/16 (" in output and
                max(map(len, output.splitlines())) <= 100, output)
    status, output = server.tool("explain", "--last", "--mac", "52:54:00:99:99:99")
    suite.check("explain --last of an unknown machine: exit 2, and where to look",
                status == 2 and "tcpdump" in output, output)
    status, output = server.tool("explain", "--mac", mac, "--arch", "x86")
    suite.check("explain: a wrong architecture: exit 2, and what there is",
                status == 2 and "x86-64-efi" in output, output)
    suite.equal("explain changed nothing", server.leases().keys(), rows.keys())
    return address, mac


def restart(suite, server, rows):
    address, mac = explains(suite, server, rows)
    suite.equal("SIGTERM, exit status", server.stop(), 0)
    status, said = server.explain("--mac", mac)
    suite.equal("explain with the server down, by its leases on disk",
                status == 0 and (said["leases"], said["address"]["ip"]), ("store", address))
    status, said = server.explain("--mac", mac, "--state-dir", server.lab.path("nowhere"))
    suite.equal("explain without leases", status == 0 and said["leases"], "none")
    suite.equal("leases list with the server down, the same rows",
                {ip: row["hardware"] for ip, row in server.leases().items()},
                {ip: row["hardware"] for ip, row in rows.items()})
    address = sorted(rows)[0]
    status, output = server.tool("leases", "show", address)
    suite.check("leases show", status == 0 and address in output, output)
    server.start()
    suite.equal("and after a start", {ip: row["hardware"] for ip, row in
                                      server.leases().items()},
                {ip: row["hardware"] for ip, row in rows.items()})
    status, output = server.tool("leases", "release", address)
    suite.check("leases release", status == 0 and server.lease_state(address) != "active",
                f"exit {status}: {output}")
    server.stop()


def foreign(suite, lab):
    other = foreign_server(lab, _FOREIGN)
    status, output = lab.run(lab.srv, [BINARY, "probe", "--interface", "eth0"])
    suite.check("probe names it", _FOREIGN in output, output)
    second = Server(lab, name="second")
    second.launch()
    suite.equal("first start beside it: exit status", second.process.wait(10), 80)
    suite.check("and it is named", _FOREIGN in second.log(), second.log())
    text = configuration(second.state, server=f'allow-other-servers = ["{_FOREIGN}"]')
    second.configure(text)
    with_leave = second.start()
    suite.check("with leave it starts", with_leave.process.running())
    second.stop()
    second.configure(configuration(second.state))
    second.start()
    suite.check("a later start only warns", second.process.running() and laboratory.wait_until(
        lambda: _FOREIGN in second.process.output(), 3), second.log())
    second.stop()
    other.stop()


def dry_run(suite, lab, namespace):
    quiet = Server(lab, name="quiet")
    quiet.launch("--dry-run")
    laboratory.time.sleep(2)
    sniffer = lab.sniff()
    suite.equal("--dry-run answers nobody", lease(namespace, "52:54:00:cc:00:01"), None)
    suite.check("and says what it would have answered",
                "52:54:00:cc:00:01" in quiet.process.output(), quiet.log())
    suite.equal("nothing was sent", [d.source for d in sniffer.packets
                                     if d.source == "10.77.0.1"], [])
    quiet.stop()


def main():
    suite = Suite("Command line")
    lab = Lab()
    namespace = lab.namespace("machines")
    lab.plug(namespace, 0)
    with suite.step("mistakes"):
        mistakes(suite, lab)
    with suite.step("the examples"):
        examples(suite, lab)
    server = Server(lab, subnets=[subnet(pool="4.0-{net}.15.250")])
    suite.explain_with(server.log)
    with suite.step("a running server and its tools"):
        server.start()
        tools(suite, server)
    rows = {}
    with suite.step("reloads under traffic"):
        rows = reloads(suite, lab, server, namespace)
    with suite.step("end and start"):
        restart(suite, server, rows)
    with suite.step("dry run"):
        dry_run(suite, lab, namespace)
    with suite.step("another server on the cable"):
        foreign(suite, lab)
    suite.finish()


if __name__ == "__main__":
    main()
