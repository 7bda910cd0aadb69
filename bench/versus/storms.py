#!/usr/bin/env python3
"""The same storm against bootstorm and its peers, one after the other.

Two network namespaces joined by a veth pair; the server (both programs of it, where DHCP and TFTP
are two) is pinned to CPU 0, the machines to CPU 1. Machines stand behind a relay agent,
10.100.0.1/16; every server has the same pool there, the same files, names `loader.img` to firmware
and `boot.ipxe` to iPXE, and starts from an empty lease store. Ping checks are off. Runs as root;
sends only inside the namespaces it makes.

  bench/versus/storms.py --server dhcpd --tftp tftpd-hpa -- storm --scenario hall-10k     # any run
  of bootstorm-load bench/versus/storms.py --all --json DIR       what docs/LOAD-FINDINGS.md tells
  of bench/versus/storms.py --all --only dora      the part of it whose runs begin with this word
"""

import argparse
import contextlib
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile

import pair
from pair import BINARIES, CLIENT_IP, ROOT, SERVER_IP, Lab, running, sh, write

sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))

from debian import unpack  # noqa: E402 - the path above comes first

RELAY, NETWORK, FIRST, LAST = "10.100.0.1", "10.100.0.0", "10.100.4.0", "10.100.255.250"


def bootstorm(directory, files, tftp=True, engine="auto"):
    boot = 'boot = [ { user-class = "iPXE", file = "boot.ipxe" }, { file = "loader.img" } ]'
    subnets = [("10.77.0.0/16", "10.77.4.0-10.77.255.250"), (f"{NETWORK}/16", f"{FIRST}-{LAST}")]
    return pair.bootstorm(directory, subnets, engine=engine, dhcp=boot, rest=f'[tftp]\nroot = "{files}"\n' if tftp else "")


def dhcpd(directory, _files):
    path = write(directory, "dhcpd.conf", f"""
authoritative; ping-check false; default-lease-time 3600; max-lease-time 3600; ignore-client-uids true;
next-server {SERVER_IP};
if option user-class = "iPXE" {{ filename "boot.ipxe"; }} else {{ filename "loader.img"; }}
subnet 10.77.0.0 netmask 255.255.0.0 {{ }}
subnet {NETWORK} netmask 255.255.0.0 {{ range {FIRST} {LAST}; }}
""")
    return [shutil.which("dhcpd"), "-4", "-f", "-q", "--no-pid", "-cf", path, "-lf", write(directory, "dhcpd.leases", ""), "vs"]


def kea(directory, _files):
    config = {"Dhcp4": {
        "interfaces-config": {"interfaces": ["vs"], "dhcp-socket-type": "udp"},
        "lease-database": {"type": "memfile", "persist": True, "name": f"{directory}/kea.csv", "lfc-interval": 0},
        "multi-threading": {"enable-multi-threading": False}, "match-client-id": False,
        "valid-lifetime": 3600, "authoritative": True, "next-server": SERVER_IP,
        "client-classes": [
            {"name": "ipxe", "test": "option[77].hex == 'iPXE'", "boot-file-name": "boot.ipxe"},
            {"name": "firmware", "test": "not member('ipxe')", "boot-file-name": "loader.img"}],
        "subnet4": [{"id": 1, "subnet": f"{NETWORK}/16", "pools": [{"pool": f"{FIRST} - {LAST}"}]}],
        "loggers": [{"name": "kea-dhcp4", "severity": "ERROR"}]}}
    path = write(directory, "kea.json", json.dumps(config))
    return ["env", f"KEA_PIDFILE_DIR={directory}", f"KEA_LOCKFILE_DIR={directory}", shutil.which("kea-dhcp4"), "-c", path]


def dnsmasq(directory, files, *more):
    return ["dnsmasq", "--no-daemon", "--port=0", "--user=root", "--log-facility=-", "--quiet-dhcp", f"--pid-file={directory}/pid",
            "--interface=vs", "--bind-interfaces", f"--dhcp-leasefile={directory}/dnsmasq.leases", "--dhcp-authoritative",
            "--no-ping", "--dhcp-ignore-clid", f"--dhcp-range={FIRST},{LAST},255.255.0.0,1h", "--dhcp-userclass=set:ipxe,iPXE",
            f"--dhcp-boot=tag:ipxe,boot.ipxe,,{SERVER_IP}", f"--dhcp-boot=tag:!ipxe,loader.img,,{SERVER_IP}", "--enable-tftp",
            f"--tftp-root={files}", *more]


DHCP = {
    "bootstorm": bootstorm,
    "bootstorm-mmsg": lambda directory, files: bootstorm(directory, files, engine="mmsg"),
    "bootstorm-dhcp": lambda directory, files: bootstorm(directory, files, tftp=False),
    "dhcpd": dhcpd,
    "kea": kea,
    "dnsmasq": lambda directory, files: dnsmasq(directory, files, "--dhcp-lease-max=100000", "--tftp-max=20000"),
    "dnsmasq-defaults": dnsmasq,
}
TFTP = {
    "tftpd-hpa": lambda files: [f"{unpack('tftpd-hpa')}/usr/sbin/in.tftpd", "-L", "--address", f"{SERVER_IP}:69", "-s", files],
    "atftpd": lambda files: [f"{unpack('atftpd')}/usr/sbin/atftpd", "--daemon", "--no-fork", "--user", "root.root", "--maxthread",
                             "20000", "--bind-address", SERVER_IP, files],
}

# What docs/LOAD-FINDINGS.md tells of: servers, and the run.
RUNS = [
    *[(server, tftp, ["storm", "--scenario", "hall-10k", "--set", "limit=3m"]) for server, tftp in (
        ("bootstorm", None), ("dhcpd", "tftpd-hpa"), ("dnsmasq", None), ("bootstorm-dhcp", "tftpd-hpa"))],
    *[(server, tftp, ["storm", "--scenario", "row-500", "--set", "limit=2m"]) for server, tftp in (
        ("bootstorm", None), ("dhcpd", "tftpd-hpa"), ("kea", "tftpd-hpa"), ("kea", "atftpd"), ("dnsmasq", None),
        ("dnsmasq-defaults", None))],
    *[(server, None, ["dora", "--seconds", "8", "--in-flight", "128"]) for server in ("bootstorm", "kea", "dhcpd", "dnsmasq")],
    *[(server, tftp, ["tftp", "--file", "initrd.img", "--clients", clients, "--windowsize", windowsize, "--set", "limit=60s",
                      "--client-net", "10.100.128.0/17"])
      for clients, windowsize in (("64", "1"), ("64", "16"), ("512", "1"))
      for server, tftp in (("bootstorm", None), ("dnsmasq", None), ("bootstorm-dhcp", "tftpd-hpa"), ("bootstorm-dhcp", "atftpd"))],
]


def play(lab, server, tftp, words, report):
    """One run against fresh servers; the exit status of bootstorm-load."""
    load = f"{BINARIES}/bootstorm-load"
    with tempfile.TemporaryDirectory(prefix="storms-", dir=os.path.join(ROOT, "target")) as directory, contextlib.ExitStack() as stack:
        files = os.path.join(directory, "tftp")
        os.makedirs(os.path.join(directory, "state"))
        scenario = words[words.index("--scenario") + 1] if "--scenario" in words else "hall-10k"
        sh(load, "files", "--scenario", scenario, "--into", files)
        for path in (directory, files, *glob.glob(f"{files}/*")):
            os.chmod(path, 0o755)
        stack.enter_context(running(lab, DHCP[server](directory, files), os.path.join(directory, "dhcp.log"), settle=2))
        if tftp:
            stack.enter_context(running(lab, TFTP[tftp](files), os.path.join(directory, "tftp.log"), settle=2))
        return subprocess.run(
            ["ip", "netns", "exec", lab.client, "taskset", "-c", "1", load, *words, "--server", SERVER_IP, "--interface", "vc",
             "--relay", f"{RELAY}/16", "--seed", "1", "--root", files, "--json", report], check=False).returncode


def row(report, status):
    """What of a report stands in docs/LOAD-FINDINGS.md."""
    def time_of(key, quantile, unit):
        times = report["latency"].get(key)
        # What failed is infinitely late.
        found = times and (times.get("with_failures") or times)[quantile]
        return "-" if not times else "never" if found is None else f"{found / unit:.1f}"
    machines, kinds = report["machines"], {v["kind"]: v["count"] for v in report["violations"]}
    tftp, dhcp, why = report["tftp"], report["dhcp"], ", ".join(f"{g['count']} {g['reason']}" for g in report["giveups"][:3])
    return [f"up {machines['up']}, given up {machines['given_up']}, unfinished {machines['unfinished']} ({why})",
            f"DHCP {dhcp['exchanges_per_second']:.0f}/s, p50 {time_of('answer', 'p50', 1)} ms, p99 {time_of('answer', 'p99', 1)} ms, "
            f"{dhcp['unanswered']} unanswered, {dhcp['naks']} NAK",
            f"boot p50 {time_of('boot', 'p50', 1000)} s, p99 {time_of('boot', 'p99', 1000)} s, all up {machines['all_up_seconds']}",
            f"TFTP {tftp['megabytes_per_second']:.0f} MB/s, {tftp['failed']} failed, {tftp['retransmissions']} sent again",
            f"violations {kinds or 'none'}; {report['verdict']} ({status}) {'; '.join(report['invalid_because'])}"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", choices=sorted(DHCP), default="bootstorm")
    parser.add_argument("--tftp", choices=sorted(TFTP))
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--only", help="with --all: runs that begin with this word")
    parser.add_argument("--json", default=os.path.join(ROOT, "target", "storms"), help="where the reports go")
    parser.add_argument("words", nargs="*", default=["storm", "--scenario", "hall-10k"], help="a run of bootstorm-load")
    args = parser.parse_args()
    os.makedirs(args.json, exist_ok=True)
    runs = RUNS if args.all else [(args.server, args.tftp, args.words)]
    for number, (server, tftp, words) in enumerate(run for run in runs if args.only in (None, run[2][0])):
        path = os.path.join(args.json, f"{words[0]}-{number:02}-{server}{'-' + tftp if tftp else ''}.json")
        with Lab() as lab:
            sh("ip", "-n", lab.server, "route", "add", f"{NETWORK}/16", "via", CLIENT_IP)
            status = play(lab, server, tftp, words, path)
        print(f"=== {server}{' + ' + tftp if tftp else ''}: {' '.join(words)}", flush=True)
        if os.path.exists(path):
            with open(path) as text:
                print("   ", "\n    ".join(row(json.load(text), status)), flush=True)


if __name__ == "__main__":
    main()
