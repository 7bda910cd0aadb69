#!/usr/bin/env python3
"""This server answers as ISC dhcpd does, with the same dhcpd.conf.

Seeded files and clients (dhcpd_files.py, dhcpd_clients.py) go to the real dhcpd and to
`bootstorm serve --config`, each in a namespace of its own with the same interface and addresses.
Every field of the replies is compared, but for what docs/DIFFERENCES.md lists. A fresh address need
only lie in a range that dhcpd would have taken it from: where the ranges differ, the client asks
dhcpd for one of the range that this server chose. A returning client gets its former address from
both. And `rehearse`, which reads what dhcpd and the clients said, tells of nothing that does not
differ here.

    tests/e2e/test_dhcpd_differential.py [ROUNDS|FIRST-LAST [SEED]]

    BOOTSTORM_SHRINK=N   of each file that differs print a smaller one, for the Nth message that did
    BOOTSTORM_DHCPD=1    dhcpd against itself: what differs then is the test's fault
    BOOTSTORM_PCAP=DIR   keep each file and what dhcpd and the clients said, for `rehearse --pcap`:
                         DIR/SEED-ROUND/dhcpd.conf, .../capture.pcap; `here.pcap` is of this server
"""

import contextlib
import ipaddress
import json
import os
import re
import shutil
import sys
import tempfile
import time

import dhcpd_clients
import dhcpd_files
import dhcpd_known
import lab as laboratory
import server as own_server
import wire
from lab import Lab
from suite import Suite

TAKES_SECONDS = 50

ROUNDS = 11
CLIENTS = 20
_MAC = "52:54:00:00:77:01"
_GATEWAY = "52:54:00:00:77:02"
# Seconds, which go on while a server works.
_TIMES = (51, 58, 59)
_SERVERS = ("here", "dhcpd")


class Side:
    """One server in its namespace, and a packet socket at the other end of its cable."""

    def __init__(self, lab, client, number, name):
        self.lab, self.name = lab, name
        self.namespace = lab.namespace(f"side{number}")
        port = f"c{number}"
        sh = laboratory.sh
        sh(f"ip -n {client} link add {port} address {_GATEWAY} type veth peer name eth0 "
           f"address {_MAC} netns {self.namespace}")
        sh(f"ip -n {client} link set {port} up")
        # Without ARP all that the server sends comes out of the cable.
        sh(f"ip -n {self.namespace} link set eth0 arp off up")
        sh(f"ip -n {self.namespace} addr add {dhcpd_files.SERVER}/16 dev eth0")
        sh(f"ip -n {self.namespace} route add default dev eth0")
        sh(f"ip netns exec {self.namespace} sysctl -qw net.ipv4.conf.all.rp_filter=0 "
           "net.ipv4.conf.eth0.rp_filter=0")
        with laboratory.inside(client):
            self.raw = wire.Raw(port)
        self.process, self.directory = None, None

    def start(self, config):
        self.directory = tempfile.mkdtemp(prefix=f"{self.name}-", dir=self.lab.directory)
        leases = os.path.join(self.directory, "dhcpd.leases")
        if self.name.startswith("dhcpd"):
            open(leases, "w").close()
            arguments = ["dhcpd", "-4", "-d", "--no-pid", "-cf", config, "-lf", leases, "eth0"]
        else:
            # On one processor there is one shard, so that clients are served in their order.
            processor = str(os.getpid() % os.cpu_count())
            arguments = ["taskset", "-c", processor, own_server.BINARY, "serve", "--config", config,
                         "--state-dir", self.directory, "--interface", "eth0"]
        self.process = self.lab.start(self.namespace, arguments, self.name)
        if not laboratory.wait_until(self._serves, 10):
            output = self.process.output()[-1500:]
            self.stop()
            raise NotServed(f"{self.name} does not serve:\n{output}")

    def explains(self, config, mac):
        """The bytes of the last reply to a machine, as `explain` has them."""
        # Of a NAK its status tells as well.
        _, output = self.lab.run(self.namespace, [
            own_server.BINARY, "explain", "--config", config, "--state-dir", self.directory,
            "--last", "--mac", mac, "--json"])
        if not output.startswith("{"):
            return output
        return (json.loads(output).get("reply") or {}).get("bytes")

    def _serves(self):
        try:
            return self.process.running() and self.process.has_port_67()
        except OSError:
            return False

    def stop(self):
        self.process.signal(9)
        self.process.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
        for _ in self.raw.replies(0.01):
            pass


class NotServed(Exception):
    """A server refuses a file."""


class Broken(Exception):
    """dhcpd itself breaks on a file, with a signal or a failed assertion."""


class Sent:
    """One message of one client, and what came of it at each server."""

    def __init__(self, client, number, xid):
        self.client, self.number, self.step, self.xid = client, number, client.steps[number], xid
        self.before = [view.address for view in client.views]
        self.fresh = self.step == "other-id" or (
            self.before == ["0.0.0.0"] * 2 and self.step in ("discover", "bootp"))
        self.payloads, self.answers = [None, None], [None, None]
        self.is_unbilled = False  # dhcpd has no lease for it, because its classes have theirs

    def send(self, number, side, again=False):
        self.payloads[number], ends = self.client.message(
            self.step, self.client.views[number], self.xid, again)
        to = _MAC if ends.get("destination", "255.255.255.255") == dhcpd_files.SERVER else \
            "ff:ff:ff:ff:ff:ff"
        side.raw.send(self.payloads[number], self.client.mac, to=to, **ends)

    def addresses(self):
        """What the client was given by each, or None if one of them gave nothing."""
        if None in self.answers:
            return None
        return [answer.yiaddr for _, answer in self.answers]


def exchange(sides, batch, only=(0, 1)):
    """Sends a batch to both servers, or one of them once more, and takes their answers."""
    for sent in batch:
        for number in only:
            sent.send(number, sides[number], again=len(only) == 1)
    expected = {sent.xid: sent for sent in batch}
    waiting = [sent for sent in batch if sent.step not in dhcpd_clients.SILENT]
    end, quiet = time.monotonic() + 6, time.monotonic() + 0.5
    while time.monotonic() < min(end, quiet):
        for number in only:
            for datagram, answer in sides[number].raw.replies(0.03):
                sent = expected.get(answer.xid)
                if sent and sent.answers[number] is None:
                    sent.answers[number] = (datagram, answer)
                    quiet = time.monotonic() + 0.5
        if waiting and all(sent.answers[number] for sent in waiting for number in only):
            break
        # Where one has answered, the other may be late: the host is busy.
        if len(only) == 2 and any((sent.answers[0] is None) != (sent.answers[1] is None)
                                  for sent in waiting if sent.step != "select-other"):
            quiet = end
        else:
            quiet = min(quiet, time.monotonic() + 0.5)
    for sent in batch:
        for number in only:
            found = sent.answers[number]
            sent.client.views[number].learn(found and found[1])
            if sent.step == "decline":
                sent.client.views[number].address = "0.0.0.0"


def fields(found):
    """Everything of a reply that is compared, by name."""
    datagram, answer = found
    values = {name: getattr(answer, name) for name in (
        "kind", "op", "htype", "hlen", "hops", "secs", "flags", "ciaddr", "yiaddr", "siaddr",
        "giaddr", "chaddr", "sname", "file")}
    values |= {"to": (datagram.destination, datagram.sport, datagram.dport)}
    # Without ARP the kernel makes its own address the destination of all that it sends.
    if datagram.to not in (_MAC, "ff:ff:ff:ff:ff:ff"):
        values["to MAC"] = datagram.to
    values |= {f"option {code}": value for code, value in answer.options.items()}
    if answer.kind == "NAK":
        values.pop("option 56", None)  # 4: the text of a NAK
    return values


def differences(sent):
    """What differs between the two answers, as lines."""
    here, theirs = sent.answers
    if (here is None) != (theirs is None):
        silent, answered = ("here", "dhcpd") if here is None else ("dhcpd", "here")
        return [f"{answered} answers {(here or theirs)[1].kind}, and {silent} does not"]
    if here is None:
        return []
    mine, wanted = fields(here), fields(theirs)
    lines = []
    for name in sorted(mine.keys() | wanted.keys()):
        ours, other = mine.get(name), wanted.get(name)
        if name in (f"option {code}" for code in _TIMES) and ours and other:
            if abs(int.from_bytes(ours, "big") - int.from_bytes(other, "big")) <= 10:
                continue
        if ours != other:
            lines.append(f"{name}: here {shown(ours)}, dhcpd {shown(other)}")
    own = sent.addresses()
    if own[0] != own[1] and not sent.fresh and own != sent.before:
        return lines
    # The address may be another one, and so may be what is made of it.
    texts = {text for address in [*own, *sent.before] if address != "0.0.0.0"
             for text in (address, ipaddress.ip_address(address).packed.hex())}
    if len(set(own)) + len(set(sent.before)) > 2:
        lines = [line for line in lines if not any(text in line for text in texts)]
    return lines


def timeless(payload):
    """A payload in hexadecimal without its lease time, which goes on."""
    return re.sub("3304.{8}", "3304", payload, count=1)


def shown(value):
    if isinstance(value, bytes):
        return f"{value.hex()} {value!r}"
    return "nothing" if value is None else str(value)


def text_in(text, path):
    """A file's text as it stands at a path, beside what it includes."""
    return text.replace("@DIRECTORY@", os.path.dirname(path))


class Round:
    """One file, its clients, and what differed."""

    def __init__(self, nodes, clients):
        self.nodes, self.clients, self.found = nodes, clients, []
        self.answered = 0
        self.limits = dhcpd_known.Limits(nodes)
        self.last = {}  # by client its last message
        self.differed = set()  # clients, each with a field
        self.explained = ""
        self.xid = 1
        self.text = dhcpd_files.render(nodes)
        ranges = re.findall(r"range (?:dynamic-bootp )?([0-9.]+) ([0-9.]+);", self.text)
        self.ranges = [tuple(map(ipaddress.ip_address, ends)) for ends in ranges]

    def run(self, sides, config):
        """Lives all lives; `found` has (client, step, lines) for each message that differed."""
        with open(config, "w") as out:
            out.write(text_in(self.text, config))
        try:
            for side in sides:
                side.start(config)
            for step in range(max(len(client.steps) for client in self.clients)):
                self.step(sides, [client for client in self.clients if len(client.steps) > step],
                          step)
            if not sides[0].process.running():
                raise NotServed(f"the server ended:\n{sides[0].process.output()[-1500:]}")
            if not os.environ.get("BOOTSTORM_DHCPD"):
                self.explained = self.explain(sides[0], config)
            if not sides[1].process.running():
                raise Broken(sides[1].process.output()[-300:])
        finally:
            for side in sides:
                if side.process and side.process.running():
                    side.stop()
        return self

    def note(self, sent, lines):
        """Keeps what differs, by the names that `rehearse` has for it."""
        names = {"yiaddr": "address", "kind": "answer"}
        for line in lines:
            field = "answer" if line.endswith("does not") else line.split(":")[0]
            self.differed.add((sent.client.mac, names.get(field, field)))

    def rehearse(self, side, config, capture):
        """What `rehearse` tells and did not differ."""
        _, output = side.lab.run(side.namespace, [
            own_server.BINARY, "rehearse", "--config", config, "--pcap", capture, "--json"])
        told = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        if not told or "summary" not in told[-1]:
            return output
        return "\n".join(
            f"{each['differing']['mac']} {each['differing']['message']}: {difference}"
            for each in told[:-1] for difference in each["differing"]["differences"]
            if (each["differing"]["mac"], " ".join(difference["what"].split()[:2]))
            not in self.differed)

    def explain(self, side, config):
        """What `explain` says otherwise than was sent, of one client."""
        told = [sent for sent in self.last.values() if sent.answers[0]]
        if not told:
            return ""
        sent = told[-1]
        wanted, said = sent.answers[0][0].payload.hex(), side.explains(config, sent.client.mac)
        same = said and timeless(said) == timeless(wanted)
        return "" if same else f"{sent.client.mac} {sent.step}:\n{said}\n{wanted}"

    def batch(self, clients, step):
        batch = []
        for client in clients:
            if client.steps[step] in dhcpd_clients.NEED_ADDRESS and not client.has_address():
                continue
            self.xid += 1
            batch.append(Sent(client, step, 0x77000000 + self.xid))
        return batch

    def range_of(self, address):
        found = (ends for ends in self.ranges if ends[0] <= ipaddress.ip_address(address) <= ends[1])
        return next(found, None)

    def step(self, sides, clients, number):
        batch = self.batch(clients, number)
        said = len(sides[1].process.output())
        exchange(sides, batch)
        other = []
        for sent in batch:
            ranges = sent.fresh and sent.addresses() and [*map(self.range_of, sent.addresses())]
            if ranges and ranges[0] and ranges[0] != ranges[1] and sent.step != "bootp":
                # dhcpd gives an address of that range, if the client may have one there.
                # Not the one that it has declined, or has by its other name.
                had = sent.step == "other-id" or "decline" in sent.client.steps[:number]
                sent.client.wish = str(ranges[0][1] - sent.client.number - CLIENTS * had)
                sent.answers[1] = None
                other.append(sent)
        if other:
            exchange(sides, other, only=(1,))
        self.last |= {sent.client.mac: sent for sent in batch}
        self.limits.learn_first(batch)
        said = sides[1].process.output()[said:]
        for sent in batch:
            denied = re.search(f" from {sent.client.mac} .*: no available billing", said)
            sent.is_unbilled = denied is not None
        for sent in batch:
            self.answered += sent.answers[1] is not None
            ranges = sent.addresses() and [*map(self.range_of, sent.addresses())]
            if ranges and ranges[0] != ranges[1]:
                if sent.step == "bootp" and all(ranges):
                    self.note(sent, differences(sent))
                    self.limits.learn(sent)
                    continue  # which has no way to ask for an address
                sent.fresh = False
            differing = differences(sent)
            self.note(sent, differing)
            lines = [line for line in differing
                     if not dhcpd_known.is_known(sent, line, self.text, self.limits)]
            self.limits.learn(sent)
            if lines:
                self.found.append((sent, lines))
            if lines or any(line.endswith("does not") for line in differing):
                # What follows would differ as well.
                sent.client.steps = sent.client.steps[:number + 1]


def clients_of(file, seed, count):
    """Clients of a file, no two of which have one hardware address."""
    chosen = []
    for number in range(count):
        taken = {client.mac for client in chosen}
        chosen.append(dhcpd_clients.Client(number, file, seed, taken))
    return chosen


def refused(lab, config):
    """What dhcpd says against a file, or None."""
    status, output = lab.run(lab.sw, ["dhcpd", "-4", "-t", "-cf", config])
    return output if status else None


def shrink(lab, sides, nodes, client, lines, seconds=120):
    """The smallest file in which the same fields of this client's messages differ."""
    wanted = {line.split(":")[0] for line in lines}
    end = time.monotonic() + seconds
    changed = True
    config = lab.path("smaller.conf")

    def differs(nodes):
        with open(config, "w") as out:
            out.write(text_in(dhcpd_files.render(nodes), config))
        if refused(lab, config):
            return False
        alone = client()
        try:
            found = Round(nodes, [alone]).run(sides, config).found
        except (NotServed, Broken):
            return False
        return any(wanted & {line.split(":")[0] for line in lines} for _, lines in found)

    if not differs(nodes):
        return None
    while changed and time.monotonic() < end:
        changed = False
        for fewer in dhcpd_files.smaller(nodes):
            if time.monotonic() > end:
                break
            if differs(fewer):
                nodes, changed = fewer, True
                break
    return nodes


@contextlib.contextmanager
def captured(lab, sides, name, texts):
    """Keeps the frames of both servers, and the files, for longer where BOOTSTORM_PCAP says so."""
    directory = os.path.join(os.environ.get("BOOTSTORM_PCAP", lab.path("captured")), name)
    os.makedirs(directory, exist_ok=True)
    for file, text in texts.items():
        with open(os.path.join(directory, file), "w") as out:
            out.write(text_in(text, os.path.join(os.path.abspath(directory), file)))
    for side, file in zip(sides, ("here.pcap", "capture.pcap")):
        side.raw.capture = wire.Capture(os.path.join(directory, file))
    try:
        yield directory
    finally:
        for side in sides:
            side.raw.capture.close()
            side.raw.capture = None


def one_round(suite, lab, sides, number, seed):
    """One file and its clients; the number of answers that dhcpd gave."""
    included = "\n".join(dhcpd_files.DEFINITIONS)
    for attempt in range(9):
        file = dhcpd_files.File(f"{seed} {number} {attempt}")
        config = lab.path("dhcpd.conf")
        lab.write("dhcpd.conf", text_in(file.text(), config))
        lab.write(dhcpd_files.INCLUDED, included)
        why = refused(lab, config)
        # dhcpd itself breaks on some expressions at the top level, and names no line then.
        if not why or " line " in why:
            break
    if why:
        suite.check(f"round {number}: dhcpd takes the file", False, why + file.text())
        return 0
    clients = clients_of(file, f"{seed} {number}", CLIENTS)
    try:
        with captured(lab, sides, f"{seed}-{number}",
                      {"dhcpd.conf": file.text(), dhcpd_files.INCLUDED: included}) as kept:
            result = Round(file.nodes, clients).run(sides, config)
    except Broken as error:
        suite.say(f"   no answers to compare: dhcpd breaks: {error}")
        return 0
    except NotServed as error:
        suite.check(f"round {number}: it is served", False, str(error))
        return 0
    text = "".join(f"client {sent.client.mac} {sent.client.relay or ''} {sent.step}"
                   f" ({' '.join(sent.client.steps)}):\n   " + "\n   ".join(lines) +
                   f"\n   {sent.payloads[0].hex()}\n" for sent, lines in result.found)
    if not suite.check(f"round {number}: {result.answered} answers to {len(clients)} clients",
                       not result.found, text) and os.environ.get("BOOTSTORM_SHRINK"):
        sent, lines = result.found[int(os.environ["BOOTSTORM_SHRINK"]) - 1]
        again = lambda: clients_of(file, f"{seed} {number}", CLIENTS)[sent.client.number]
        small = shrink(lab, sides, file.nodes, again, lines)
        suite.say(dhcpd_files.render(small) if small else "(alone the client shows nothing)")
    if not os.environ.get("BOOTSTORM_DHCPD"):
        told = result.rehearse(sides[0], os.path.join(kept, "dhcpd.conf"),
                               os.path.join(kept, "capture.pcap"))
        suite.check(f"round {number}: rehearse tells of nothing else", not told, told)
    if result.explained:
        suite.check(f"round {number}: explain says what was sent", False, result.explained)
    return result.answered


def main():
    first, _, last = (sys.argv[1] if len(sys.argv) > 1 else str(ROUNDS)).rpartition("-")
    rounds = range(int(first or 0), int(last))
    seed = sys.argv[2] if len(sys.argv) > 2 else "1"
    suite = Suite("dhcpd differential")
    lab = Lab(bridges=0)
    client = lab.namespace("client")
    first = "dhcpd-too" if os.environ.get("BOOTSTORM_DHCPD") else "here"
    sides = [Side(lab, client, number, name) for number, name in enumerate([first, "dhcpd"])]
    answered = 0
    for number in rounds:
        with suite.step(f"round {number}"):
            answered += one_round(suite, lab, sides, number, seed)
    texts = [dhcpd_files.File(f"1 {number} 0").text() for number in range(300)]
    suite.equal("statements that are served and that no file has", dhcpd_files.unused(texts), [])
    suite.check(f"{answered} answers are compared", answered > 5 * len(rounds))
    lab.close()
    suite.finish()


if __name__ == "__main__":
    main()
