"""Waits that are part of an operation, which may be cancelled or run out of time meanwhile.

A wait has a deadline of its own.  Long ones are cut into slices, and `attend` is called between
them.
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
"""Seconds after which a wait looks whether the operation that it is part of is still wanted."""


NEVER = Deadline(math.inf)
"""The deadline of what may take as long as it likes."""


@dataclass(frozen=True)
class Attention:
    """What an operation's waits look at: `check` raises if it is to end, as at `deadline`."""

    check: Callable[[], None] = lambda: None
    deadline: Deadline = NEVER


UNATTENDED = Attention()
"""Of a wait that is part of no operation."""

_attention: ContextVar[Attention] = ContextVar("attention", default=UNATTENDED)


@contextmanager
def attended(attention: Attention) -> Iterator[None]:
    """Have all waits in the block, in this thread, look at `attention`."""
    token = _attention.set(attention)
    try:
        yield
    finally:
        _attention.reset(token)


def attend() -> None:
    """Raise what the present operation is to end with, if it is to end."""
    _attention.get().check()


def allowed(seconds: float) -> float:
    """Return how many of `seconds` the present operation has left for one wait."""
    return min(seconds, _attention.get().deadline.left)


def patiently(wait: Callable[[float], T], seconds: float) -> T:
    """Return what `wait` (for so many seconds at most) returns once that is true.

    What it returned last, which is false, after `seconds`.
    """
    deadline = Deadline.after(seconds)
    while not (result := wait(min(SLICE, deadline.left))) and not deadline.passed:
        attend()
    return result
