"""What an operation took: its time, its guest's downtime, and how many bytes it moved."""

from __future__ import annotations

import time

from xenqemu.operations.events import Event, Kind, Observer, Phase, Way

_RUNS_AGAIN = ((Phase.RELEASE, Kind.DONE), (Phase.HANDOVER, Kind.DONE))
"""What tells that a guest which was suspended runs again, here or on another host."""


class Stopwatch:
    """An observer that passes events on, and keeps what they tell.

    `downtime` is for how many seconds the guest of a save was suspended, `way` how it was live,
    `size` how many bytes of memory were moved.
    """

    def __init__(self, observe: Observer) -> None:
        self._observe = observe
        self._started = time.monotonic()
        self._suspended = 0.0
        self._of_phase = 0
        self.size = 0
        self.downtime = 0.0
        self.way: Way | None = None

    def __call__(self, event: Event) -> None:
        """Observe an event of an operation."""
        self._observe(event)
        now = time.monotonic()
        if (event.phase, event.kind) == (Phase.QUIESCE, Kind.STARTED):
            self._suspended = now
        elif (event.phase, event.kind) in _RUNS_AGAIN and self._suspended:
            self.downtime, self._suspended = now - self._suspended, 0.0
        elif event.kind is Kind.PROGRESS and event.phase in (Phase.SAVE, Phase.BUILD):
            begun_again = event.done < self._of_phase
            self.size += event.done - (0 if begun_again else self._of_phase)
            self._of_phase = event.done
        elif event.way:
            self.way, self.downtime = event.way, event.downtime

    @property
    def seconds(self) -> float:
        """How many seconds all of it has taken."""
        return time.monotonic() - self._started
