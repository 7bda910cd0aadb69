"""Machines behind a relay agent that are served by one server after another."""

import random
import socket

import wire
from relay import SERVER, Relay

MOST_ASKING = 2000


class Machine:
    """One card behind the relay agent, with a client identifier or without one."""

    def __init__(self, number):
        self.mac = "52:54:" + ":".join(f"{byte:02x}" for byte in number.to_bytes(4, "big"))
        self.options = []
        if number % 3 == 0:
            self.options.append((61, b"\1" + wire.mac_bytes(self.mac)))
        elif number % 3 == 1:
            self.options.append((61, b"\xff\0\"\\\x7f" + number.to_bytes(4, "big")))
        if number % 5 == 0:
            self.options.append((12, f"n{number}".encode()))
        if number % 7 == 0:
            self.options.append((60, b"PXEClient:Arch:00007"))
        if number % 2 == 0:
            circuit = b"port%d" % number if number % 4 else b"\0\4\0" + bytes([number % 251])
            self.relayed = bytes([1, len(circuit)]) + circuit + b"\2\3sw1"
        else:
            self.relayed = None
        self.address = None

    def says(self, options):
        """Its own options, these, and those of the relay agent."""
        relayed = [(82, self.relayed)] if self.relayed else []
        return [*self.options, *options, *relayed]


class Machines:
    """What machines behind a relay agent say and hear."""

    def __init__(self, lab, servers=(SERVER,)):
        # dhcpd is silent for seconds where a pool has 100,000 leases and others want the processor.
        self._relay = Relay(lab, tries=120, seconds=0.5, servers=servers)

    def ask(self, kind, machine, options=()):
        return self._relay.ask(kind, machine.mac, machine.says(options))

    def boot(self, machine):
        """DISCOVER and REQUEST; the address that it has then."""
        offer = self.ask("DISCOVER", machine)
        if offer is None:
            return None
        wanted = [(50, socket.inet_aton(offer.yiaddr)), (54, offer.options[54])]
        return self._request(machine, wanted)

    def again(self, machine):
        """INIT-REBOOT: the machine asks for the address that it had."""
        return self._request(machine, [(50, socket.inet_aton(machine.address))])

    def _request(self, machine, options):
        """The address that a REQUEST is acknowledged, or None."""
        ack = self.ask("REQUEST", machine, options)
        return ack.yiaddr if ack is not None and ack.kind == "ACK" else None

    def leave(self, kind, machine, server=SERVER):
        """RELEASE or DECLINE."""
        server = (54, socket.inet_aton(server))
        if kind == "RELEASE":
            said, ciaddr = [server], machine.address
        else:
            said, ciaddr = [(50, socket.inet_aton(machine.address)), server], "0.0.0.0"
        self._relay.send(kind, machine.mac, machine.says(said), ciaddr=ciaddr)


def keep(suite, what, relay, machines, surely=()):
    """Each machine asks as it would after the change, and has the address that it had. Of many
    machines only some ask, those that surely do among them."""
    dice = random.Random(len(machines))
    moved = []
    others = [machine for machine in machines if machine not in surely]
    machines = [*surely, *dice.sample(others, min(len(others), MOST_ASKING))]
    for machine in machines:
        address = (relay.boot if dice.random() < 0.5 else relay.again)(machine)
        if address != machine.address:
            moved.append(f"{machine.mac}: {machine.address} -> {address}")
    suite.check(f"{what}: {len(machines)} machines keep their addresses", not moved,
                f"{len(moved)} moved: " + "\n".join(moved[:8]))


def newcomers(suite, what, relay, machines, first, count, taken):
    """Machines that nobody knows get addresses that nobody has."""
    new = [Machine(first + number) for number in range(count)]
    held = {machine.address for machine in machines} | taken
    for machine in new:
        machine.address = relay.boot(machine)
    addresses = [machine.address for machine in new]
    suite.check(f"{what}: {count} new machines get addresses of their own",
                None not in addresses and len(set(addresses)) == count
                and not held.intersection(addresses), f"{addresses}")
    machines += new
