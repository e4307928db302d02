"""How a call to a party fails, what it raises then, and the text of an error."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from enum import Enum

from xenqemu.errors import (
    DeviceModelError,
    HostError,
    HypervisorError,
    ReplyLost,
    StoreError,
)


class How(Enum):
    """How a call fails."""

    REFUSED = "before it is done"
    LOST = "after it is done"
    INTERRUPTED = "by Ctrl-C before it is done"
    INTERRUPTED_AFTER = "by Ctrl-C after it is done"
    DEAD = "and so do all later ones to that party"
    KILLED = "by kill -9 before it is done"
    KILLED_AFTER = "by kill -9 after it is done"

    @property
    def kills(self) -> bool:
        """Whether the process ends by it."""
        return self in (How.KILLED, How.KILLED_AFTER)


@dataclass(frozen=True)
class Fault:
    """Call number `at` (from 0) fails."""

    at: int
    how: How


def failure(party: str, name: str, how: How) -> BaseException:
    """Return what a call raises that fails so."""
    words = f"{name} failed"
    if how in (How.INTERRUPTED, How.INTERRUPTED_AFTER):
        return KeyboardInterrupt()
    if party in ("os", "journal"):
        return OSError(errno.EIO, f"{words}: {os.strerror(errno.EIO)}")
    if party == "observer":
        return BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
    if how is How.LOST:
        return ReplyLost(words)
    parties = {
        "hypervisor": HypervisorError,
        "device_model": DeviceModelError,
        "moment": DeviceModelError,
        "store": StoreError,
    }
    return parties.get(party, HostError)(words)


def text(error: BaseException | None) -> str:
    """Return the whole text of an error: its message, and the notes on it."""
    if error is None:
        return ""
    return "\n".join([str(error), *getattr(error, "__notes__", [])])
