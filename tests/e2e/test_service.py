#!/usr/bin/env python3
"""The systemd unit as the package installs it, under a systemd of its own: what it tells systemd,
what its sandbox allows, what ends it, and what starts it again."""

import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import time

import lab as laboratory
import wire
from lab import ROOT, Lab
from server import BINARY, foreign_server
from suite import Suite
from systemd import Systemd

TAKES_SECONDS = 82
UNIT = "bootstorm.service"
UNIT_FILE = f"{ROOT}/packaging/systemd/{UNIT}"
CONFIG = "etc/bootstorm/bootstorm.toml"
# Above it, systemd's own judgement of the unit has got worse.
EXPOSURE = 2.3
LOADER = bytes(range(256)) * 40
# Commands that say something only where something is wrong.
_MAY_BE_SILENT = ("silences", "drops", "naks", "NAK", "-p err", "vendor-class", "nft", "boot = ")
_FOREIGN, _RELAY = "10.77.0.99", "10.77.250.1"
_PTRACE_SEIZE, _PTRACE_INTERRUPT, _PTRACE_DETACH = 0x4206, 0x4207, 17
_LIBC = ctypes.CDLL(None, use_errno=True)


def configuration(server="shards = 2", domain="rack.example"):
    return (f'[server]\ninterfaces = ["eth0"]\nstate-dir = "/var/lib/bootstorm"\n{server}\n'
            f'[dhcp]\noptions = {{ domain-name = "{domain}" }}\n'
            '[[dhcp.subnet]]\nsubnet = "10.77.0.0/16"\npools = ["10.77.4.0-10.77.4.250"]\n'
            '[tftp]\nroot = "/srv/tftp"\n')


def lease(namespace, mac):
    """One machine's four messages; the ACK, or None."""
    with laboratory.inside(namespace):
        raw = wire.Raw("eth0")
    try:
        offer = raw.ask("DISCOVER", mac, 0xbeef)
        return offer and raw.ask("REQUEST", mac, 0xbeef, [
            (50, bytes(map(int, offer.yiaddr.split(".")))), (54, offer.options[54])])
    finally:
        raw.close()


def may_raise_limits():
    """Whether systemd can grant LimitNICE= here: a container may lack CAP_SYS_RESOURCE."""
    with open("/proc/self/status") as status:
        held = next(line.split()[1] for line in status if line.startswith("CapEff:"))
    return bool(int(held, 16) >> 24 & 1)


def is_active(systemd, seconds=20):
    return laboratory.wait_until(lambda: systemd.show(UNIT, "ActiveState") == "active" and
                                 systemd.pid(UNIT), seconds, every=0.2)


def restarted(systemd, before, seconds=30):
    """The main process when it is another one than before, and ready."""
    return laboratory.wait_until(
        lambda: (pid := is_active(systemd, 0)) and pid != before and pid, seconds, every=0.2)


def start(systemd):
    systemd.run("systemctl", "reset-failed", UNIT)
    return systemd.run("systemctl", "start", UNIT)


def sandbox(suite, lab, systemd, machines):
    suite.equal("systemctl start returns when it serves", start(systemd), (0, ""))
    suite.check("and a line says what it does",
                "serving" in systemd.show(UNIT, "StatusText"), systemd.show(UNIT, "StatusText"))
    ack = lease(machines, "52:54:00:aa:00:01")
    suite.check("a machine gets a lease", ack and ack.yiaddr.startswith("10.77.4."), ack)
    status, output = lab.run(machines, [BINARY, "fetch", "tftp://10.77.0.1/sub/loader",
                                        "-o", lab.path("fetched")])
    fetched = open(lab.path("fetched"), "rb").read() if status == 0 else None
    suite.check("and its loader, from below the TFTP root", fetched == LOADER, output)
    outside, output = lab.run(machines, [BINARY, "fetch", "tftp://10.77.0.1/link", "-o", "x"])
    suite.check("but nothing from outside of it", outside == 1 and "error 2" in output, output)
    pid = systemd.pid(UNIT)
    threads = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/status") as text:
            fields = dict(line.rstrip("\n").split(":\t", 1) for line in text if ":\t" in line)
        with open(f"/proc/{pid}/task/{task}/stat") as text:
            nice = int(text.read().rsplit(")", 1)[1].split()[16])
        threads[fields["Name"]] = (int(fields["CapEff"], 16), nice, fields["Seccomp"])
    keep = (1 << 10) | (1 << 13)  # CAP_NET_BIND_SERVICE, CAP_NET_RAW
    # The lease store's own threads take over those of the thread that opens it.
    suite.equal("no thread has a capability but the main one", {
        name: held for name, (held, _, _) in threads.items()
        if held and not name.startswith("fjall")}, {"bootstorm": keep})
    wanted = {"checkpoint": 10} | ({"committer": -10} if may_raise_limits() else {})
    suite.equal("the thread that writes leases goes before the shards, checkpoints after them",
                {name: nice for name, (_, nice, _) in threads.items() if nice}, wanted)
    suite.equal("all are behind the filter of system calls",
                {filtered for _, _, filtered in threads.values()}, {"2"})
    suite.check("io_uring works there", "io_uring is not used" not in systemd.journal(UNIT),
                systemd.journal(UNIT))
    status, output = systemd.run("systemd-analyze", "security", "--offline=true", "--no-pager",
                                 f"/usr/lib/systemd/system/{UNIT}")
    level = re.search(r"exposure level for \S+: ([0-9.]+)", output)
    suite.check(f"systemd-analyze security: at most {EXPOSURE}",
                level and float(level[1]) <= EXPOSURE, output)


def reloads(suite, systemd, machines):
    systemd.write(CONFIG, configuration(domain="changed.example"))
    suite.equal("systemctl reload", systemd.run("systemctl", "reload", UNIT), (0, ""))
    ack = lease(machines, "52:54:00:aa:00:02")
    suite.equal("the new file is in force when it returns",
                ack and ack.options.get(15, b"").rstrip(b"\0"), b"changed.example")
    systemd.write(CONFIG, configuration().replace("[dhcp]", "[dhpc]"))
    suite.check("of a wrong file it fails", systemd.run("systemctl", "reload", UNIT)[0] != 0)
    suite.equal("and the service goes on", systemd.show(UNIT, "SubState"), "running")
    systemd.write(CONFIG, configuration())


def symptoms(suite, lab, systemd, machines):
    """Every command of the page of symptoms runs on an installed server, and says something."""
    for name in ("nothing", "ipxe.efi"):
        lab.run(machines, [BINARY, "fetch", f"tftp://10.77.0.1/{name}", "-o", "/dev/null"])
    with open(f"{ROOT}/docs/SYMPTOMS.md") as page:
        blocks = re.findall(r"^```sh\n(.*?)^```$", page.read(), re.S | re.M)
    commands = dict.fromkeys(line for block in blocks for line in block.splitlines())
    for command in commands:
        local = command
        for theirs, ours in (("eth1", "eth0"), ("10.1.0.6", "10.77.0.1"),
                             ("52:54:00:12:34:56", "52:54:00:aa:00:01")):
            local = local.replace(theirs, ours)
        follows = "--follow" in local or local.startswith("timeout")
        if "tcpdump" in local and not shutil.which("tcpdump"):
            continue
        process = systemd.begin("sh", "-c", f"timeout 2 {local}" if follows else local)
        if follows:
            time.sleep(0.5)
            lease(machines, "52:54:00:aa:00:01")
        output, _ = process.communicate(timeout=30)
        # 1 is an answer as well: nobody else serves DHCP here, no line matches.
        suite.check(f"`{command}`", process.returncode in (0, 1, 124) and
                    (output.strip() or any(word in local for word in _MAY_BE_SILENT)),
                    f"exit {process.returncode}: {output}")
    status, page = systemd.run("curl", "-s", "http://127.0.0.1:9547/metrics")
    names = {name for command in commands for name in re.findall(r"[a-z_]+_total", command)}
    suite.equal("every metric in them is on the page of metrics",
                sorted(name for name in names if f"{name}{{" not in page), [])


class Requests:
    """Requests that machines send while nobody may be there to answer, each once: DISCOVERs by
    broadcast and through a relay agent, and one for a file."""

    MACHINES = 12

    def __init__(self, namespace, number):
        self._macs = [f"52:54:00:b{number:x}:00:{index:02x}" for index in range(self.MACHINES)]
        with laboratory.inside(namespace):
            self._raw = wire.Raw("eth0")
            self._relay = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._relay.bind((_RELAY, 67))
            self._tftp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._relay.settimeout(3)
        self._tftp.settimeout(3)

    def send(self):
        for index, mac in enumerate(self._macs):
            self._raw.send(wire.message("DISCOVER", mac, 0xa000 + index), mac)
            relayed = mac.replace("52:54", "52:55")
            self._relay.sendto(wire.message("DISCOVER", relayed, 0xb000 + index, giaddr=_RELAY),
                               ("10.77.0.1", 67))
        self._tftp.sendto(b"\0\1ipxe.efi\0octet\0", ("10.77.0.1", 69))

    def answers(self):
        """The transaction ids of all OFFERs, by kind of DISCOVER, and how the file begins."""
        offers, relayed = [], []
        while (answer := next(self._raw.replies(3 if len(offers) < self.MACHINES else 0.5), None)):
            if answer[1].xid in range(0xa000, 0xa000 + self.MACHINES):
                offers.append(answer[1].xid)
        try:
            while len(relayed) < self.MACHINES:
                relayed.append(wire.Message(self._relay.recv(2048)).xid)
            block = self._tftp.recv(2048)
        except TimeoutError:
            block = b""
        for each in (self._raw, self._relay, self._tftp):
            each.close()
        return sorted(offers), sorted(relayed), block[:4]


def survives(suite, systemd, machines):
    """Ports 67 and 69 stay open while the server is started again."""
    def check(number, what, end):
        before = systemd.pid(UNIT)
        requests = Requests(machines, number)
        end(before)
        laboratory.wait_until(lambda: systemd.pid(UNIT) != before, 10)
        requests.send()
        suite.check(f"{what}: it is started again", restarted(systemd, before))
        wanted = [list(range(base, base + Requests.MACHINES)) for base in (0xa000, 0xb000)]
        suite.equal("and everybody who asked meanwhile is answered, once",
                    requests.answers(), (*wanted, b"\0\3\0\1"))

    # Time to ask in while nobody is there.
    systemd.write(f"etc/systemd/system/{UNIT}.d/slow.conf", "[Service]\nExecStartPre=/bin/sleep 1\n")
    systemd.run("systemctl", "daemon-reload")

    def restart(_):
        systemd.run("systemctl", "restart", "--no-block", UNIT)

    check(1, "systemctl restart", restart)
    check(2, "SIGKILL", lambda pid: os.kill(pid, signal.SIGKILL))
    inherited = systemd.show(UNIT, "NFileDescriptorStore")
    suite.check("the service manager keeps the sockets", int(inherited) >= 2 * 2, inherited)
    systemd.write(CONFIG, configuration("shards = 3"))
    start(systemd)
    systemd.run("systemctl", "restart", UNIT)
    check(3, "with another number of shards", restart)
    systemd.write(CONFIG, configuration())
    systemd.run("rm", f"/etc/systemd/system/{UNIT}.d/slow.conf")
    systemd.run("systemctl", "daemon-reload")
    systemd.run("systemctl", "restart", UNIT)


def activation(suite, systemd, machines):
    """A socket unit holds port 67 while no server runs, and its first datagram starts one."""
    systemd.run("systemctl", "stop", UNIT)
    # One for each shard.
    systemd.write("etc/systemd/system/bootstorm.socket",
                  "[Socket]\nListenDatagram=0.0.0.0:67\nListenDatagram=0.0.0.0:67\n"
                  "ReusePort=yes\nBindToDevice=eth0\nBroadcast=yes\n")
    systemd.run("systemctl", "daemon-reload")
    suite.equal("the socket unit starts", systemd.run("systemctl", "start", "bootstorm.socket"),
                (0, ""))
    requests = Requests(machines, 4)
    requests.send()
    suite.check("a DISCOVER starts the server", is_active(systemd), systemd.journal(UNIT))
    requests.answers()
    requests = Requests(machines, 5)
    requests.send()
    suite.equal("and its sockets are shared as its own are: everybody is answered, once",
                [len(got) for got in requests.answers()[:2]], [Requests.MACHINES] * 2)
    pid = systemd.pid(UNIT)
    with open(f"/proc/{pid}/net/udp") as table:
        bound = [line for line in table if line.split()[1].endswith(":0043")]
    suite.equal("it has opened no others", len(bound), 2)
    systemd.run("systemctl", "stop", "bootstorm.socket", UNIT)
    systemd.run("rm", "/etc/systemd/system/bootstorm.socket")
    systemd.run("systemctl", "daemon-reload")
    start(systemd)


def refusals(suite, lab, systemd):
    """What trying again does not cure, and what it may."""
    systemd.run("systemctl", "stop", UNIT)
    systemd.write(CONFIG, configuration().replace("[dhcp]", "[dhpc]"))
    start(systemd)
    suite.equal("a wrong configuration: exit status, and no other try",
                (systemd.show(UNIT, "ExecMainStatus"), systemd.show(UNIT, "ActiveState")),
                ("78", "failed"))
    systemd.write(CONFIG, configuration())
    systemd.run("rm", "-r", "/var/lib/bootstorm")
    other = foreign_server(lab, _FOREIGN)
    start(systemd)
    suite.equal("another DHCP server at the first start: the same",
                (systemd.show(UNIT, "ExecMainStatus"), systemd.show(UNIT, "ActiveState")),
                ("80", "failed"))
    other.stop()
    systemd.run("mv", "/srv/tftp", "/srv/later")
    systemd.run("systemctl", "start", "--no-block", UNIT)
    tried = laboratory.wait_until(lambda: int(systemd.show(UNIT, "NRestarts") or 0) >= 2, 20)
    suite.check("a TFTP root that is not there yet: tried again", tried, systemd.journal(UNIT))
    systemd.run("mv", "/srv/later", "/srv/tftp")
    suite.check("until it is there", is_active(systemd), systemd.journal(UNIT))


@contextlib.contextmanager
def stopped(pid, name):
    """Stops one thread of a process, and no other."""
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/comm") as comm:
            if comm.read().strip() == name:
                thread = int(task)
    for request in (_PTRACE_SEIZE, _PTRACE_INTERRUPT):
        if _LIBC.ptrace(request, thread, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "ptrace")
    try:
        yield
    finally:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(thread, 0x40000000)  # __WALL
        _LIBC.ptrace(_PTRACE_DETACH, thread, 0, 0)


@contextlib.contextmanager
def frozen(systemd, path, seconds):
    """Freezes a file system for so long. It thaws even when this script is killed meanwhile:
    nothing can end a process that waits for it."""
    freeze = f"fsfreeze -f {path} && sleep {seconds}; fsfreeze -u {path}"
    thaw = subprocess.Popen(["nsenter", "--target", str(systemd.outer_pid), "--mount", "--root",
                             "sh", "-c", freeze], start_new_session=True)
    time.sleep(0.5)
    try:
        yield
    finally:
        thaw.wait()


def ends(suite, systemd, machines):
    """What ends the process, and what does not."""
    pid = systemd.pid(UNIT)
    os.kill(pid, signal.SIGKILL)
    second = restarted(systemd, pid)
    suite.check("after SIGKILL it is started again", second, systemd.journal(UNIT))
    running = second
    for thread, name in (("shard1", "shard 1"), ("committer", "the committer"),
                         ("bootstorm", "the main thread")):
        line = f"{name} is dead or stuck"
        # The process is gone when its stopped thread is let go.
        with stopped(running, thread):
            suite.check(f"{line}: the log says so",
                        laboratory.wait_until(lambda: line in systemd.journal(UNIT), 10, 0.2))
        running = restarted(systemd, running)
        suite.check("and the server is started again", running, systemd.journal(UNIT))
    fourth = running
    os.kill(fourth, signal.SIGSTOP)
    suite.check("a process that is stuck as a whole is ended by systemd",
                restarted(systemd, fourth), systemd.journal(UNIT))
    suite.check("which says that it is the watchdog",
                "watchdog" in systemd.journal(UNIT).lower(), systemd.journal(UNIT))
    ack = lease(machines, "52:54:00:aa:00:03")
    suite.check("after all that machines are served", ack)


def slow_disk(suite, lab, systemd, machines):
    """A file system that is frozen is the slowest disk there is."""
    systemd.run("systemctl", "stop", UNIT)
    image = lab.path("disk")
    device = laboratory.sh(f"truncate -s 256M {image} && mkfs.ext4 -q {image} && "
                           f"losetup -f --show {image}").strip()
    try:
        number = device.removeprefix("/dev/loop")
        script = (f"mknod {device} b 7 {number}; mount {device} /var/lib/bootstorm && "
                  "chown bootstorm: /var/lib/bootstorm")
        status, output = systemd.run("sh", "-c", script)
    finally:
        # It goes with its last mount.
        laboratory.sh(f"losetup -d {device}")
    if not suite.check("a file system of its own", status == 0, output):
        return
    start(systemd)
    pid = systemd.pid(UNIT)
    with frozen(systemd, "/var/lib/bootstorm", seconds=14):
        suite.check("a disk that does not answer: no ACK", not lease(machines, "52:54:00:aa:00:04"))
    suite.check("and the process waits for it, longer than the watchdog would",
                systemd.pid(UNIT) == pid, systemd.journal(UNIT))
    suite.check("then machines are served again", lease(machines, "52:54:00:aa:00:05"),
                systemd.journal(UNIT))


def main():
    laboratory.own_mounts()
    suite = Suite("Service")
    lab = Lab()
    machines = lab.namespace("machines")
    lab.plug(machines, 0)
    laboratory.sh(f"ip -n {machines} addr add {_RELAY}/16 dev eth0")
    systemd = Systemd(lab, lab.srv)
    suite.explain_with(lambda: systemd.journal(UNIT))
    # Everything else is as it is installed.
    systemd.write(f"etc/systemd/system/{UNIT}.d/test.conf",
                  "[Service]\nWatchdogSec=6s\nRestartSec=300ms\n")
    systemd.run("systemctl", "daemon-reload")
    systemd.write(CONFIG, configuration())
    os.makedirs(systemd.path("srv/tftp/sub"))
    with open(systemd.path("srv/tftp/sub/loader"), "wb") as loader:
        loader.write(LOADER)
    with open(systemd.path("srv/tftp/ipxe.efi"), "wb") as loader:
        loader.write(LOADER)
    os.symlink("/etc/passwd", systemd.path("srv/tftp/link"))
    with suite.step("the sandbox"):
        sandbox(suite, lab, systemd, machines)
    with suite.step("reloads"):
        reloads(suite, systemd, machines)
    with suite.step("the commands of SYMPTOMS.md"):
        symptoms(suite, lab, systemd, machines)
    with suite.step("what ends it"):
        ends(suite, systemd, machines)
    with suite.step("what waits while it is started again"):
        survives(suite, systemd, machines)
    with suite.step("socket activation"):
        activation(suite, systemd, machines)
    with suite.step("a slow disk"):
        slow_disk(suite, lab, systemd, machines)
    with suite.step("what keeps it from starting"):
        refusals(suite, lab, systemd)
    suite.finish()


if __name__ == "__main__":
    main()
