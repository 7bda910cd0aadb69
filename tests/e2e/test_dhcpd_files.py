#!/usr/bin/env python3
"""Files in ISC dhcpd's language are taken and refused as `dhcpd -t` takes and refuses them.

The files stand in tests/dhcpd; those whose name begins with `wrong-` have a mistake in the line
that ends with `# WRONG`. Debian's packaged files are read where they are, and a cluster of 5,000
hosts is made here. Nothing is started.

    tests/e2e/test_dhcpd_files.py [DIRECTORY]
"""

import glob
import os
import re
import subprocess
import sys
import tempfile

import lab as laboratory
from server import BINARY
from suite import Suite

TAKES_SECONDS = 20

FILES = os.path.join(laboratory.ROOT, "tests", "dhcpd")
PACKAGED = ["/usr/share/doc/isc-dhcp-server/examples/dhcpd.conf.example", "/etc/dhcp/dhcpd.conf"]
# Names are looked up by both, and there is nobody to ask.
ALONE = ["unshare", "--net"]
# Of the files that dhcpd takes so many must be taken, in percent.
LEAST_TAKEN = 95


def cluster(hosts=5000):
    """A file as the tools of a cluster write it: each node with two cards, its group, its name."""
    text = ("authoritative;\nping-check off;\noption domain-name \"hpc.example\";\n"
            "option domain-name-servers 10.128.0.2;\nuse-host-decl-names on;\n"
            "option arch code 93 = unsigned integer 16;\n"
            "subnet 10.128.0.0 netmask 255.255.0.0 {\n  option routers 10.128.0.1;\n"
            "  next-server 10.128.0.3;\n  if option arch = 00:07 { filename \"grubx64.efi\"; }\n"
            "  else { filename \"pxelinux.0\"; }\n  range 10.128.250.0 10.128.250.250;\n}\n"
            "subnet 10.129.0.0 netmask 255.255.0.0 { option routers 10.129.0.1; }\n")
    for rack in range(hosts // 50):
        text += f"group {{\n  option root-path \"10.128.0.{rack % 8 + 10}:/srv/root\";\n"
        for node in range(50):
            number = rack * 50 + node + 256
            high, low = number >> 8, number & 255
            name = f"n{rack:03}-{node:02}"
            if low not in (0, 255):
                text += (f"  host {name} {{ hardware ethernet 0c:c4:7a:00:{high:02x}:{low:02x}; "
                         f"fixed-address 10.128.{high}.{low}; }}\n"
                         f"  host {name}-bmc {{ hardware ethernet 0c:c4:7a:01:{high:02x}:{low:02x};"
                         f" fixed-address 10.129.{high}.{low}; }}\n")
        text += "}\n"
    return text


def dhcpd(path, family="-4"):
    """Whether dhcpd takes a file, and what it says."""
    run = subprocess.run([*ALONE, "dhcpd", family, "-t", "-cf", path], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, errors="replace", timeout=60)
    said = [line for line in run.stdout.splitlines() if " line " in line or "rror" in line]
    return run.returncode == 0, "\n".join(said[:3])


def check(path):
    """Whether this server takes it, and what it says."""
    run = subprocess.run([*ALONE, BINARY, "check", "--config", path], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, errors="replace", timeout=60)
    if run.returncode not in (0, 78):
        return None, f"exit status {run.returncode}\n{run.stdout}"
    return run.returncode == 0, run.stdout


def lines_of_errors(said, path):
    """The lines in which `check` sees errors; what it says besides are warnings."""
    return [int(line) for line in re.findall(rf"\[{re.escape(path)}:(\d+):\d+\]", said)]


def wrong_line(path):
    with open(path, encoding="utf-8") as source:
        for number, line in enumerate(source, 1):
            if line.rstrip().endswith("# WRONG"):
                return number
    return None


def compare(suite, files):
    """All files through both."""
    taken, refused, differs = 0, [], []
    for path in files:
        name = os.path.basename(path)
        family = "-6" if "dhcpd6" in name else "-4"
        theirs, why = dhcpd(path, family)
        own, said = check(path)
        if own is None:
            suite.check(f"{name} is checked", False, said)
        elif not theirs:
            wanted = wrong_line(path)
            held = not own and (wanted is None or lines_of_errors(said, path) == [wanted])
            suite.check(f"{name} is refused as by dhcpd, at line {wanted}", held, f"{why}\n{said}")
        elif own:
            taken += 1
        else:
            refused.append(name)
            differs.append(f"{name}\n{said}")
    share = 100 * taken / max(1, taken + len(refused))
    suite.check(f"{taken} of {taken + len(refused)} files that dhcpd takes are taken: {share:.1f} %",
                share >= LEAST_TAKEN, "\n".join(differs))
    if differs:
        suite.say("\n".join(differs))


def main():
    suite = Suite("dhcpd files")
    files = sorted(glob.glob(os.path.join(sys.argv[1] if len(sys.argv) > 1 else FILES, "*.conf")))
    suite.check("there are at least 80 files", len(files) >= 80 or len(sys.argv) > 1, len(files))
    with tempfile.TemporaryDirectory() as directory:
        large = os.path.join(directory, "cluster.conf")
        with open(large, "w") as target:
            target.write(cluster())
        packaged = [path for path in PACKAGED if os.path.exists(path)]
        suite.check("dhcpd's packaged example is there", packaged, PACKAGED)
        with suite.step("all files"):
            compare(suite, files + packaged + [large])
    suite.finish()


if __name__ == "__main__":
    main()
