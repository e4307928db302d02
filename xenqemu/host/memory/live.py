"""Writing the memory of a running guest: iterations, the suspend, the rest.

The loop is one for all hosts.  What differs is how a host knows which pages changed, and that is
behind `ChangingPages`: Xen has a dirty log, the lab compares pages with what was written.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Protocol

from xenqemu.errors import NotConverged
from xenqemu.formats.stream.sink import Sink
from xenqemu.host.guest_memory import Live, Progress
from xenqemu.host.precopy import Decision, Iteration, decide
from xenqemu.host.precopy_options import PrecopyOptions
from xenqemu.system.cancellation import wait_cancellable
from xenqemu.system.deadline import Deadline


class ChangingPages(Protocol):
    """The pages of a guest, some of which are still to be written: at first all."""

    def write(self, progress: Progress) -> int:
        """Write these pages, while they may change again; return their number."""

    def find_changed(self, *, suspended: bool) -> int:
        """Find the pages that changed since they were last written; return their number.

        Once the guest is `suspended` none is missed; of one that runs some may be found only later.
        """


class Pace:
    """Keeps `out` to a limit (bytes per second, None for none) from now on, by waiting."""

    def __init__(self, out: Sink, limit: int | None) -> None:
        self._out = out
        self._limit = limit
        self._start = out.offset
        self._began = time.monotonic()
        self.waited = 0.0

    def keep(self) -> None:
        """Wait until the limit allows what was written so far."""
        if self._limit:
            due = Deadline(self._began + (self._out.offset - self._start) / self._limit)
            self.waited += due.left
            wait_cancellable(time.sleep, due.left)


def write_live(pages: ChangingPages, out: Sink, progress: Progress, live: Live) -> None:
    """Write the pages of a running guest to `out`, suspending it in between.

    `progress` is of the present iteration.  Raises `NotConverged`, before the guest is suspended,
    where the options say so.
    """
    iterations: list[Iteration] = []
    step = Decision.CONTINUE
    while step is Decision.CONTINUE:
        written = _write(pages, out, progress, len(iterations) + 1, live.precopy.bandwidth)
        began = time.monotonic()
        changed = pages.find_changed(suspended=False)
        iterations.append(replace(written, changed=changed, look=time.monotonic() - began))
        live.report(iterations[-1])
        step = decide(live.precopy, iterations)
    if step is Decision.GIVE_UP:
        raise not_converged(live.precopy, iterations[-1])
    live.suspend()
    pages.find_changed(suspended=True)
    live.report(_write(pages, out, progress, len(iterations) + 1, None))


def not_converged(options: PrecopyOptions, last: Iteration) -> NotConverged:
    """Return the error for a guest that changes its memory faster than it can be written."""
    wanted = (
        ""
        if options.max_downtime is None
        else f" (not more than {options.max_downtime:g} s wanted)"
    )
    return NotConverged(
        f"after {last.number} iterations {last.changed} pages had changed again: "
        f"a downtime of {last.expected_downtime:.2g} s is expected{wanted}"
    )


def _write(
    pages: ChangingPages, out: Sink, progress: Progress, number: int, bandwidth: int | None
) -> Iteration:
    """Write the pages that are due, as iteration `number`."""
    pace = Pace(out, bandwidth)
    start, began = out.offset, time.monotonic()

    def paced(done: int, total: int) -> None:
        progress(done, total)
        pace.keep()

    count = pages.write(paced)
    seconds = time.monotonic() - began - pace.waited
    return Iteration(number, count, out.offset - start, seconds)
