"""A live save that libxc does: its iterations, as the host's own save helper tells of them.

::

    progress "Frames iteration N"     iteration N + 1 sends `total` pages, `done` of which are sent
    suspend                           when fewer than 50 had changed, or after five more iterations

libxc decides when it is time; its helper knows no message to tell it otherwise.  What is left to
our options: the bandwidth, kept by reading the image no faster, and at the end to suspend the guest
or to give up.  How many pages changed in the last iteration is not reported, so it is taken to be
as many as in the one before.
"""

from __future__ import annotations

import time
from dataclasses import replace

from xenqemu.formats.helper.messages import HelperMessage, Progress
from xenqemu.formats.stream.libxc_records import PAGE_SIZE
from xenqemu.formats.stream.sink import Sink
from xenqemu.host import guest_memory
from xenqemu.host.guest_memory import Live
from xenqemu.host.memory.live import Pace, not_converged
from xenqemu.host.precopy import Decision, Iteration, decide

ITERATION = "Frames iteration"


class HelperIterations:
    """The iterations of one save; `failure` is why the guest could not be suspended."""

    def __init__(self, out: Sink, progress: guest_memory.Progress, live: Live) -> None:
        self._out = out
        self._progress = progress
        self._live = live
        self._iterations: list[Iteration] = []
        self._what = ""
        self._begin(live.precopy.bandwidth)
        self.failure: BaseException | None = None

    def on_progress(self, message: Progress) -> None:
        """Take the helper's progress."""
        if not message.what.startswith(ITERATION):
            return
        if message.what != self._what:
            if self._what:
                self._end(changed=message.total)
                self._begin(self._live.precopy.bandwidth)
            self._what, self._pages = message.what, message.total
        self._progress(message.done * PAGE_SIZE, message.total * PAGE_SIZE)

    def keep(self) -> None:
        """Wait, if the image comes faster than it may."""
        self._pace.keep()

    def suspend(self, _message: HelperMessage) -> int:
        """Suspend the guest and answer 1; or 0, upon which the helper cleans up and ends."""
        self._end(changed=self._pages)
        try:
            options, iterations = self._live.precopy, self._iterations
            if decide(replace(options, iterations=len(iterations)), iterations) is Decision.GIVE_UP:
                raise not_converged(options, iterations[-1])
            self._live.suspend()
        except BaseException as error:  # noqa: BLE001  is raised once the helper has ended
            self.failure = error
            return 0
        self._begin(None)
        return 1

    def finish(self) -> None:
        """Note that the image is whole, which ends the iteration of the suspended guest."""
        self._end(changed=0)

    def _begin(self, bandwidth: int | None) -> None:
        self._what, self._pages = "", 0
        self._pace = Pace(self._out, bandwidth)
        self._start, self._began = self._out.offset, time.monotonic()

    def _end(self, *, changed: int) -> None:
        size = self._out.offset - self._start
        seconds = time.monotonic() - self._began - self._pace.waited
        self._iterations.append(
            Iteration(len(self._iterations) + 1, self._pages, size, seconds, changed)
        )
        self._live.report(self._iterations[-1])
