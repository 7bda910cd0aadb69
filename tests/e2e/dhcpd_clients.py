"""Seeded clients: what each sends, step by step, to a server that it has a view of."""

import random
import socket

import dhcpd_files
import expressions
import wire

# What a client may do after its DISCOVER was answered. A RELEASE or DECLINE comes last but one.
_LIVES = [
    ["discover", "select"], ["discover", "select", "renew"], ["discover", "select", "rebind"],
    ["discover", "select", "reboot"], ["discover", "select", "discover", "select"],
    ["discover", "select", "release", "discover"], ["discover", "select", "decline", "discover"],
    ["discover", "reboot-elsewhere"], ["reboot-unknown"], ["reboot-foreign"], ["renew-unknown"],
    ["discover", "select-other"], ["inform"], ["bootp"], ["bootp", "bootp"],
    ["discover", "select", "inform-bound"], ["discover", "reboot"],
    ["discover", "select", "inform-source"], ["discover", "select", "other-id", "select"],
    ["discover", "select", "release", "reboot"], ["discover", "select", "decline", "reboot"],
    ["discover", "select", "other-id", "select", "renew"], ["discover", "select-infinite", "renew"],
]
_FOREIGN = "192.168.7.7"


class View:
    """What one client knows of one server."""

    def __init__(self):
        self.address = self.server = "0.0.0.0"

    def learn(self, answer):
        if answer is not None and answer.kind in ("OFFER", "ACK", "BOOTP"):
            if answer.yiaddr != "0.0.0.0":
                self.address = answer.yiaddr
            self.server = answer.address(54) or self.server


class Client:
    """One client of one file."""

    def __init__(self, number, file, seed, taken=()):
        chance = self.random = random.Random(f"client {seed} {number}")
        self.number = number
        self.mac, identifier = f"52:54:00:88:00:{number:02x}", None
        if file.hosts and chance.random() < 0.4:
            mac, identifier = chance.choice(file.hosts)
            # Which of two machines with one hardware address is first is not decided.
            self.mac, identifier = (self.mac, None) if mac in taken else (mac, identifier)
        self.relay = chance.choice([None, *file.relays, *file.relays])
        self.options = self._options(identifier)
        self.agent = None
        if self.relay and chance.random() < 0.5:
            self.agent = chance.choice([b"\1\4rack\2\3top", b"\1\4AAAA", b"\2\6\x52\x54\0\0\0\1"])
        self.broadcast = chance.random() < 0.3
        self.secs = chance.choice([0, 0, 0, 1, 5, 40])
        # dhcpd keeps what an INFORM sets for all clients that come later.
        lives = [life for life in _LIVES if not (file.sets_variables and
                                                 any(step.startswith("inform") for step in life))]
        self.steps = list(chance.choice(lives))
        # What its first DISCOVER asks for: one that no other client asks for.
        net = chance.choice(file.nets(self.relay))
        self.wish = f"{net}.{chance.choice([139, 189]) - number}" if chance.random() < 0.6 else None
        self.wishes = self.wish is not None
        self.views = (View(), View())

    def _options(self, identifier):
        """Options of each of its messages."""
        chance = self.random
        options = []
        if chance.random() < 0.8:
            asked = chance.sample(dhcpd_files.ASKED, chance.randint(3, len(dhcpd_files.ASKED)))
            options.append((55, bytes(asked)))
        if identifier:
            options.append((61, identifier.encode()))
        elif chance.random() < 0.3:
            options.append((61, b"\1" + wire.mac_bytes(self.mac)))
        for code, share in ((12, 0.3), (60, 0.6), (77, 0.4)):
            if chance.random() < share:
                value = chance.choice([text for text in expressions.TEXTS if text])
                options.append((code, value.encode()))
        if chance.random() < 0.3:
            options.append((93, chance.choice([b"\0\0", b"\0\7"])))
        if chance.random() < 0.2:
            options.append((97, b"\0" + chance.randbytes(16)))
        if chance.random() < 0.2:
            options.append((57, chance.choice([576, 1024, 1500]).to_bytes(2, "big")))
        if chance.random() < 0.2:
            options.append((51, chance.choice([30, 900, 50_000]).to_bytes(4, "big")))
        if chance.random() < 0.2:
            options.append((200, b"0102"))
        if chance.random() < 0.1:
            options.append((80, b""))
        if chance.random() < 0.1:
            options.append((43, b"\1\4\x0a\0\0\1\x09\2ab"))
        return options

    def has_address(self):
        return all(view.address != "0.0.0.0" for view in self.views)

    def message(self, step, view, xid, again=False):
        """The datagram of a step: (payload, addresses of its frame). `again`: with its wish."""
        kind, own, late, ciaddr, relay = _KINDS[step], [], [], "0.0.0.0", self.relay
        address = view.address
        if self.wish and (step == "discover" or again):
            # One that was added later moves nothing else: `packet` sees that.
            late = [(50, self.wish)]
            if self.wishes and step == "discover":
                own, late = late, own
        elif step in ("select", "select-infinite"):
            own = [(50, address), (54, view.server)]
        elif step == "select-other":
            own = [(50, "10.77.99.99"), (54, "10.77.0.99")]
        elif step in ("reboot", "reboot-elsewhere"):
            own = [(50, address if step == "reboot" else f"{address.rsplit('.', 1)[0]}.251")]
        elif step == "reboot-unknown":
            own = [(50, f"{(self.relay or '10.77.4.1').rsplit('.', 1)[0]}"
                        f".{139 - self.number}")]
        elif step == "reboot-foreign":
            own = [(50, _FOREIGN)]
        elif step in ("renew", "rebind", "inform-bound"):
            ciaddr, relay = address, None if step == "renew" else relay
        elif step == "renew-unknown":
            ciaddr = f"{(self.relay or '10.77.4.1').rsplit('.', 1)[0]}.{139 - self.number}"
            relay = None
        elif step == "release":
            ciaddr, own, relay = address, [(54, view.server)], None
        elif step == "decline":
            own = [(50, address), (54, view.server)]
        elif step == "inform":
            ciaddr, relay = f"{(self.relay or '10.77.4.1').rsplit('.', 1)[0]}.60", self.relay
        elif step == "inform-source":
            relay = None
        if step == "other-id":
            # Another stage of its boot calls itself otherwise, from now on.
            others = [(code, value) for code, value in self.options if code != 61]
            self.options = [*others, (61, b"other" + bytes([self.number]))]
        own, late = ([(code, socket.inet_aton(value)) for code, value in part]
                     for part in (own, late))
        more = self.options if kind else []
        if step == "select-infinite":
            more = [*((code, value) for code, value in more if code != 51), (51, b"\xff" * 4)]
        options = [*own, *more, *late]
        if relay and self.agent:
            options.append((82, self.agent))
        payload = bytearray(wire.message(kind, self.mac, xid, options, broadcast=self.broadcast,
                                         ciaddr=ciaddr, giaddr=relay or "0.0.0.0",
                                         hops=1 if relay else 0))
        payload[8:10] = self.secs.to_bytes(2, "big")
        if relay:
            ends = {"source": relay, "destination": dhcpd_files.SERVER, "sport": 67}
        elif step == "inform-source":
            ends = {"source": address, "destination": dhcpd_files.SERVER}
        elif ciaddr != "0.0.0.0" and step not in ("rebind",):
            ends = {"source": ciaddr, "destination": dhcpd_files.SERVER}
        else:
            ends = {"source": ciaddr}
        return bytes(payload), ends


_KINDS = {"discover": "DISCOVER", "other-id": "DISCOVER", "inform-source": "INFORM",
          "select-infinite": "REQUEST", "select": "REQUEST", "select-other": "REQUEST",
          "reboot": "REQUEST", "reboot-elsewhere": "REQUEST", "reboot-unknown": "REQUEST",
          "reboot-foreign": "REQUEST", "renew": "REQUEST", "renew-unknown": "REQUEST",
          "rebind": "REQUEST", "release": "RELEASE", "decline": "DECLINE", "inform": "INFORM",
          "inform-bound": "INFORM", "bootp": None}
# Steps of a client that has an address.
NEED_ADDRESS = ("select", "reboot", "reboot-elsewhere", "renew", "rebind", "release", "decline",
                "inform-bound", "inform-source", "other-id", "select-infinite")
# Steps that no server answers.
SILENT = ("release", "decline")
