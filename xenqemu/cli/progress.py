"""How progress looks: lines for people, JSON for programs.

A reader that does not read holds up no operation: what it has no space for is not shown.
"""

from __future__ import annotations

import argparse
import os
import select
import sys
import time
from dataclasses import asdict
from typing import Any, TextIO

from xenqemu.cli.progress_line import ProgressLine
from xenqemu.cli.terminal import as_json, aside, complain, rfc3339
from xenqemu.host.precopy import Iteration
from xenqemu.operations.events import Event, Kind, Observer, Phase
from xenqemu.operations.stopwatch import Stopwatch
from xenqemu.quantities import in_bytes, in_time
from xenqemu.system.descriptors import ready

PATIENCE = 1.0
"""Seconds that the reader of our output may hold up an operation; a guest may be suspended."""


def observer(chosen: argparse.Namespace) -> Observer:
    """Return what shows progress as the user wants it.

    That is lines of JSON; or a line that is redrawn on a terminal, lines with -v, or only notes.
    """
    if chosen.json:
        return _Reader(sys.stdout, _json_line)
    if chosen.quiet:
        return _Reader(sys.stderr, _notes)
    drawn = sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not chosen.timestamps
    line = ProgressLine(sys.stderr) if drawn else None
    return _Reader(sys.stderr, _Lines(line, verbose=chosen.verbose))


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
    now = rfc3339(time.time())
    fields: dict[str, Any] = {"time": now, "phase": event.phase.value, "event": event.kind.value}
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


class _Lines:
    """Lines for people, above the one that is redrawn if there is one."""

    def __init__(self, line: ProgressLine | None, *, verbose: bool) -> None:
        self._line = line
        self._verbose = verbose
        self._began: dict[Phase, float] = {}

    def __call__(self, event: Event) -> None:
        text = self._text(event)
        if text and self._line:
            self._line.clear()
        if text:
            complain(text) if event.kind is Kind.NOTE else aside(text)
        if self._line:
            self._line(event)

    def _text(self, event: Event) -> str:
        """Return what is to stay of an event, "" if it is nothing."""
        now = time.monotonic()
        if event.kind is Kind.NOTE:
            return event.text
        if event.iteration and (self._line or self._verbose):
            return _of_iteration(event.iteration)
        if not self._verbose:
            return ""
        if event.kind is Kind.STARTED:
            self._began[event.phase] = now
        elif event.kind in (Kind.DONE, Kind.FAILED):
            took = f"{event.kind.value} in {in_time(now - self._began.get(event.phase, now))}"
            return f"{event.phase.value}: {took}{f': {event.text}' if event.text else ''}"
        return ""


def _of_iteration(done: Iteration) -> str:
    """Return a summary of an iteration of a live save, for people."""
    return (
        f"iteration {done.number}: {in_bytes(done.size)} at {in_bytes(done.rate)}/s, "
        f"{done.changed} pages changed, downtime of {in_time(done.expected_downtime)} expected"
    )


def took(watch: Stopwatch, size: int) -> str:
    """Return how long an operation on `size` bytes took, in words."""
    seconds = watch.seconds
    return f"{in_time(seconds)}, {in_bytes(size / max(seconds, 1e-3))}/s"


def took_fields(watch: Stopwatch, size: int) -> dict[str, float]:
    """Return the same for a program: bytes, seconds, bytes per second."""
    seconds = watch.seconds
    rate = round(size / max(seconds, 1e-3))
    return {"size": size, "seconds": round(seconds, 3), "rate": rate}
