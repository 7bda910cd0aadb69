"""A page in a real browser: what it shows, its console messages, its network requests."""

import html
import json
import os
import re
import shutil
import subprocess
import tempfile

# Runs inside the page once it is loaded, and tells the page around it what is there. No `<`
# and no `&`: the page is XML, too.
_PROBE = r"""
window.addEventListener("load", function () {
  function boxes(selector, within) {
    return Array.from((within || document).querySelectorAll(selector)).map(function (one) {
      return one.getBoundingClientRect();
    });
  }
  function overlap(list) {
    return list.some(function (a, index) {
      return list.slice(index + 1).some(function (b) {
        var across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        var along = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        return across > 0.5 ? along > 0.5 : false;
      });
    });
  }
  var plots = Array.from(document.querySelectorAll(".plot")).map(function (plot) {
    var box = plot.getBoundingClientRect();
    var figure = plot.closest("figure");
    plot.dispatchEvent(new PointerEvent("pointermove", {
      clientX: box.left + box.width / 3, clientY: box.top + box.height / 2, bubbles: true
    }));
    var tip = document.querySelector(".tip");
    return {
      title: figure.querySelector("figcaption").textContent,
      marks: boxes("path:not(.grid)", plot).filter(function (mark) { return mark.width * mark.height > 1; }).length,
      across: boxes(".xt", plot).length,
      upwards: boxes(".yt", plot).length,
      overlap: overlap(boxes(".xt, .yt", plot)),
      outside: boxes(".xt, .yt", plot).some(function (label) {
        var frame = figure.getBoundingClientRect();
        return Math.min(label.left - frame.left, frame.right - label.right) > -0.5 ? false : true;
      }),
      told: plot.querySelector("svg").getAttribute("aria-label"),
      tip: tip ? (tip.hidden ? "" : tip.innerText) : ""
    };
  });
  window.parent.postMessage(JSON.stringify({
    heading: document.querySelector("h1").textContent,
    text: document.querySelector("main").innerText,
    paper: getComputedStyle(document.body).backgroundColor,
    wide: document.documentElement.scrollWidth,
    namespace: document.documentElement.clientWidth,
    unnamed: boxes("table:not(:has(caption))").length,
    plots: plots
  }), "*");
});
"""

_FRAME = """<!DOCTYPE html><html><body style="margin:0"><script>
window.addEventListener("message", function (event) {
  var answer = document.createElement("pre");
  answer.id = "answer";
  answer.textContent = event.data;
  document.body.appendChild(answer);
});
</script><iframe src="page.html" style="border:0;width:%dpx;height:4000px"></iframe></body></html>"""


def chromium():
    """The browser's name, or None when there is none."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


def look(path, width=1200, dark=False, picture=None, script=_PROBE):
    """Opens a page; a dictionary of what the probe found, with `console` (lines) and
    `requests` (URLs).

    The picture, when one is named, shows the page itself, without the probe."""
    with tempfile.TemporaryDirectory(prefix="bootstorm-browser") as scratch:
        with open(path, encoding="utf-8") as source:
            page = source.read()
        with open(f"{scratch}/page.html", "w", encoding="utf-8") as copy:
            copy.write(page.replace("</head>", f"<script>{script}</script></head>", 1))
        with open(f"{scratch}/frame.html", "w", encoding="utf-8") as frame:
            frame.write(_FRAME % width)
        log = f"{scratch}/net.json"
        done = _run(scratch, dark, ["--dump-dom", "--virtual-time-budget=5000", f"--log-net-log={log}",
                                    f"--window-size={max(width, 500)},2000", f"file://{scratch}/frame.html"])
        answer = re.search(r'<pre id="answer">(.*?)</pre>', done.stdout, re.DOTALL)
        found = json.loads(html.unescape(answer[1])) if answer else {"plots": [], "heading": "", "text": ""}
        found["console"] = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        found["requests"] = _requests(log)
        if picture:
            _run(scratch, dark, [f"--screenshot={picture}", "--hide-scrollbars",
                                 f"--window-size={max(width, 500)},4000", f"file://{os.path.abspath(path)}"])
        return found


def _run(scratch, dark, arguments):
    scheme = 0 if dark else 1
    return subprocess.run(
        [chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--disable-default-apps", "--disable-extensions", "--host-resolver-rules=MAP * ~NOTFOUND",
         "--enable-logging=stderr", f"--user-data-dir={scratch}/profile",
         f"--blink-settings=preferredColorScheme={scheme}", *arguments],
        capture_output=True, text=True, timeout=120, check=False)


def _requests(log):
    """URLs that a page asked for and that are no files. None when the browser kept no log."""
    try:
        with open(log, encoding="utf-8") as source:
            text = source.read()
    except OSError:
        return None
    try:
        events = json.loads(text)["events"]
    except ValueError:  # the browser ended before it wrote the log's end
        events = json.loads(text.rstrip().rstrip(",") + "]}")["events"]
    asked = [event["params"] for event in events if "initiator" in event.get("params", {})]
    # What the browser asks for of its own accord has no page behind it.
    urls = {params.get("url", "") for params in asked if params["initiator"] != "not an origin"}
    return sorted(url for url in urls if re.match(r"(https?|wss?|ftp):", url))
