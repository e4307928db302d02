"""How progress looks: lines for people, JSON for programs.

A reader that does not read holds up no operation: what it has no space for is not shown.
"""

from __future__ import annotations

import select
import sys
import time
from dataclasses import asdict
from typing import Any, TextIO

from xenqemu.cli.terminal import MIB, as_json, complain
from xenqemu.host.precopy import Iteration
from xenqemu.operations.events import Event, Kind, Observer, Phase, Way
from xenqemu.shown_text import printable
from xenqemu.system.descriptors import ready

_REDRAW = 0.1

PATIENCE = 1.0
"""Seconds that the reader of our output may hold up an operation; a guest may be suspended."""


def observer(*, as_lines_of_json: bool) -> Observer:
    """Return what shows progress: JSON lines, or a line redrawn on a terminal, or only notes."""
    if as_lines_of_json:
        return _Reader(sys.stdout, _json_line)
    return _Reader(sys.stderr, _Drawing() if sys.stderr.isatty() else _notes)


class _Reader:
    """Shows events as long as `stream` takes them, which is waited for once."""

    def __init__(self, stream: TextIO, show: Observer) -> None:
        self._stream = stream
        self._show = show
        self._patience = PATIENCE

    def __call__(self, event: Event) -> None:
        if self._takes(0.0 if event.kind is Kind.PROGRESS else self._patience):
            self._patience = PATIENCE
            self._show(event)
        elif event.kind is not Kind.PROGRESS:
            self._patience = 0.0

    def _takes(self, seconds: float) -> bool:
        try:
            descriptor = self._stream.fileno()
        except OSError:  # a stream in memory
            return True
        return bool(ready({descriptor: select.POLLOUT}, seconds))


def _notes(event: Event) -> None:
    if event.kind is Kind.NOTE:
        complain(event.text)


def _json_line(event: Event) -> None:
    fields: dict[str, Any] = {"phase": event.phase.value, "event": event.kind.value}
    if event.kind is Kind.PROGRESS:
        fields |= {"done": event.done, "total": event.total}
    if event.iteration:
        fields |= {
            **asdict(event.iteration),
            "rate": event.iteration.rate,
            "expected_downtime": event.iteration.expected_downtime,
        }
    if event.way:
        fields |= {"way": event.way.value, "downtime": event.downtime}
    if event.text:
        fields["text"] = event.text
    as_json(fields, indent=None)
    sys.stdout.flush()


def _of_iteration(done: Iteration) -> str:
    """Return a summary of an iteration of a live save, for people."""
    return (
        f"iteration {done.number}: {done.size / MIB:.1f} MiB at {done.rate / MIB:.0f} MiB/s, "
        f"{done.changed} pages changed, downtime of {done.expected_downtime:.2g} s expected"
    )


class Stopwatch:
    """Passes events on; `seconds` is the downtime of the guest of a save, `way` how it was live."""

    def __init__(self, observe: Observer) -> None:
        self._observe = observe
        self._began = 0.0
        self.seconds = 0.0
        self.way: Way | None = None

    def __call__(self, event: Event) -> None:
        """Observe an event of a save."""
        self._observe(event)
        now = time.monotonic()
        if (event.phase, event.kind) == (Phase.QUIESCE, Kind.STARTED):
            self._began = now
        elif (event.phase, event.kind) == (Phase.RELEASE, Kind.DONE):
            self.seconds = now - self._began
        elif event.way:
            self.way, self.seconds = event.way, event.downtime


class _Drawing:
    """One line on a terminal: the phase, and how much of it is done at what rate."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._drawn = 0.0

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        if event.kind is Kind.STARTED:
            self._began = now
            self._draw(f"{event.phase.value} …")
        elif event.kind is Kind.PROGRESS and now - self._drawn > _REDRAW:
            self._drawn = now
            rate = event.done / MIB / max(now - self._began, 1e-3)
            share = 100 * event.done // max(event.total, 1)
            self._draw(f"{event.phase.value} {share} %, {rate:.0f} MiB/s")
        elif event.iteration:
            self._began = now
            self._draw(f"{_of_iteration(event.iteration)}\n")
        elif event.kind is Kind.NOTE:
            self._draw(f"xenqemu: {printable(event.text)}\n")
        elif event.kind in (Kind.DONE, Kind.FAILED):
            self._draw("")

    @staticmethod
    def _draw(text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()
