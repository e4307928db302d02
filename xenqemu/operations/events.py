"""What an operation reports while it runs: one callback, a few kinds of event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from xenqemu.host.precopy import Iteration


class Phase(Enum):
    """The parts of an operation, in the words that errors and progress use."""

    CHECK = "check"
    CONNECT = "connect"
    QUIESCE = "quiesce"
    SAVE = "save"
    COMPACT = "compact"
    VERIFY = "verify"
    PUBLISH = "publish"
    BUILD = "build"
    HANDOVER = "handover"
    RELEASE = "release"
    UNDO = "undo"


class Way(Enum):
    """How a guest was saved while it ran."""

    MOMENT = "background snapshot"
    PRECOPY = "precopy"


class Kind(Enum):
    """What happened to a phase, or within it."""

    STARTED = "started"
    PROGRESS = "progress"
    ITERATION = "iteration"
    LIVE = "live"
    NOTE = "note"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Event:
    """One thing that happened; `done` and `total` are bytes, `text` is for people.

    `iteration` is the one of a live save that has ended (`Kind.ITERATION`); progress starts again
    with each.  `way` is how a guest was saved that runs on (`Kind.LIVE`), and `downtime` for how
    many seconds it did not.
    """

    phase: Phase
    kind: Kind
    done: int = 0
    total: int = 0
    text: str = ""
    iteration: Iteration | None = None
    way: Way | None = None
    downtime: float = 0.0


Observer = Callable[[Event], None]
"""Called with each event, from the thread that runs the operation."""


def unobserved(_event: Event) -> None:
    """Observe nothing."""
