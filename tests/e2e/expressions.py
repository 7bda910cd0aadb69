"""Seeded conditions in dhcpd's language, and messages of machines for them to be asked about.

What is written here is what dhcpd takes: a number stands where a number is wanted, sums stand in
parentheses, and what reads beyond a value in dhcpd itself (a pattern on a part of an option,
an integer out of nothing) is left out.
"""

import random

# Name and code of the options that conditions ask for; not all are in every message.
OPTIONS = {"host-name": 12, "vendor-class-identifier": 60, "user-class": 77,
           "dhcp-client-identifier": 61, "pxe-system-type": 93, "dhcp-message-type": 53,
           "dhcp-parameter-request-list": 55, "site-data": 200, "agent.circuit-id": None,
           "agent.remote-id": None, "site.one": None, "site.two": None}
TEXTS = ["PXEClient", "PXEClient:Arch:00007:UNDI:003016", "iPXE", "rack12-n07", "Cisco AP c2700",
         "MSFT 5.0", "a", "", "x.y-z", "AAAA", "0102"]
BYTES = ["1:52:54:0:0:7", "0", "00:07", "ff:fe:0:1", "52:54", "0:0:0:0", "1"]
PATTERNS = ["^PXE", "Client", "[0-9]+", "^(iPXE|PXEClient)", "n0[1-7]$", ".", "^$", "a{2,3}",
            "[[:upper:]]{3}", "x\\\\.y", "[^A-Za-z]", "(A|B)*C?", "^.{4}$", "[]x]", "0*1",
            "AP c[0-9]", "^rack1?2-.*7$", "[a-]", "a|^b", "P(X|Y)E"]
# All of these classes may fit at once: dhcpd keeps so many of a message.
MOST_CLASSES = 5


class Conditions:
    """Makes conditions from one seed."""

    def __init__(self, seed):
        self.random = random.Random(f"conditions {seed}")

    def one_of(self, *choices):
        return self.random.choice(choices)()

    def condition(self, depth=3):
        if depth > 0 and self.random.random() < 0.5:
            return self.one_of(
                lambda: self.chain(depth),
                lambda: f"not ({self.condition(depth - 1)})",
                lambda: f"({self.condition(depth - 1)})",
                lambda: f"not {self.presence()}")
        sign = self.random.choice(["=", "=", "!="])
        return self.one_of(
            lambda: f"{self.data(2)} {sign} {self.data(2)}",
            lambda: f"{self.data(2)} {sign} {self.constant()}",
            self.alike, self.alike,
            # Parentheses: behind another operator a number would be bytes.
            lambda: f"({self.number(1)} {sign} {self.number(1)})",
            lambda: f"({self.number(1)} {sign} {self.random.choice([0, 1, 7, 80, 257, -1])})",
            lambda: f"{self.whole()} {self.random.choice(['~=', '~~'])} \"{self.pattern()}\"",
            self.presence)

    def chain(self, depth):
        parts = [self.condition(depth - 1) for _ in range(self.random.randint(2, 4))]
        text = parts[0]
        for part in parts[1:]:
            text += f" {self.random.choice(['and', 'or'])} {part}"
        return text

    def alike(self):
        """A comparison that is often true."""
        text = self.random.choice([text for text in TEXTS if text])
        start = self.random.randint(0, 3)
        size = self.random.randint(1, 9)
        option = self.random.choice(["vendor-class-identifier", "user-class", "host-name"])
        part = text[start:start + size]
        return f"substring(option {option}, {start}, {size}) = \"{part}\""

    def presence(self):
        return self.random.choice(
            [f"exists {name}" for name in OPTIONS] + ["known", "static"])

    def pattern(self):
        return self.random.choice(PATTERNS)

    def option(self):
        return f"option {self.random.choice(list(OPTIONS))}"

    def constant(self):
        if self.random.random() < 0.6:
            return f"\"{self.random.choice(TEXTS)}\""
        return self.random.choice(BYTES)

    def whole(self):
        """Bytes with a NUL behind them in dhcpd, so that a pattern ends where they do."""
        texts = ["host-name", "vendor-class-identifier", "user-class"]
        option = f"option {self.random.choice(texts)}"
        return self.random.choice(
            [option, option, f"lcase({option})", f"ucase({option})", f"concat({option}, \"Z\")",
             "binary-to-ascii(16, 8, \":\", hardware)", "binary-to-ascii(10, 8, \".\", hardware)"])

    def data(self, depth):
        if depth == 0 or self.random.random() < 0.25:
            return self.one_of(self.option, self.option, self.constant, lambda: "hardware",
                               lambda: "filename", lambda: "server-name", lambda: "null")
        small = lambda: self.random.choice([0, 1, 2, 3, 5, 9, 100])
        inner = lambda: self.data(depth - 1)
        number = lambda: self.number(depth - 1) if self.random.random() < 0.2 else small()
        return self.one_of(
            lambda: f"substring({inner()}, {number()}, {number()})",
            lambda: f"suffix({inner()}, {number()})",
            lambda: f"lcase({inner()})", lambda: f"ucase({inner()})",
            lambda: f"concat({', '.join(inner() for _ in range(self.random.randint(2, 3)))})",
            lambda: f"pick-first-value({', '.join(inner() for _ in range(self.random.randint(1, 3)))})",
            lambda: f"pick({inner()}, {inner()})",
            lambda: f"reverse({self.random.choice([1, 1, 2, 3, 6])}, {inner()})",
            lambda: f"binary-to-ascii({self.random.choice([2, 8, 10, 16])}, "
                    f"{self.random.choice([8, 8, 16, 32, 12])}, \"{self.random.choice([':', '', '.'])}\", "
                    f"{inner()})",
            lambda: f"encode-int({self.number(depth - 1)}, {self.random.choice([8, 16, 32])})",
            lambda: f"packet({self.random.choice([0, 1, 4, 28, 108, 236, 299, 300, 2000])}, {small()})")

    def number(self, depth):
        """A number that begins with what is one in every place."""
        width = self.random.choice([8, 16, 32])
        # Nothing that may be empty, for dhcpd reads a byte out of it all the same.
        inner = self.random.choice(["option pxe-system-type", "option dhcp-message-type",
                                    "option dhcp-client-identifier", "hardware",
                                    "packet(28, 6)", "suffix(hardware, 4)",
                                    "concat(0, 0, option pxe-system-type)",
                                    "concat(0, 0, 0, option dhcp-message-type)"])
        text = f"extract-int({inner}, {width})"
        for _ in range(depth):
            if self.random.random() < 0.4:
                operator = self.random.choice(["+", "*", "/", "%", "&", "|", "^"])
                text = f"({text} {operator} {self.random.choice([0, 1, 2, 3, 7, 255, -2])})"
        return text


def damaged(seed, count):
    """Conditions of which a word or a sign is missing, twice there, or another."""
    chance = random.Random(f"damaged {seed}")
    signs = ["and", "or", "not", "=", "\"x\"", "(", ")", "+", "known", "hardware", ",", "null", "7"]
    for number in range(count):
        text = Conditions(f"{seed} damaged {number}").condition(2)
        for sign in "(),":
            text = text.replace(sign, f" {sign} ")
        words = text.split()
        at = chance.randrange(len(words))
        if words[at - 1] in ("option", "exists"):
            at -= 1  # a name by itself would be a variable
        words[at:at + 1] = chance.choice([[], [words[at], words[at]], [chance.choice(signs)],
                                          [words[at], chance.choice(signs)]])
        yield " ".join(words) or "x"


def machines(seed, count):
    """Messages of machines: (hardware address, options, file, sname), the first plain ones."""
    chance = random.Random(f"machines {seed}")
    for number in range(count):
        options = []
        for code in (12, 60, 77):
            if chance.random() < 0.7:
                value = chance.choice([text for text in TEXTS if text]).encode()
                if chance.random() < 0.1:
                    value += b"\0"
                options.append((code, value))
        if chance.random() < 0.5:
            options.append((61, bytes([1]) + chance.randbytes(chance.choice([2, 6, 6, 15]))))
        if chance.random() < 0.5:
            options.append((93, chance.choice([b"\0\0", b"\0\7", b"\0\7\0\x09"])))
        if chance.random() < 0.3:
            # In two pieces (RFC 3396).
            value = chance.choice([b"A" * 300, b"0102" * 70])
            options += [(200, value[:255]), (200, value[255:])]
        elif chance.random() < 0.3:
            options.append((200, chance.choice(TEXTS[:-1]).encode() or b"."))
        if chance.random() < 0.3:
            options.append((201, chance.choice([b"\1\4AAAA", b"\1\4iPXE\2\2\0\7", b"\2\2\1\1"])))
        file = chance.choice([b"", b"", b"pxelinux.0", b"A" * 128])
        sname = chance.choice([b"", b"", b"iPXE"])
        yield f"52:54:00:00:{number >> 8:02x}:{number & 255:02x}", options, file, sname
