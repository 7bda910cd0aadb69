"""Debian packages unpacked, not installed: no service of theirs comes to life on this host."""

import fcntl
import glob
import os
import shutil

import lab as laboratory

CACHE = os.path.join(laboratory.ROOT, "target", "e2e")


def unpack(package):
    """The directory with a package's files, downloaded once into target/e2e."""
    place = os.path.join(CACHE, package)
    os.makedirs(CACHE, exist_ok=True)
    with open(f"{place}.lock", "w") as lock:
        # Another script may be unpacking it just now.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.isdir(place):
            _download(package, place)
    return place


def _download(package, place):
    for old in glob.glob(f"{CACHE}/{package}_*.deb"):
        os.unlink(old)
    laboratory.sh(f"apt-get -q -o APT::Sandbox::User=root download {package}", cwd=CACHE)
    shutil.rmtree(f"{place}.new", ignore_errors=True)
    laboratory.sh(f"dpkg -x {CACHE}/{package}_*.deb {place}.new")
    os.rename(f"{place}.new", place)
