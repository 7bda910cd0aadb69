"""bootstorm-load and the faulty server in the laboratory: starting them, reading reports."""

import json
import os
import random
import re
import signal
import sys

import lab as laboratory

BINARY = os.path.abspath(
    os.environ.get("BOOTSTORM_LOAD", os.path.join(laboratory.ROOT, "target/debug/bootstorm-load")))
PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "faulty_server.py")

SERVER = "10.77.0.1"
ROOM = "10.77.9.9"  # where the machines are played
RELAY = "10.100.0.1"  # the relay agent that is played there, and its machines' network
RELAY_TOLD = f"{RELAY}/16,rack1"  # and how it is said with its network and a circuit
MET, MISSED, FAILED, INVALID = range(4)  # exit statuses
VERDICTS = {MET: "met", MISSED: "missed", INVALID: "invalid"}

WEB_PORT = "8080"
FILES = {"loader.img": 40_000, "kernel.img": 300_000, "other.img": 40_000}
_SCENARIO = """
name = "{name}"
summary = "A handful of machines, for a test of the generator itself."
machines = 40
limit = "{limit}"
{head}
[arrival]
{arrival}

[firmware]
pxe-bios = 1

{tables}
"""
_BOOT = """
[[stage]]
dhcp = "firmware"
[[stage]]
tftp = ["@boot-file"]
[[stage]]
dhcp = "installer"
[[stage]]
tftp = ["kernel.img"]
"""
_NAMED = 'expect-boot-file = { pxe-bios = "loader.img" }'


def scenario(name, limit="20s", head=_NAMED, arrival='post = ["0s", "3s"]', tables=_BOOT):
    """TOML: machines that ask twice as two programs, and load by two habits. Not all begin at
    once: a run that keeps a processor busy is not valid where others want it, too."""
    return _SCENARIO.format(name=name, limit=limit, head=head, arrival=arrival, tables=tables)


# For faults after which machines cannot load: two have one address, or one has no reachable one.
LEASES = {"tables": '[[stage]]\ndhcp = "firmware"\n[[stage]]\ndhcp = "installer"\n'}
# A BIOS waits four seconds for a first answer and gives up after a minute. Bare exchanges do
# neither, for a server that never answers.
PLAIN = {"head": "", "tables": '[[stage]]\ndhcp = "plain"\n'}
# Answers take longer than the first wait, so that questions are repeated.
SLOW = {"head": "", "tables": '[network]\ndelay = "600ms"\n[[stage]]\ndhcp = "ipxe"\n'}
# One address through all stages is asked for.
STAGES = {**LEASES, "head": "one-address = true"}
# An installed machine: it confirms its address, asks for parameters, and gives the address back.
INSTALLED = {"head": "", "tables": "".join(
    f'[[stage]]\n{what} = "installer"\n' for what in ("dhcp", "reboot", "inform", "release"))}
# A machine that asks for an address that it has given back: a NAK is right.
REFUSED = {"head": "", "tables": "".join(
    f'[[stage]]\n{what} = "plain"\n' for what in ("dhcp", "release", "reboot"))}
# The same file in blocks of two lengths.
SIZES = {"tables": '[[stage]]\ndhcp = "firmware"\n[[stage]]\ntftp = ["@boot-file"]\n'
         '[[stage]]\ndhcp = "installer"\n[[stage]]\ntftp = ["loader.img"]\n'}
WEB = {"head": "", "tables": '[[stage]]\ndhcp = "installer"\n[[stage]]\nhttp = ["/kernel.img"]\n'}
DECLINE = {"head": "", "limit": "60s", "tables": '[[stage]]\ndhcp = "installer"\n'
           '[decline]\nshare = "50%"\ntimes = 1\n'}


def built(suite):
    """Whether the generator is built. A missing one is a failure, and skips nothing silently."""
    return suite.check("bootstorm-load is built", os.access(BINARY, os.X_OK),
                       f"no program {BINARY}: cargo build -p bootstorm-loadgen, or name one "
                       "in BOOTSTORM_LOAD")


def namespace(lab, network="10.100.0.0/16"):
    """Where the machines are: routed to it are the relay agent and all behind it."""
    name = lab.namespace("load")
    lab.plug(name, 0)
    laboratory.sh(f"ip -n {name} addr add {ROOM}/16 dev eth0")
    laboratory.sh(f"ip -n {lab.srv} route add {network} via {ROOM}")
    return name


def files(lab):
    """The files that are served, and their contents."""
    contents = {}
    for seed, (name, size) in enumerate(FILES.items()):
        contents[name] = random.Random(seed).randbytes(size)
        lab.write(f"tftp/{name}", contents[name])
    return contents


class FaultyServer:
    """faulty_server.py in the server's namespace."""

    def __init__(self, lab, fault=None, network="10.100", pool="{}.1.0-{}.8.255", wrapper=(),
                 options=()):
        self.fault = fault
        pool = pool.replace("{}", network)
        command = [*wrapper, sys.executable, "-B", PROGRAM, "--listen", SERVER,
                   "--interface", "eth0", "--http", WEB_PORT,
                   "--subnet", f"{network}.0.0/16", "--pool", pool, "--root", lab.path("tftp"),
                   "--boot-file", "loader.img", *options]
        name = f"server-{fault or 'correct'}-{len(os.listdir(lab.directory))}"
        self.process = lab.start(lab.srv, command + (["--fault", fault] if fault else []), name)
        if not laboratory.wait_until(lambda: "serving" in self.log(), 10, every=0.01):
            raise RuntimeError(f"the faulty server does not serve:\n{self.log()}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def log(self):
        return self.process.output()

    def stop(self):
        """SIGTERM; returns the exit status."""
        return self.process.stop()

    @property
    def injected(self):
        """How many faults it injected, once it has ended."""
        closing = re.search(r"^(\d+) faults at", self.log(), flags=re.M)
        return int(closing[1]) if closing else None


class Storm:
    """One run of bootstorm-load: its process, its exit status, its report."""

    _count = 0

    def __init__(self, lab, where, text, slo, seed=1, relay=RELAY_TOLD, machines=40,
                 wrapper=(), options=(), measured=False):
        Storm._count += 1
        name = f"storm{Storm._count}"
        self.json, self.page = lab.path(f"{name}.json"), lab.path(f"{name}.html")
        command = [*wrapper, BINARY, "storm", "--scenario", lab.write(f"{name}.toml", text),
                   "--server", SERVER, "--interface", "eth0", "--machines", machines, "--seed",
                   seed, "--slo", slo, "--json", self.json, "--html", self.page,
                   *([] if measured else ["--no-own-latency"]), *options]
        if relay:
            command += ["--relay", relay]
        self.process = lab.start(where, list(map(str, command)), name)
        self.status, self.report = None, {}

    def end(self, seconds=90):
        """Waits for the end, and reads the report."""
        self.status = self.process.wait(seconds)
        if self.status is None:
            self.process.signal(signal.SIGKILL)
        self.process.stop()
        if os.path.exists(self.json):
            with open(self.json) as report:
                self.report = json.load(report)
        return self

    # What of the report the tests read; all that knows its form is here.

    @property
    def verdict(self):
        return self.report.get("verdict")

    @property
    def violations(self):
        """How often each kind was found."""
        return {row["kind"]: row["count"] for row in self.report.get("violations", [])}

    @property
    def missed(self):
        """Names of limits that did not hold, without that of violations, which is implied."""
        return {row["name"] for row in self.report.get("slo", []) if not row["met"]} - {
            "violations"}

    @property
    def reasons(self):
        """Why the run is not valid."""
        return self.report.get("invalid_because", [])

    @property
    def notes(self):
        """What a reader must know."""
        return self.report.get("notes", [])

    @property
    def machines(self):
        return self.report.get("machines", {})

    def story(self):
        """What to show beside a check that failed."""
        short = {key: self.report.get(key) for key in (
            "verdict", "slo", "invalid_because", "machines", "giveups", "violations",
            "generator")}
        end = "\n".join(self.process.output().splitlines()[-15:])
        return f"exit {self.status}\n{json.dumps(short, indent=1)}\n{end}"

    @property
    def has_page(self):
        """Whether it wrote the page for people as well."""
        return os.path.exists(self.page) and os.path.getsize(self.page) > 0


def valid(suite, attempt, tries=5):
    """The first run of attempt() that says something. On a busy host the generator may find itself
    at fault; then it is run again, and that is counted."""
    for _ in range(tries):
        run = attempt()
        if run.status != INVALID:
            break
        suite.repeat("the run", "; ".join(run.reasons))
    return run
