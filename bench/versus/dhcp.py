#!/usr/bin/env python3
"""Highest DORA rate of bootstorm, Kea and ISC dhcpd under perfdhcp, side by side in one run.

Two network namespaces joined by a veth pair; the server is pinned to CPU 0, perfdhcp to CPU 1.
Every server gets the same /16 with one pool, keeps its leases on the same file system, and starts
from an empty lease store at each trial. A rate counts when perfdhcp loses under 0.5 % of both
exchanges (DISCOVER-OFFER and REQUEST-ACK). The best rate is found by doubling and halving the gap,
then confirmed; the figure a server gets is the median of the confirmation runs' measured rates.
Runs as root; sends only inside the namespaces it makes.

  bench/versus/dhcp.py --server bootstorm --server kea --server dhcpd --json out.json
  bench/versus/dhcp.py --server bootstorm --rate 16000      # one fixed rate instead of a search
"""

import argparse
import json
import os
import re
import shutil
import statistics
import sys
import tempfile
import time

from pair import CLIENT_CPU, ROOT, SERVER_IP, Lab, bootstorm, serve, sh, stop

POOL = "10.77.4.0-10.77.255.250"
MAX_LOSS = 0.005
CEILING = 60000  # above what perfdhcp can send from one core


class Bootstorm:
    name = "bootstorm"

    def __init__(self, engine="auto"):
        self.engine = engine

    def start(self, _lab, directory):
        return bootstorm(directory, [("10.77.0.0/16", POOL)], engine=self.engine)


class Kea:
    name = "kea"

    def start(self, lab, directory):
        path = os.path.join(directory, "kea.json")
        config = {"Dhcp4": {
            "interfaces-config": {"interfaces": ["vs"], "dhcp-socket-type": "udp"},
            "lease-database": {"type": "memfile", "persist": True, "name": f"{directory}/kea.csv", "lfc-interval": 0},
            "multi-threading": {"enable-multi-threading": False},
            "valid-lifetime": 3600, "authoritative": True,
            "subnet4": [{"subnet": "10.77.0.0/16", "pools": [{"pool": POOL.replace("-", " - ")}]}],
            "loggers": [{"name": "kea-dhcp4", "severity": "ERROR"}],
        }}
        with open(path, "w") as f:
            json.dump(config, f)
        return ["env", f"KEA_PIDFILE_DIR={directory}", f"KEA_LOCKFILE_DIR={directory}", shutil.which("kea-dhcp4"), "-c", path]


class Dhcpd:
    name = "dhcpd"

    def start(self, lab, directory):
        path = os.path.join(directory, "dhcpd.conf")
        with open(path, "w") as f:
            f.write(f"authoritative; ping-check false; default-lease-time 3600; max-lease-time 3600;\n"
                    f"subnet 10.77.0.0 netmask 255.255.0.0 {{ range {POOL.replace('-', ' ')}; }}\n")
        leases = os.path.join(directory, "dhcpd.leases")
        open(leases, "w").close()
        return [shutil.which("dhcpd"), "-4", "-f", "-q", "--no-pid", "-cf", path, "-lf", leases, "vs"]


SERVERS = {"bootstorm": Bootstorm, "bootstorm-mmsg": lambda: Bootstorm("mmsg"), "kea": Kea, "dhcpd":
Dhcpd}


def perfdhcp(lab, rate, seconds, clients, *more):
    """One run: (exchanges that lost least, worst loss share, finished DORA a second)."""
    out = sh("ip", "netns", "exec", lab.client, "taskset", "-c", CLIENT_CPU, "perfdhcp", "-4", "-r", str(rate), "-R", str(clients),
             "-p", str(seconds), *more, SERVER_IP, check=False).stdout
    loss, received = 0.0, []
    for part in re.split(r"\*\*\*Statistics for: ", out)[1:]:
        sent = int(re.search(r"sent packets: (\d+)", part).group(1))
        got = int(re.search(r"received packets: (\d+)", part).group(1))
        received.append(got)
        loss = max(loss, 1.0 if sent == 0 else (sent - got) / sent)
    if len(received) < 2:
        return 1.0, 0.0
    return loss, min(received) / seconds


def trial(lab, kind, rate, args):
    """Fresh server, empty store, one perfdhcp run."""
    directory = tempfile.mkdtemp(prefix=f"versus-{kind}-", dir=args.dir)
    process = None
    try:
        argv = SERVERS[kind]().start(lab, directory)
        with open(os.path.join(directory, "log"), "w") as log:
            process = serve(lab, argv, log)
        for _ in range(50):
            time.sleep(0.1)
            listening = sh("ip", "netns", "exec", lab.server, "ss", "-Hlun", "sport", "=", "67").stdout
            if listening.strip():
                break
            if process.poll() is not None:
                sys.exit(f"{kind} did not start:\n" + open(os.path.join(directory, "log")).read())
        time.sleep(0.3)
        perfdhcp(lab, 50, 1, args.clients)  # the first packets pay for ARP
        return perfdhcp(lab, rate, args.seconds, args.clients)
    finally:
        if process:
            stop(process)
        if args.keep:
            print(f"  kept {directory}", file=sys.stderr)
        else:
            shutil.rmtree(directory, ignore_errors=True)


def search(lab, kind, args):
    def meets(rate):
        loss, done = trial(lab, kind, rate, args)
        print(f"  {kind:15} asked {rate:6}/s  done {done:8.0f}/s  lost {loss * 100:6.2f} %", flush=True)
        return loss < MAX_LOSS

    low, high = 0, None
    rate = args.start
    while high is None:
        if meets(rate):
            low = rate
            if rate >= CEILING:
                break
            rate = min(rate * 2, CEILING)
        else:
            high = rate
            if low == 0:
                rate //= 2
                if rate < 50:
                    return 0, []
                high = None
                continue
    while high is not None and high - low > max(100, low * 0.06):
        middle = (low + high) // 2
        if meets(middle):
            low = middle
        else:
            high = middle
    confirmed = [trial(lab, kind, low, args) for _ in range(args.runs)]
    return low, confirmed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", action="append", choices=sorted(SERVERS), help="repeatable; default: all")
    parser.add_argument("--rate", type=int, help="run this rate only, instead of a search")
    parser.add_argument("--start", type=int, default=1000, help="first rate of the search")
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--runs", type=int, default=3, help="confirmation runs")
    parser.add_argument("--clients", type=int, default=60000)
    parser.add_argument("--dir", default=os.path.join(ROOT, "target"), help="where lease stores lie: a real file system")
    parser.add_argument("--json", help="write the figures here")
    parser.add_argument("--keep", action="store_true", help="keep the servers' directories")
    args = parser.parse_args()
    os.makedirs(args.dir, exist_ok=True)
    result = {}
    with Lab() as lab:
        for kind in args.server or ["bootstorm", "kea", "dhcpd"]:
            if args.rate:
                runs = [trial(lab, kind, args.rate, args) for _ in range(args.runs)]
                best = args.rate
            else:
                best, runs = search(lab, kind, args)
            done = statistics.median(r[1] for r in runs) if runs else 0
            lost = statistics.median(r[0] for r in runs) if runs else 1
            result[kind] = {"asked": best, "done": done, "lost": lost, "runs": runs}
            print(f"{kind:15} asked {best}/s: median done {done:.0f}/s, lost {lost * 100:.2f} % in {len(runs)} runs", flush=True)
    if args.json:
        with open(args.json, "w") as f:
            json.dump(result, f, indent=1)


if __name__ == "__main__":
    main()
