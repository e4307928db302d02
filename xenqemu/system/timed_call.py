"""A call that is waited for until a deadline, whether it comes to an end or not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from xenqemu.errors import HostTimeout

T = TypeVar("T")


def within(seconds: float, what: str, call: Callable[[], T]) -> T:
    """Return what `call` returns or raise what it raises, waiting for `seconds` at most.

    It runs in a thread of its own.  After `HostTimeout` that thread is left alone; it ends with
    the process at the latest, and whatever `call` works on must not be used again.
    """
    done: list[T] = []
    failed: list[Exception] = []

    def run() -> None:
        try:
            done.append(call())
        except Exception as error:  # noqa: BLE001 - is raised again in the thread that waits
            failed.append(error)

    thread = threading.Thread(target=run, name=what, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not done:
        raise HostTimeout(f"{what}: not done within {seconds:g} s")
    return done[0]
