#!/usr/bin/env python3
"""Who holds an address keeps it: through reloads that move pools and hosts, through the stages of a
boot with pools of their own, and through ACKs that are lost.

Each machine here is one raw client on the wire. What it was told is what counts.
"""

import itertools
import time

import lab as laboratory
import wire
from lab import Lab
from server import Server, configuration
from suite import Suite

TAKES_SECONDS = 55

_SERVER = bytes([10, 77, 0, 1])
_RELAY = "10.77.9.9"
_FIRMWARE = ((60, b"PXEClient:Arch:00007:UNDI:003016"),)
_UUIDS = ("564d3210-aabb-ccdd-0102-030405060708", "0d9f9cd4-3df1-4ab9-8c9d-2f6a6f2b1c55")
_STAGES = """
[[dhcp.class]]
name = "firmware"
vendor-class = "PXEClient"
[[dhcp.subnet]]
subnet = "10.77.0.0/16"
pools = [
    { range = "10.77.4.10-10.77.4.13", class = "firmware" },
    { range = "10.77.4.40-10.77.4.43", deny = ["class:firmware"] },
]
"""


def packed(address):
    return bytes(map(int, address.split(".")))


def host(name, key, address="", extra=""):
    """A `[[dhcp.host]]`; the key is TOML."""
    ip = f'ip = "{address}"\n' if address else ""
    return f'[[dhcp.host]]\nname = "{name}"\n{key}\n{ip}{extra}\n'


def pool(low, high):
    return f'[[dhcp.subnet]]\nsubnet = "10.77.0.0/16"\npools = ["10.77.{low}-10.77.{high}"]\n'


class Machine:
    """One network card, and what was said to it."""

    _numbers = itertools.count(1)
    _xids = itertools.count(1)

    def __init__(self, wall, relayed=None):
        self.wall = wall
        self.mac = f"52:54:00:1e:a5:{next(self._numbers):02x}"
        # Option 82 of its relay agent; b"" for one that adds none, None without a relay agent.
        self.relayed = relayed

    @property
    def key(self):
        return f'hardware = "{self.mac}"'

    def ask(self, kind, options=(), seconds=3, **fields):
        """One message on its usual way, and the answer."""
        xid = next(self._xids)
        if self.relayed is None:
            return self.wall.raw.ask(kind, self.mac, xid, options, seconds=seconds, **fields)
        if self.relayed:
            options = (*options, (82, self.relayed))
        message = wire.message(kind, self.mac, xid, options, giaddr=_RELAY, hops=1, **fields)
        return self.wall.send(message, xid, seconds, _RELAY, 67)

    def discover(self, options=(), seconds=3):
        return self.ask("DISCOVER", options, seconds)

    def select(self, address, options=()):
        return self.ask("REQUEST", ((50, packed(address)), (54, _SERVER), *options))

    def boot(self, options=()):
        """DISCOVER to ACK: the address, or what was said instead of an ACK."""
        offer = self.discover(options)
        if offer is None:
            return "no OFFER"
        ack = self.select(offer.yiaddr, options)
        return self.told(ack)

    def reboot(self, address):
        """INIT-REBOOT."""
        return self.told(self.ask("REQUEST", ((50, packed(address)),)))

    def renew(self, address):
        """RENEWING: by unicast, past any relay agent."""
        return self.told(self.renewal(address))

    def renewal(self, address):
        self.wall.answers(self.mac, address)
        xid = next(self._xids)
        message = wire.message("REQUEST", self.mac, xid, ciaddr=address)
        return self.wall.send(message, xid, 3, address, 68)

    @staticmethod
    def told(answer):
        if answer is None:
            return "silence"
        return answer.yiaddr if answer.kind == "ACK" else answer.kind


class Wall:
    """The outlet that all machines are plugged into."""

    def __init__(self, lab):
        self.lab = lab
        namespace = lab.namespace("machines")
        lab.plug(namespace, 0)
        laboratory.sh(f"ip -n {namespace} addr add {_RELAY}/16 dev eth0")
        with laboratory.inside(namespace):
            self.raw = wire.Raw("eth0")
        self.mac = self._mac(namespace)
        self._server_mac = self._mac(lab.srv)

    @staticmethod
    def _mac(namespace):
        return laboratory.sh(f"ip netns exec {namespace} cat /sys/class/net/eth0/address").strip()

    def send(self, message, xid, seconds, source, sport):
        """A message by unicast to the server, and the answer."""
        self.raw.send(message, self.mac, source=source, destination="10.77.0.1", sport=sport,
                      to=self._server_mac)
        return next((answer for _, answer in self.raw.replies(seconds) if answer.xid == xid), None)

    def answers(self, mac, address):
        """The server finds this card where it sends to the address: raw clients speak no ARP."""
        laboratory.sh(f"ip -n {self.lab.srv} neigh replace {address} lladdr {mac} dev eth0 "
                      "nud permanent")


class Scene:
    """A server with its machines."""

    _numbers = itertools.count(1)

    def __init__(self, suite, wall, network, dhcp=""):
        self.suite, self.wall = suite, wall
        self.server = Server(wall.lab, text="", name=f"holders{next(self._numbers)}")
        self.server.configure(self._text(network, dhcp))
        self.server.start()

    def _text(self, network, dhcp):
        return configuration(self.server.state, subnets=[network], server="shards = 2", dhcp=dhcp)

    def reload(self, network, dhcp=""):
        self.server.configure(self._text(network, dhcp))
        self.suite.equal("reload", self.server.tool("reload")[0], 0)

    def machine(self, **how):
        return Machine(self.wall, **how)

    def warned(self, *words):
        """The warnings of its log that have all the words."""
        return [line for line in self.server.log(400).splitlines()
                if "WARN" in line and all(word in line for word in words)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.stop()


def pool_moved_and_host_added(suite, wall):
    with Scene(suite, wall, pool("4.0", "4.0")) as scene:
        holder, reserved = scene.machine(), scene.machine()
        suite.equal("a machine gets the pool's address", holder.boot(), "10.77.4.0")
        entry = host("b", reserved.key, "10.77.4.0")
        scene.reload(pool("5.0", "5.5") + entry)
        meanwhile = reserved.boot()
        suite.check("the reserved machine gets another one while that is held",
                    meanwhile.startswith("10.77.5."), meanwhile)
        suite.equal("and keeps it while that is held", reserved.renew(meanwhile), meanwhile)
        release = "bootstorm leases release 10.77.4.0"
        for _ in range(3):
            reserved.discover()
        said = scene.warned("10.77.4.0", holder.mac, release)
        suite.equal("a warning names address, holder and the way out, once", len(said), 1)
        suite.equal("the holder is refused at its renewal", holder.renew("10.77.4.0"), "NAK")
        suite.equal("until it asks anew the address is nobody else's", reserved.renew(meanwhile),
                    meanwhile)
        suite.check("it gets another one", holder.boot().startswith("10.77.5."))
        suite.equal("now the reserved machine is told to move", reserved.renew(meanwhile), "NAK")
        suite.equal("and has its address", reserved.boot(), "10.77.4.0")


def no_other_pool(suite, wall):
    with Scene(suite, wall, pool("4.0", "4.0")) as scene:
        holder, reserved = scene.machine(), scene.machine()
        suite.equal("a machine gets the pool's address", holder.boot(), "10.77.4.0")
        entry = host("b", reserved.key, "10.77.4.0")
        scene.reload('[[dhcp.subnet]]\nsubnet = "10.77.0.0/16"\n' + entry)
        suite.equal("where no pool permits it the reserved machine hears nothing",
                    [reserved.discover(seconds=0.5) for _ in range(3)], [None] * 3)
        suite.check("and the log says why, once", len(scene.warned(reserved.mac)) == 1
                    and scene.warned("10.77.4.0", holder.mac), scene.server.log())
        suite.equal("leases release", scene.server.tool("leases", "release", "10.77.4.0")[0], 0)
        suite.equal("is the operator's way", reserved.boot(), "10.77.4.0")


def address_moved_between_hosts(suite, wall):
    with Scene(suite, wall, pool("5.0", "5.5")) as scene:
        first, second = scene.machine(), scene.machine()
        scene.reload(pool("5.0", "5.5") + host("a", first.key, "10.77.4.1"))
        suite.equal("one host has its address", first.boot(), "10.77.4.1")
        scene.reload(pool("5.0", "5.5") + host("a", first.key)
                     + host("b", second.key, "10.77.4.1"))
        meanwhile = second.boot()
        suite.check("the other host gets another one", meanwhile.startswith("10.77.5."), meanwhile)
        suite.equal("the first is refused", first.renew("10.77.4.1"), "NAK")
        suite.check("and gets another one", first.boot().startswith("10.77.5."))
        suite.equal("then the other has its address", second.boot(), "10.77.4.1")


def offer_beside_a_lease(suite, wall):
    with Scene(suite, wall, _STAGES, 'lease-time = "600s"') as scene:
        machine = scene.machine()
        leased = machine.boot()
        suite.equal("the system has an address of its pool", leased, "10.77.4.40")
        offer = machine.discover(_FIRMWARE)
        suite.equal("its firmware is offered one of another pool", offer and offer.yiaddr,
                    "10.77.4.10")
        suite.equal("and the system still has its lease", machine.reboot(leased), leased)
        suite.equal("which it renews", machine.renew(leased), leased)


def stages_in_turn(suite, wall):
    with Scene(suite, wall, _STAGES, 'lease-time = "600s"') as scene:
        machine, other = scene.machine(), scene.machine()
        boots = [(machine.boot(_FIRMWARE), machine.boot()) for _ in range(6)]
        suite.equal("a machine has one address in each stage, whenever it boots", set(boots),
                    {("10.77.4.10", "10.77.4.40")})
        suite.equal("and another machine has two as well", (other.boot(_FIRMWARE), other.boot()),
                    ("10.77.4.11", "10.77.4.41"))


def port_left_behind(suite, wall):
    port = b"\x01\x02p1"
    by_port = ('[[dhcp.class]]\nname = "p1"\ncircuit-id = "p1"\n'
               'options = { domain-name = "p1.example" }\n')
    reserved = host("p1", 'circuit-id = "p1"', "10.77.4.0")
    with Scene(suite, wall, pool("4.0", "4.9") + by_port) as scene:
        machine = scene.machine(relayed=port)
        address = machine.boot()

        def domain():
            answer = machine.renewal(address)
            return answer and answer.options.get(15)
        suite.equal("on its port it gets the port's options", domain(), b"p1.example")
        machine.relayed = b""
        suite.equal("it moves behind a relay agent that names no port", machine.boot(), address)
        suite.equal("and its renewals have the port's options no more", domain(), b"rack.example")
        scene.reload(pool("4.0", "4.9") + reserved.replace("4.0", address[6:]))
        other = scene.machine(relayed=port)
        got = other.boot()
        suite.check("another machine on the port does not get the address that is held",
                    got not in (address, "silence", "NAK"), got)


def swapped(suite, wall, lease, way):
    with Scene(suite, wall, pool("4.0", "4.9"), lease) as scene:
        first, second = scene.machine(), scene.machine()

        def entries(one, two):
            return (pool("4.0", "4.9") + host("a", first.key, f"10.77.4.{one}")
                    + host("b", second.key, f"10.77.4.{two}"))
        scene.reload(entries(1, 2), lease)
        suite.equal(f"{way}: each has its address", (first.boot(), second.boot()),
                    ("10.77.4.1", "10.77.4.2"))
        scene.reload(entries(2, 1), lease)
        suite.equal(f"{way}: swapped, the first is refused", first.reboot("10.77.4.1"), "NAK")
        meanwhile = first.boot()
        suite.check(f"{way}: and has another address meanwhile",
                    meanwhile.startswith("10.77.4.") and meanwhile not in ("10.77.4.1",
                                                                           "10.77.4.2"), meanwhile)
        suite.equal(f"{way}: the second is refused", second.reboot("10.77.4.2"), "NAK")
        suite.equal(f"{way}: and has its new address", second.boot(), "10.77.4.1")
        suite.equal(f"{way}: the first is told to move", first.renew(meanwhile), "NAK")
        suite.equal(f"{way}: and has its new address", first.boot(), "10.77.4.2")


def endless_made_finite(suite, wall):
    with Scene(suite, wall, pool("4.0", "4.0"), 'lease-time = "infinite"') as scene:
        machine, other = scene.machine(), scene.machine()
        suite.equal("a machine has the address for ever", machine.boot(), "10.77.4.0")
        scene.reload(pool("4.0", "4.0"), 'lease-time = "2s"')
        # It may not have heard this ACK: what it was told before counts.
        suite.equal("a reload makes that 2 s", machine.reboot("10.77.4.0"), "10.77.4.0")
        time.sleep(3)
        suite.equal("nobody else gets it when they are over", other.discover(seconds=1), None)
        suite.equal("a renewal says that the machine heard of it", machine.renew("10.77.4.0"),
                    "10.77.4.0")
        time.sleep(3)
        suite.equal("then the lease ends", other.boot(), "10.77.4.0")


def _uuid_option(uuid):
    """Option 97 of firmware on a mainboard with that UUID."""
    return (97, b"\0" + bytes.fromhex(uuid.replace("-", "")))


def key_edited(suite, wall):
    """The mainboard of a host is another now; the system of the old one still runs."""
    def entry(uuid):
        return host("n", f'uuid = "{uuid}"', "10.77.4.1",
                    'boot = { file = "wipe.efi" }\noptions = { domain-name = "n.example" }')
    with Scene(suite, wall, pool("5.0", "5.5") + entry(_UUIDS[0])) as scene:
        machine = scene.machine()
        firmware = (*_FIRMWARE, _uuid_option(_UUIDS[0]))
        suite.equal("a host by UUID has its address", machine.boot(firmware), "10.77.4.1")
        renewed = machine.renewal("10.77.4.1")
        suite.equal("and its options when it renews without the UUID",
                    renewed and renewed.options.get(15), b"n.example")
        scene.reload(pool("5.0", "5.5") + entry(_UUIDS[1]))
        suite.equal("it is the host no more when that has another UUID",
                    machine.renew("10.77.4.1"), "NAK")
        offer = machine.discover()
        suite.check("nor when it asks anew", offer and offer.yiaddr.startswith("10.77.5.")
                    and offer.options.get(15) == b"rack.example", offer)


def offer_then_ack(suite, wall):
    """A host by UUID whose address has moved to one that somebody holds."""
    uuid = _uuid_option(_UUIDS[0])

    def entry(address):
        return host("n", f'uuid = "{_UUIDS[0]}"', address,
                    'options = { domain-name = "n.example" }')
    with Scene(suite, wall, pool("4.0", "4.9") + entry("10.77.6.1")) as scene:
        machine, holder = scene.machine(), scene.machine()
        held = holder.boot()
        suite.equal("a host by UUID has its address", machine.boot((*_FIRMWARE, uuid)),
                    "10.77.6.1")
        scene.reload(pool("4.0", "4.9") + entry(held))
        suite.equal("its system is told to leave it", machine.reboot("10.77.6.1"), "NAK")
        offer = machine.discover()
        suite.check("and is offered another as the host that it is", offer
                    and offer.yiaddr not in ("10.77.6.1", held)
                    and offer.options.get(15) == b"n.example", offer)
        if offer:
            ack = machine.select(offer.yiaddr)
            suite.equal("the ACK says what the OFFER said", ack and ack.options.get(15),
                        b"n.example")


def swapped_by_firmware(suite, wall):
    """Network ROMs never ask for the address that they had."""
    def entries(one, two):
        return ('[[dhcp.subnet]]\nsubnet = "10.77.0.0/16"\n' + host("a", first.key, f"10.77.4.{one}")
                + host("b", second.key, f"10.77.4.{two}"))
    endless = 'lease-time = "infinite"'
    first, second = Machine(wall), Machine(wall)
    with Scene(suite, wall, entries(1, 2), endless) as scene:
        suite.equal("each has its address", (first.boot(), second.boot()),
                    ("10.77.4.1", "10.77.4.2"))
        scene.reload(entries(2, 1), endless)
        suite.equal("swapped, the address of each is held by the other",
                    (first.discover(seconds=1), second.discover(seconds=1)), (None, None))
        for _ in range(3):
            boots = (first.boot(), second.boot())
        suite.equal("when they have asked again each has its new one", boots,
                    ("10.77.4.2", "10.77.4.1"))


def bootp_beside_dhcp(suite, wall):
    first, second = Machine(wall), Machine(wall)
    cards = host("n", f'hardware = ["{first.mac}", "{second.mac}"]', "10.77.6.1")
    with Scene(suite, wall, pool("4.0", "4.9") + cards) as scene:
        reply = first.ask(None)
        suite.equal("one card of a host has its address by BOOTP", reply and reply.yiaddr,
                    "10.77.6.1")
        said = scene.server.leases()["10.77.6.1"]
        suite.check("which is a lease without end", said["state"] == "active"
                    and said["expires"] == "never", said)
        other = second.boot()
        suite.check("so its other card gets another one", other.startswith("10.77.4."), other)
        suite.check("and the log says who has it", laboratory.wait_until(
            lambda: scene.warned("10.77.6.1", first.mac), 3))
        suite.equal("its system has it by DHCP", first.boot(), "10.77.6.1")
        suite.equal("and gives it back", scene.server.tool("leases", "release", "10.77.6.1")[0], 0)
        suite.equal("then the other card moves", (second.renew(other), second.boot()),
                    ("NAK", "10.77.6.1"))


def main():
    suite = Suite("Lease holders")
    wall = Wall(Lab())
    for what, act in [
        ("a pool is moved away and its address reserved", pool_moved_and_host_added),
        ("without another pool", no_other_pool),
        ("an address goes from one host to another", address_moved_between_hosts),
        ("an offer beside a lease", offer_beside_a_lease),
        ("stages with pools of their own, in turn", stages_in_turn),
        ("a port that was left", port_left_behind),
        ("reservations that swap", lambda *to: swapped(*to, "", "an hour")),
        ("endless ones that swap", lambda *to: swapped(*to, 'lease-time = "infinite"', "endless")),
        ("an endless lease made finite", endless_made_finite),
        ("a host gets another key", key_edited),
        ("an offer, and its ACK", offer_then_ack),
        ("hosts that swap and never renew", swapped_by_firmware),
        ("BOOTP beside DHCP", bootp_beside_dhcp),
    ]:
        with suite.step(what):
            act(suite, wall)
    suite.finish()


if __name__ == "__main__":
    main()
