"""How far a running operation is, for other processes: a small file beside its log.

::

    FOLDER/NUMBER.progress    {"since": …, "phase": "save", "done": …, "total": …, …}

It is replaced as a whole, four times a second at most, and goes with the log.  Nothing depends on
it: where it cannot be written, a note says so, once.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass

from xenqemu.errors import in_words
from xenqemu.formats.typed_json import typed
from xenqemu.host.precopy import Iteration
from xenqemu.operations.events import Event, Kind, Observer, Phase
from xenqemu.operations.journal.log import Found, Log, progress_path

PACE = 0.25
"""Seconds between two writes at least."""

LIMIT = 1 << 12
"""Bytes of the file at most."""


@dataclass(frozen=True)
class Progress:
    """How far the operation that began at `since` was at the Unix time `at`.

    Its phase began at `began`, and has done `done` of `total` bytes.  `suspended` is since when the
    guest is suspended, 0.0 if it is not.  `iteration` is the last of a live save that has ended.
    """

    since: float
    at: float
    phase: str
    began: float
    done: int = 0
    total: int = 0
    suspended: float = 0.0
    iteration: Iteration | None = None

    @property
    def rate(self) -> float:
        """Bytes per second of this phase, or of the iteration that is running."""
        return self.done / max(self.at - self.began, 1e-3)

    @property
    def left(self) -> float | None:
        """Seconds that the rest of this phase will take at this rate; None if nothing tells."""
        return (self.total - self.done) / self.rate if self.done and self.total else None


class ProgressFile:
    """An observer that passes events on, and keeps the file of an operation's `log`."""

    def __init__(self, log: Log, observe: Observer) -> None:
        self._path = progress_path(log.path)
        self._observe = observe
        self._written = 0.0
        self._broken = False
        now = time.time()
        self._known = Progress(log.about.since, now, Phase.CHECK.value, now)

    def __call__(self, event: Event) -> None:
        """Take note of an event, and pass it on."""
        self._known = _after(self._known, event)
        if not self._broken and time.monotonic() - self._written >= PACE:
            self._write()
        self._observe(event)

    def _write(self) -> None:
        draft = self._path.with_suffix(".draft")
        try:
            draft.write_text(json.dumps(asdict(self._known)))
            draft.replace(self._path)
        except OSError as error:
            self._broken = True
            text = f"other processes cannot see the progress: {in_words(error)}"
            self._observe(Event(Phase(self._known.phase), Kind.NOTE, text=text))
        self._written = time.monotonic()


def progress_of(found: Found) -> Progress | None:
    """Return how far a running operation is, None if it has not said so."""
    try:
        with progress_path(found.path).open("rb") as file:
            known: Progress = typed(Progress, json.loads(file.read(LIMIT)))
    except (OSError, ValueError, RecursionError):  # it has just begun, or ended
        return None
    return known if known.since == found.about.since else None


def _after(known: Progress, event: Event) -> Progress:
    """Return what is known after an event."""
    now = time.time()
    values = {**vars(known), "at": now}
    if event.kind is Kind.STARTED and event.phase is not Phase.UNDO:
        values |= {"phase": event.phase.value, "began": now, "done": 0, "total": 0}
    elif event.kind is Kind.PROGRESS:
        values |= {"done": event.done, "total": event.total}
    elif event.iteration:
        values |= {"iteration": event.iteration, "began": now, "done": 0}
    if (event.phase, event.kind) == (Phase.QUIESCE, Kind.STARTED):
        values["suspended"] = now
    elif (event.phase, event.kind) == (Phase.RELEASE, Kind.DONE):
        values["suspended"] = 0.0
    return Progress(**values)
