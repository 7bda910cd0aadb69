#!/usr/bin/env python3
"""What one booting machine says and when, if its server falls silent at a chosen point.

A machine (or a DHCP client) stands alone in a laboratory of namespaces with a server that
answers up to --mute and says nothing afterwards; every frame is printed with its time and
the time since the client's frame of the same kind before it. docs/FIRMWARE.md is made of
these time lines.

    all       nothing is answered          tftp    DHCP is, read requests are not
    request   only DISCOVER is answered    blocks  a transfer stops after --blocks blocks
    nothing   everything is answered

The chained kinds first load iPXE with everything answered; --mute is for what comes then.
"""

import argparse
import os
import re
import socket
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tests/e2e"))

import clients
import lab as laboratory
import machine
import wire

SERVER, GIVEN = "10.77.0.1", "10.77.0.50"
MAC = "52:54:00:f1:43:01"
IPXE = "/usr/lib/ipxe"
# What the machine loads before the silence begins, and the machine's own firmware.
MACHINES = {"edk2": ("uefi", None), "ipxe": ("bios", None),
            "ipxe.efi": ("uefi", "ipxe.efi"), "snponly.efi": ("uefi", "snponly.efi"),
            "undionly.kpxe": ("bios", "undionly.kpxe")}
SCRIPT = b"#!ipxe\necho SCRIPT runs\nsleep 3600\n"
_SO_TIMESTAMPNS = 35


class Udhcpc(clients.Udhcpc):
    def command(self):
        return f"busybox udhcpc -f -i eth0 -s {self.hook}"


class Dhclient(clients.Dhclient):
    def command(self):
        path = self.lab.path(self.tag)
        return f"dhclient -d -4 -sf {self.hook} -lf {path}.leases -pf {path}.pid eth0"


class Dhcpcd(clients.Dhcpcd):
    def command(self):
        return f"dhcpcd -B -4 -c {self.hook} eth0"


CLIENTS = {"udhcpc": Udhcpc, "dhclient": Dhclient, "dhcpcd": Dhcpcd}


class TimeLine:
    """Prints what happens, in seconds since the client's first DISCOVER."""

    def __init__(self):
        self._zero, self._last, self._seen = None, {}, set()
        self._lock = threading.Lock()

    def add(self, when, text, kind=None):
        with self._lock:
            gap = ""
            if kind:
                if self._zero is None and kind == "DISCOVER":
                    self._zero = when
                if kind in self._last:
                    gap = f"+{when - self._last[kind]:.3f}"
                self._last[kind] = when
            print(f"{when - (self._zero or when):9.3f} {gap:>9}  {text}", flush=True)

    def once(self, key):
        """True the first time for each key: long descriptions are not repeated."""
        fresh = key not in self._seen
        self._seen.add(key)
        return fresh


class Tap:
    """Every frame on one port of the switch, by the kernel's clock."""

    def __init__(self, lab, port, mac, line):
        with laboratory.inside(lab.sw):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self._socket.bind((port, 3))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
        self._mac, self._line, self._acks = mac, line, (0, 0.0)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        while True:
            try:
                data, extra, _, _ = self._socket.recvmsg(65536, 64)
            except OSError:
                return  # The laboratory is gone.
            seconds, nanos = struct.unpack("qq", extra[0][2])
            self._frame(data, seconds + nanos / 1e9, wire.mac_text(data[6:12]) == self._mac)

    def _frame(self, data, when, ours):
        kind = struct.unpack_from("!H", data, 12)[0]
        if kind == 0x0806 and ours:
            sender, target = socket.inet_ntoa(data[28:32]), socket.inet_ntoa(data[38:42])
            text = f"ARP {'request' if data[21] == 1 else 'reply'} {sender} asks {target}"
            self._line.add(when, text, text)
        elif kind == 0x86dd and ours:
            name = f"ICMPv6 type {data[54]}" if data[20] == 58 else f"IPv6 next {data[20]}"
            if data[20] == 17:
                name = "UDPv6 to port %d" % struct.unpack_from("!H", data, 56)
            self._line.add(when, name, name)
        elif kind == 0x0800 and ours and data[23] != 17:
            self._line.add(when, f"IPv4 protocol {data[23]}", f"ip{data[23]}")
        datagram = wire.Datagram.from_frame(data, when)
        if datagram and (message := datagram.dhcp()):
            self._dhcp(datagram, message)
        elif datagram and ours:
            self._udp(datagram)

    def _dhcp(self, datagram, message):
        text = (f"{message.kind} {datagram.source}:{datagram.sport} > {datagram.destination}:"
                f"{datagram.dport} {message.length} B xid {message.xid:08x} secs {message.secs} "
                f"flags {message.flags:04x} ciaddr {message.ciaddr}")
        self._line.add(datagram.when, text, message.kind)
        options = " ".join(f"{code}={value.hex()}" for code, value in message.options.items())
        if self._line.once(options):
            print(f"{'':21}options in order: {options}", flush=True)

    def _udp(self, datagram):
        payload, ends = datagram.payload, f"{datagram.sport} > {datagram.dport}"
        code = int.from_bytes(payload[:2], "big")
        if datagram.dport == 69 and code == 1:
            fields = [field.decode(errors="replace") for field in payload[2:].split(b"\0")]
            self._line.add(datagram.when, f"RRQ {ends} {fields[:-1]}", "RRQ")
        elif code == 5:
            number = int.from_bytes(payload[2:4], "big")
            self._line.add(datagram.when, f"ERROR {ends} code {number} {payload[4:]!r}", "ERROR")
        elif code == 4:
            # Of a stream of acknowledgements, its beginning and what comes late.
            block = int.from_bytes(payload[2:4], "big")
            if block < 3 or datagram.when - self._acks[1] > 0.2 or block == self._acks[0]:
                self._line.add(datagram.when, f"ACK {ends} block {block}", "TFTP ACK")
            self._acks = (block, datagram.when)
        else:
            self._line.add(datagram.when, f"UDP {ends}, {len(payload)} B", ends)


class Server:
    """Answers DHCP and TFTP until it is to be silent."""

    def __init__(self, lab, mute, loader, blocks, pxe, line):
        self._lab, self._mute, self._blocks, self._pxe, self._line = lab, mute, blocks, pxe, line
        self._loader, self.silent_from_now = loader, loader is None
        with laboratory.inside(lab.srv):
            self._raw = wire.Raw("eth0")
            # All three are open, even when silent: a closed one would answer with ICMP.
            self._ports = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
            for port, number in zip(self._ports, (67, 69, 4011)):
                port.bind(("0.0.0.0", number))
        self._mac = laboratory.sh(f"ip -n {lab.srv} -o link show eth0").split("ether ")[1][:17]
        for work in (self._dhcp, self._tftp):
            threading.Thread(target=work, daemon=True).start()

    def _is_silent(self, *points):
        return self.silent_from_now and self._mute in points

    def _dhcp(self):
        while True:
            message = wire.Message(self._ports[0].recv(65536))
            if message.kind == "DISCOVER" and not self._is_silent("all"):
                self._answer(message, 2)
            elif message.kind == "REQUEST" and not self._is_silent("all", "request"):
                self._answer(message, 5)

    def _answer(self, asked, kind):
        address, file = socket.inet_aton, self._file().encode()
        head = struct.pack("!BBBBIHH", 2, 1, 6, 0, asked.xid, 0, asked.flags)
        head += bytes(4) + address(GIVEN) + address(SERVER) + bytes(4)
        head += wire.mac_bytes(asked.chaddr) + bytes(10) + bytes(64) + file.ljust(128, b"\0")
        options = [(53, bytes([kind])), (54, address(SERVER)), (51, struct.pack("!I", 3600)),
                   (1, address("255.255.0.0")), (3, address(SERVER))]
        if self._pxe:
            # Discovery control 8: the boot file of this very reply, without asking further.
            options += [(60, b"PXEClient"), (43, bytes([6, 1, 8, 255]))]
        body = b"".join(bytes([code, len(value)]) + value for code, value in options)
        broadcast = asked.flags & 0x8000
        self._raw.send((head + wire.MAGIC + body + b"\xff").ljust(300, b"\0"), self._mac,
                       source=SERVER, destination="255.255.255.255" if broadcast else GIVEN,
                       sport=67, dport=68,
                       to="ff:ff:ff:ff:ff:ff" if broadcast else asked.chaddr)

    def _file(self):
        return "boot.ipxe" if self.silent_from_now else self._loader

    def _tftp(self):
        while True:
            payload, client = self._ports[1].recvfrom(2048)
            if payload[:2] == b"\0\1" and not self._is_silent("tftp"):
                threading.Thread(target=self._send, args=(payload, client), daemon=True).start()

    def _send(self, payload, client):
        name, _, *pairs = [field.decode() for field in payload[2:].split(b"\0")[:-1]]
        asked = dict(zip((key.lower() for key in pairs[::2]), pairs[1::2]))
        limit = self._blocks if self._is_silent("blocks") else None
        if name == self._loader:
            with open(f"{IPXE}/{name}", "rb") as file:
                content = file.read()
        else:
            content = SCRIPT if limit is None else SCRIPT.ljust(100_000, b"#")
        size, window = int(asked.get("blksize", 512)), int(asked.get("windowsize", 1))
        granted = {**asked, **({"tsize": str(len(content))} if "tsize" in asked else {})}
        granted = {key: value for key, value in granted.items()
                   if key in ("tsize", "blksize", "windowsize")}
        with laboratory.inside(self._lab.srv):
            port = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            port.connect(client)
        port.settimeout(1)
        last, at = len(content) // size + 1, 0
        first = b"\0\6" + "".join(f"{k}\0{v}\0" for k, v in granted.items()).encode()
        for _ in range(100_000):
            if at == 0 and granted:
                port.send(first)
            else:
                for block in range(at + 1, min(at + window, limit or last, last) + 1):
                    port.send(struct.pack("!HH", 3, block & 0xffff) +
                              content[(block - 1) * size:block * size])
            try:
                answer = port.recv(1024)
            except TimeoutError:
                if limit is not None:
                    break
                continue
            if answer[:2] == b"\0\5":
                return
            number = int.from_bytes(answer[2:4], "big")
            if at == 0 and granted:
                granted = {}
            else:
                at += (number - at) & 0xffff
            if limit is not None and at >= limit:
                break
            if at >= last:
                self._line.add(time.time(), f"-- {name} has been sent whole")
                self.silent_from_now |= name == self._loader
                return
        self._line.add(time.time(), f"-- silent after block {at}")
        # Open for as long as the client may ask again.
        time.sleep(3600)


def watch(process, text, line, seconds, until):
    """Prints the console's new lines as they end, until the time is over."""
    end, shown, over = time.monotonic() + seconds, 0, False
    while not over:
        over = time.monotonic() > end or not process.running()
        lines = [entry for entry in text().split("\n")[:None if over else -1] if entry.strip()]
        for entry in lines[shown:]:
            line.add(time.time(), f"    | {entry.strip()[:110]}")
        shown = max(shown, len(lines))
        if until and re.search(until, "\n".join(lines)):
            return
        time.sleep(0.1)
    line.add(time.time(), "-- still runs" if process.running() else
             f"-- ended with status {process.wait(0)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=[*MACHINES, *CLIENTS])
    parser.add_argument("--mute", default="all",
                        choices=["all", "request", "tftp", "blocks", "nothing"])
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--until", help="end when the console shows this expression")
    parser.add_argument("--pxe", action="store_true",
                        help="replies carry vendor class PXEClient and discovery control 8")
    parser.add_argument("--router", action="store_true", help="send router advertisements")
    asked = parser.parse_args()
    lab, line = laboratory.Lab(), TimeLine()
    firmware, loader = MACHINES.get(asked.kind, (None, None))
    Server(lab, asked.mute, loader, asked.blocks, asked.pxe, line)
    if asked.router:
        lab.advertise_router()
    if firmware:
        subject = machine.Machine(lab, MAC, firmware)
        port, mac, text = subject.port, MAC, subject.console
    else:
        subject = CLIENTS[asked.kind](lab)
        port, mac = subject.port, subject.mac
    Tap(lab, port, mac, line)
    if not firmware:
        subject.start()
        text = subject.process.output
    watch(subject.process, text, line, asked.seconds, asked.until)


if __name__ == "__main__":
    main()
