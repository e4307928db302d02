"""Waits that are part of an operation, which may be cancelled or run out of time meanwhile.

A wait has a deadline of its own.  Long ones are cut into slices, and `check_cancelled` is called
between them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

from xenqemu.system.deadline import Deadline

T = TypeVar("T")


SLICE = 0.25
"""Seconds after which a wait checks whether its operation was cancelled."""


NEVER = Deadline(math.inf)
"""A deadline that never passes."""


@dataclass(frozen=True)
class Cancellation:
    """What ends the waits of an operation: `check` raises if it is to end, as at `deadline`."""

    check: Callable[[], None] = lambda: None
    deadline: Deadline = NEVER


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
