#!/usr/bin/env python3
"""A UEFI machine: EDK2's own PXE fetches ipxe.efi, iPXE fetches its script.

The two stages come from one card and one MAC, and only the user class tells them apart: a
server that misses it hands the loader to the loader for ever. So the loader may be fetched
by the firmware alone (it asks twice: once for the size, once for the file).
"""

import shutil

from lab import Lab
from machine import Machine, check_boot_options
from server import Server, subnet
from suite import Suite

TAKES_SECONDS = 27

_SCRIPT = """#!ipxe
echo SCRIPT ip=${net0/ip} platform=${platform} file=${filename}
sleep 3600
"""
_RULES = """boot = [
  { user-class = "iPXE", file = "boot.ipxe" },
  { arch = "x86-64-efi", file = "LOADER" },
  { file = "pxelinux.0" },
]"""


def boot(suite, loader, mac):
    lab = Lab()
    lab.write("tftp/boot.ipxe", _SCRIPT)
    shutil.copy(f"/usr/lib/ipxe/{loader}", lab.path("tftp"))
    server = Server(lab, subnets=[subnet(extra=_RULES.replace("LOADER", loader))],
                    tftp=lab.path("tftp"))
    suite.explain_with(server.log)
    with suite.step(f"EDK2's PXE to {loader} to boot.ipxe"):
        server.start()
        lab.advertise_router()
        sniffer = lab.sniff()
        machine = Machine(lab, mac, firmware="uefi")
        suite.explain_with(machine.screen)
        suite.check("the firmware's PXE starts", machine.wait("Start PXE over IPv4", 60))
        suite.check("it downloads its boot file",
                    machine.wait("NBP file downloaded successfully", 40))
        script = machine.wait(r"SCRIPT ip=(\S+) platform=(\S+) file=(\S+)", 60)
        suite.check("iPXE runs boot.ipxe", script)
        asked = [name.lstrip("/") for name in sniffer.tftp_requests()]
        suite.check("the loader is fetched by the firmware alone, no chain loop",
                    asked in ([loader, "boot.ipxe"], [loader, loader, "boot.ipxe"]), asked)
        acks = sniffer.dhcp("ACK", mac)
        suite.check("firmware and iPXE were both acknowledged", len(acks) == 2, len(acks))
        suite.equal("one machine, one address", {message.yiaddr for _, message in acks},
                    {script[1]})
        suite.equal("booted through EFI", script[2], "efi")
        check_boot_options(suite, sniffer, mac, [loader, "boot.ipxe"])
    with suite.step("the server ends"):
        suite.equal("SIGTERM, exit status", server.stop(), 0)
    lab.close()


def main():
    suite = Suite("UEFI boot")
    boot(suite, "ipxe.efi", "52:54:00:0e:f1:01")
    boot(suite, "snponly.efi", "52:54:00:0e:f1:02")
    suite.finish()


if __name__ == "__main__":
    main()
