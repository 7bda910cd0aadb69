#!/usr/bin/env python3
"""The tutorials' dhcpd.conf, unchanged, boots a BIOS machine and a UEFI machine.

Options for everybody, a subnet with a range, a boot file and its server, and hosts with addresses,
of which one has a router of its own.
"""

import os
import shutil

from debian import unpack
from lab import Lab
from machine import Machine, installer_initrd, kernel_image
from server import BINARY, OfDhcpd
from suite import Suite

TAKES_SECONDS = 40

BIOS, UEFI = "52:54:00:b1:05:07", "52:54:00:0e:f1:07"
_FILE = f"""# dhcpd.conf
option domain-name "example.org";
option domain-name-servers 10.77.0.2, 10.77.0.3;
default-lease-time 600;
max-lease-time 7200;
ddns-update-style none;
authoritative;
log-facility local7;

subnet 10.77.0.0 netmask 255.255.0.0 {{
  range 10.77.4.10 10.77.4.200;
  option routers 10.77.0.1;
  filename "pxelinux.0";
  next-server 10.77.0.1;
}}

host passacaglia {{
  hardware ethernet {BIOS};
  fixed-address 10.77.0.17;
  option routers 10.77.0.254;
}}

host fantasia {{
  hardware ethernet {UEFI};
  filename "grubx64.efi";
}}
"""
_MENU = """serial 0 115200
default debian
prompt 0
label debian
  kernel vmlinuz
  initrd initrd.gz
  append console=ttyS0 quiet panic=5
"""
_GRUB = """echo "GRUB ip=$net_default_ip server=$net_default_server"
sleep 3600
"""
GRUB = "usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed"


def command_line(suite, lab, server):
    """What is wrong with the flags is told before anything is served."""
    def run(*flags):
        return lab.run(lab.srv, [BINARY, "serve", "--config", server.config, *flags])

    status, told = run("--state-dir", server.state, "--interface")
    suite.check("a flag without its value", status == 2 and "--interface" in told, told)
    lab.write("far.conf", _FILE.replace("10.77.", "10.99."))
    status, told = lab.run(lab.srv, [BINARY, "serve", "--config", lab.path("far.conf"),
                                     "--state-dir", server.state])
    suite.check("no interface has a subnet of the file",
                status == 78 and "no interface of this host" in told, told)
    lab.write("own.toml", "[tftp]\nroot = \"/srv/tftp\"\n")
    status, told = lab.run(lab.srv, [BINARY, "serve", "--config", lab.path("own.toml"),
                                     "--tftp-root", lab.path("tftp")])
    suite.check("a TOML file says itself where its files are",
                status == 78 and "--tftp-root" in told, told)
    status, told = server.tool("check")
    suite.check("check finds the file good", status == 0 and "1 subnet" in told, told)


def boots_bios(suite, lab, server):
    sniffer = lab.sniff()
    machine = Machine(lab, BIOS)
    suite.explain_with(machine.screen)
    suite.check("the network ROM has the host's address and router",
                machine.wait(r"net0: 10\.77\.0\.17/255\.255\.0\.0 gw 10\.77\.0\.254", 60))
    suite.check("PXELINUX starts", machine.wait(r"PXELINUX", 60))
    installer = machine.wait(r"INSTALLER address=(\S+) router=(\S+) server=(\S+) lease=(\d+)", 300)
    suite.check("the kernel's user space has an address", installer)
    suite.check("the machine powers off by itself", machine.powers_off(20))
    suite.equal("its own address", installer[1], "10.77.0.17")
    suite.equal("its own router, not the subnet's", installer[2], "10.77.0.254")
    suite.equal("its lease time", installer[4], "600")
    _, ack = sniffer.dhcp("ACK", BIOS)[0]
    suite.equal("options for everybody", (ack.options[15], ack.address(6)),
                (b"example.org", "10.77.0.2"))
    suite.equal("boot file and server", (ack.file, ack.siaddr), (b"pxelinux.0", "10.77.0.1"))


def boots_uefi(suite, lab, server):
    sniffer = lab.sniff()
    machine = Machine(lab, UEFI, firmware="uefi")
    suite.explain_with(machine.screen)
    suite.check("the firmware downloads its boot file",
                machine.wait("NBP file downloaded successfully", 90))
    started = machine.wait(r"GRUB ip=(\S+) server=(\S+)", 60)
    suite.check("GRUB runs its configuration", started)
    suite.check("an address of the range", started and started[1].startswith("10.77.4."), started)
    suite.equal("the server of its files", started[2], "10.77.0.1")
    _, ack = sniffer.dhcp("ACK", UEFI)[0]
    suite.equal("the subnet's router", ack.address(3), "10.77.0.1")
    rows = [row["ip"] for row in server.leases().values() if row["hardware"] == UEFI]
    suite.equal("one lease in the server's list", rows, [started[1]])


def main():
    suite = Suite("dhcpd.conf boots")
    lab = Lab()
    lab.write("tftp/pxelinux.cfg/default", _MENU)
    lab.write("tftp/initrd.gz", installer_initrd(lab.directory))
    lab.write("tftp/grub/grub.cfg", _GRUB)
    shutil.copy(kernel_image(), lab.path("tftp/vmlinuz"))
    shutil.copy("/usr/lib/PXELINUX/pxelinux.0", lab.path("tftp"))
    shutil.copy("/usr/lib/syslinux/modules/bios/ldlinux.c32", lab.path("tftp"))
    shutil.copy(os.path.join(unpack("grub-efi-amd64-signed"), GRUB), lab.path("tftp/grubx64.efi"))
    server = OfDhcpd(lab, _FILE, "--tftp-root", lab.path("tftp"))
    suite.explain_with(server.log)
    with suite.step("the command line"):
        command_line(suite, lab, server)
    server.start()
    lab.advertise_router()
    with suite.step("a BIOS machine powers on"):
        boots_bios(suite, lab, server)
    with suite.step("a UEFI machine powers on"):
        boots_uefi(suite, lab, server)
    with suite.step("the server ends"):
        suite.equal("SIGTERM, exit status", server.stop(), 0)
    suite.finish()


if __name__ == "__main__":
    main()
