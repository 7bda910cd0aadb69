#!/usr/bin/env python3
"""The end-to-end tests' own tools: what a step that broke has started is stopped, and what was
started before it goes on; a script's closing line says what was repeated."""

import io
import os
import socket
import subprocess
import sys
from contextlib import redirect_stdout, suppress

import lab as laboratory
from lab import Lab
from suite import Suite

TAKES_SECONDS = 3

# Holds a port until it is ended.
HOLDER = """
import socket, sys, time
held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
held.bind(("127.0.0.1", int(sys.argv[1])))
print("serving", flush=True)
time.sleep(60)
"""


def hold(lab, port):
    process = lab.start(lab.srv, [sys.executable, "-c", HOLDER, str(port)], f"holder-{port}")
    laboratory.wait_until(lambda: "serving" in process.output(), 10)
    return process


def is_free(lab, port):
    with laboratory.inside(lab.srv), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


# A laboratory that is killed before it can tidy up. It runs in a PID namespace, where its number
# says nothing to others.
KILLED = """
import os, signal
from lab import Lab
print(Lab().srv, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def namespaces():
    return {line.split()[0] for line in laboratory.sh("ip netns list").splitlines()}


def sweeps(suite, lab):
    """Namespaces of a laboratory that is gone are removed, those of a living one are not."""
    here = os.path.dirname(os.path.abspath(__file__))
    left = subprocess.run(
        ["unshare", "--pid", "--fork", "sh", "-c", 'PYTHONPATH="$1" "$2" -B -c "$3"; true', "sh",
         here, sys.executable, KILLED], text=True, stdout=subprocess.PIPE).stdout.strip()
    suite.check("a killed one leaves its namespaces", left and left in namespaces(), left)
    laboratory.sweep_stale()
    suite.check("the next one removes them", left not in namespaces(), namespaces())
    suite.check("and leaves those of others", lab.srv in namespaces(), namespaces())


def main():
    suite = Suite("Harness")
    lab = Lab()
    with suite.step("sweeping"):
        sweeps(suite, lab)
    told = io.StringIO()
    with redirect_stdout(told):
        inner = Suite("Inner")
        before = hold(lab, 6701)
        with inner.step("one that breaks"):
            hold(lab, 6702)
            raise RuntimeError("broken on purpose")
        with inner.step("the next one"):
            inner.check("it runs", True)
        inner.repeat("a run", "the host was busy")
        with suppress(SystemExit):
            inner.finish()
    suite.check("a step that broke is one failure", (inner.passed, inner.failed) == (1, 1),
                told.getvalue())
    suite.check("what it started has ended", is_free(lab, 6702))
    suite.check("what was started before runs", before.running() and not is_free(lab, 6701))
    suite.check("what was repeated is counted", "1 passed, 1 failed" in told.getvalue()
                and "1 repeated)" in told.getvalue(), told.getvalue())
    lab.close()
    suite.finish()


if __name__ == "__main__":
    main()
