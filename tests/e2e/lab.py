"""A laboratory of network namespaces: a switch, a server's namespace, clients' namespaces.

Nothing here touches the host's own network: every interface is born inside a namespace that
the laboratory made, and the namespaces go when the script ends, however it ends.

    sw   the switch: bridges br0, br1, ...; QEMU's taps live here
    srv  the server under test, one veth to each bridge (eth0, eth1, ...)
    cN   one namespace per client, one veth (eth0)
"""

import atexit
import contextlib
import ctypes
import fcntl
import glob
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import wire

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_PREFIX = "bootstorm-e2e"
_LOCKS = "/run"


def sh(command, **options):
    """Runs a command line, raising with its own words when it fails."""
    done = subprocess.run(command, shell=True, text=True, capture_output=True, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{command}: exit {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def wait_until(condition, seconds, every=0.05):
    """The first true value of condition() within the time, else its last false one."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > end:
            return value
        time.sleep(every)


@contextlib.contextmanager
def inside(namespace):
    """Sockets opened in this block belong to the namespace, and stay there afterwards."""
    with open("/proc/thread-self/ns/net") as own, open(f"/run/netns/{namespace}") as there:
        _enter(there)
        try:
            yield
        finally:
            _enter(own)


def _enter(handle):
    if _LIBC.setns(handle.fileno(), _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _die_with_parent():
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def sweep_stale():
    """Removes namespaces of laboratories whose process was killed before it could tidy up.

    A laboratory holds a lock while it lives. A process number would not do: it may be another
    process by now, or one of another PID namespace.
    """
    for path in glob.glob(f"{_LOCKS}/{_PREFIX}-*.lock"):
        with contextlib.suppress(OSError), open(path) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            stale = os.path.basename(path).removesuffix(".lock")
            for line in sh("ip netns list").splitlines():
                if line.startswith(f"{stale}-"):
                    subprocess.run(["ip", "netns", "del", line.split()[0]], check=False)
            os.unlink(path)


def own_mounts():
    """Begins the script anew in a mount namespace of its own: what it mounts goes with it."""
    if os.environ.get("BOOTSTORM_OWN_MOUNTS") != "1":
        os.execvpe("unshare", ["unshare", "-m", "--propagation", "private", sys.executable,
                               "-B", *sys.argv], {**os.environ, "BOOTSTORM_OWN_MOUNTS": "1"})


class Process:
    """A child with its output in a file that can be read while it runs."""

    _of_thread = threading.local()

    def __init__(self, arguments, log, echo=None, environment=None):
        self.log = log
        self._out = open(log, "ab")
        self.child = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=self._out, stderr=self._out,
            start_new_session=True, preexec_fn=_die_with_parent,
            env={**os.environ, **(environment or {})})
        self.arguments = arguments
        self.running_now().add(self)

    @classmethod
    def running_now(cls):
        """Those that this thread has started and that run at the moment."""
        started = getattr(cls._of_thread, "started", set())
        cls._of_thread.started = {process for process in started if process.running()}
        return cls._of_thread.started

    def output(self):
        with open(self.log, errors="replace") as text:
            return text.read()

    def running(self):
        return self.child.poll() is None

    def has_port_67(self):
        """Whether port 67 is open in its namespace."""
        with open(f"/proc/{self.child.pid}/net/udp") as table:
            return any(line.split()[1].endswith(":0043") for line in table.readlines()[1:])

    def signal(self, number):
        if self.running():
            self.child.send_signal(number)

    def wait(self, seconds):
        """The exit status, or None when it still runs after so many seconds."""
        try:
            return self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, seconds=5):
        """SIGTERM, and SIGKILL for the whole group when that is not enough."""
        self.signal(signal.SIGTERM)
        status = self.wait(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()
        self._out.close()
        return status


class Lab:
    """Namespaces, switches, and what runs in them; close() undoes everything."""

    def __init__(self, bridges=1):
        sweep_stale()
        self.directory = tempfile.mkdtemp(prefix=f"{_PREFIX}-")
        self._prefix = os.path.basename(self.directory)
        self._lock = open(f"{_LOCKS}/{self._prefix}.lock", "w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._namespaces, self._children, self._closers = [], [], []
        atexit.register(self.close)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda received, _: sys.exit(128 + received))
        self.sw = self.namespace("sw")
        self.srv = self.namespace("srv")
        self._ports = 0
        for index in range(bridges):
            sh(f"ip -n {self.sw} link add br{index} type bridge forward_delay 0 mcast_snooping 0")
            sh(f"ip -n {self.sw} link set br{index} up")
            self.plug(self.srv, index, interface=f"eth{index}", port=f"srv{index}")
            sh(f"ip -n {self.srv} addr add {server_address(index)}/16 dev eth{index}")

    def namespace(self, name):
        full = f"{self._prefix}-{name}"
        sh(f"ip netns add {full}")
        self._namespaces.append(full)
        sh(f"ip -n {full} link set lo up")
        return full

    def plug(self, namespace, bridge, interface="eth0", port=None, mac=None):
        """A cable from a namespace to a bridge; returns the name of the switch's port."""
        self._ports += 1
        port = port or f"port{self._ports}"
        address = f"address {mac}" if mac else ""
        sh(f"ip -n {self.sw} link add {port} type veth peer name {interface} {address} "
           f"netns {namespace}")
        sh(f"ip -n {self.sw} link set {port} master br{bridge} up")
        sh(f"ip -n {namespace} link set {interface} up")
        return port

    def replug(self, port, bridge):
        """Carries a machine to another network: the same cable in another switch."""
        sh(f"ip -n {self.sw} link set {port} master br{bridge}")

    def tap(self, bridge=0):
        """A tap device for a virtual machine."""
        self._ports += 1
        name = f"tap{self._ports}"
        sh(f"ip netns exec {self.sw} ip tuntap add {name} mode tap")
        sh(f"ip -n {self.sw} link set {name} master br{bridge} up")
        return name

    def path(self, name):
        return os.path.join(self.directory, name)

    def memory(self):
        """A directory without a disk beneath it."""
        directory = tempfile.mkdtemp(prefix=f"{_PREFIX}-", dir="/dev/shm")
        self.on_close(lambda: shutil.rmtree(directory, ignore_errors=True))
        return directory

    def write(self, name, content, mode=0o644):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        with open(path, "wb") as out:
            out.write(data)
        os.chmod(path, mode)
        return path

    def start(self, namespace, arguments, name, environment=None):
        """Starts a program in a namespace; it is stopped at the end at the latest."""
        process = Process(["ip", "netns", "exec", namespace, *arguments],
                          self.path(f"{name}.log"), environment=environment)
        self._children.append(process)
        return process

    def run(self, namespace, arguments, seconds=30, directory=None, environment=None):
        """Runs a program to its end and returns (status, output); status None is a timeout."""
        command = ["ip", "netns", "exec", namespace, *map(str, arguments)]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, timeout=seconds, cwd=directory or self.directory,
                preexec_fn=_die_with_parent, env={**os.environ, **(environment or {})})
            return done.returncode, done.stdout.decode(errors="replace")
        except subprocess.TimeoutExpired as late:
            return None, (late.stdout or b"").decode(errors="replace")

    def sniff(self, port="srv0"):
        """Everything DHCP, PXE and TFTP asks on one port of the switch, from now on."""
        with inside(self.sw):
            sniffer = Sniffer(port)
        self._closers.append(sniffer.close)
        return sniffer

    def advertise_router(self, bridge=0):
        """Router advertisements once a second: without one iPXE waits 16 s for IPv6."""
        with inside(self.sw):
            advertiser = RouterAdvertiser(f"br{bridge}")
        self._closers.append(advertiser.close)

    def on_close(self, close):
        """Has something undone with the rest."""
        self._closers.append(close)

    def close(self):
        atexit.unregister(self.close)
        for child in self._children:
            child.stop(seconds=2)
        for close in self._closers:
            close()
        for namespace in self._namespaces:
            subprocess.run(["ip", "netns", "del", namespace], check=False)
        shutil.rmtree(self.directory, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._lock.name)
        self._lock.close()
        self._children, self._closers, self._namespaces = [], [], []


def server_address(bridge):
    """The server's own address on a bridge."""
    return f"10.{77 + bridge}.0.1"


class Sniffer:
    """A packet socket with a filter in the kernel, so that file data cannot flood it."""

    def __init__(self, interface):
        self.packets = []
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        wire.attach_boot_filter(self._socket)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.bind((interface, 3))
        self._socket.settimeout(0.2)
        self._open = True
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        while self._open:
            try:
                frame = self._socket.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                return
            datagram = wire.Datagram.from_frame(frame, time.monotonic())
            if datagram:
                self.packets.append(datagram)

    def dhcp(self, kind=None, mac=None):
        """DHCP messages seen so far, as (datagram, message), by type name and hardware."""
        found = []
        for datagram in list(self.packets):
            message = datagram.dhcp()
            if message and (kind is None or message.kind == kind) and (
                    mac is None or message.chaddr == mac):
                found.append((datagram, message))
        return found

    def tftp_requests(self):
        """Names asked for by TFTP so far."""
        return [d.tftp_name() for d in list(self.packets) if d.tftp_name()]

    def close(self):
        self._open = False
        self._thread.join()
        self._socket.close()


class RouterAdvertiser:
    """RFC 4861 router advertisements without a prefix and without a default route."""

    def __init__(self, interface):
        self._socket = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        index = socket.if_nametoindex(interface)
        self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        self._to = ("ff02::1", 0, 0, index)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _send(self):
        # Type 134, code 0, checksum by the kernel, hop limit 64, no flags, lifetime 0.
        advertisement = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 0, 0, 0)
        while not self._stop.wait(1.0):
            # Until the link-local address is confirmed there is nothing to send from.
            with contextlib.suppress(OSError):
                self._socket.sendto(advertisement, self._to)

    def close(self):
        self._stop.set()
        self._thread.join()
        self._socket.close()
