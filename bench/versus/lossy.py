#!/usr/bin/env python3
"""TFTP on a path that loses packets, or through a queue that is too short: how long transfers take
for each `min-retry`, and for each build of the server.

Two network namespaces joined by a veth pair, server on CPU 0, bootstorm-load on CPU 1, every block
compared. Loss is nftables' `numgen random` in both namespaces, on what arrives; the narrow queue is
a tbf on the server's side. Runs as root; sends only inside the namespaces it makes.

  bench/versus/lossy.py [--server NAME=PATH ...] [--min-retry 200ms ...] [--loss 10]
  [--queue 100mbit:64k] [--clients 1] [--window 1] [--size KIB] [--rounds 3] [--over 0s]
"""

import argparse
import os
import re
import statistics
import sys
import tempfile

from pair import BINARIES, CLIENT_IP, ROOT, Lab, running, sh
from tftp import KIB, NET, config, generator

RULES = """
table inet lossy {{
  chain arrives {{
    type filter hook input priority 0;
    meta l4proto udp numgen random mod 1000 < {permille} drop
  }}
}}
"""


def impair(args, lab):
    if args.loss:
        rules = RULES.format(permille=round(args.loss * 10))
        for ns in (lab.server, lab.client):
            sh("ip", "netns", "exec", ns, "nft", rules)
    if args.queue:
        rate, limit = args.queue.split(":")
        sh("tc", "-n", lab.server, "qdisc", "add", "dev", "vs", "root", "tbf", "rate", rate,
           "burst", "16k", "limit", limit)


def dropped(args, lab):
    """Packets that the narrow queue has dropped so far."""
    if not args.queue:
        return 0
    shown = sh("tc", "-n", lab.server, "-s", "qdisc", "show", "dev", "vs").stdout
    return int(re.search(r"dropped (\d+)", shown)[1])


def trial(args, directory, files, binary, min_retry):
    path = config(directory, files)
    with open(path) as text:
        written = text.read()
    with open(path, "w") as out:
        out.write(written.replace("[tftp]\n", f'[tftp]\nmin-retry = "{min_retry}"\n'
                                  if min_retry else "[tftp]\n"))
    with Lab() as lab, running(lab, [binary, "serve", "--config", path]):
        sh("ip", "-n", lab.server, "route", "add", "10.100.0.0/16", "via", CLIENT_IP)
        # The file is in memory before anything is measured.
        generator(lab, "tftp", "--file", "file", "--clients", "1", "--windowsize", "64",
                  "--client-net", NET)
        impair(args, lab)
        report = generator(lab, "tftp", "--file", "file", "--clients", str(args.clients),
                           "--windowsize", str(args.window), "--client-net", NET, "--over",
                           args.over, "--set", "limit=600s")
        tftp, transfer = report["tftp"], report["latency"]["transfer"]
        wrong = sum(violation["count"] for violation in report["violations"])
        blocks = args.size * KIB // 1468 + 1
        return {"p50 s": transfer["p50"] / 1000, "p99 s": transfer["p99"] / 1000,
                "max s": transfer["max"] / 1000, "ms a block": transfer["p50"] / blocks,
                "MB/s": tftp["megabytes_per_second"], "again": tftp["retransmissions"],
                "dropped": dropped(args, lab), "failed": tftp["failed"] + wrong}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", action="append", metavar="NAME=PATH",
                        help="a build of the server; as often as there are some")
    parser.add_argument("--min-retry", nargs="+", default=[""], help="the default's otherwise")
    parser.add_argument("--loss", type=float, default=0, help="percent of the packets of each way")
    parser.add_argument("--queue", metavar="RATE:BYTES", help="a narrow queue, as tc writes it")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--window", type=int, default=1)
    parser.add_argument("--size", type=int, default=1024, help="KiB of the file")
    parser.add_argument("--over", default="0s", help="clients begin within this time")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    builds = [build.split("=", 1) for build in args.server or [f"bootstorm={BINARIES}/bootstorm"]]
    figures = {}
    with tempfile.TemporaryDirectory(dir=os.path.join(ROOT, "target")) as directory:
        files = os.path.join(directory, "tftp")
        os.makedirs(files)
        with open(os.path.join(files, "file"), "wb") as out:
            out.write(os.urandom(args.size * KIB))
        for folder in (directory, files):
            os.chmod(folder, 0o755)
        for _ in range(args.rounds):
            for min_retry in args.min_retry:
                for name, binary in builds:
                    result = trial(args, directory, files, binary, min_retry)
                    figures.setdefault((name, min_retry), []).append(result)
                    print(f"{name:12} {min_retry:6} " + ", ".join(
                        f"{key} {value:.2f}" for key, value in result.items()), flush=True)
    print("\nmedians")
    for (name, min_retry), results in figures.items():
        print(f"{name:12} {min_retry:6} " + ", ".join(
            f"{key} {statistics.median(result[key] for result in results):.2f}"
            for key in results[0]))


if __name__ == "__main__":
    sys.exit(main())
