#!/usr/bin/env python3
"""Hosts that are added, changed and removed while the server runs: durable and in force when the
command ends, and never against the configuration.

    tests/e2e/test_live_hosts.py [HOSTS]
"""

import contextlib
import itertools
import json
import os
import random
import signal
import sys
import threading
import time

import lab as laboratory
from lab import Lab
from relay import Relay
from server import BINARY, Server, configuration, subnet
from suite import Suite

TAKES_SECONDS = 20

HOSTS = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
_STATIC = """
[[dhcp.host]]
name = "static"
hardware = "52:54:00:aa:00:01"
ip = "10.77.8.1"
"""

_OMAPI_HOST = """
host omapi {
  dynamic;
  hardware ethernet 52:54:06:00:00:09;
}
"""


def main():
    suite = Suite("live hosts")
    lab = Lab()
    relay = Relay(lab)
    server = Server(lab, "")
    text = configuration(server.state, [subnet(pool="4.0-{net}.4.250")], after=_STATIC)
    server.configure(text)
    suite.explain_with(server.log)

    def offered(mac):
        """What a machine is offered."""
        return relay.answer("DISCOVER", mac)

    def host(*arguments, seconds=120):
        return server.tool("host", *arguments, seconds=seconds)

    def listed():
        return [json.loads(line) for line in host("list")[1].splitlines()]

    with suite.step("one host"):
        server.start()
        mac = "52:54:00:bb:00:01"
        suite.check("before, it is anybody", offered(mac).yiaddr.startswith("10.77.4."))
        status, output = host("add", "n1", "--hardware", mac, "--ip", "10.77.8.2",
                              "--json", '{"options": {"host-name": "n1-name"}}')
        suite.check("it is added", status == 0 and "there are 1 live hosts" in output, output)
        answer = offered(mac)
        suite.equal("it has its address at once", answer.yiaddr, "10.77.8.2")
        suite.equal("and its name", answer.options.get(12), b"n1-name")
        suite.equal("it is listed", listed(), [{
            "name": "n1", "hardware": mac, "ip": "10.77.8.2",
            "options": {"host-name": "n1-name"}}])
        server.kill()
        server.start()
        suite.equal("a kill does not lose it", offered(mac).yiaddr, "10.77.8.2")
        status, output = host("set", "n1", "--hardware", mac, "--ip", "10.77.8.3")
        suite.check("it is changed", status == 0, output)
        suite.equal("it has its other address at once", offered(mac).yiaddr, "10.77.8.3")

    with suite.step("what is refused"):
        for what, arguments, words in (
                ("a live host of that name", ("add", "n1", "--hardware", "52:54:00:bb:00:09"),
                 ("`host set` changes it",)),
                ("the name of a host of the configuration",
                 ("add", "static", "--hardware", "52:54:00:bb:00:09"),
                 ("live host `static`", "server.toml")),
                ("the address of a host of the configuration",
                 ("add", "n9", "--hardware", "52:54:00:bb:00:09", "--ip", "10.77.8.1"),
                 ("live host `n9`", "10.77.8.1", "server.toml")),
                ("a host that nothing tells apart", ("add", "n9"), ("which machine",)),
                ("an unknown key", ("add", "n9", "--json", '{"colour": 1}'), ("colour",)),
                ("to remove what is not live", ("remove", "static"), ("no live host",))):
            status, output = host(*arguments)
            suite.check(what, status == 2 and all(word in output for word in words), output)
        suite.equal("nothing has changed", [one["name"] for one in listed()], ["n1"])
        server.configure(text + "# somebody is writing here\n")
        status, output = host("add", "n9", "--hardware", "52:54:00:bb:00:09")
        suite.check("a configuration that is being written is not taken over",
                    status == 2 and "bootstorm reload" in output, output)
        server.configure(text)
        suite.equal("reload", server.tool("reload")[0], 0)
        suite.equal("a reload keeps live hosts", offered(mac).yiaddr, "10.77.8.3")

    with suite.step(f"{HOSTS} hosts in one call"):
        rows = ["name,hardware,ip"]
        for number in range(HOSTS):
            high, low = divmod(number, 250)
            rows.append(f"m{number},52:54:01:{number >> 16:02x}:{number >> 8 & 255:02x}:"
                        f"{number & 255:02x},10.77.{16 + high % 200}.{low + 1}"
                        if high < 200 else f"m{number},52:54:01:{number >> 16:02x}:"
                        f"{number >> 8 & 255:02x}:{number & 255:02x},")
        path = lab.write("hosts.csv", "\n".join(rows) + "\n")
        with told(suite, server, "all are added"):
            status, output = host("add", "--file", path, seconds=600)
        suite.check("they are added", status == 0 and f"{HOSTS + 1} live" in output, output)
        suite.equal("the last has its address", offered("52:54:01:00:03:e7").yiaddr,
                    "10.77.19.250")
        for number in range(5):
            with told(suite, server, f"one of {HOSTS} is changed"):
                host("set", "m3", "--hardware", f"52:54:05:00:00:{number:02x}")
        with told(suite, server, "three are removed"):
            status, output = host("remove", "m1", "m2", "n1")
        suite.check("some are removed", status == 0 and f"{HOSTS - 2} live" in output, output)
        suite.check("one that was removed is anybody",
                    offered(mac).yiaddr.startswith("10.77.4."))
        bad = lab.write("bad.csv", "name,hardware\ny1,52:54:02:00:00:01\ny2,nonsense\n")
        status, output = host("add", "--file", bad)
        suite.check("one that is wrong, and none is added", status == 2 and "nonsense" in output
                    and len(listed()) == HOSTS - 2, output)

    with suite.step("kills while hosts change"):
        killed(suite, lab, server, host, listed)

    with suite.step("another server, and an import, with the same state directory"):
        dhcpd = lab.write("dhcpd.leases", _OMAPI_HOST)
        # A namespace of its own: else the port of DHCP tells it that it is not alone.
        other = lab.namespace("other")
        lab.plug(other, 0)
        laboratory.sh(f"ip -n {other} addr add 10.77.0.9/16 dev eth0")
        host("add", "o1", "--hardware", "52:54:06:00:00:01")
        for number, (what, attempt) in enumerate((
                ("serve", lambda: lab.run(other, [BINARY, "serve", "--config", server.config], 10)),
                ("an import", lambda: server.tool("leases", "import", dhcpd, "--merge"))), 2):
            status, output = attempt()
            suite.check(f"{what} is refused", status not in (0, None), output)
            status, output = host("add", f"o{number}", "--hardware", f"52:54:06:00:00:0{number}")
            suite.check(f"behind {what}, hosts are added", status == 0, output)
        server.kill()
        server.start()
        suite.equal("all that was answered is there, and nothing else",
                    {name for name in names(listed) if name[0] == "o"}, {"o1", "o2", "o3"})

    with suite.step("a journal that was cut off or damaged"):
        journal = f"{server.state}/hosts.journal"
        server.kill()
        server.start()
        suite.check("a start puts the journal into the file", not os.path.exists(journal))
        host("add", "k1", "--hardware", "52:54:03:00:00:01")
        server.kill()
        with open(journal, "a") as text:
            text.write('{"set":[{"name":"k2","hard')
        server.start()
        suite.check("what was begun is cut off, and that is told",
                    "k1" in names(listed) and "k2" not in names(listed)
                    and "broken off" in server.log(), server.log())
        host("add", "k3", "--hardware", "52:54:03:00:00:03")
        host("add", "k4", "--hardware", "52:54:03:00:00:04")
        server.kill()
        with open(journal) as text:
            good = text.read()
        with open(journal, "w") as text:
            text.write(good[5:])
        status, output = server.tool("check")
        suite.check("damage before the end is refused, with its place",
                    status == 78 and "hosts.journal:1" in output, f"{status} {output}")
        with open(journal, "w") as text:
            text.write(good)
        server.start()
        suite.check("restored, all are there", {"k1", "k3", "k4"} <= names(listed))

    server.stop()
    lab.close()
    suite.finish()


@contextlib.contextmanager
def told(suite, server, what):
    """Says how long something takes, and how long the server works for it."""
    def worked():
        with open(f"/proc/{server.process.child.pid}/stat") as stat:
            return sum(map(int, stat.read().rsplit(")", 1)[1].split()[11:13]))

    began, before = time.monotonic(), worked()
    yield
    tick = 1000 / os.sysconf("SC_CLK_TCK")
    suite.say(f"   {what}: {1000 * (time.monotonic() - began):.0f} ms, of which the server works "
              f"{(worked() - before) * tick:.0f} ms")


def names(listed):
    return {host["name"] for host in listed()}


def killed(suite, lab, server, host, listed):
    """The server is killed while hosts are added, set and removed; what was answered holds."""
    dice = random.Random(1)
    # By name the card that it has, or None if it was removed; and what was not answered.
    answered, open_question = {}, {}
    changes = 0
    for cycle in range(4):
        end, last = None, dice.randrange(2, 6)
        for number in itertools.count(1):
            began = time.monotonic()
            name = f"x{dice.randrange(8)}"
            if answered.get(name) and dice.random() < 0.3:
                card, command = None, ("remove", name)
            else:
                card = f"52:54:04:{cycle:02x}:{changes >> 8:02x}:{changes & 255:02x}"
                command = ("set", name, "--hardware", card)
            status, _ = host(*command)
            if status != 0:
                open_question[name] = (answered.get(name), card)
                break
            answered[name] = card
            changes += 1
            if number == last:
                # In the middle of one of the next two.
                end = threading.Timer(dice.uniform(0, 2 * (time.monotonic() - began)),
                                      server.process.signal, [signal.SIGKILL])
                end.start()
        end.join()
        server.kill()
        server.start()
        found = {one["name"]: one["hardware"] for one in listed()}
        wrong = {name: (card, found.get(name)) for name, card in answered.items()
                 if found.get(name) != card and found.get(name) not in open_question.get(name, ())}
        suite.check(f"kill {cycle + 1}: all that was answered holds", not wrong, wrong)
        answered = {name: card for name, card in found.items() if name in {f"x{n}" for n in range(8)}}
        open_question = {}
    suite.say(f"   {changes} changes were answered")


if __name__ == "__main__":
    main()
