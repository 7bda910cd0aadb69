#!/usr/bin/env python3
"""The Debian package: what it installs, and that its documents lead somewhere."""

import os
import re
import subprocess
import tempfile

from lab import ROOT
from server import BINARY
from suite import Suite

TAKES_SECONDS = 15
DOC = "usr/share/doc/bootstorm"
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def run(*arguments, **options):
    return subprocess.run(arguments, text=True, check=True, stdout=subprocess.PIPE,
                          **options).stdout


def broken_links(directory):
    """Links of the documents that lead to no file: (document, link)."""
    found = []
    for where, _, names in os.walk(directory):
        for name in (name for name in names if name.endswith(".md")):
            with open(os.path.join(where, name)) as text:
                links = LINK.findall(text.read())
            found += [(name, link) for link in links
                      if not os.path.exists(os.path.join(where, link))]
    return found


def main():
    suite = Suite("Package")
    documents = sorted(os.listdir(f"{ROOT}/docs"))
    pages = [name for name in documents if name.endswith(".md")]
    with open(f"{ROOT}/README.md") as text:
        links = set(LINK.findall(text.read()))
    suite.equal("README links every page", [p for p in pages if f"docs/{p}" not in links], [])
    with tempfile.TemporaryDirectory() as directory, suite.step("the package"):
        run(f"{ROOT}/packaging/deb/build", os.path.dirname(BINARY), directory,
            env={**os.environ, "DEB_OPTIONS": "-Znone"})
        package = next(name for name in os.listdir(directory) if name.endswith(".deb"))
        root = f"{directory}/root"
        run("dpkg-deb", "-x", f"{directory}/{package}", root)
        files = {os.path.relpath(os.path.join(where, name), root)
                 for where, _, names in os.walk(root) for name in names}
        wanted = {f"{DOC}/docs/{name}" for name in documents}
        wanted |= {f"{DOC}/{name}" for name in ("README.md", "copyright", "changelog.gz")}
        wanted |= {f"{DOC}/examples/{name}" for name in os.listdir(f"{ROOT}/packaging/examples")}
        for program in ("bootstorm", "bootstorm-load"):
            wanted |= {f"usr/bin/{program}", f"usr/share/man/man1/{program}.1.gz",
                       f"usr/share/bash-completion/completions/{program}",
                       f"usr/share/zsh/vendor-completions/_{program}",
                       f"usr/share/fish/vendor_completions.d/{program}.fish"}
        wanted |= {"usr/share/man/man1/bootstorm-serve.1.gz",
                   "usr/share/man/man1/bootstorm-load-storm.1.gz",
                   "lib/systemd/system/bootstorm.service", "etc/bootstorm/bootstorm.toml",
                   "usr/lib/sysctl.d/10-bootstorm.conf"}
        suite.equal("nothing is missing in it", sorted(wanted - files), [])
        suite.equal("nothing in it is empty", [name for name in sorted(files) if not
                                               os.path.getsize(f"{root}/{name}")], [])
        suite.equal("its documents link only to what is there", broken_links(f"{root}/{DOC}"), [])
        unit = open(f"{root}/lib/systemd/system/bootstorm.service").read()
        suite.equal("so do those of the unit", re.findall(r"^Documentation=(.*)$", unit, re.M),
                    ["man:bootstorm(1) file:///usr/share/doc/bootstorm/docs/OPERATIONS.md"])
        config = f"{root}/etc/bootstorm/bootstorm.toml"
        checked = subprocess.run([BINARY, "check", "--config", config], text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        suite.equal("its configuration is good", checked.returncode, 0)
        text = open(config).read()
        suite.check("and not authoritative",
                    not re.search(r"^\s*authoritative\s*=\s*true", text, re.M), text)
        page = run("man", "-l", f"{root}/usr/share/man/man1/bootstorm.1.gz") if os.path.exists(
            "/usr/bin/man") else "NAME"
        suite.check("its manual page reads", "NAME" in page, page[:200])
    suite.finish()


if __name__ == "__main__":
    main()
