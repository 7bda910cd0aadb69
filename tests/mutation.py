"""The source of mutants: a copy of the workspace with some texts replaced.

A replacement is (file, text, text in its place). The text stands in the file once; where the code
has changed under a mutant this says so, instead of testing the server as it is.
"""

import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def sources(replacements):
    """Each file that git tracks, with its content after the replacements: (path, bytes)."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, text=True,
                             stdout=subprocess.PIPE).stdout.split("\0")
    gone = {path for path, _, _ in replacements} - set(tracked)
    if gone:
        sys.exit(f"mutants: no such file: {', '.join(gone)}")
    for path in filter(None, tracked):
        if not os.path.isfile(os.path.join(ROOT, path)):
            continue
        with open(os.path.join(ROOT, path), "rb") as file:
            content = file.read()
        for changed, old, new in replacements:
            if path != changed:
                continue
            if content.count(old.encode()) != 1:
                sys.exit(f"mutants: {path} does not have this text once: {old!r}")
            content = content.replace(old.encode(), new.encode())
        yield path, content


def check(replacements):
    """Ends the program where a replacement does not fit the code."""
    for _ in sources(replacements):
        pass


def copy_source(into, replacements):
    """Writes the files into a directory. What is there already keeps its time, so that it is not
    built again."""
    for path, content in sources(replacements):
        copy = os.path.join(into, path)
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        if os.path.exists(copy):
            with open(copy, "rb") as file:
                if file.read() == content:
                    continue
        with open(copy, "wb") as file:
            file.write(content)
        shutil.copymode(os.path.join(ROOT, path), copy)
