"""A plain report: what is done, what held, and a closing line that a machine can read."""

import contextlib
import os
import sys
import time
import traceback

import lab as laboratory


def share(items):
    """Of the items those that are for this run: all, or a part when the script is shared out."""
    part, parts = map(int, (os.environ.get("BOOTSTORM_PART") or "1/1").split("/"))
    return [item for number, item in enumerate(items) if number % parts == part - 1]


class Suite:
    """Counts checks; finish() prints `NAME: N passed, N failed (S s)` and ends the script."""

    def __init__(self, name):
        self.name = name
        self.passed = self.failed = self.repeated = 0
        self._context = []
        self._start = time.monotonic()
        self.say(f"== {name}")

    def say(self, text):
        print(text, flush=True)

    def check(self, what, held, detail=""):
        """One thing that must hold; the detail is shown when it does not."""
        if held:
            self.passed += 1
            self.say(f"   ok    {what}")
        else:
            self.failed += 1
            self.say(f"   FAIL  {what}")
            for line in str(detail).splitlines():
                self.say(f"         | {line}")
        return bool(held)

    def equal(self, what, got, wanted):
        return self.check(what, got == wanted, f"got {got!r}, wanted {wanted!r}")

    def explain_with(self, function):
        """What to show beside a step that broke: the end of a log."""
        self._context.append(function)

    def repeat(self, what, why):
        """Something is done again, because it said nothing. It is counted in the closing line."""
        self.repeated += 1
        self.say(f"   again {what}: {why}")

    @contextlib.contextmanager
    def step(self, what):
        """A part of the script: an exception in it is one failure, and the next part runs.

        What such a part has started is stopped, or it would hold its ports against the next.
        """
        self.say(f" - {what}")
        before, running = self.failed, set(laboratory.Process.running_now())
        try:
            yield
        except Exception:  # any defect of one step must not hide the following ones
            self.check(f"{what}: ran to its end", False, traceback.format_exc(limit=4))
            for process in laboratory.Process.running_now() - running:
                process.stop()
        if self.failed > before:
            for function in self._context:
                with contextlib.suppress(Exception):
                    self.say("         | " + "\n         | ".join(function().splitlines()))

    def finish(self):
        seconds = time.monotonic() - self._start
        repeated = f", {self.repeated} repeated" if self.repeated else ""
        self.say(f"{self.name}: {self.passed} passed, {self.failed} failed "
                 f"({seconds:.0f} s{repeated})")
        sys.exit(1 if self.failed or not self.passed else 0)
