#!/usr/bin/env python3
"""Statements with effects: `execute` runs programs at commit, release and expiry with the arguments
that dhcpd gives them, from the same file; a program that hangs keeps nobody waiting."""

import signal
import socket
import time

from lab import Lab, wait_until
from other_servers import Dhcpd
from relay import SERVER, Relay
from server import OfDhcpd, Server
from suite import Suite

TAKES_SECONDS = 50
MOSTLY_WAITS = True

_FIRST, _SECOND = "52:54:00:aa:00:01", "52:54:00:aa:00:02"
_FILE = """
authoritative;
ping-check false;
default-lease-time 600;
min-lease-time 3;
set everywhere = "yes";
class "late" {{
  match if option host-name = "nobody";
  option domain-name "late";
  on commit {{ execute("{script}", "late"); }}
}}
on commit {{ execute("{script}", "wider"); }}
on expiry {{
  execute("{script}", "expiry", ip, clientmac, everywhere, binary-to-ascii(10, 8, ".", leased-address));
}}
execute("{script}", "plain", option vendor-class-identifier);
subnet 10.77.0.0 netmask 255.255.0.0 {{
  range 10.77.4.1 10.77.4.9;
  if option vendor-class-identifier = "late" {{ add "late"; }}
  on commit {{
    set ip = binary-to-ascii(10, 8, ".", leased-address);
    set clientmac = binary-to-ascii(16, 8, ":", substring(hardware, 1, 6));
    execute("{script}", "commit", ip, clientmac, pick-first-value(option host-name, "no name"),
            concat("$(id) * ", option vendor-class-identifier), "");
    execute("{script}", "null", option nis-domain);
    execute("/nonexistent/program", "x");
  }}
  on release {{ execute("{script}", "release", ip, clientmac, pick-first-value(gone, "none")); }}
}}
"""
# The same, but for what stands outside of all blocks.
_TOML = """
[server]
interfaces = ["eth0"]
state-dir = "{state}"
allow-other-servers = true
[dhcp]
authoritative = true
compatibility = "dhcpd"
identity = "client-id-or-hardware"
lease-time = "10m"
min-lease-time = "3s"
set = {{ everywhere = '"yes"' }}
[[dhcp.class]]
name = "late"
test = 'option host-name = "nobody"'
options = {{ domain-name = "late" }}
on = [{{ event = "commit", execute = ["{script}", "late"] }}]
[[dhcp.on]]
event = "commit"
execute = ["{script}", "wider"]
[[dhcp.on]]
event = "expiry"
execute = ["{script}", "expiry", {{ expression = 'ip' }}, {{ expression = 'clientmac' }},
  {{ expression = 'everywhere' }}, {{ expression = 'binary-to-ascii(10, 8, ".", leased-address)' }}]
[[dhcp.subnet]]
subnet = "10.77.0.0/16"
pools = ["10.77.4.1-10.77.4.9"]
[[dhcp.subnet.switch]]
value = 'option vendor-class-identifier'
case = [{{ is = "late", add-class = "late" }}]
[[dhcp.subnet.on]]
event = "commit"
execute = ["{script}", "commit", {{ expression = 'ip' }}, {{ expression = 'clientmac' }},
  {{ expression = 'pick-first-value(option host-name, "no name")' }},
  {{ expression = 'concat("$(id) * ", option vendor-class-identifier)' }}, ""]
[dhcp.subnet.on.set]
ip = 'binary-to-ascii(10, 8, ".", leased-address)'
clientmac = 'binary-to-ascii(16, 8, ":", substring(hardware, 1, 6))'
[[dhcp.subnet.on]]
event = "commit"
execute = ["{script}", "null", {{ expression = 'option nis-domain' }}]
[[dhcp.subnet.on]]
event = "release"
execute = ["{script}", "release", {{ expression = 'ip' }}, {{ expression = 'clientmac' }}, "none"]
"""
_SCRIPT = """#!/bin/sh
{{ printf '%s' "${{1}}"; shift; for word in "$@"; do printf ' [%s]' "$word"; done; echo; }} >> {log}
ls /proc/self/fd > {log}.files
env > {log}.environment
"""


def chosen(offer):
    """What a REQUEST says of the OFFER that it takes."""
    return [(50, socket.inet_aton(offer.yiaddr)), (54, socket.inet_aton(SERVER))]


def start(server):
    server.start()
    if not wait_until(server.process.has_port_67, 10):
        raise AssertionError(server.process.output()[-2000:])


def kill(server):
    server.process.signal(signal.SIGKILL)
    server.process.stop()


def converse(relay, calls, seconds):
    """What two clients do: the calls that each step brings."""
    ask, steps = relay.ask, []

    def step(kind, mac, options=(), **fields):
        answer = ask(kind, mac, [(60, b"v"), *options], **fields)
        steps.append((kind, answer and answer.kind, answer and answer.options.get(15), calls()))
        return answer

    def lease(mac, wish, *options):
        # Where it asks for no address, each server takes another one.
        offer = step("DISCOVER", mac, [(50, socket.inet_aton(wish)), *options])
        return step("REQUEST", mac, [*chosen(offer), *options]).yiaddr

    name, asked = (12, b"first"), (55, bytes([15]))
    address = lease(_FIRST, "10.77.4.5", name, asked)
    step("REQUEST", _FIRST, [name], ciaddr=address)
    relay.send("RELEASE", _FIRST, [(54, socket.inet_aton(SERVER))], ciaddr=address)
    steps.append(("RELEASE", calls()))
    lease(_SECOND, "10.77.4.7", (51, (3).to_bytes(4, "big")))
    end = time.monotonic() + seconds
    expired = []
    while not expired and time.monotonic() < end:
        expired = [call for call in calls() if call.startswith("expiry")]
    steps.append(("expiry", expired))
    late = (60, b"late")
    offer = ask("DISCOVER", _FIRST, [late, asked])
    calls()
    ack = ask("REQUEST", _FIRST, [*chosen(offer), late, asked])
    steps.append(("late", ack.options.get(15), calls()))
    return steps


def main():
    suite = Suite("hooks")
    lab = Lab()
    relay = Relay(lab, tries=1, seconds=3)
    log = lab.path("calls")
    script = lab.write("script.sh", _SCRIPT.format(log=log), mode=0o755)
    text = _FILE.format(script=script)

    def calls():
        """The calls since the last time, when there have been none for a while."""
        text, before = "", None
        while text != before:
            time.sleep(0.25)
            text, before = _read(log), text
        open(log, "w").close()
        return text.splitlines()

    with suite.step("the same file under dhcpd and here"):
        servers = {"dhcpd": Dhcpd(lab, text),
                   "here": OfDhcpd(lab, text, "--interface", "eth0", "--no-import"),
                   "TOML": Server(lab, "", name="TOML")}
        servers["TOML"].configure(_TOML.format(script=script, state=servers["TOML"].state))
        sides = []
        for name, server in servers.items():
            open(log, "w").close()
            server.start()
            process = server.process
            suite.check(f"{name} serves", process.running() and process.has_port_67(),
                        process.output()[-2000:])
            # What stands outside of all blocks dhcpd runs once as it starts.
            calls()
            sides.append(converse(relay, calls, 15))
            if name == "here":
                output = process.output()
                suite.check("a program that cannot be started is told of",
                            "hook failed" in output and "/nonexistent/program" in output, output)
                open_files = _read(f"{log}.files").split()
                # 3 is the directory that ls reads.
                suite.equal("a program has no files of the server", open_files,
                            ["0", "1", "2", "3"])
                environment = {line.split("=")[0] for line in _read(f"{log}.environment").split()}
                suite.equal("nor its environment", environment - {"PWD", "SHLVL", "_", "OLDPWD"},
                            {"PATH"})
            server.stop()
        theirs, here, toml = sides
        for their, own, other in zip(theirs, here, toml, strict=True):
            suite.equal(f"after {their[0]}", own[1:], their[1:])
            suite.equal(f"the same of TOML after {their[0]}", other[1:], _in_blocks(their)[1:])
        suite.check("programs were run at all", any("commit" in str(each) for each in theirs),
                    theirs)

    with suite.step("a lease that ends while there is no server"):
        of_both = []
        for server in (Dhcpd(lab, text), OfDhcpd(lab, text, "--interface", "eth0", "--no-import")):
            start(server)
            wish = (50, socket.inet_aton("10.77.4.3"))
            offer = relay.ask("DISCOVER", _FIRST, [(60, b"v"), wish])
            ack = relay.ask("REQUEST", _FIRST, [*chosen(offer), (51, (3).to_bytes(4, "big"))])
            suite.equal("it is given", ack and ack.yiaddr, "10.77.4.3")
            calls()
            kill(server)
            time.sleep(4)
            runs = []
            for seconds in (10, 2):
                start(server)
                end = time.monotonic() + seconds
                expired = []
                while not expired and time.monotonic() < end:
                    expired = [call for call in calls() if call.startswith("expiry")]
                runs.append(expired)
                kill(server)
            of_both.append(runs)
        suite.equal("its programs run once, at the next start", of_both[1], of_both[0])
        suite.equal("as they would have", of_both[1], [[
            "expiry [10.77.4.3] [52:54:0:aa:0:1] [yes] [10.77.4.3]"], []])

    with suite.step("a program that hangs"):
        hangs = lab.write("hangs.sh", "#!/bin/sh\nexec sleep 20\n", mode=0o755)
        server = OfDhcpd(lab, _FILE.format(script=hangs), "--interface", "eth0").start()
        process = server.process
        suite.check("the server serves", process.running() and process.has_port_67(),
                    process.output()[-2000:])
        answers = [relay.ask("DISCOVER", f"52:54:00:bb:00:{number:02x}", [(60, b"v")])
                   for number in range(9)]
        suite.check("keeps nobody waiting", all(answers), answers)
        server.stop()
    lab.close()
    suite.finish()


def _in_blocks(step):
    """What a step brings of what stands in blocks."""
    *others, calls = step
    return (*others, [call for call in calls if not call.startswith("plain")])


def _read(path):
    try:
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return ""


if __name__ == "__main__":
    main()
