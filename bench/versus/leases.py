#!/usr/bin/env python3
"""What durable leases cost, beside a bare echo and the peers: the table of docs/PERFORMANCE.md.

Server on CPU 0, clients on CPU 1, two network namespaces joined by a veth pair, relay mode, lease
stores on the file system of target/. Everything that is compared is measured in turn in one run;
figures are medians of the rounds. A run that the generator says is not valid is thrown away and
made again. Runs as root; sends only inside the namespaces it makes.

  bench/versus/leases.py [--only cost,limit] [--engines uring,mmsg] [--rounds 5] [--json FILE]

Parts, in the order in which they run:
  cost      processor time and rate of DORAs, 256 at a time, beside two bare 300-byte echoes
  perfdhcp  what perfdhcp loses at 16,000 DORAs a second
  limit     the highest rate without loss (find-limit), Kea's and dhcpd's, p99 at half of it, and
            what is still done at 2 and 3 times of it; the excess comes from a program that reads
            no answers (bench/src/bin/excess.rs)
  hall      p99 of the ACKs of hall-10k, beside its TFTP
  shards    processor time of two shards beside one, all programs on both cores
  hosts     start and memory with 200,000 reservations
  million   1,000,000 leases: memory, start with a cold cache after SIGTERM and after SIGKILL, and
            the rate with these and the reservations beside the rate of an empty server
"""

import argparse
import json
import os
import statistics
import sys
import tempfile

import measures
from pair import ROOT

# Parts, and their limits: a name and what it must be, for the last column.
PARTS = ("cost", "perfdhcp", "limit", "hall", "shards", "hosts", "million")
WANTED = {
    "processor time, threads, of two echoes": "at most 1.5",
    "processor time, whole core, of two echoes": "",
    "rate, of half the echo": "at least 0.6",
    "perfdhcp at 16,000/s, lost": "under 0.5 %",
    "find-limit, DORA/s": "",
    "of Kea's": "at least 8",
    "of dhcpd's": "at least 50",
    "p99 of any answer at half of the limit, ms": "under 2",
    "done at 2 times the limit, of it": "at least 0.85",
    "done at 3 times the limit, of it": "at least 0.7",
    "hall-10k, p99 of an ACK, ms": "at most 5",
    "two shards, processor time, of one's": "at most 1.15",
    "200,000 reservations, start, s": "under 3",
    "200,000 reservations, MiB": "under 100",
    "1,000,000 leases, MiB": "under 300",
    "1,000,000 leases, MiB after a start": "under 300",
    "1,000,000 leases, start after SIGTERM, s": "under 2",
    "1,000,000 leases, start after SIGKILL, s": "under 2",
    "1,000,000 leases and 200,000 reservations, rate, of empty": "at least 0.85",
}


class Figures:
    """Every figure of every round, by name and engine."""

    def __init__(self, rounds=None):
        self.rounds = rounds or {}

    def note(self, name, engine, value):
        self.rounds.setdefault(name, {}).setdefault(engine, []).append(value)
        print(f"{engine:6} {name}: {value:,.4g}", flush=True)

    def table(self, engines, before):
        """Rows of docs/PERFORMANCE.md: medians, and the range where there were several rounds."""
        columns = [*([f"{engines[0]}, before"] if before.rounds else []), *engines, "wanted"]
        print(f"\n| medians | {' | '.join(columns)} |\n| --- |{' --- |' * len(columns)}")
        names = [*WANTED, *(name for name in self.rounds if name not in WANTED)]
        for name in (name for name in names if name in self.rounds):
            cells = [*([before.cell(name, engines[0])] if before.rounds else []),
                     *(self.cell(name, engine) for engine in engines), WANTED.get(name, "")]
            print(f"| {name} | {' | '.join(cells)} |")

    def cell(self, name, engine):
        values = self.rounds.get(name, {}).get(engine)
        if not values:
            return ""
        spread = f" ({tell(min(values))} to {tell(max(values))})" if len(values) > 1 else ""
        return tell(statistics.median(values)) + spread


def tell(value):
    """Three digits that count, and no exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def words(text):
    return text.split(",")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=words, default=list(PARTS), help="parts, with commas between them")
    parser.add_argument("--engines", type=words, default=["uring", "mmsg"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", type=words, default=["kea", "dhcpd"], help="for limit")
    parser.add_argument("--limit", type=int, help="do not search for our limit, take this one; --peers none takes no peer's")
    parser.add_argument("--within", default="10%", help="how near find-limit comes; finer takes longer")
    parser.add_argument("--confirm-seconds", type=int, default=15, help="of find-limit")
    parser.add_argument("--dir", default=os.path.join(ROOT, "target"), help="where lease stores lie: a real file system")
    parser.add_argument("--anyway", action="store_true", help="on a busy machine: count runs that are not valid, too; not to be quoted")
    parser.add_argument("--json", help="where every single figure goes")
    parser.add_argument("--before", help="what --json wrote for another build: a column of the table")
    args = parser.parse_args()
    if set(args.only) - set(PARTS):
        sys.exit(f"leases.py: parts are {', '.join(PARTS)}")
    before = Figures()
    if args.before:
        with open(args.before) as text:
            before = Figures(json.load(text))
    figures = Figures()
    try:
        with tempfile.TemporaryDirectory(prefix="leases-", dir=args.dir) as directory:
            os.chmod(directory, 0o755)
            for part in (part for part in PARTS if part in args.only):
                print(f"== {part}", flush=True)
                getattr(measures, part)(args, figures, directory)
    finally:
        figures.table(args.engines, before)
        if args.json:
            with open(args.json, "w") as out:
                json.dump(figures.rounds, out, indent=1)


if __name__ == "__main__":
    main()
