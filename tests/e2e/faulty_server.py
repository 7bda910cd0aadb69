#!/usr/bin/env python3
"""A small DHCPv4 and TFTP server with one fault on demand, to test the generator's checks with.

    faulty_server.py --listen 10.77.0.1 --subnet 10.100.0.0/16 --pool 10.100.1.0-10.100.9.255 \\
            --root DIR [--boot-file loader.img] [--fault duplicate]

It has one fault and is correct in all else, so any other violation that a report names is the
generator's mistake. Injected faults are logged to standard error, the first ones in words, and
counted at the end.
"""

import argparse
import collections
import contextlib
import heapq
import http.server
import ipaddress
import itertools
import os
import random
import resource
import selectors
import signal
import socket
import struct
import sys
import threading
import time

import wire
from faulty_transfer import Transfer, agreed

# A fault is injected at every n-th opportunity, because rare faults must be found as well.
FAULTS = {
    "duplicate": (7, "gives a new client an address that another one holds"),
    "flip": (5, "one byte of one block of a transfer is another"),
    "late": (1, "answers DHCP after a second and a half"),
    "server-id": (1, "another server identifier in each reply"),
    "relay-option": (3, "does not send option 82 back"),
    "xid": (5, "a reply with the transaction id of nobody"),
    "chaddr": (5, "a reply with the hardware address of nobody"),
    "giaddr": (5, "a reply that names another relay agent"),
    "subnet": (5, "gives a new client an address of another network"),
    "reserved": (5, "gives a new client its network's first or last address"),
    "lease-zero": (5, "a lease of no time"),
    "t1-after-t2": (5, "times of renewal in the wrong order"),
    "wrong-file": (5, "names another boot file"),
    "short-file": (5, "a transfer ends early and looks complete"),
    "ack-other": (5, "acknowledges another address than the one asked for"),
    "declined": (1, "gives an address again that was declined"),
    "malformed": (5, "a reply that breaks off before its options"),
    "silent": (1, "answers nobody"),
    "offer-moves": (5, "answers a repeated DISCOVER with another address"),
    "ack-twice": (5, "acknowledges twice, the second time another address"),
    "late-lease": (5, "an answer comes once more, late, with a lease of no time"),
    "stages": (1, "gives another address to whoever comes with another client identifier"),
    "nak": (5, "refuses an address that it has just offered"),
    "nak-held": (1, "refuses an address to the machine that holds it"),
    "nak-malformed": (1, "a NAK that gives a lease time"),
    "mask": (5, "another subnet mask"),
    "router": (5, "another router"),
    "next-server": (5, "another server of boot files"),
    "option-43": (5, "another option 43"),
    "lease-differs": (5, "an ACK with another lease time than the OFFER"),
    "broadcast": (5, "a broadcast to a client that takes unicast"),
    "unicast": (5, "unicast to a client that asked for a broadcast"),
    "inform-lease": (1, "a lease in the answer to an INFORM"),
    "double-blocks": (5, "sends every block of a transfer twice"),
    "one-blksize": (1, "one byte is another in blocks of one length"),
    "http-flip": (5, "one byte of a body is another"),
    "http-short": (5, "a body ends early and looks complete"),
    "http-partial": (5, "status 206 to a client that asked for the whole"),
}
_SPOILT_BLKSIZE = 1456  # that of the network ROMs of BIOS machines
_AGAIN = 0.3  # seconds until an answer comes once more
_LATE = 1.5  # seconds
_OFFERED = 60  # an offer that nobody takes is kept for so many seconds
_PADDED = 300  # the smallest BOOTP message that every relay agent passes on
_TRIES = 6
_LOGGED = 20  # so many injected faults are logged in words
_IP_PKTINFO, _SO_RCVBUFFORCE = 8, 33


class Binding:
    """The address of a client: offered, and held once it was acknowledged."""

    def __init__(self, address):
        self.address, self.held, self.until = address, False, 0.0
        self.identity = self.xid = None  # of the last DISCOVER


class Leases:
    """Addresses by hardware address. What was declined is never given again."""

    def __init__(self, pool):
        self.free = collections.deque(pool)
        self.bindings = {}
        self._swept = 0.0

    def take(self, now):
        """A free address, or None."""
        if not self.free and now - self._swept > 1:
            self._swept = now  # not for each of the hundreds that find nothing
            for mac, binding in list(self.bindings.items()):
                if binding.until <= now:
                    self.forget(mac)
        return self.free.popleft() if self.free else None

    def forget(self, mac, bad=False):
        address = self.bindings.pop(mac).address
        if not bad and all(other.address != address for other in self.bindings.values()):
            self.free.append(address)


class FaultyServer:
    """Both servers in one loop that never sleeps."""

    def __init__(self, options):
        self.listen, self.fault = options.listen, options.fault
        self._subnet = ipaddress.IPv4Network(options.subnet)
        first, last = (int(ipaddress.IPv4Address(end)) for end in options.pool.split("-"))
        self._reserved = [str(self._subnet[0]), str(self._subnet[-1])]
        taken = {self.listen, *self._reserved}
        pool = (str(ipaddress.IPv4Address(number)) for number in range(first, last + 1))
        self._leases = Leases(address for address in pool if address not in taken)
        self._lease = options.lease
        self._root = os.path.realpath(options.root)
        self._boot_file, self._ipxe_file = options.boot_file, options.ipxe_file
        self._random = random.Random(options.seed)
        here = ipaddress.IPv4Address(self.listen)
        self._ids = [str(here + step) for step in range(3 if self.fault == "server-id" else 1)]
        self._opportunities = self._injected = 0
        self._files = {}  # path: (mtime, bytes)
        self._http_lock = threading.Lock()
        self._transfers = {}  # peer: Transfer
        self._later, self._order = [], itertools.count()
        self._selector = selectors.DefaultSelector()
        if options.server_only != "tftp":
            self._dhcp = self._open("", 67, self._read_dhcp)
        if options.server_only != "dhcp":
            self._tftp = self._open(self.listen, 69, self._read_requests)
        if options.http:
            self._serve_http(options.http)
        self._authoritative = options.authoritative
        # For clients that have no address yet and take unicast.
        self._link = None
        if options.interface:
            self._link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._link.bind((options.interface, 0))
            self._mac = wire.mac_text(self._link.getsockname()[4])

    def _open(self, address, port, reader):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 4 << 20)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.bind((address, port))
        sock.setblocking(False)
        self._selector.register(sock, selectors.EVENT_READ, reader)
        return sock

    def serve(self):
        sweep = 0.0
        while True:
            now = time.monotonic()
            wait = 0.1 if self._transfers else 1.0
            if self._later:
                wait = min(wait, max(self._later[0][0] - now, 0))
            for key, _ in self._selector.select(wait):
                key.data()
            now = time.monotonic()
            while self._later and self._later[0][0] <= now:
                self._transmit(*heapq.heappop(self._later)[2:])
            if now - sweep > 0.1:
                sweep = now
                self._resend(now)

    # Faulty.

    def _faulty(self, name, *words):
        """Whether to inject this fault at this opportunity."""
        if self.fault != name:
            return False
        self._opportunities += 1
        if self._opportunities % FAULTS[name][0]:
            return False
        self._injected += 1
        if self._injected <= _LOGGED:
            print(f"fault {name}:", *words, file=sys.stderr, flush=True)
        return True

    def summarize(self):
        print(f"{self._injected} faults at {self._opportunities} opportunities", file=sys.stderr, flush=True)

    def _address(self, mac, now):
        """An address for a new client."""
        if self._leases.bindings and self._faulty("duplicate", "for", mac):
            others = [b for b in reversed(self._leases.bindings.values()) if b.until > now]
            # When all are powered on at once nobody holds one yet; what was offered to
            # somebody will be held in a moment.
            return next((b for b in others if b.held), others[0]).address
        address = self._leases.take(now)
        if address and self._faulty("subnet", "for", mac):
            return str(ipaddress.IPv4Address(address) + self._subnet.num_addresses)
        # Each only once: given twice, it would be a duplicate as well.
        if address and self._reserved and self._faulty("reserved", "for", mac):
            return self._reserved.pop()
        return address

    def _spoil(self, transfer):
        """The bytes of a transfer, when its first block is about to be sent."""
        data = transfer.data
        if self._faulty("double-blocks", len(data), "bytes"):
            transfer.copies = 2
        if data and transfer.block == _SPOILT_BLKSIZE and self._faulty("one-blksize"):
            at = len(data) // 2
            return b"%b%c%b" % (data[:at], data[at] ^ 0x20, data[at + 1:])
        if data and self._faulty("flip", len(data), "bytes"):
            at = self._random.randrange(len(data))
            return b"%b%c%b" % (data[:at], data[at] ^ 0x20, data[at + 1:])
        return data

    # DHCP.

    def _read_dhcp(self):
        for _ in range(100):
            try:
                request = wire.Message(self._dhcp.recv(4096))
            except BlockingIOError:
                return
            except (ValueError, IndexError):
                continue
            if request.op == 1 and not self._faulty("silent", "to", request.chaddr):
                self._answer(request, time.monotonic())

    def _answer(self, request, now):
        mac, leases = request.chaddr, self._leases
        binding = leases.bindings.get(mac)
        if request.kind == "DISCOVER":
            identity = request.options.get(61)
            if binding and binding.held and binding.identity != identity and self._faulty(
                    "stages", "to", mac):
                del leases.bindings[mac]  # what it had is not given to others
                binding = None
            if binding is None:
                address = self._address(mac, now)
                if address is None:
                    return
                binding = leases.bindings[mac] = Binding(address)
            binding.until = max(binding.until, now + _OFFERED)
            address = binding.address
            if binding.identity == identity and binding.xid == request.xid and self._faulty(
                    "offer-moves", "to", mac):
                address = leases.take(now)  # offered, and nobody's
            binding.identity, binding.xid = identity, request.xid
            self._reply("OFFER", request, address, now)
        elif request.kind == "REQUEST":
            self._requested(request, binding, now)
        elif request.kind == "DECLINE" and binding and request.address(50) == binding.address:
            if not self._faulty("declined", binding.address, "to", mac):
                leases.forget(mac, bad=True)
        elif request.kind == "INFORM":
            self._reply("ACK", request, "0.0.0.0", now)
        elif request.kind == "RELEASE" and binding and request.ciaddr == binding.address:
            leases.forget(mac)

    def _requested(self, request, binding, now):
        """RFC 2131 section 4.3.2."""
        wanted, chosen = request.address(50) or request.ciaddr, request.address(54)
        if chosen and chosen not in self._ids:
            # It took another server's offer.
            if binding and not binding.held:
                self._leases.forget(request.chaddr)
        elif binding and binding.address == wanted and (
                (chosen and self._faulty("nak", "to", request.chaddr)) or
                (not chosen and self._faulty("nak-held", "to", request.chaddr))):
            self._reply("NAK", request, "0.0.0.0", now)
        elif binding and binding.address == wanted:
            if self._leases.free and self._faulty("ack-other", "instead of", wanted):
                self._leases.free.append(binding.address)
                binding.address = self._leases.take(now)
            binding.held, binding.until = True, now + self._lease
            self._reply("ACK", request, binding.address, now)
            if self._faulty("ack-twice", "to", request.chaddr):
                self._reply("ACK", request, self._leases.take(now), now)
        elif self._authoritative or binding or chosen or ipaddress.IPv4Address(wanted) not in self._subnet:
            self._reply("NAK", request, "0.0.0.0", now)
        # Else it may have this address from a server that remembers it.

    def _reply(self, kind, request, address, now):
        xid, chaddr, giaddr = request.xid, wire.mac_bytes(request.chaddr), request.giaddr
        if self._faulty("xid", "to", request.chaddr):
            xid = self._random.getrandbits(32)
        if self._faulty("chaddr", "to", request.chaddr):
            chaddr = chaddr[:5] + bytes([chaddr[5] ^ 0xff])
        if self._faulty("giaddr", "to", giaddr):
            giaddr = str(ipaddress.IPv4Address(giaddr) + 7)
        file, options = b"", self._options(kind, request)
        if kind != "NAK" and request.options.get(60, b"").startswith(b"PXEClient"):
            file = self._file_for(request).encode()
            # Option 43: no boot server discovery, take the file from here.
            discovery = 0 if self._faulty("option-43", "to", request.chaddr) else 8
            options += [(60, b"PXEClient"), (43, bytes([6, 1, discovery, 255]))]
        relay = request.options.get(82)
        if relay is not None and not self._faulty("relay-option", "to", giaddr):
            options.append((82, relay))
        broadcast = 0x8000 if kind == "NAK" else 0  # RFC 2131 section 4.3.2, for the relay agent
        ciaddr = request.ciaddr if kind == "ACK" else "0.0.0.0"
        payload = struct.pack("!BBBBIHH", 2, 1, 6, 0, xid, 0, request.flags | broadcast)
        siaddr = "0.0.0.0" if kind == "NAK" else self.listen
        if kind != "NAK" and self._faulty("next-server", "to", request.chaddr):
            siaddr = str(ipaddress.IPv4Address(self.listen) + 1)
        payload += b"".join(map(socket.inet_aton, (ciaddr, address, siaddr, giaddr)))
        payload += chaddr.ljust(16, b"\0") + bytes(64) + file.ljust(128, b"\0") + wire.MAGIC
        payload += b"".join(bytes([code, len(value)]) + value for code, value in options)
        payload = (payload + b"\xff").ljust(_PADDED, b"\0")
        if self._faulty("malformed", "to", request.chaddr):
            payload = payload[:200]
        to = self._target(kind, request, address)
        if self._faulty("late", "to", request.chaddr):
            self._transmit_later(now + _LATE, payload, to)
        else:
            self._transmit(payload, to)
        if kind != "NAK" and self._faulty("late-lease", "to", request.chaddr):
            lease = bytes([51, 4]) + struct.pack("!I", self._lease)
            self._transmit_later(now + _AGAIN, payload.replace(lease, bytes([51, 4, 0, 0, 0, 0])),
                                 to)

    def _target(self, kind, request, address):
        """Where a reply goes (RFC 2131 section 4.1): address, port, and the hardware address of
        a client that cannot be reached otherwise."""
        if request.giaddr != "0.0.0.0":
            return request.giaddr, 67, None
        if request.ciaddr != "0.0.0.0" and kind != "NAK":
            return request.ciaddr, 68, None
        broadcast = bool(request.flags & 0x8000)
        if kind != "NAK" and self._link and broadcast == self._faulty(
                "unicast" if broadcast else "broadcast", "to", request.chaddr):
            return address, 68, request.chaddr
        return "255.255.255.255", 68, None

    def _transmit_later(self, when, payload, to):
        heapq.heappush(self._later, (when, next(self._order), payload, to))

    def _options(self, kind, request):
        self._faulty("server-id", "to", request.chaddr)
        server = self._ids[self._injected % len(self._ids)]
        options = [(53, bytes([wire.NUMBERS[kind]])), (54, socket.inet_aton(server))]
        if kind == "NAK":
            if self._faulty("nak-malformed", "to", request.chaddr):
                options.append((51, struct.pack("!I", self._lease)))
            return options
        lease = 0 if self._faulty("lease-zero", "to", request.chaddr) else self._lease
        if kind == "ACK" and self._faulty("lease-differs", "to", request.chaddr):
            lease *= 2
        t1, t2 = lease // 2, lease * 7 // 8
        if self._faulty("t1-after-t2", "to", request.chaddr):
            t1, t2 = t2, t1
        if request.kind != "INFORM" or self._faulty("inform-lease", "to", request.chaddr):
            options += [(code, struct.pack("!I", value))
                        for code, value in ((51, lease), (58, t1), (59, t2))]
        router = self.listen if request.giaddr == "0.0.0.0" else request.giaddr
        if self._faulty("router", "to", request.chaddr):
            router = str(ipaddress.IPv4Address(router) + 5)
        mask = self._subnet.netmask.packed
        if self._faulty("mask", "to", request.chaddr):
            mask = bytes([255, 255, 128, 0])
        return [*options, (1, mask), (3, socket.inet_aton(router))]

    def _file_for(self, request):
        file = self._boot_file
        if b"iPXE" in request.options.get(77, b"") and self._ipxe_file:
            file = self._ipxe_file
        if file and self._faulty("wrong-file", "to", request.chaddr):
            # One that is there: only the name gives it away.
            return next((name for name in sorted(os.listdir(self._root)) if name != file),
                        f"{file}.old")
        return file

    def _transmit(self, payload, target):
        *to, mac = target
        if mac:
            # The client has no address that ARP would find.
            self._link.send(wire.frame(payload, self._mac, self.listen, to[0], 67, to[1], mac))
            return
        # The address also tells the interface of a broadcast.
        source = struct.pack("i4s4s", 0, socket.inet_aton(self.listen), bytes(4))
        with contextlib.suppress(OSError):  # full or no way: lost, like any datagram
            self._dhcp.sendmsg([payload], [(socket.IPPROTO_IP, _IP_PKTINFO, source)], 0,
                               tuple(to))

    # HTTP, in threads: nothing of it is shared with the loop but the count of faults.

    def _serve_http(self, port):
        faulty = self

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                faulty.answer_http(self)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer((self.listen, port), Answer)
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def answer_http(self, request):
        """One GET."""
        with self._http_lock:
            body = self._read_file(request.path.split("?")[0])
            status = 404 if body is None else 200
            body = body or b""
            if body and self._faulty("http-flip", request.path):
                body = body[:-1] + bytes([body[-1] ^ 0x20])
            if body and self._faulty("http-short", request.path):
                body = body[:len(body) * 2 // 3]
            if body and self._faulty("http-partial", request.path):
                status = 206
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    # TFTP.

    def _read_requests(self):
        for _ in range(100):
            try:
                packet, peer = self._tftp.recvfrom(2048)
            except BlockingIOError:
                return
            if packet[:2] == b"\0\1" and not self._faulty("silent", "to", peer[0]):
                self._read_request(packet[2:].split(b"\0"), peer)

    def _read_request(self, words, peer):
        old = self._transfers.get(peer)
        if old and old.acked <= 0:
            return  # it was repeated, and the answer will be, too
        if old:
            self._end(peer)
        if len(words) < 3 or words[1].lower() != b"octet":
            return self._refuse(peer, 4, b"only octet mode")
        data = self._read_file(words[0].decode(errors="replace"))
        if data is None:
            return self._refuse(peer, 1, b"no such file")
        if data and self._faulty("short-file", words[0], "to", peer[0]):
            # With the announced size as short as the file: only who knows it can tell.
            data = data[:len(data) * 2 // 3]
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((self.listen, 0))
        sock.connect(peer)
        sock.setblocking(False)
        transfer = Transfer(sock, data, agreed(words[2:-1], len(data)), self._spoil)
        self._transfers[peer] = transfer
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._read_ack(peer))
        self._attempt(peer, transfer, time.monotonic())

    def _refuse(self, peer, code, words):
        with contextlib.suppress(OSError):
            self._tftp.sendto(b"\0\5\0" + bytes([code]) + words + b"\0", peer)

    def _read_file(self, name):
        path = os.path.realpath(os.path.join(self._root, name.lstrip("/")))
        if not path.startswith(self._root + "/") or not os.path.isfile(path):
            return None
        changed = os.stat(path).st_mtime_ns
        if self._files.get(path, (None,))[0] != changed:
            with open(path, "rb") as file:
                self._files[path] = changed, file.read()
        return self._files[path][1]

    def _read_ack(self, peer):
        transfer = self._transfers.get(peer)
        while transfer:
            try:
                packet = transfer.sock.recv(2048)
                over = packet[:2] == b"\0\5" or (packet[:2] == b"\0\4" and len(packet) >= 4 and
                    transfer.acknowledged(int.from_bytes(packet[2:4], "big"), time.monotonic()))
            except BlockingIOError:
                return
            except OSError:  # nobody listens there any more
                over = True
            if over:
                return self._end(peer)

    def _resend(self, now):
        for peer, transfer in list(self._transfers.items()):
            if now - transfer.when >= transfer.resend_after:
                transfer.tries += 1
                if transfer.tries > _TRIES:
                    self._end(peer)
                else:
                    self._attempt(peer, transfer, now)

    def _attempt(self, peer, transfer, now):
        try:
            transfer.send(now)
        except OSError:
            self._end(peer)

    def _end(self, peer):
        sock = self._transfers.pop(peer).sock
        self._selector.unregister(sock)
        sock.close()


def main():
    faults = "\n".join(f"  {name:14}{what}" for name, (_, what) in FAULTS.items())
    parser = argparse.ArgumentParser(description=f"{__doc__}\nFaults:\n{faults}",
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listen", required=True)
    parser.add_argument("--subnet", required=True)
    parser.add_argument("--pool", required=True)
    parser.add_argument("--root", required=True)
    parser.add_argument("--fault", choices=FAULTS)
    parser.add_argument("--lease", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--server-only", choices=("dhcp", "tftp"))
    parser.add_argument("--boot-file", default="")
    parser.add_argument("--ipxe-file", default="")
    parser.add_argument("--http", type=int, help="a port to serve the files by HTTP, too")
    parser.add_argument("--interface", help="for unicast to clients without an address")
    parser.add_argument("--authoritative", action="store_true", help="NAK to unknown clients")
    server = FaultyServer(parser.parse_args())
    # A socket for each transfer.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print("serving", flush=True)
    try:
        server.serve()
    finally:
        server.summarize()


if __name__ == "__main__":
    main()
