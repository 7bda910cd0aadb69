"""A transfer of the faulty server: one file on its way to one client."""

import contextlib

_LARGEST_BLOCK, _LARGEST_WINDOW = 1468, 64
_RESEND = 1.0  # seconds, unless the client asks for another time


class Transfer:
    """One file on its way to one client, from a port of its own (RFC 1350, 2347, 7440)."""

    def __init__(self, sock, data, options, spoil):
        self.sock, self.data, self._spoil = sock, data, spoil
        self.block = options.get("blksize", 512)
        self._window = options.get("windowsize", 1)
        self.resend_after = options.get("timeout", _RESEND)
        self.oack = b"".join(b"%s\0%d\0" % (name.encode(), value)
                             for name, value in options.items())
        # The acknowledgement of options is block 0.
        self.acked = -1 if self.oack else 0
        self.sent = 0
        self.copies = 1  # of each block
        self.tries, self.when = 0, 0.0
        if not self.oack:
            self._begin()

    def _begin(self):
        self.data = self._spoil(self)
        self.last = len(self.data) // self.block + 1

    def send(self, now):
        """What comes after the last acknowledgement, a window of it."""
        self.when = now
        with contextlib.suppress(BlockingIOError):
            if self.acked < 0:
                self.sock.send(b"\0\6" + self.oack)
                return
            for number in range(self.acked + 1, min(self.acked + self._window, self.last) + 1):
                data = self.data[(number - 1) * self.block:number * self.block]
                for _ in range(self.copies):
                    self.sock.send(b"\0\3" + (number & 0xffff).to_bytes(2, "big") + data)
                self.sent = number

    def acknowledged(self, number, now):
        """Whether the transfer is over by this ACK. An old one changes nothing: answering it
        would send everything twice from here on."""
        number = self.acked + ((number - self.acked) & 0xffff)
        if not self.acked < number <= self.sent:
            return False
        if self.acked < 0:
            self._begin()
        self.acked, self.tries = number, 0
        if number == self.last:
            return True
        self.send(now)
        return False


def agreed(words, size):
    """The options of a request that are granted, with the values that are (RFC 2347)."""
    limits = {"blksize": (8, 65464, _LARGEST_BLOCK), "timeout": (1, 255, 255),
              "windowsize": (1, 65535, _LARGEST_WINDOW), "tsize": (0, 1 << 40, None)}
    agreed = {}
    for name, value in zip(words[::2], words[1::2]):
        name = name.decode(errors="replace").lower()
        if name in limits and value.isdigit():
            least, most, granted = limits[name]
            if least <= int(value) <= most:
                agreed[name] = size if granted is None else min(int(value), granted)
    return agreed
