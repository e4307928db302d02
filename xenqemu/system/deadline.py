"""A moment until which something has to be done."""

from __future__ import annotations

import time
from dataclasses import dataclass


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
