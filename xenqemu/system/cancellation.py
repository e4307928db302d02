"""Waits that are part of an operation, which may be cancelled or run out of time meanwhile.

A wait has a deadline of its own.  Long ones are cut into slices, and `check_cancelled` is called
between them.  What does not wait but takes long calls `check_often`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from xenqemu.system.deadline import Deadline

T = TypeVar("T")


SLICE = 0.25
"""Seconds after which a wait checks whether its operation was cancelled."""


PACE = 0.1
"""Seconds between two checks of what checks often."""

NEVER = Deadline(math.inf)
"""A deadline that never passes."""


class Cancellation:
    """What ends the waits of an operation: `check` raises if it is to end, as at `deadline`.

    `due` is the moment of the monotonic clock from which `check_often` checks again.
    """

    def __init__(
        self, check: Callable[[], None] = lambda: None, deadline: Deadline = NEVER
    ) -> None:
        self.check = check
        self.deadline = deadline
        self.due = 0.0


NOT_CANCELLABLE = Cancellation()
"""Of a wait that is part of no operation."""

_cancellation: ContextVar[Cancellation] = ContextVar("cancellation", default=NOT_CANCELLABLE)


@contextmanager
def cancellable(cancellation: Cancellation) -> Iterator[None]:
    """Let `cancellation` end all waits in the block, in this thread."""
    token = _cancellation.set(cancellation)
    try:
        yield
    finally:
        _cancellation.reset(token)


def check_cancelled() -> None:
    """Raise the error that the present operation ends with, if it is to end."""
    _cancellation.get().check()


def check_often() -> None:
    """Call `check_cancelled`, but not twice within `PACE`: for what may be done millions of times.

    Whoever does what is never waited for, as to read a file, is heard by this alone.
    """
    cancellation = _cancellation.get()
    now = time.monotonic()
    if now >= cancellation.due:
        cancellation.due = now + PACE
        cancellation.check()


def capped(seconds: float) -> float:
    """Return `seconds`, or what the present operation has left if that is less."""
    return min(seconds, _cancellation.get().deadline.left)


def wait_cancellable(wait: Callable[[float], T], seconds: float) -> T:
    """Call `wait` (with the seconds it may take) until it returns something true; return that.

    After `seconds`, return what it returned last, which is false.
    """
    deadline = Deadline.after(seconds)
    while not (result := wait(min(SLICE, deadline.left))) and not deadline.passed:
        check_cancelled()
    return result
