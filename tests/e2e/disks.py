"""File systems on a disk with a volatile write cache, and what power cuts leave of them.

The disk is volatile_disk.py under a loop device. A cut does not stop the server: the disk notes
at one moment what is durable and what its cache holds, and images of the disk are made from that
afterwards. An image keeps all that was synced. Of what was not, each piece is kept or lost by
itself: so writes are dropped, torn, and reordered, and a block that was written twice may have
its older content.
"""

import contextlib
import os
import pickle
import signal
import subprocess
from dataclasses import dataclass

import lab as laboratory
from lab import sh

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "volatile_disk.py")
SIZE = "320M"  # the least that mkfs.xfs takes is 300M


@dataclass(frozen=True)
class Kind:
    """A file system: how it is made and mounted, and the sector of the disk under it, bytes.

    A disk writes a sector wholly or not at all, so what was not synced is torn at its borders.
    btrfs keeps its superblock in 4 KiB and knows no torn one: it is for disks that write so much
    at once.
    """

    make: str
    sector: int = 512
    options: str = "defaults"


KINDS = {
    "ext4": Kind("mkfs.ext4 -q"),
    "xfs": Kind("mkfs.xfs -q"),
    "btrfs": Kind("mkfs.btrfs -q", sector=4096, options="nodiscard"),
}


class Disk:
    """A mounted file system whose disk can be cut off, at `place`: a new one, or the one in an
    image, which is taken over. Wants own_mounts()."""

    def __init__(self, lab, name, kind, sync_ms=1, image=None):
        self.lab, self.kind, self._mounted = lab, KINDS[kind], []
        self.folder, self.place = lab.path(f"{name}-disk"), lab.path(name)
        device = os.path.join(self.folder, "device")
        for path in (self.folder, device, self.place):
            os.makedirs(path)
        self._files = [os.path.join(self.folder, name) for name in ("current", "durable")]
        current, durable = self._files
        if image:
            os.rename(image, current)
        else:
            sh(f"truncate -s {SIZE} {current} && {self.kind.make} {current}")
        sh(f"cp --sparse=auto {current} {durable}")
        self._layer = laboratory.Process(
            [PROGRAM, self.folder, device, "--sync-ms", str(sync_ms)], lab.path(f"{name}-disk.log"))
        lab.on_close(self.close)
        self._device = os.path.join(device, "disk")
        if not laboratory.wait_until(lambda: os.path.exists(self._device), 10):
            raise RuntimeError(f"no disk: {self._layer.output()}")
        self._mounted.append(device)
        self._mount(self._device, self.place)

    def _mount(self, file, place):
        loop = sh(f"losetup --find --show --sector-size {self.kind.sector} {file}").strip()
        try:
            sh(f"mount -o {self.kind.options} {loop} {place}")
            self._mounted.append(place)
        finally:
            # One that is mounted is detached when that ends.
            sh(f"losetup --detach {loop}")

    def cut(self, name, writes=0):
        """The power fails now, or at one of the next writes. The disk itself goes on."""
        with open(os.path.join(self.folder, "device", "cut"), "wb", buffering=0) as control:
            control.write(f"{name} {writes}".encode())
        return Cut(os.path.join(self.folder, name), self.kind)

    @contextlib.contextmanager
    def hanging(self):
        """A disk that answers nothing meanwhile, and goes on afterwards."""
        self._layer.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._layer.signal(signal.SIGCONT)

    @contextlib.contextmanager
    def mounted(self, image):
        """An image of this disk as it is found after the power came back: mounted."""
        place = f"{image}-mounted"
        os.makedirs(place)
        self._mount(image, place)
        try:
            yield place
        finally:
            self._unmount(place)

    def _unmount(self, place):
        # Where a server was killed, its last requests may take a moment.
        if not laboratory.wait_until(lambda: subprocess.run(
                ["umount", place], capture_output=True).returncode == 0, 10, every=0.1):
            raise RuntimeError(f"{place} cannot be unmounted")
        self._mounted.remove(place)

    def log(self):
        """Whether the disk's program runs, and what it says: nothing, while all is well."""
        return f"disk: exit status {self._layer.child.poll()} {self._layer.output()}"

    def close(self):
        """Ends the disk; images of its cuts stay."""
        for place in reversed(list(self._mounted)):
            self._unmount(place)
        self._layer.stop()
        for file in self._files:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file)


class Cut:
    """What one power cut left: what is durable, and what the cache held."""

    def __init__(self, path, kind):
        self._path, self._sector = path, kind.sector
        with open(f"{path}.cache", "rb") as cache:
            self.cache = pickle.load(cache)
        self._images = 0

    def image(self, dice, share):
        """A file as the disk may be found: of the cache about this share was written after all,
        in pieces of a sector or a page."""
        self._images += 1
        path = f"{self._path}.{self._images}"
        sh(f"cp --sparse=auto {self._path}.durable {path}")
        with open(path, "r+b", buffering=0) as image:
            for offset, data in self.cache:
                piece = dice.choice((self._sector, 4096))
                for at in range(0, len(data), piece):
                    if dice.random() < share:
                        os.pwrite(image.fileno(), data[at:at + piece], offset + at)
        return path

    def remove(self, keep=None):
        """Takes its files away, but for an image that is to be kept."""
        images = [f"{self._path}.{number + 1}" for number in range(self._images)]
        for path in {f"{self._path}.durable", f"{self._path}.cache", *images} - {keep}:
            os.unlink(path)
