"""One line of a terminal that shows how far an operation is, at any width."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TextIO

from xenqemu.operations.events import Event, Kind, Phase
from xenqemu.quantities import in_bytes, in_time

REDRAW = 0.1
"""Seconds between two drawings of one phase."""

_LONGEST_BAR, _SHORTEST_BAR = 30, 5
_SETTLED = 1.0
"""Seconds after which a rate tells something of the time that is left."""


class ProgressLine:
    """The line, drawn on `stream` for each event; `clear` leaves none of it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._began = time.monotonic()
        self._drawn = 0.0
        self._suspended: float | None = None
        self._iteration = 0

    def __call__(self, event: Event) -> None:
        """Draw what an event changes."""
        now = time.monotonic()
        self._note(event, now)
        due = event.kind is Kind.PROGRESS and now - self._drawn > REDRAW
        if due or event.kind is Kind.STARTED:
            self._draw(self._parts(event, now))
        elif event.kind in (Kind.DONE, Kind.FAILED):
            self.clear()

    def clear(self) -> None:
        """Have the cursor at the beginning of an empty line."""
        self._stream.write("\r\x1b[K")
        self._stream.flush()

    def _note(self, event: Event, now: float) -> None:
        if event.kind is Kind.STARTED:
            self._began = now
        elif event.iteration:
            self._began = now
            self._iteration = event.iteration.number
        if (event.phase, event.kind) == (Phase.QUIESCE, Kind.STARTED):
            self._suspended = now
        elif (event.phase, event.kind) == (Phase.RELEASE, Kind.DONE):
            self._suspended = None

    def _parts(self, event: Event, now: float) -> list[str]:
        """Return the parts of the line: the phase, a place for a bar, and what is told beside.

        What matters most comes first; the bar's place is the share that is done.
        """
        parts = [event.phase.value]
        if event.total:
            parts.append(f"{min(100 * event.done // event.total, 100)} %")
        if self._suspended is not None:
            parts.append(f"downtime {in_time(now - self._suspended)}")
        if event.done:
            seconds = max(now - self._began, 1e-3)
            rate = event.done / seconds
            if event.total > event.done and seconds > _SETTLED:
                parts.append(f"ETA {in_time((event.total - event.done) / rate)}")
            parts.append(f"{in_bytes(rate)}/s")
            parts.append(f"{in_bytes(event.done)}/{in_bytes(event.total)}")
        if self._iteration and event.phase is Phase.SAVE:
            parts.append(f"iteration {self._iteration + 1}")
        return parts

    def _draw(self, parts: list[str]) -> None:
        self._drawn = time.monotonic()
        self.clear()
        self._stream.write(fitted(parts, columns(self._stream) - 1))
        self._stream.flush()


def fitted(parts: list[str], width: int) -> str:
    """Return the first of `parts` that fit into `width` columns, and a bar where there is space."""
    taken = parts[0][: max(width, 0)]
    for part in parts[1:]:
        if len(taken) + 2 + len(part) > width:
            break
        taken += f"  {part}"
    room = min(width - len(taken) - 4, _LONGEST_BAR)
    share = parts[1].removesuffix(" %") if len(parts) > 1 else ""
    if not share.isdigit() or room < _SHORTEST_BAR:
        return taken
    done = room * int(share) // 100
    phase, _, rest = taken.partition("  ")
    return f"{phase}  [{'=' * done}{' ' * (room - done)}]  {rest}"


def columns(stream: TextIO) -> int:
    """Return the width of a terminal, 80 where it does not say."""
    with suppress(OSError, ValueError):
        return os.get_terminal_size(stream.fileno()).columns or 80
    return 80
