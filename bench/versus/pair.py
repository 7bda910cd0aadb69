"""What every measurement here stands on: two network namespaces joined by a veth pair, programs
that run in them on a core each, and what those cost.

The server's namespace has CPU 0 and the interface `vs`, the clients' CPU 1 and `vc`.
"""

import contextlib
import glob
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BINARIES = os.environ.get("BOOTSTORM_BINARIES", os.path.join(ROOT, "target", "release"))
SERVER_IP, CLIENT_IP = "10.77.0.1", "10.77.0.2"
SERVER_CPU, CLIENT_CPU = "0", "1"
INVALID = 3  # bootstorm-load: the generator was at fault, the run says nothing


def sh(*args, check=True):
    return subprocess.run(args, check=check, text=True, capture_output=True)


def write(directory, name, text):
    path = os.path.join(directory, name)
    with open(path, "w") as out:
        out.write(text)
    return path


def bootstorm(directory, subnets, *, engine="auto", shards=1, lease_time="1h", dhcp="", rest=""):
    """Command line of bootstorm, with state directory and configuration in `directory`. `subnets`
    are pairs of a network and its pool; `dhcp` are more keys of [dhcp], `rest` goes to the end."""
    text = f"""[server]
interfaces = ["vs"]
state-dir = "{directory}/state"
shards = {shards}
engine = "{engine}"
allow-other-servers = true
[log]
level = "warn"
[dhcp]
authoritative = true
lease-time = "{lease_time}"
{dhcp}
"""
    for subnet, pool in subnets:
        text += f'[[dhcp.subnet]]\nsubnet = "{subnet}"\npools = ["{pool}"]\n'
    return [f"{BINARIES}/bootstorm", "serve", "--config", write(directory, "bootstorm.toml", text + rest)]


class Lab:
    """Two namespaces and a veth pair; gone when the block ends, whatever happened inside."""

    def __init__(self, prefix=16):
        tag = os.getpid()
        self.server, self.client = f"bsv-s-{tag}", f"bsv-c-{tag}"
        self._prefix = prefix

    def __enter__(self):
        for ns in (self.server, self.client):
            sh("ip", "netns", "add", ns)
            sh("ip", "-n", ns, "link", "set", "lo", "up")
        sh("ip", "-n", self.server, "link", "add", "vs", "type", "veth", "peer", "name", "vc", "netns", self.client)
        for ns, dev, ip in ((self.server, "vs", SERVER_IP), (self.client, "vc", CLIENT_IP)):
            sh("ip", "-n", ns, "addr", "add", f"{ip}/{self._prefix}", "dev", dev)
            sh("ip", "-n", ns, "link", "set", dev, "up")
        return self

    def __exit__(self, *_):
        for ns in (self.server, self.client):
            sh("ip", "netns", "del", ns, check=False)


def serve(lab, argv, log, cpus=SERVER_CPU):
    """Starts a program in the server's namespace."""
    return subprocess.Popen(["ip", "netns", "exec", lab.server, "taskset", "-c", cpus, *argv], stdout=log, stderr=log)


def stop(process):
    """Asks a program to end, and ends it when it does not."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def running(lab, argv, log=os.devnull, cpus=SERVER_CPU, settle=1.0):
    """A program in the server's namespace, on its core, until the block ends."""
    with open(log, "w") as out:
        process = serve(lab, argv, out, cpus)
    try:
        time.sleep(settle)
        if process.poll() is not None:
            sys.exit(f"{argv[0]} did not start:\n" + open(log).read())
        yield process
    finally:
        stop(process)


def generate(lab, *words, before=(), cpus=CLIENT_CPU):
    """One run of bootstorm-load on the clients' core: its report, and its exit status."""
    with tempfile.TemporaryDirectory() as directory:
        report = os.path.join(directory, "report.json")
        status = subprocess.run(
            ["ip", "netns", "exec", lab.client, "taskset", "-c", cpus, *before, f"{BINARIES}/bootstorm-load", *map(str, words), "--server",
             SERVER_IP, "--interface", "vc", "-q", "--json", report], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if not os.path.exists(report):
            sys.exit(f"bootstorm-load {' '.join(map(str, words))}: {status.stderr}")
        with open(report) as text:
            return json.load(text), status.returncode


def cpu(process):
    """Seconds of processor time that all its threads have taken, also those that have ended."""
    with open(f"/proc/{process.pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def threads_cpu(process):
    """The same of the threads that run, to the nanosecond."""
    total = 0
    for path in glob.glob(f"/proc/{process.pid}/task/*/schedstat"):
        with contextlib.suppress(FileNotFoundError), open(path) as stat:
            total += int(stat.read().split()[0])
    return total / 1e9


def core_busy(core=SERVER_CPU):
    """Seconds that a core was not idle since it booted, whoever used it: the kernel's own threads
    count, too."""
    with open("/proc/stat") as stat:
        for line in stat:
            name, *ticks = line.split()
            if name == f"cpu{core}":
                user, nice, system, _idle, _wait, irq, softirq = map(int, ticks[:7])
                return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
    raise RuntimeError(f"/proc/stat has no cpu{core}")


def resident(process):
    """MiB of its memory that are resident."""
    return _status_mib(process, "VmRSS")


def most_resident(process):
    """The most that were at any time."""
    return _status_mib(process, "VmHWM")


def _status_mib(process, key):
    with open(f"/proc/{process.pid}/status") as status:
        return int(re.search(rf"{key}:\s+(\d+)", status.read())[1]) / 1024
