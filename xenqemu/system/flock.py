"""Locks on whole files (flock(2)), each with a deadline; the kernel ends one with its holder."""

from __future__ import annotations

import fcntl
import time

from xenqemu.system.cancellation import wait_cancellable

PAUSE = 0.02
"""Seconds between two attempts at a lock that somebody holds."""


def locked_within(seconds: float, descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Lock an open file; return False if others hold it for all of `seconds`.

    `kind` is LOCK_EX, or LOCK_SH for those who only look.
    """

    def attempt(pause: float) -> bool:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(min(pause, PAUSE))
            return False
        return True

    return wait_cancellable(attempt, seconds)
