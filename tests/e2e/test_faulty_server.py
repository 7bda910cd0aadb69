#!/usr/bin/env python3
"""The faulty server itself: without a fault it serves clients of other projects; with one, the
fault can be observed. Otherwise a validator that sees nothing would pass its tests."""

import http.client
import os
import random
import socket

import lab as laboratory
import storm
import wire
from clients import Dhclient, Udhcpc
from lab import Lab
from faulty_server import FAULTS
from load import Load
from storm import RELAY, SERVER, FaultyServer
from suite import Suite
from test_tftp_clients import digest, getters

TAKES_SECONDS = 19

RELAYED = (82, b"\x01\x05rack1")  # circuit id
BOOT = (60, b"PXEClient:Arch:00000:UNDI:002001")
FETCHERS = ("tftp-hpa", "atftp", "atftp, blksize 1468, windowsize 64", "curl, no options",
            "curl, blksize 1428", "busybox")


class Machines:
    """Machines behind one relay agent, one after the other: each question, its one answer."""

    def __init__(self, namespace):
        with laboratory.inside(namespace):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.bind((RELAY, 67))
        self._next = 0

    def send(self, kind, mac, xid, *options):
        payload = wire.message(kind, mac, xid, [*options, BOOT, RELAYED], giaddr=RELAY, hops=1)
        self._socket.sendto(payload, (SERVER, 67))

    def receive(self, seconds=5):
        """The next answer; None when there is none in time, False when it is no message."""
        self._socket.settimeout(seconds)
        try:
            return wire.Message(self._socket.recv(4096))
        except (BlockingIOError, TimeoutError):
            return None
        except ValueError:
            return False

    def begin(self):
        """A new machine's first question: its hardware address and transaction id."""
        self._next += 1
        mac, xid = f"02:b0:00:00:00:{self._next:02x}", 0xabc000 + self._next
        self.send("DISCOVER", mac, xid)
        return mac, xid

    def boot(self, seconds=5):
        """A new machine: (hardware address, transaction id, OFFER, ACK)."""
        mac, xid = self.begin()
        offer = self.receive(seconds)
        return mac, xid, offer, offer and self.request(mac, xid, offer)

    def request(self, mac, xid, offer):
        self.send("REQUEST", mac, xid, (50, socket.inet_aton(offer.yiaddr)),
                  (54, offer.options[54]))
        return self.receive()

    def close(self):
        self._socket.close()


def fetch(namespace, name, options=()):
    """A file by TFTP in windows of four, as fast as it comes: (bytes, announced size)."""
    asked = {"blksize": 1400, "windowsize": 4, "tsize": 0, **dict(options)}
    with laboratory.inside(namespace):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(5)
    words = b"".join(b"%s\0%d\0" % (key.encode(), value) for key, value in asked.items())
    sock.sendto(b"\0\1%s\0octet\0" % name.encode() + words, (SERVER, 69))
    packet, peer = sock.recvfrom(65536)
    fields = packet[2:].decode().split("\0")
    agreed = dict(zip(fields[::2], map(int, fields[1::2])))
    sock.sendto(b"\0\4\0\0", peer)
    data, number, size = b"", 0, agreed["blksize"]
    while True:
        packet = sock.recv(65536)
        if packet[:4] != b"\0\3" + ((number + 1) & 0xffff).to_bytes(2, "big"):
            raise RuntimeError(f"{packet[:4]} after block {number}")
        data, number = data + packet[4:], number + 1
        last = len(packet) < 4 + size
        if last or number % agreed["windowsize"] == 0:
            sock.sendto(b"\0\4" + packet[2:4], peer)
        if last:
            sock.close()
            return data, agreed["tsize"]


def repeats(namespace):
    """The blocks that come to a client that forgets one ACK and sends another one twice."""
    with laboratory.inside(namespace):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(5)
    sock.sendto(b"\0\1image\0octet\0", (SERVER, 69))
    blocks = []
    for acks in ((), (1,), (2, 2), ()):
        packet, peer = sock.recvfrom(1024)
        blocks.append(packet[3])
        for number in acks:
            sock.sendto(b"\0\4\0" + bytes([number]), peer)
    # Were the second ACK of block 2 answered, block 3 would be here again at once.
    sock.settimeout(0.2)
    try:
        blocks.append(sock.recv(1024)[3])
    except TimeoutError:
        pass
    sock.sendto(b"\0\5\0\0over\0", peer)
    sock.close()
    return blocks == [1, 1, 2, 3]


# Correct.


def serves_clients(suite, lab):
    """Without a relay agent: broadcasts, renewals by unicast, coming back, release."""
    server = FaultyServer(lab, network="10.77", pool="{}.4.0-{}.4.250", options=("--lease", "8"))
    suite.explain_with(server.log)
    sniffer = lab.sniff()
    pair = Dhclient(lab), Udhcpc(lab)
    for client in pair:
        client.start()
    for client in pair:
        event = client.wait(("bound",))
        if not suite.check(f"{client.name} gets a lease", event, client.process.output()):
            continue
        told = (event.get("new_subnet_mask", "subnet"), event.get("new_routers", "router"),
                event.get("new_dhcp_lease_time", "lease"))
        suite.equal(f"{client.name} is told mask, router and time", told,
                    ("255.255.0.0", SERVER, "8"))
        if client.name == "udhcpc":
            client.renew()
        suite.check(f"{client.name} renews by unicast", client.wait(("renew",)) and any(
            datagram.destination != "255.255.255.255" and ack.ciaddr == event.address
            for datagram, ack in sniffer.dhcp("ACK", client.mac)))
        client.crash()
        mark = client.mark()
        client.start()
        again = client.wait(("bound",), since=mark)
        suite.equal(f"{client.name} comes back to its address", again and again.address,
                    event.address)
        client.release()
    suite.check("replies are padded for old relay agents",
                all(ack.length >= 300 for _, ack in sniffer.dhcp("ACK")))
    suite.equal("no two clients have one address",
                len({m.yiaddr for _, m in sniffer.dhcp("ACK")}), len(pair))
    suite.equal("SIGTERM, exit status", server.stop(), 0)


def serves_files(suite, lab, namespace):
    numbers = random.Random(69)
    files = {"one": b"x", "exact": numbers.randbytes(4 * 512), "image": numbers.randbytes(1_000_000),
             "deep/file": numbers.randbytes(10_000), "empty": b""}
    for name, data in files.items():
        lab.write(f"tftp/{name}", data)
    server = FaultyServer(lab, options=("--server-only", "tftp"))
    for getter in getters():
        if getter.name not in FETCHERS:
            continue
        for name in files:
            if name == "empty" and getter.name.startswith("curl"):
                continue  # curl makes no file of no bytes
            status, output, data = getter.get(lab, namespace, name)
            suite.check(f"{getter.name} gets {name}, {len(files[name])} bytes",
                        status == 0 and digest(data) == digest(files[name]),
                        f"exit {status}: {output}")
    status, output = lab.run(namespace, ["atftp", "--option", "windowsize 16", "--get", "-r",
                                         "image",
                                    "-l", lab.path("window"), SERVER])
    with open(lab.path("window"), "rb") as got:
        suite.equal("atftp in windows of 16", digest(got.read()), digest(files["image"]))
    data, size = fetch(namespace, "image", {"blksize": 9, "windowsize": 64})
    suite.check("the block number wraps, in windows of 64", data == files["image"] and
                size == len(data))
    suite.check("what is not acknowledged is sent again, what is acknowledged twice is not",
                repeats(namespace))
    lab.write("secret", b"this is outside the root")
    for name in ("nowhere", "../secret", "deep"):
        status, output, data = getters()[0].get(lab, namespace, name)
        suite.check(f"{name}: ERROR 1", "Error code 1" in output, output)
    suite.equal("SIGTERM, exit status", server.stop(), 0)
    for name in files:
        os.unlink(lab.path(f"tftp/{name}"))


def serves_relayed(suite, namespace):
    """Hundreds of machines at once, and one of them in detail."""
    machines = Machines(namespace)
    mac, xid, offer, ack = machines.boot()
    for what, answer in (("OFFER", offer), ("ACK", ack)):
        suite.equal(f"{what}: all as it should be", problems(mac, xid, answer), [])
    suite.equal("PXE clients are told a file, and to take it without a boot server",
                (ack.file, ack.siaddr, ack.options[60], ack.options[43]),
                (b"loader.img", SERVER, b"PXEClient", b"\x06\x01\x08\xff"))
    suite.equal("asked again it gives the same", machines.request(mac, xid, offer).yiaddr,
                ack.yiaddr)
    machines.send("REQUEST", mac, xid, (50, socket.inet_aton("10.9.9.9")))
    suite.equal("an address of elsewhere: NAK", machines.receive().kind, "NAK")
    machines.send("DECLINE", mac, xid, (50, socket.inet_aton(ack.yiaddr)), (54, ack.options[54]))
    machines.send("DISCOVER", mac, xid)
    suite.check("a declined address is not given again",
                machines.receive().yiaddr != ack.yiaddr)
    machines.close()
    load = Load(namespace, RELAY, SERVER, in_flight=300)
    load.start()
    laboratory.wait_until(lambda: load.acks > 600, 10)
    load.settle().close()
    suite.check("300 at once are all served", load.acks > 600, load.acks)
    suite.equal("addresses given twice", load.ledger.given_twice[:5], [])


def problems(mac, xid, answer):
    """What is wrong with an answer in itself."""
    lease, t1, t2 = (answer.seconds(code) for code in (51, 58, 59))
    found = {
        "xid": answer.xid != xid, "chaddr": answer.chaddr != mac,
        "giaddr": answer.giaddr != RELAY, "relay-option": answer.options.get(82) != RELAYED[1],
        "subnet": not answer.yiaddr.startswith("10.100."),
        "reserved": answer.yiaddr in ("10.100.0.0", "10.100.255.255"), "lease-zero": not lease,
        "t1-after-t2": not t1 <= t2 <= lease, "server-id": answer.address(54) != SERVER,
        "wrong-file": answer.file != b"loader.img",
        "mask": answer.options[1] != bytes([255, 255, 0, 0]),
        "router": answer.address(3) != RELAY, "next-server": answer.siaddr != SERVER,
        "option-43": answer.options[43] != b"\x06\x01\x08\xff"}
    return [what for what, wrong in found.items() if wrong]


# Each function returns whether the fault was observed by a few machines.


def in_answers(machines, fault, server, namespace):
    """A fault that is visible in a single answer, and no other fault with it."""
    seen = []
    for _ in range(8):
        mac, xid, offer, ack = machines.boot()
        seen += [what for answer in (offer, ack) for what in problems(mac, xid, answer)]
    rare = FAULTS[fault][0] > 1
    return set(seen) == {fault} and (not rare or len(seen) < 8)


def duplicate(machines, fault, server, namespace):
    acks = [machines.boot()[3] for _ in range(10)]
    together = len(acks) - len({ack.yiaddr for ack in acks})
    # The same of machines that are powered on together, when nobody holds anything yet.
    begun = {xid: mac for mac, xid in (machines.begin() for _ in range(20))}
    offers = [machines.receive() for _ in begun]
    acks = [machines.request(begun[offer.xid], offer.xid, offer) for offer in offers]
    return together == 1 and len({ack.yiaddr for ack in acks}) < len(acks)


def flip(machines, fault, server, namespace):
    true = storm_files["kernel.img"]
    copies = [fetch(namespace, "kernel.img")[0] for _ in range(10)]
    apart = [sum(a != b for a, b in zip(copy, true)) for copy in copies]
    return sorted(apart) == [0] * 8 + [1, 1] and {len(copy) for copy in copies} == {len(true)}


def short_file(machines, fault, server, namespace):
    true = storm_files["kernel.img"]
    copies = [fetch(namespace, "kernel.img") for _ in range(10)]
    short = [(data, size) for data, size in copies if data != true]
    return len(short) == 2 and all(
        true.startswith(data) and size == len(data) < len(true) for data, size in short)


def late(machines, fault, server, namespace):
    """Late, yet not asleep: a transfer that is asked for afterwards is over before."""
    begun = [machines.begin() for _ in range(3)]
    data, _ = fetch(namespace, "kernel.img")
    early = machines.receive(seconds=0)
    offers = [machines.receive() for _ in begun]
    return (data == storm_files["kernel.img"] and early is None
            and [offer.xid for offer in offers] == [xid for _, xid in begun])


def ack_other(machines, fault, server, namespace):
    boots = [machines.boot()[2:] for _ in range(10)]
    return (sum(offer.yiaddr != ack.yiaddr for offer, ack in boots) == 2
            and len({ack.yiaddr for _, ack in boots}) == 10)


def declined(machines, fault, server, namespace):
    mac, xid, _, ack = machines.boot()
    machines.send("DECLINE", mac, xid, (50, socket.inet_aton(ack.yiaddr)), (54, ack.options[54]))
    machines.send("DISCOVER", mac, xid)
    return machines.receive().yiaddr == ack.yiaddr


def malformed(machines, fault, server, namespace):
    answers = []
    for _ in range(10):
        machines.begin()
        answers.append(machines.receive())
    return answers.count(False) == 2


def silent(machines, fault, server, namespace):
    with laboratory.inside(namespace):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.sendto(b"\0\1kernel.img\0octet\0", (SERVER, 69))
    answer = machines.boot(seconds=0.5)[2]
    sock.setblocking(False)
    try:
        sock.recv(100)
        return False
    except BlockingIOError:
        return answer is None
    finally:
        sock.close()


def offer_moves(machines, fault, server, namespace):
    moved = []
    for _ in range(5):
        mac, xid = machines.begin()
        first = machines.receive()
        machines.send("DISCOVER", mac, xid)
        moved.append(machines.receive().yiaddr != first.yiaddr)
    return moved.count(True) == 1


def ack_twice(machines, fault, server, namespace):
    acks = [machines.boot()[3] for _ in range(5)]
    return machines.receive(1).yiaddr != acks[-1].yiaddr


def late_lease(machines, fault, server, namespace):
    # Two answers each: the fifth is an OFFER.
    leases = [machines.boot()[2].seconds(51) for _ in range(3)]
    return all(leases) and machines.receive(2).seconds(51) == 0


def stages(machines, fault, server, namespace):
    mac, xid, _, ack = machines.boot()
    machines.send("DISCOVER", mac, xid + 1, (61, b"\xffother"))
    return machines.receive().yiaddr != ack.yiaddr


def nak(machines, fault, server, namespace):
    return [machines.boot()[3].kind for _ in range(10)].count("NAK") == 2


def nak_held(machines, fault, server, namespace):
    mac, xid, _, ack = machines.boot()
    machines.send("REQUEST", mac, xid + 1, (50, socket.inet_aton(ack.yiaddr)))
    return ack.kind == "ACK" and machines.receive().kind == "NAK"


def nak_malformed(machines, fault, server, namespace):
    machines.send("REQUEST", "02:b0:00:00:00:77", 7, (50, socket.inet_aton("10.100.1.7")))
    answer = machines.receive()
    return answer.kind == "NAK" and bool(answer.seconds(51)) and answer.siaddr == "0.0.0.0"


def lease_differs(machines, fault, server, namespace):
    boots = [machines.boot()[2:] for _ in range(10)]
    return sum(offer.seconds(51) != ack.seconds(51) for offer, ack in boots) == 2


def delivery(machines, fault, server, namespace):
    """Where OFFERs to clients without a relay agent go, one of five otherwise."""
    with laboratory.inside(namespace):
        raw = wire.Raw("eth0")
    ways = []
    for number in range(5):
        mac = f"02:b0:00:00:01:{number:02x}"
        raw.send(wire.message("DISCOVER", mac, number + 1, broadcast=fault == "unicast"), mac)
        datagram, offer = next(raw.replies(3))
        ways.append((datagram.destination == "255.255.255.255",
                     (datagram.destination, datagram.to) == (offer.yiaddr, mac)))
    raw.close()
    broadcast, unicast = (True, False), (False, True)
    usual, odd = (unicast, broadcast) if fault == "broadcast" else (broadcast, unicast)
    return ways.count(usual) == 4 and ways.count(odd) == 1


def inform_lease(machines, fault, server, namespace):
    address = "10.100.3.3"
    laboratory.sh(f"ip -n {namespace} addr add {address}/32 dev eth0")
    with laboratory.inside(namespace):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, 68))
    sock.settimeout(3)
    sock.sendto(wire.message("INFORM", "02:b0:00:00:02:02", 9, ciaddr=address), (SERVER, 67))
    answer = wire.Message(sock.recv(4096))
    sock.close()
    laboratory.sh(f"ip -n {namespace} addr del {address}/32 dev eth0")
    return answer.kind == "ACK" and bool(answer.seconds(51))


def double_blocks(machines, fault, server, namespace):
    """A lockstep client that counts how often the first block comes."""
    counts = []
    for _ in range(5):
        with laboratory.inside(namespace):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(5)
        sock.sendto(b"\0\1kernel.img\0octet\0", (SERVER, 69))
        packet, peer = sock.recvfrom(1024)
        sock.settimeout(0.2)
        try:
            counts.append(1 + (sock.recv(1024)[:4] == packet[:4]))
        except TimeoutError:
            counts.append(1)
        sock.sendto(b"\0\5\0\0over\0", peer)
        sock.close()
    return counts == [1, 1, 1, 1, 2]


def one_blksize(machines, fault, server, namespace):
    true = storm_files["kernel.img"]
    spoilt = fetch(namespace, "kernel.img", {"blksize": 1456})[0]
    return fetch(namespace, "kernel.img")[0] == true and len(spoilt) == len(true) and sum(
        a != b for a, b in zip(spoilt, true)) == 1


def web(machines, fault, server, namespace):
    true, answers = storm_files["kernel.img"], []
    for _ in range(5):
        connection = http.client.HTTPConnection(SERVER, int(storm.WEB_PORT), timeout=5)
        with laboratory.inside(namespace):
            connection.connect()
        connection.request("GET", "/kernel.img")
        answer = connection.getresponse()
        answers.append((answer.status, answer.read()))
        connection.close()
    status, body = answers.pop()
    odd = {"http-flip": status == 200 and body != true and len(body) == len(true),
           "http-short": status == 200 and body != true and true.startswith(body),
           "http-partial": status == 206 and body == true}
    return answers == [(200, true)] * 4 and odd[fault]


SEEN = {"offer-moves": offer_moves, "ack-twice": ack_twice, "late-lease": late_lease,
        "stages": stages, "nak": nak, "nak-held": nak_held, "nak-malformed": nak_malformed,
        "lease-differs": lease_differs, "broadcast": delivery, "unicast": delivery,
        "inform-lease": inform_lease, "double-blocks": double_blocks,
        "one-blksize": one_blksize, "http-flip": web, "http-short": web, "http-partial": web,
        "duplicate": duplicate, "flip": flip, "short-file": short_file, "late": late,
        "ack-other": ack_other, "declined": declined, "malformed": malformed, "silent": silent}
storm_files = {}


def faults(suite, lab, namespace):
    for fault in FAULTS:
        with suite.step(f"fault: {fault}"):
            network = "10.77" if SEEN.get(fault) is delivery else "10.100"
            options = ("--authoritative",) if fault == "nak-malformed" else ()
            server = FaultyServer(lab, fault, network, options=options)
            machines = Machines(namespace)
            held = SEEN.get(fault, in_answers)(machines, fault, server, namespace)
            machines.close()
            suite.equal("exit status", server.stop(), 0)
            suite.check(FAULTS[fault][1], held, server.log())
            suite.check("and counts it", server.injected, server.log())


def main():
    suite = Suite("Faulty server")
    lab = Lab()
    os.chmod(lab.directory, 0o755)
    storm_files.update(storm.files(lab))
    with suite.step("correct, to clients on its own network"):
        serves_clients(suite, lab)
    namespace = storm.namespace(lab)
    laboratory.sh(f"ip -n {namespace} addr add {RELAY}/32 dev eth0")
    with suite.step("correct, to TFTP clients"):
        serves_files(suite, lab, namespace)
    with suite.step("correct, to machines behind a relay agent"):
        server = FaultyServer(lab)
        serves_relayed(suite, namespace)
        suite.equal("SIGTERM, exit status", server.stop(), 0)
        suite.equal("faults that it injected", server.injected, 0)
    faults(suite, lab, namespace)
    suite.finish()


if __name__ == "__main__":
    main()
