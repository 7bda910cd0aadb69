"""A systemd of our own: PID 1 of namespaces that the laboratory made, with a root directory in
memory, in which the unit runs as the package installs it."""

import contextlib
import os
import signal
import subprocess
import tempfile
import time

import lab as laboratory
from lab import ROOT
from server import BINARY

UNIT_FILES = os.path.join(ROOT, "packaging/systemd")

_BOOT = r"""
set -eu
root=$1 binary=$2 units=$3
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$root"
cd "$root"
mkdir -p usr etc/systemd/system etc/bootstorm var/lib var/log var/tmp run tmp proc sys dev root \
    srv/tftp upper work old
mount -t overlay -o "lowerdir=/usr,upperdir=$root/upper,workdir=$root/work" overlay usr
for link in bin sbin lib lib32 lib64 libx32; do
    if [ -L "/$link" ]; then ln -s "$(readlink "/$link")" "$link"; fi
done
cp -aL /etc/passwd /etc/group /etc/nsswitch.conf /etc/ld.so.cache /etc/os-release etc/
# Any: without one systemd enables every service of the host, as at a first boot.
echo 0123456789abcdef0123456789abcdef >etc/machine-id
echo 'bootstorm:x:990:990::/var/lib/bootstorm:/usr/sbin/nologin' >>etc/passwd
echo 'bootstorm:x:990:' >>etc/group
cp "$binary" usr/bin/bootstorm
cp "$units"/bootstorm* usr/lib/systemd/system/
mount -t proc proc proc
# The settings of the kernel are everybody's.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty; do
    touch "dev/$node"
    mount --bind "/dev/$node" "dev/$node"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
for unit in systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket \
    systemd-logind.service systemd-timesyncd.service systemd-sysctl.service \
    systemd-modules-load.service systemd-binfmt.service systemd-random-seed.service \
    sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount; do
    ln -s /dev/null "etc/systemd/system/$unit"
done
pivot_root . old
cd /
umount -l /old
exec env -i container=bootstorm-e2e PATH=/usr/sbin:/usr/bin \
    /lib/systemd/systemd --system --unit=basic.target --log-target=journal --show-status=no
"""


class Systemd:
    """PID 1 in a namespace of the laboratory, and the means to speak to it."""

    def __init__(self, lab, namespace):
        # Not in the laboratory's directory, which is removed with all that is in it.
        self._cgroups = tempfile.mkdtemp(prefix="bootstorm-cgroups-")
        laboratory.sh(f"mount -t cgroup2 cgroup2 {self._cgroups}")
        self._cgroup = f"{self._cgroups}/{os.path.basename(lab.directory)}"
        root = lab.path("root")
        os.makedirs(root)
        os.makedirs(self._cgroup)
        # Before `ip netns exec`, which hides the cgroups behind a /sys of its own.
        enter = 'echo $$ >"$0/cgroup.procs" && exec "$@"'
        self._process = laboratory.Process([
            "sh", "-c", enter, self._cgroup, "ip", "netns", "exec", namespace, "unshare", "--pid",
            "--fork", "--kill-child", "--mount", "--uts", "--ipc", "--cgroup",
            "sh", "-c", _BOOT, "boot", root, BINARY, UNIT_FILES], lab.path("systemd.log"))
        lab.on_close(self.close)
        self.outer_pid = None
        state = laboratory.wait_until(self._state, 30)
        if state not in ("running", "degraded"):
            raise RuntimeError(f"systemd does not boot: {state}: {self._process.output()}")

    def _state(self):
        """What `systemctl is-system-running` says, once it is over with the boot."""
        if self.outer_pid is None:
            with contextlib.suppress(OSError):
                child = self._process.child.pid
                with open(f"/proc/{child}/task/{child}/children") as children:
                    self.outer_pid = int(children.read() or 0) or None
            return None
        word = self.run("systemctl", "is-system-running")[1].strip()
        return word if word in ("running", "degraded") else None

    def run(self, *arguments, seconds=60):
        """A program beside the service, not in its sandbox: (status, output)."""
        try:
            done = subprocess.run(self._inside(arguments), stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  timeout=seconds, text=True)
        except subprocess.TimeoutExpired as late:
            return None, str(late.stdout)
        return done.returncode, done.stdout

    def begin(self, *arguments):
        """The same, and does not wait for its end."""
        return subprocess.Popen(self._inside(arguments), stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def _inside(self, arguments):
        # Where the tests run in a chroot, the root of the mount namespace is not that of systemd.
        return ["nsenter", "--target", str(self.outer_pid), "--all", "--root", "--wd", "--",
                *arguments]

    def path(self, name):
        """A file of its root directory as this script sees it."""
        return f"/proc/{self.outer_pid}/root/{name}"

    def write(self, name, text):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as out:
            out.write(text)

    def show(self, unit, name):
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", "-p", name, unit)[1].strip()

    def journal(self, unit, last=60):
        return self.run("journalctl", "-q", "--no-pager", "-o", "cat", "-n", str(last),
                        "-u", unit)[1]

    def pid(self, unit):
        """The main process of a unit, as this script sees it; None while there is none."""
        inner = self.show(unit, "MainPID")
        if inner in ("", "0"):
            return None
        for entry in os.listdir("/proc"):
            with contextlib.suppress(OSError):
                with open(f"/proc/{entry}/status") as status:
                    numbers = [line.split() for line in status if line.startswith("NSpid:")]
                same = os.readlink(f"/proc/{entry}/ns/pid_for_children")
                if numbers and numbers[0][-1] == inner and len(numbers[0]) > 2 and (
                        same == os.readlink(f"/proc/{self.outer_pid}/ns/pid")):
                    return int(entry)
        return None

    def close(self):
        if self.outer_pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.outer_pid, signal.SIGKILL)
        self._process.stop()
        for directory, _, _ in os.walk(self._cgroup, topdown=False):
            for _ in range(40):
                with contextlib.suppress(OSError):
                    os.rmdir(directory)
                    break
                time.sleep(0.05)
        laboratory.sh(f"umount -l {self._cgroups}")
        os.rmdir(self._cgroups)
