"""Just enough of Ethernet, DHCP and TFTP to ask, to listen and to check, written apart from
the server's own parser so that one mistake cannot hide in both."""

import ctypes
import socket
import struct
import time

MAGIC = b"\x63\x82\x53\x63"
KINDS = {1: "DISCOVER", 2: "OFFER", 3: "REQUEST", 4: "DECLINE", 5: "ACK", 6: "NAK",
         7: "RELEASE", 8: "INFORM"}
NUMBERS = {name: number for number, name in KINDS.items()}
BOOT_PORTS = (67, 68, 69, 4011)
_SO_ATTACH_FILTER = 26


def mac_bytes(text):
    return bytes.fromhex(text.replace(":", ""))


def mac_text(raw):
    return ":".join(f"{byte:02x}" for byte in raw)


class Message:
    """A BOOTP message and its options (code to bytes; repeats joined, RFC 3396)."""

    def __init__(self, payload):
        if len(payload) < 240 or payload[236:240] != MAGIC:
            raise ValueError("no DHCP message")
        (self.op, self.htype, self.hlen, self.hops, self.xid, self.secs, self.flags) = \
            struct.unpack_from("!BBBBIHH", payload)
        self.ciaddr, self.yiaddr, self.siaddr, self.giaddr = (
            socket.inet_ntoa(payload[at:at + 4]) for at in (12, 16, 20, 24))
        self.chaddr = mac_text(payload[28:34])
        self.sname = payload[44:108].split(b"\0")[0]
        self.file = payload[108:236].split(b"\0")[0]
        self.length = len(payload)
        self.options = {}
        self._read(payload[240:])
        # RFC 2132 section 9.3: `file` goes on, then `sname`.
        overload = self.options.pop(52, b"\0")[0]
        if overload & 1:
            self.file = b""
            self._read(payload[108:236])
        if overload & 2:
            self.sname = b""
            self._read(payload[44:108])
        self.overload = overload
        self.kind = KINDS.get(self.options.get(53, b"\0")[0], "BOOTP")

    def _read(self, field):
        at = 0
        while at < len(field) and field[at] != 255:
            if field[at] == 0:
                at += 1
                continue
            code, size = field[at], field[at + 1]
            self.options[code] = self.options.get(code, b"") + field[at + 2:at + 2 + size]
            at += 2 + size

    def address(self, code):
        """The first address of an option, as text."""
        return socket.inet_ntoa(self.options[code][:4]) if code in self.options else None

    def seconds(self, code):
        return int.from_bytes(self.options[code], "big") if code in self.options else None


def message(kind, mac, xid, options=(), broadcast=False, ciaddr="0.0.0.0", giaddr="0.0.0.0",
            hops=0):
    """The UDP payload of a client's message; options are (code, bytes), kind None is BOOTP's."""
    head = struct.pack("!BBBBIHH", 1, 1, 6, hops, xid, 0, 0x8000 if broadcast else 0)
    head += socket.inet_aton(ciaddr) + bytes(8) + socket.inet_aton(giaddr)
    head += mac_bytes(mac) + bytes(10) + bytes(192) + MAGIC
    kinds = ((53, bytes([NUMBERS[kind]])),) if kind else ()
    for code, value in (*kinds, *options):
        head += bytes([code, len(value)]) + value
    return (head + b"\xff").ljust(300, b"\0")


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def frame(payload, mac, source="0.0.0.0", destination="255.255.255.255", sport=68, dport=67,
          to="ff:ff:ff:ff:ff:ff"):
    """A whole Ethernet frame around a UDP payload."""
    ends = socket.inet_aton(source) + socket.inet_aton(destination)
    size = 8 + len(payload)
    udp = struct.pack("!HHHH", sport, dport, size, 0) + payload
    total = checksum(ends + struct.pack("!BBH", 0, 17, size) + udp) or 0xffff
    udp = udp[:6] + struct.pack("!H", total) + udp[8:]
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + size, 0, 0, 64, 17, 0) + ends
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    return mac_bytes(to) + mac_bytes(mac) + b"\x08\x00" + ip + udp


class Datagram:
    """A UDP datagram as it stood on the cable."""

    def __init__(self, when, to, source_mac, source, destination, sport, dport, payload):
        self.when, self.to, self.source_mac = when, to, source_mac
        self.source, self.destination = source, destination
        self.sport, self.dport, self.payload = sport, dport, payload

    @classmethod
    def from_frame(cls, data, when):
        if len(data) < 42 or data[12:14] != b"\x08\x00" or data[23] != 17:
            return None
        header = 14 + (data[14] & 15) * 4
        sport, dport, size = struct.unpack_from("!HHH", data, header)
        return cls(when, mac_text(data[:6]), mac_text(data[6:12]), socket.inet_ntoa(data[26:30]),
                   socket.inet_ntoa(data[30:34]), sport, dport, data[header + 8:header + size])

    def dhcp(self):
        if self.dport not in (67, 68, 4011) and self.sport != 4011:
            return None
        try:
            return Message(self.payload)
        except (ValueError, IndexError):
            return None

    def tftp_name(self):
        """The file name of a TFTP read request, or None."""
        if self.dport != 69 or self.payload[:2] != b"\0\1":
            return None
        return self.payload[2:].split(b"\0")[0].decode(errors="replace")


class Raw:
    """A client made of one packet socket: any MAC, any message, whole frames."""

    def __init__(self, interface):
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        attach_boot_filter(self._socket)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.bind((interface, 0x0800))
        # Replies go to MACs that the interface does not have.
        index = socket.if_nametoindex(interface)
        self._socket.setsockopt(263, 1, struct.pack("iHH8s", index, 1, 0, b""))
        # What is told of each frame that is sent or received.
        self.capture = None

    def send(self, payload, mac, **addresses):
        sent = frame(payload, mac, **addresses)
        self._socket.send(sent)
        if self.capture:
            self.capture.frame(sent)

    def replies(self, seconds):
        """Everything a server says within the time, as (datagram, message)."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                received = self._socket.recv(65536)
            except TimeoutError:
                return
            datagram = Datagram.from_frame(received, time.monotonic())
            answer = datagram and datagram.dhcp()
            if answer and answer.op == 2:
                if self.capture:
                    self.capture.frame(received)
                yield datagram, answer

    def ask(self, kind, mac, xid, options=(), seconds=3, **fields):
        """One broadcast message and the first answer to it, or None."""
        self.send(message(kind, mac, xid, options, **fields), mac)
        return next((answer for _, answer in self.replies(seconds) if answer.xid == xid), None)

    def close(self):
        self._socket.close()


class Capture:
    """Frames in a file, as tcpdump writes them: classic pcap, of Ethernet."""

    def __init__(self, path):
        self._out = open(path, "wb")
        self._out.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))

    def frame(self, frame):
        seconds, fraction = divmod(time.time_ns() // 1000, 1_000_000)
        self._out.write(struct.pack("<IIII", seconds, fraction, len(frame), len(frame)) + frame)

    def close(self):
        self._out.close()


def attach_boot_filter(sock):
    """Classic BPF: IPv4, UDP, not a later fragment, one port of BOOT_PORTS on either side."""
    load_half, load_byte, load_half_at, load_ip_length = 0x28, 0x30, 0x48, 0xb1
    equal, any_bit, give = 0x15, 0x45, 0x06
    ports = len(BOOT_PORTS)
    program = [(load_half, 0, 0, 12), (equal, 0, 2 * ports + 7, 0x0800),
               (load_byte, 0, 0, 23), (equal, 0, 2 * ports + 5, 17),
               (load_half, 0, 0, 20), (any_bit, 2 * ports + 3, 0, 0x1fff),
               (load_ip_length, 0, 0, 14)]
    for number, offset in enumerate((14, 16)):
        program.append((load_half_at, 0, 0, offset))
        for index, port in enumerate(BOOT_PORTS):
            left = (1 - number) * (ports + 1) + ports - index - 1
            program.append((equal, left + 1, 0, port))
    program += [(give, 0, 0, 0), (give, 0, 0, 0x40000)]
    code = b"".join(struct.pack("HBBI", *step) for step in program)
    buffer = ctypes.create_string_buffer(code)
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER,
                    struct.pack("HL", len(program), ctypes.addressof(buffer)))
