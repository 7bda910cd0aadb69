"""Many machines at once through one relay agent, and a ledger of every ACK they saw."""

import select
import socket
import threading
import time

import lab as laboratory
import wire


class Load(threading.Thread):
    """A closed loop: so many machines in flight, each through DISCOVER and REQUEST.

    A machine that is not answered begins again with DISCOVER, as firmware does.
    """

    def __init__(self, namespace, relay, server, first=0, in_flight=48):
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
        self.acked = {}  # address: the mac that was told it last
        self.given_twice = []
        self.acks = 0

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
        self._send("DISCOVER", mac, self._next)

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
        self.acks += 1
        holder = self.acked.get(answer.yiaddr)
        if holder not in (None, answer.chaddr):
            self.given_twice.append((answer.yiaddr, holder, answer.chaddr))
        self.acked[answer.yiaddr] = answer.chaddr

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
    def last(self):
        """The number of the last machine, for the next load to go on from."""
        return self._next
