"""Locks on whole files (flock(2)), each with a deadline; one is released when its holder ends."""

from __future__ import annotations

import fcntl
import time

from xenqemu.system.cancellation import wait_cancellable

PAUSE = 0.02
"""Seconds between two attempts at a lock that somebody holds."""


def locked_within(seconds: float, descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Lock an open file; return False if others hold it for all of `seconds`.

    `kind` is LOCK_EX, or LOCK_SH for readers.
    """

    def attempt(pause: float) -> bool:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(min(pause, PAUSE))
            return False
        return True

    return wait_cancellable(attempt, seconds)
