"""A moment until which something has to be done, and a call that is waited for until then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass
from typing import TypeVar

from xenqemu.errors import HostTimeout

T = TypeVar("T")


@dataclass(frozen=True)
class Deadline:
    """A moment of the monotonic clock until which something has to be done."""

    moment: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return the moment that is `seconds` from now."""
        return cls(time.monotonic() + seconds)

    @property
    def left(self) -> float:
        """Seconds until then, never negative."""
        return max(0.0, self.moment - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether it is too late."""
        return self.left == 0.0


def within(seconds: float, what: str, call: Callable[[], T]) -> T:
    """Return what `call` returns or raise what it raises, waiting for `seconds` at most.

    It runs in a thread of its own.  After `HostTimeout` that thread is left alone; it ends with
    the process at the latest, and whatever `call` works on must not be used again.
    """
    outcome: futures.Future[T] = futures.Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except Exception as error:  # noqa: BLE001 - is raised again in the thread that waits
            outcome.set_exception(error)

    threading.Thread(target=run, name=what, daemon=True).start()
    futures.wait([outcome], seconds)
    if not outcome.done():
        raise HostTimeout(f"{what}: not done within {seconds:g} s")
    return outcome.result()
