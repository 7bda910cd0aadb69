#!/usr/bin/env python3
"""What durable leases cost, beside a bare echo and the peers: the table of docs/PERFORMANCE.md.

Server on CPU 0, clients on CPU 1, two network namespaces joined by a veth pair, relay mode, lease
stores on the file system of target/. Everything that is compared is measured in turn in one run;
figures are medians of the rounds. A run that the generator says is not valid is thrown away and
made again. Runs as root; sends only inside the namespaces it makes. About 25 minutes.

  bench/versus/leases.py [--only cost,limit] [--engines uring,mmsg] [--rounds 3] [--json FILE]
  bench/versus/leases.py --page docs/PERFORMANCE.md        and writes the table into that page
  bench/versus/leases.py --add FILE --only hall --json FILE        replaces figures of one part

Parts, in the order in which they run:
  cost      processor time and rate of DORAs, 256 at a time, beside two bare 300-byte echoes
  perfdhcp  what perfdhcp loses at 16,000 DORAs a second, and what with a server that answers at
            once and keeps nothing
  limit     the highest rate without loss (find-limit), Kea's and dhcpd's, p99 at half of it, and
            what is still done at 2 and 3 times of it; the excess comes from a program that reads
            no answers (bench/src/bin/excess.rs)
  hall      p99 of the ACKs of hall-10k, beside its TFTP; two rounds at most
  shards    processor time of two shards beside one, all programs on both cores
  hosts     start and memory with 200,000 reservations, in TOML, in a host file and in dhcpd's
            language, with and without an option each, and of 1,000,000; how much more a reload
            takes
  million   1,000,000 leases: memory, start with a cold cache after SIGTERM and after SIGKILL, and
            the rate with these and the reservations beside the rate of an empty server
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time

import measures
from pair import ROOT

# Parts, and their limits: a name and what it must be, for the last column.
PARTS = ("cost", "perfdhcp", "limit", "hall", "shards", "hosts", "million")
WANTED = {
    "processor time, threads, of two echoes": "at most 1.5",
    "processor time, whole core, of two echoes": "",
    "rate, of half the echo": "at least 0.6",
    "perfdhcp at 16,000/s, lost, %": "under 0.5",
    "perfdhcp at 16,000/s of the bare responder, lost, %": "",
    "find-limit, DORA/s": "",
    "find-limit is a lower bound (1) or the limit (0)": "",
    "find-limit, of Kea's": "at least 8",
    "find-limit, of dhcpd's": "at least 50",
    "p99 of any answer at half of the limit, ms": "under 2",
    "p99.9 of how late the generator itself was then, ms": "",
    "the latest that it was, ms": "",
    "p99 of the generator with a bare responder, ms": "",
    "done at 2 times the limit, of it": "at least 0.85",
    "done at 3 times the limit, of it": "at least 0.7",
    "hall-10k, p99 of an ACK, ms": "at most 5",
    "two shards, processor time, of one's": "at most 1.15",
    "200,000 reservations, start, s": "under 3",
    "200,000 reservations, MiB": "under 100",
    "200,000 hosts, TOML, an option each: MiB": "under 100",
    "200,000 hosts, CSV: MiB": "under 100",
    "200,000 hosts, CSV, an option each: MiB": "under 100",
    "1,000,000 leases, MiB": "under 300",
    "1,000,000 leases, MiB after a start": "under 300",
    "1,000,000 leases, start after SIGTERM, s": "under 2",
    "1,000,000 leases, start after SIGKILL, s": "under 2",
    "1,000,000 leases and 200,000 reservations, rate, of empty": "at least 0.85",
}


# Between these lines of a page stands the table.
BEGIN, END = "<!-- table of bench/versus/leases.py -->", "<!-- end of the table -->"


class Figures:
    """Every figure of every round, by name and engine."""

    def __init__(self, path=None):
        self.rounds, self._new = {}, set()
        if path:
            with open(path) as text:
                self.rounds = json.load(text)

    def note(self, name, engine, value):
        if (name, engine) not in self._new:
            # What was read from a file is of another run.
            self.rounds.get(name, {}).pop(engine, None)
            self._new.add((name, engine))
        self.rounds.setdefault(name, {}).setdefault(engine, []).append(value)
        print(f"{engine:6} {name}: {value:,.4g}", flush=True)

    def table(self, engines, before):
        """Rows of docs/PERFORMANCE.md: medians, and the range where there were several rounds."""
        columns = [*([f"{engines[0]}, before"] if before.rounds else []), *engines, "wanted"]
        rows = [f"| medians | {' | '.join(columns)} |", f"| --- |{' --- |' * len(columns)}"]
        names = [*WANTED, *(name for name in self.rounds if name not in WANTED)]
        for name in (name for name in names if name in self.rounds):
            cells = [*([before.cell(name, engines[0])] if before.rounds else []),
                     *(self.cell(name, engine) for engine in engines), WANTED.get(name, "")]
            rows.append(f"| {name} | {' | '.join(cells)} |")
        return "\n".join(rows) + "\n"

    def cell(self, name, engine):
        values = self.rounds.get(name, {}).get(engine)
        if not values:
            return ""
        spread = f" ({tell(min(values))} to {tell(max(values))})" if len(values) > 1 else ""
        return tell(statistics.median(values)) + spread


def put(page, table):
    """Replaces the table of a page."""
    with open(page) as text:
        head, begin, rest = text.read().partition(f"{BEGIN}\n")
    _, end, tail = rest.partition(END)
    if not end:
        sys.exit(f"{page}: there is no line `{BEGIN}` with a line `{END}` behind it")
    with open(page, "w") as out:
        out.write(f"{head}{begin}\n{table}\n{end}{tail}")


def tell(value):
    """Three digits that count, and no exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def words(text):
    return text.split(",")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=words, default=list(PARTS), help="parts, with commas between them")
    parser.add_argument("--engines", type=words, default=["uring", "mmsg"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", type=words, default=["kea", "dhcpd"], help="for limit")
    parser.add_argument("--limit", type=int, help="do not search for our limit, take this one; --peers none takes no peer's")
    parser.add_argument("--within", default="10%", help="how near find-limit comes; finer takes longer")
    parser.add_argument("--confirm-seconds", type=int, default=10, help="of find-limit")
    parser.add_argument("--search-seconds", type=int, default=120, help="after which a find-limit ends, with what it has found")
    parser.add_argument("--dir", default=os.path.join(ROOT, "target"), help="where lease stores lie: a real file system")
    parser.add_argument("--anyway", action="store_true", help="on a busy machine: count runs that are not valid, too; not to be quoted")
    parser.add_argument("--json", help="where every single figure goes")
    parser.add_argument("--add", help="what --json wrote: its figures stand for those that are not measured")
    parser.add_argument("--before", help="what --json wrote for another build: a column of the table")
    parser.add_argument("--page", help="a page whose table is replaced")
    args = parser.parse_args()
    if set(args.only) - {*PARTS, "none"}:
        sys.exit(f"leases.py: parts are {', '.join(PARTS)}, or none")
    before, figures = Figures(args.before), Figures(args.add)
    try:
        with tempfile.TemporaryDirectory(prefix="leases-", dir=args.dir) as directory:
            os.chmod(directory, 0o755)
            for part in (part for part in PARTS if part in args.only):
                began = time.monotonic()
                print(f"== {part}", flush=True)
                getattr(measures, part)(args, figures, directory)
                print(f"   {part} took {time.monotonic() - began:.0f} s", flush=True)
    finally:
        table = figures.table(args.engines, before)
        print(f"\n{table}")
        if args.json:
            with open(args.json, "w") as out:
                json.dump(figures.rounds, out, indent=1)
        if args.page:
            put(args.page, table)


if __name__ == "__main__":
    main()
