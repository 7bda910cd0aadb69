"""Many machines at once through one relay agent, and a ledger of every ACK they saw."""

import random
import select
import socket
import threading
import time
from collections import deque

import lab as laboratory
import wire


class Ledger:
    """Who holds which address, by what the machines were told. It outlives loads and servers."""

    def __init__(self, held=()):
        self.held = dict(held)  # address: the mac that was told it last
        self.given_twice = []
        self.acks = self.given_again = 0
        self._given_back = set()

    def told(self, address, mac):
        """A machine saw an ACK."""
        self.acks += 1
        holder = self.held.get(address)
        if holder not in (None, mac):
            self.given_twice.append((address, holder, mac))
        self.given_again += address in self._given_back
        self._given_back.discard(address)
        self.held[address] = mac

    def gives_back(self, address):
        """A machine is about to say that it no longer wants its address."""
        self.held.pop(address, None)
        self._given_back.add(address)

    def snapshot(self):
        """Who holds what at this moment, also while machines are told more."""
        return dict(self.held)

    @staticmethod
    def lost(held, rows):
        """Of the addresses held those that a server's rows do not have so."""
        return [(address, mac) for address, mac in held.items()
                if (rows.get(address, {}).get("hardware"), rows.get(address, {}).get("state"))
                != (mac, "active")]


class Load(threading.Thread):
    """A closed loop: so many machines in flight, each through DISCOVER and REQUEST.

    A machine that is not answered begins again with DISCOVER, as firmware does. Of those with an
    address, the share `leave` gives it back at once, by RELEASE or DECLINE, and as many others
    ask for an address that was given back.
    """

    def __init__(self, namespace, relay, server, first=0, in_flight=48, ledger=None, leave=0.0):
        super().__init__(daemon=True)
        with laboratory.inside(namespace):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            self._socket.bind((relay, 67))
        self._socket.setblocking(False)
        self._relay, self._server = relay, (server, 67)
        self._next, self._in_flight = first, in_flight
        self._going = True
        self._waiting = {}  # xid: (mac, sent at)
        self._leave, self._dice = leave, random.Random(first)
        self._given_back = deque(maxlen=in_flight)
        self.releases = self.declines = 0
        self.ledger = ledger or Ledger()
        self._before = self.ledger.acks, self.ledger.given_again

    def run(self):
        while self._going:
            now = time.monotonic()
            for xid, (mac, sent) in list(self._waiting.items()):
                if now - sent > 0.5:
                    self._send("DISCOVER", mac, xid)
            while len(self._waiting) < self._in_flight:
                self._power_on()
            if select.select([self._socket], [], [], 0.05)[0]:
                self._drain()

    def _power_on(self):
        self._next += 1
        mac = "52:54:" + ":".join(f"{byte:02x}" for byte in self._next.to_bytes(4, "big"))
        wanted = []
        if self._given_back and self._dice.random() < self._leave:
            wanted = [(50, socket.inet_aton(self._given_back.popleft()))]
        self._send("DISCOVER", mac, self._next, wanted)

    def _send(self, kind, mac, xid, options=()):
        self._waiting[xid] = (mac, time.monotonic())
        self._transmit(wire.message(kind, mac, xid, options, giaddr=self._relay, hops=1))

    def _transmit(self, payload):
        try:
            self._socket.sendto(payload, self._server)
        except OSError:
            pass  # full, or nobody listens just now: it counts as lost on the way

    def _drain(self):
        for _ in range(1000):
            try:
                answer = wire.Message(self._socket.recv(4096))
            except (BlockingIOError, ConnectionRefusedError):
                return
            if answer.xid not in self._waiting or answer.chaddr != self._waiting[answer.xid][0]:
                continue
            if answer.kind == "OFFER":
                self._send("REQUEST", answer.chaddr, answer.xid, [
                    (50, socket.inet_aton(answer.yiaddr)), (54, answer.options[54])])
            elif answer.kind == "ACK":
                self._take(answer)
            else:
                del self._waiting[answer.xid]

    def _take(self, answer):
        del self._waiting[answer.xid]
        self.ledger.told(answer.yiaddr, answer.chaddr)
        if self._going and self._dice.random() < self._leave:
            self._give_back(answer)

    def _give_back(self, answer):
        address, server = socket.inet_aton(answer.yiaddr), (54, answer.options[54])
        self.ledger.gives_back(answer.yiaddr)
        if self._dice.random() < 0.1:
            self.declines += 1
            self._transmit(wire.message("DECLINE", answer.chaddr, answer.xid,
                                        [(50, address), server], giaddr=self._relay, hops=1))
        else:
            self.releases += 1
            self._given_back.append(answer.yiaddr)
            self._transmit(wire.message("RELEASE", answer.chaddr, answer.xid, [server],
                                        ciaddr=answer.yiaddr))

    def settle(self):
        """Stops sending, and reads what is still on its way."""
        self._going = False
        self.join()
        time.sleep(0.05)
        self._drain()
        return self

    def close(self):
        self._socket.close()

    @property
    def acks(self):
        """ACKs that this load saw."""
        return self.ledger.acks - self._before[0]

    @property
    def given_again(self):
        """How many of these were for an address that somebody had given back."""
        return self.ledger.given_again - self._before[1]

    @property
    def last(self):
        """The number of the last machine, for the next load to go on from."""
        return self._next
