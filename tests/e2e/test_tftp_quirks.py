#!/usr/bin/env python3
"""What a machine says to DHCP decides what TFTP grants it: scripted machines with the vendor class
of firmware with a fault, of healthy firmware, and a reload that switches the quirk off."""

import socket

import lab as laboratory
import wire
from lab import Lab
from server import Server, configuration
from suite import Suite

HOST = "10.77.0.1"
UEFI = b"PXEClient:Arch:00007:UNDI:003016"
BIOS = b"PXEClient:Arch:00000:UNDI:002001"
MACS = ("52:54:00:77:00:01", "0c:c4:7a:77:00:01")

QUIRKS = """quirks-on = ["edk2-windowsize"]

[[tftp.quirk]]
name = "old-blades"
vendor-class = "PXEClient:Arch:00000"
mac-prefix = "52:54:00"
max-blksize = 700
ignore-options = "tsize"
"""


class Machine:
    """A machine with a MAC, a vendor class, and one try after the other to boot."""

    def __init__(self, lab, namespace, mac, vendor_class):
        self.lab, self.namespace, self.mac, self.vendor_class = lab, namespace, mac, vendor_class

    def lease(self):
        """DISCOVER to ACK; the address, which the namespace then has as well."""
        with laboratory.inside(self.namespace):
            raw = wire.Raw("eth0")
        said = [(60, self.vendor_class), (55, bytes((1, 3, 66, 67)))]
        offer = raw.ask("DISCOVER", self.mac, 7001, said, broadcast=True)
        chosen = [(50, socket.inet_aton(offer.yiaddr)), (54, offer.options[54])]
        ack = raw.ask("REQUEST", self.mac, 7002, said + chosen, broadcast=True)
        raw.close()
        if ack.kind != "ACK":
            raise RuntimeError(f"{ack.kind} instead of an ACK")
        # Its only one, so that every program asks from it.
        laboratory.sh(f"ip -n {self.namespace} addr flush dev eth0")
        laboratory.sh(f"ip -n {self.namespace} addr add {ack.yiaddr}/16 dev eth0")
        return ack.yiaddr

    def granted(self, address):
        """The options of the OACK to a request with blksize, windowsize and tsize."""
        with laboratory.inside(self.namespace):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(5)
        sock.bind((address, 0))
        sock.sendto(b"\0\1loader\0octet\0blksize\0001468\0windowsize\0004\0tsize\0000\0",
                    (HOST, 69))
        packet, sender = sock.recvfrom(2048)
        sock.sendto(b"\0\5\0\0enough\0", sender)
        sock.close()
        words = packet[2:].decode().split("\0")[:-1]
        if packet[:2] != b"\0\6":
            raise RuntimeError(f"no OACK: {packet!r}")
        return dict(zip(words[::2], words[1::2]))

    def boot(self):
        return self.granted(self.lease())


def whole(lab, namespace):
    """A copy of the file by another program: (status, output, bytes)."""
    status, output = lab.run(namespace, ["atftp", "--option", "blksize 1468", "--option",
                                    "windowsize 4", "--get", "-r", "loader", "-l",
                                    lab.path("got"), HOST])
    with open(lab.path("got"), "rb") as copy:
        return status, output, copy.read()


def main():
    suite = Suite("TFTP quirks")
    lab = Lab()
    content = bytes(range(256)) * 400
    lab.write("tftp/loader", content)
    namespace = lab.namespace("machine")
    lab.plug(namespace, 0)
    server = Server(lab)

    def configure(quirks):
        server.configure(configuration(server.state, tftp=lab.path("tftp"), after=quirks))

    configure(QUIRKS)
    suite.explain_with(server.log)
    asked = {"blksize": "1468", "windowsize": "4", "tsize": str(len(content))}
    with suite.step("the configuration"):
        status, output = server.tool("check")
        line = next((line for line in output.splitlines() if "quirks in force" in line), "")
        names = line.partition(": ")[2].split(", ")
        suite.check("check names the quirks in force", status == 0 and
                    {"bios-fragments", "edk2-windowsize", "old-blades"} <= set(names) and
                    "ovmf-blksize" not in names, output)
        server.start()
    with suite.step("what is granted"):
        faulty, healthy = MACS
        suite.equal("a built-in quirk, by vendor class",
                    Machine(lab, namespace, healthy, UEFI).boot(), {**asked, "windowsize": "1"})
        suite.equal("a quirk of the file, by vendor class and MAC",
                    Machine(lab, namespace, faulty, BIOS).boot(),
                    {"blksize": "700", "windowsize": "4"})
        suite.equal("another MAC of that vendor class gets all it asks for",
                    Machine(lab, namespace, healthy, BIOS).boot(), asked)
        suite.equal("another vendor class of that MAC gets its own quirk only",
                    Machine(lab, namespace, faulty, UEFI).boot(), {**asked, "windowsize": "1"})
        system = Machine(lab, namespace, faulty, b"an operating system")
        suite.equal("the same machine by another name has none", system.boot(), asked)
    with suite.step("what is told of it"):
        system.lease()
        status, output, data = whole(lab, namespace)
        suite.check("atftp gets the file without quirks", status == 0 and data == content, output)
        address = Machine(lab, namespace, faulty, BIOS).lease()
        status, output, data = whole(lab, namespace)
        suite.check("and with them", status == 0 and data == content, output)
        suite.check("the log names the quirk", laboratory.wait_until(lambda: any(
            "TFTP done" in line and "quirk=old-blades" in line and "blksize=700" in line
            for line in server.log().splitlines()), 3), server.log())
        status, page = lab.run(lab.srv, ["curl", "-sS", "http://127.0.0.1:9547/metrics"])
        count = [line for line in page.splitlines() if "tftp_quirks_total{" in line]
        suite.check("metrics count by name, and know those that did nothing", status == 0 and
                    'bootstorm_tftp_quirks_total{quirk="old-blades"} 2' in count and
                    'bootstorm_tftp_quirks_total{quirk="edk2-windowsize"} 2' in count and
                    'bootstorm_tftp_quirks_total{quirk="bios-fragments"} 0' in count,
                    "\n".join(count) or page)
    with suite.step("a reload"):
        configure('quirks-off = ["bios-fragments"]\n')
        suite.equal("reload", server.tool("reload")[0], 0)
        machine = Machine(lab, namespace, faulty, BIOS)
        suite.equal("without the quirk all is granted, to an address given before",
                    machine.granted(address), asked)
        configure(QUIRKS.replace("700", "800"))
        suite.equal("reload", server.tool("reload")[0], 0)
        suite.equal("a changed quirk holds from the next answer of DHCP on", machine.boot(),
                    {"blksize": "800", "windowsize": "4"})
        configure('quirks-off = ["edk2-window"]\n')
        status, output = server.tool("reload")
        suite.check("a name that is none is refused, and the names are told", status != 0 and
                    "edk2-windowsize" in output and "ovmf-blksize" in output, output)
        suite.equal("and what was in force stays", machine.boot(),
                    {"blksize": "800", "windowsize": "4"})
    with suite.step("the server ends"):
        suite.equal("SIGTERM, exit status", server.stop(), 0)
    suite.finish()


if __name__ == "__main__":
    main()
