#!/usr/bin/env python3
"""What the load generator can do by itself, beside perfdhcp, against the same bare responder in one
run.

The responder (bench/src/bin/responder.rs) is pinned to CPU 0, each generator in turn to CPU 1, in
two network namespaces joined by a veth pair. perfdhcp is asked for more than it can send, and what
it sent counts, answered or not. bootstorm-load is asked for a rate, and counts when no answer was
lost and the run was valid. Runs as root.

  bench/versus/generator.py [--rounds 5] [--rates 120000 140000 160000 180000]
"""

import argparse
import re
import statistics

from pair import BINARIES, CLIENT_CPU, SERVER_IP, Lab, generate, running, sh

SECONDS = 4


def perfdhcp(lab):
    """DISCOVERs a second that it sent, and the share of them that it saw answered."""
    out = sh("ip", "netns", "exec", lab.client, "taskset", "-c", CLIENT_CPU, "perfdhcp", "-4", "-i", "-r", "60000", "-R", "60000",
             "-p", str(SECONDS), SERVER_IP, check=False).stdout
    sent, received = (int(re.search(rf"{what} packets: (\d+)", out)[1]) for what in ("sent", "received"))
    return sent / SECONDS, received / sent


def ours(lab, *arguments):
    """Exchanges a second, and whether the run was valid with nothing lost."""
    report, status = generate(lab, "dora", "--seconds", SECONDS, "--discover-only", "--slo", "loss=0%", *arguments)
    return report["dhcp"]["exchanges_per_second"], status == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rates", type=int, nargs="+", default=[120000, 140000, 160000, 180000])
    args = parser.parse_args()
    peer, closed, opened = [], [], {rate: 0 for rate in args.rates}
    responder = [f"{BINARIES}/responder", "--listen", SERVER_IP, "--net", "10.77.0.0/16"]
    with Lab() as lab, running(lab, responder):
        for _ in range(args.rounds):
            sent, answered = perfdhcp(lab)
            peer.append(sent)
            print(f"perfdhcp             {sent:8.0f} DISCOVER/s sent, {answered * 100:.1f} % seen answered", flush=True)
            rate, _ = ours(lab, "--in-flight", "512")
            closed.append(rate)
            print(f"512 in flight        {rate:8.0f} DISCOVER/s, all answered", flush=True)
            for asked in args.rates:
                rate, good = ours(lab, "--rate", str(asked))
                opened[asked] += good
                print(f"asked for {asked:8}   {rate:8.0f} DISCOVER/s answered, {'good' if good else 'NOT good'}", flush=True)
    held = [rate for rate, good in opened.items() if good > args.rounds / 2]
    base = statistics.median(peer)
    print(f"\nmedians of {args.rounds}: perfdhcp sends {base:.0f}/s; 512 in flight {statistics.median(closed):.0f}/s, "
          f"{statistics.median(closed) / base:.1f} times as many")
    best = max(held, default=0)
    print(f"at a rate, nothing lost in most rounds: {best}/s, {best / base:.1f} times as many")


if __name__ == "__main__":
    main()
