"""A moment until which something has to be done."""

from __future__ import annotations

import time

from xenqemu.frozen import Frozen

MAX_SECONDS = 86400.0
"""The longest time that anybody may ask for."""


class Deadline(Frozen):
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
