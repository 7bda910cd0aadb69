#!/usr/bin/env python3
"""Big files that are neither in the page cache nor framed: how fast they leave, when the first
block comes, what it costs.

Server on CPU 0, bootstorm-load on CPU 1, two network namespaces joined by a veth pair. Every trial
drops the page cache and starts a server with an image budget that is smaller than a file. Several
builds of the server are run in turn, so that ratios between them can be read on a machine whose
speed changes. Runs as root; sends only inside the namespaces it makes.

  bench/versus/cold.py [--server NAME=PATH ...] [--files 1 4] [--size 2048] [--window 64] [--rounds
  5] [--warm] [--folder DIR]
"""

import argparse
import os
import statistics
import sys
import tempfile
import threading

from pair import BINARIES, CLIENT_IP, ROOT, SERVER_IP, Lab, cpu, resident, running, sh
from tftp import MIB, config, generator

# In the client's namespace: asks for a file and says after how many milliseconds block 1 came.
FIRST = """
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(10)
began = time.monotonic()
s.sendto(b"\\0\\1" + sys.argv[2].encode() + b"\\0octet\\0", (sys.argv[1], 69))
answer, peer = s.recvfrom(2048)
print((time.monotonic() - began) * 1000)
assert answer[:4] == b"\\0\\3\\0\\1", answer
s.sendto(b"\\0\\5\\0\\0enough\\0", peer)
"""


def first_block(lab, name):
    said = sh("ip", "netns", "exec", lab.client, "taskset", "-c", "1", sys.executable, "-c", FIRST, SERVER_IP, name).stdout
    return float(said)


def make(folder, count, size):
    os.makedirs(folder, exist_ok=True)
    for name in (f"big{index}" for index in range(count)):
        path = os.path.join(folder, name)
        if not os.path.exists(path) or os.path.getsize(path) != size * MIB:
            with open(path, "wb") as out:
                for _ in range(size):
                    out.write(os.urandom(MIB))
        os.chmod(path, 0o644)
    os.chmod(folder, 0o755)
    os.sync()


def trial(args, lab, directory, binary, files):
    """One server, `files` files at once, each to a client of its own."""
    path = config(directory, args.folder)
    with open(path) as text:
        written = text.read()
    with open(path, "w") as out:
        out.write(written.replace('image-budget = "1GiB"', f'image-budget = "{args.budget}"'))
    if not args.warm:
        with open("/proc/sys/vm/drop_caches", "w") as drop:
            drop.write("1\n")
    with running(lab, [binary, "serve", "--config", path]) as process:
        if args.warm:
            for index in range(files):
                sh("dd", f"if={args.folder}/big{index}", "of=/dev/null", "bs=1M")
        first = first_block(lab, f"big{files}")
        before, reports = cpu(process), []

        def load(index):
            reports.append(generator(lab, "tftp", "--file", f"big{index}", "--clients", "1", "--windowsize", str(args.window),
                                     "--ports", "--set", "limit=120s"))

        threads = [threading.Thread(target=load, args=(index,)) for index in range(files)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        gone = sum(report["tftp"]["bytes"] for report in reports)
        slowest = max(report["latency"]["transfer"]["max"] for report in reports) / 1000
        failed = sum(report["tftp"]["failed"] + sum(wrong["count"] for wrong in report["violations"]) for report in reports)
        return {"MB/s": gone / slowest / 1e6, "CPU s/GB": (cpu(process) - before) / (gone or 1) * 1e9, "first block ms": first,
                "failed": failed, "MiB": resident(process)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", action="append", metavar="NAME=PATH", help="a build of the server; as often as there are some")
    parser.add_argument("--files", type=int, nargs="+", default=[1, 4], help="so many at once")
    parser.add_argument("--size", type=int, default=2048, help="MiB of a file")
    parser.add_argument("--window", type=int, default=64)
    parser.add_argument("--budget", default="256MiB", help="the server's image budget")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm", action="store_true", help="read the files into the page cache first")
    parser.add_argument("--folder", help="where the files are made and stay; otherwise a temporary one")
    args = parser.parse_args()
    servers = dict(word.split("=", 1) for word in args.server or [f"bootstorm={BINARIES}/bootstorm"])
    figures = {}
    with Lab() as lab, tempfile.TemporaryDirectory(prefix="cold-", dir=os.path.join(ROOT, "target")) as directory:
        os.chmod(directory, 0o755)
        sh("ip", "-n", lab.server, "route", "add", "10.100.0.0/16", "via", CLIENT_IP)
        args.folder = args.folder or os.path.join(directory, "tftp")
        make(args.folder, max(args.files) + 1, args.size)
        for _ in range(args.rounds):
            for files in args.files:
                for name, binary in servers.items():
                    result = trial(args, lab, directory, binary, files)
                    figures.setdefault((files, name), []).append(result)
                    print(f"{files} files {name:12} " + ", ".join(f"{key} {value:.2f}" for key, value in result.items()), flush=True)
    for (files, name), results in figures.items():
        medians = {key: statistics.median(result[key] for result in results) for key in results[0]}
        print(f"| {files} | {name} | " + " | ".join(f"{key} {value:.2f}" for key, value in medians.items()) + " |")


if __name__ == "__main__":
    main()
