#!/usr/bin/env python3
"""A BIOS machine, from power-on to an installer with an address.

QEMU's network ROM is iPXE and says user class iPXE in its first DISCOVER: boot.ipxe, then
PXELINUX by TFTP, then a Debian kernel whose initrd asks for an address once more. One
machine must keep one address through all of it.
"""

import shutil

from lab import Lab
from machine import Machine, check_boot_options, installer_initrd, kernel_image
from server import Server, subnet
from suite import Suite

TAKES_SECONDS = 17

MAC = "52:54:00:b1:05:01"
_SCRIPT = """#!ipxe
echo SCRIPT ip=${net0/ip} next-server=${next-server}
chain pxelinux.0
"""
_MENU = """serial 0 115200
default debian
prompt 0
label debian
  kernel vmlinuz
  initrd initrd.gz
  append console=ttyS0 quiet panic=5
"""


def main():
    suite = Suite("BIOS boot")
    lab = Lab()
    lab.write("tftp/boot.ipxe", _SCRIPT)
    lab.write("tftp/pxelinux.cfg/default", _MENU)
    lab.write("tftp/initrd.gz", installer_initrd(lab.directory))
    shutil.copy(kernel_image(), lab.path("tftp/vmlinuz"))
    shutil.copy("/usr/lib/PXELINUX/pxelinux.0", lab.path("tftp"))
    shutil.copy("/usr/lib/syslinux/modules/bios/ldlinux.c32", lab.path("tftp"))
    rules = 'boot = [ { user-class = "iPXE", file = "boot.ipxe" }, { file = "pxelinux.0" } ]'
    server = Server(lab, subnets=[subnet(extra=rules)], tftp=lab.path("tftp"))
    suite.explain_with(server.log)
    with suite.step("a machine powers on"):
        server.start()
        lab.advertise_router()
        sniffer = lab.sniff()
        machine = Machine(lab, MAC)
        suite.explain_with(machine.screen)
        script = machine.wait(r"SCRIPT ip=(\S+) next-server=(\S+)", 60)
        suite.check("the network ROM runs boot.ipxe", script)
        suite.check("PXELINUX starts", machine.wait(r"PXELINUX", 30))
        installer = machine.wait(
            r"INSTALLER address=(\S+) router=(\S+) server=(\S+) lease=(\d+)", 120)
        suite.check("the kernel's user space has an address", installer)
        suite.check("the machine powers off by itself", machine.powers_off(20))
    with suite.step("what was on the cable"):
        asked = sniffer.tftp_requests()
        suite.equal("files in order, without PXELINUX's search for its configuration",
                    [name.lstrip("/") for name in asked if "pxelinux.cfg/" not in name
                     or name.endswith("default")],
                    ["boot.ipxe", "pxelinux.0", "ldlinux.c32", "pxelinux.cfg/default",
                     "vmlinuz", "initrd.gz"])
        given = {message.yiaddr for _, message in sniffer.dhcp("ACK", MAC)}
        suite.check("ROM and installer were acknowledged",
                    len(sniffer.dhcp("ACK", MAC)) >= 2, sniffer.dhcp("ACK", MAC))
        suite.equal("one machine, one address", given, {script[1]})
        suite.equal("the installer has that address", installer[1], script[1])
        suite.equal("router, as configured", installer[2], "10.77.0.1")
        suite.equal("boot files come from this server", script[2], "10.77.0.1")
        check_boot_options(suite, sniffer, MAC, ["boot.ipxe"])
        offers, discovers = sniffer.dhcp("OFFER", MAC), sniffer.dhcp("DISCOVER", MAC)
        suite.check("an OFFER for each DISCOVER, no more", 1 < len(offers) <= len(discovers),
                    f"{len(offers)} offers, {len(discovers)} discovers")
        rows = [row for row in server.leases().values() if row["hardware"] == MAC]
        suite.equal("one lease in the server's list", [row["ip"] for row in rows], [script[1]])
    with suite.step("the server ends"):
        suite.equal("SIGTERM, exit status", server.stop(), 0)
    suite.finish()


if __name__ == "__main__":
    main()
