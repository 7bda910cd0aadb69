"""Virtual machines with real firmware, and something for them to boot.

QEMU runs with software emulation: the tests must not depend on what the host's CPU offers.
"""

import glob
import gzip
import os
import re
import shutil
import subprocess

import lab as laboratory
from debian import unpack

OVMF = "/usr/share/OVMF/OVMF_CODE_4M.fd"
OVMF_VARIABLES = "/usr/share/OVMF/OVMF_VARS_4M.fd"
# Each after the ones it needs.
_MODULES = ("virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev",
            "virtio_pci", "failover", "net_failover", "virtio_net")
_ESCAPES = re.compile(r"\x1b\[[0-9;=?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x00")

_INIT = """#!/bin/sh
mount -t devtmpfs none /dev; mount -t proc none /proc; mount -t sysfs none /sys
for module in {modules}; do insmod /lib/$module.ko; done
ip link set eth0 up
udhcpc -i eth0 -n -q -t 10 -T 1 -s /hook || echo "INSTALLER no address"
sync
poweroff -f
"""

_HOOK = """#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add "$ip/$mask" dev eth0
echo "INSTALLER address=$ip router=$router server=$serverid lease=$lease"
"""


def debian_kernel():
    """The directory with Debian's cloud kernel and its modules."""
    text = laboratory.sh("apt-cache depends linux-image-cloud-amd64")
    return unpack(re.search(r"Depends: (linux-image-\S+)", text)[1])


def kernel_image():
    return glob.glob(f"{debian_kernel()}/boot/vmlinuz-*")[0]


def installer_initrd(directory):
    """An initrd that asks for an address as an installer would, prints it and powers off."""
    tree = os.path.join(directory, "initrd")
    for name in ("bin", "dev", "proc", "sys", "lib"):
        os.makedirs(os.path.join(tree, name))
    shutil.copy("/bin/busybox", os.path.join(tree, "bin/busybox"))
    for applet in ("sh", "mount", "insmod", "ip", "udhcpc", "echo", "poweroff", "sync"):
        os.symlink("busybox", os.path.join(tree, "bin", applet))
    for module in _MODULES:
        [found] = glob.glob(f"{debian_kernel()}/lib/modules/*/kernel/**/{module}.ko",
                            recursive=True)
        shutil.copy(found, os.path.join(tree, "lib"))
    for name, text in (("init", _INIT.format(modules=" ".join(_MODULES))), ("hook", _HOOK)):
        with open(os.path.join(tree, name), "w") as script:
            script.write(text)
        os.chmod(os.path.join(tree, name), 0o755)
    names = "\n".join(os.path.relpath(os.path.join(path, entry), tree)
                      for path, folders, files in os.walk(tree) for entry in folders + files)
    archive = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], input=names.encode(),
                             cwd=tree, stdout=subprocess.PIPE, check=True).stdout
    shutil.rmtree(tree)
    return gzip.compress(archive, 1)


def check_boot_options(suite, sniffer, mac, files):
    """What every reply to firmware and iPXE holds: the name in `file`, in option 67 with a NUL at
    its end, and nothing that has them look for boot servers or wait for a ProxyDHCP."""
    replies = [answer for kind in ("OFFER", "ACK") for _, answer in sniffer.dhcp(kind, mac)]
    replies = [answer for answer in replies if answer.file.decode() in files]
    suite.equal("boot files in the field of the replies",
                {answer.file.decode() for answer in replies}, set(files))
    suite.check("option 67, where it is sent, ends with a NUL", all(
        answer.options.get(67, answer.file + b"\0") == answer.file + b"\0" for answer in replies))
    # iPXE's option 175: sub-option 176, no ProxyDHCP. PXE's option 43: load the file at once.
    suite.check("each reply says that there is nobody else to ask", all(
        answer.options.get(175) == b"\xb0\x01\x01" or
        (answer.options.get(60), answer.options.get(43)) == (b"PXEClient", b"\x06\x01\x08\xff")
        for answer in replies), [answer.options for answer in replies])
    suite.equal("and nobody asks port 4011", [
        packet for packet in list(sniffer.packets) if 4011 in (packet.sport, packet.dport)], [])


class Machine:
    """One machine on a tap; its console is a text that grows."""

    def __init__(self, lab, mac, firmware="bios", bridge=0):
        tap = lab.tap(bridge)
        arguments = ["qemu-system-x86_64", "-machine", "q35,accel=tcg", "-cpu", "max",
                     "-nographic", "-m", "512", "-no-reboot",
                     "-netdev", f"tap,id=net0,ifname={tap},script=no,downscript=no"]
        card = f"virtio-net-pci,netdev=net0,mac={mac}"
        if firmware == "uefi":
            # Without a ROM on the card it is EDK2's own PXE that boots.
            variables = lab.path(f"{tap}.vars")
            shutil.copy(OVMF_VARIABLES, variables)
            card += ",romfile="
            arguments += ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={OVMF}",
                          "-drive", f"if=pflash,unit=1,format=raw,file={variables}"]
        self.mac, self.port = mac, tap
        self.process = lab.start(lab.sw, [*arguments, "-device", card], tap)

    def console(self):
        """What the machine has printed so far, without the terminal's own codes."""
        return re.sub(r"\r+\n?", "\n", _ESCAPES.sub("", self.process.output()))

    def wait(self, pattern, seconds):
        """The first match of the pattern on the console, or None; ends early when it is off."""
        laboratory.wait_until(
            lambda: re.search(pattern, self.console()) or not self.process.running(), seconds, 0.2)
        return re.search(pattern, self.console())

    def screen(self, last=25):
        lines = [line for line in self.console().splitlines() if line.strip()]
        return "console:\n" + "\n".join(lines[-last:])

    def powers_off(self, seconds):
        """Whether it ends by its own decision within the time."""
        return self.process.wait(seconds) is not None
