"""A relay agent beside the server, which asks for machines one after the other."""

import socket

import lab as laboratory
import wire

ADDRESS = "10.77.9.9"
SERVER = "10.77.0.1"


class Relay:
    """A relay agent in a namespace of its own. It asks all `servers`, `tries` times, each time for
    `seconds`."""

    def __init__(self, lab, tries=3, seconds=1, servers=(SERVER,)):
        namespace = lab.namespace("relay")
        lab.plug(namespace, 0)
        laboratory.sh(f"ip -n {namespace} addr add {ADDRESS}/16 dev eth0")
        with laboratory.inside(namespace):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.bind((ADDRESS, 67))
        self._socket.settimeout(seconds)
        self._tries, self._xid, self._servers = tries, 0, servers

    def send(self, kind, mac, options=(), **fields):
        """Sends a message in a transaction of its own."""
        self._xid += 1
        self._transmit(kind, mac, options, fields)

    def _transmit(self, kind, mac, options, fields):
        message = wire.message(kind, mac, self._xid, options, giaddr=ADDRESS, hops=1, **fields)
        for server in self._servers:
            self._socket.sendto(message, (server, 67))

    def ask(self, kind, mac, options=(), **fields):
        """The answer to a message, or None. As clients do, it asks again in the same transaction:
        a server that is slower than it asks is heard as well."""
        self._xid += 1
        for _ in range(self._tries):
            self._transmit(kind, mac, options, fields)
            try:
                while True:
                    answer = wire.Message(self._socket.recv(4096))
                    if answer.xid == self._xid:
                        return answer
            except TimeoutError:
                continue
        return None

    def answer(self, kind, mac, options=()):
        """The answer to a message that must be answered."""
        answer = self.ask(kind, mac, options)
        if answer is None:
            raise RuntimeError(f"no answer to {mac}")
        return answer
