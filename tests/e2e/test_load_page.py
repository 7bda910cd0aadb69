#!/usr/bin/env python3
"""The page of a load run in a real browser: complete, legible, silent, and alone.

    test_load_page.py              pages of made-up runs
    test_load_page.py PAGE...      these pages

Needs Debian's chromium and the example `report-pages` of loadgen/, built. With
BOOTSTORM_LOAD_PICTURES=DIR it leaves pictures there.
"""

import html
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

import browser
from suite import Suite

TAKES_SECONDS = 25

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def check_page(suite, path, headline=None, charts=True):
    """Everything that must hold for any page. The headline, when known, must be what the page
    opens with; `charts` says that the run has samples over time, which must be drawn."""
    name = os.path.basename(path)
    with open(path, encoding="utf-8") as source:
        page = source.read()
    try:
        xml.etree.ElementTree.fromstring(page)
        broken = ""
    except xml.etree.ElementTree.ParseError as error:
        broken = str(error)
    suite.check(f"{name}: is well-formed", not broken, broken)
    if headline is None:
        headline = html.unescape(re.search(r"<h1>(.*?)</h1>", page, re.DOTALL)[1])
    for width, dark in ((1200, False), (400, True)):
        told = f"{name}, {width} px, {'dark' if dark else 'light'}"
        found = browser.look(path, width=width, dark=dark, picture=_picture(name, width, dark))
        suite.equal(f"{told}: opens with its headline", found["heading"], headline)
        suite.check(f"{told}: nothing on the console", not found["console"], "\n".join(found["console"]))
        suite.equal(f"{told}: asks the network for nothing", found["requests"], [])
        if not found["heading"]:
            continue
        red, green, blue = map(int, re.findall(r"\d+", found["paper"])[:3])
        suite.check(f"{told}: has the colours that were asked for",
                    (red + green + blue < 384) == dark, found["paper"])
        suite.check(f"{told}: is no wider than its window", found["wide"] <= found["namespace"],
                    f"{found['wide']} in {found['namespace']}")
        suite.equal(f"{told}: every table has a caption", found["unnamed"], 0)
        if charts:
            suite.check(f"{told}: has charts", len(found["plots"]) >= 2, found["plots"])
        for plot in found["plots"]:
            suite.check(f"{told}: {plot['title']}: marks, labels, a text and a read-out",
                        plot["marks"] >= 1 and plot["across"] >= 2 and plot["upwards"] >= 1
                        and len(plot["told"]) > len(plot["title"]) + 2 and plot["tip"], plot)
            suite.check(f"{told}: {plot['title']}: no label covers another or is cut off",
                        not plot["overlap"] and not plot["outside"], plot)


def check_checks(suite, path, directory):
    """That this script sees what it looks for: the same page, spoilt."""
    with open(path, encoding="utf-8") as source:
        page = source.read()
    spoilt = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    spoilt = spoilt.replace("<main>", '<main><img src="http://192.0.2.1/pixel" alt=""/>'
                            "<script>console.error('spoilt')</script>", 1)
    copy = f"{directory}/spoilt.html"
    with open(copy, "w", encoding="utf-8") as out:
        out.write(spoilt)
    found = browser.look(copy)
    suite.check("a message on the console is seen", any("spoilt" in line for line in found["console"]),
                found["console"])
    suite.equal("a request is seen", found["requests"], ["http://192.0.2.1/pixel"])


def _picture(name, width, dark):
    directory = os.environ.get("BOOTSTORM_LOAD_PICTURES")
    if not directory:
        return None
    os.makedirs(directory, exist_ok=True)
    return f"{directory}/{name.removesuffix('.html')}-{width}{'-dark' if dark else ''}.png"


def _made_up(directory):
    subprocess.run([f"{ROOT}/target/debug/examples/report-pages", directory], check=True,
                   stdout=subprocess.DEVNULL)
    return [f"{directory}/{name}.html" for name in ("good", "bad", "invalid", "tiny", "empty", "hostile")]


def main():
    suite = Suite("load page")
    if not browser.chromium():
        suite.check("chromium is installed", False, "apt-get install --no-install-recommends chromium")
        suite.finish()
    with tempfile.TemporaryDirectory(prefix="bootstorm-pages") as directory:
        pages = sys.argv[1:] or _made_up(directory)
        with suite.step("the checks check"):
            check_checks(suite, pages[0], directory)
        for path in pages:
            with suite.step(os.path.basename(path)):
                check_page(suite, path, charts="empty" not in os.path.basename(path))
    suite.finish()


if __name__ == "__main__":
    main()
