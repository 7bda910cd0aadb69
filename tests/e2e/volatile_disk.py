#!/usr/bin/python3
"""A disk with a volatile write cache: a FUSE file system with one file, for a loop device.

    volatile_disk.py FOLDER MOUNTPOINT [--sync-ms MS]

FOLDER/current is the disk as its users see it, FOLDER/durable as a power cut would leave it if
the cache were lost. MOUNTPOINT/disk is the disk: a write goes to `current` and is remembered, and
FSYNC, which a loop device sends for each flush request, puts into `durable` what was written before
it began. So a write that is not followed by a flush is not durable, whether or not it went past
the page cache (O_DIRECT). A sync takes as long as is asked for, and writes go on meanwhile.

"NAME WRITES" written to MOUNTPOINT/cut cuts the power: at once, or when so many more writes have
come, so that the cache is not empty, or after two seconds without these. FOLDER/NAME.durable is a
copy of `durable` at that moment, and FOLDER/NAME.cache holds the writes that are not in it, oldest
first, as a pickled list of (offset, bytes). The disk goes on afterwards.

Runs with Debian's own Python, because pyfuse3 is a Debian package.
"""

import argparse
import errno
import os
import pickle
import stat
import subprocess

import pyfuse3
import trio

NAMES = {b"disk": pyfuse3.ROOT_INODE + 1, b"cut": pyfuse3.ROOT_INODE + 2}
DISK, CUT = NAMES.values()


class VolatileDisk(pyfuse3.Operations):
    """The two files; what a method does before its first `await` nothing else interrupts."""

    def __init__(self, folder, sync_seconds):
        super().__init__()
        self._folder, self._sync_seconds = folder, sync_seconds
        self._current, self._durable = (
            os.open(os.path.join(folder, name), os.O_RDWR) for name in ("current", "durable"))
        self._size = os.fstat(self._current).st_size
        self._cache = []  # writes that are not durable, oldest first
        self._synced = 0  # how many writes have become durable so far
        self._cut = None  # a cut that is to come: path, writes until then, event when it is done

    async def lookup(self, parent_inode, name, ctx=None):
        if name not in NAMES:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return await self.getattr(NAMES[name])

    async def getattr(self, inode, ctx=None):
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode
        entry.st_mode = (stat.S_IFDIR | 0o700 if inode == pyfuse3.ROOT_INODE
                         else stat.S_IFREG | 0o600)
        entry.st_size = self._size if inode == DISK else 0
        entry.attr_timeout = entry.entry_timeout = 3600
        return entry

    async def setattr(self, inode, attr, fields, fh, ctx):
        return await self.getattr(inode)

    async def open(self, inode, flags, ctx):
        return pyfuse3.FileInfo(fh=inode, direct_io=inode == CUT)

    async def read(self, fh, off, size):
        return os.pread(self._current, size, off)

    async def write(self, fh, off, buf):
        data = bytes(buf)
        if fh == CUT:
            name, writes = data.decode().split()
            await self._cut_after(os.path.join(self._folder, name), int(writes))
            return len(data)
        os.pwrite(self._current, data, off)
        self._cache.append((off, data))
        if self._cut:
            path, writes, done = self._cut
            self._cut = (path, writes - 1, done)
            if writes == 1:
                self._cut_now()
        return len(data)

    async def _cut_after(self, path, writes):
        self._cut = (path, writes, trio.Event())
        if writes:
            with trio.move_on_after(2):
                await self._cut[2].wait()
        if self._cut:
            self._cut_now()

    def _cut_now(self):
        path, _, done = self._cut
        subprocess.run(["cp", "--sparse=auto", os.path.join(self._folder, "durable"),
                        f"{path}.durable"], check=True)
        with open(f"{path}.cache", "wb") as out:
            pickle.dump(self._cache, out)
        self._cut = None
        done.set()

    async def fsync(self, fh, datasync):
        end = self._synced + len(self._cache)
        await trio.sleep(self._sync_seconds)
        # Another sync may have covered some of them meanwhile.
        covered = max(end - self._synced, 0)
        for off, data in self._cache[:covered]:
            os.pwrite(self._durable, data, off)
        del self._cache[:covered]
        self._synced += covered


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("mountpoint")
    parser.add_argument("--sync-ms", type=float, default=1)
    args = parser.parse_args()
    disk = VolatileDisk(args.folder, args.sync_ms / 1000)
    pyfuse3.init(disk, args.mountpoint, {*pyfuse3.default_options, "fsname=volatile-disk"})
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close()


if __name__ == "__main__":
    main()
