"""What becomes of each guest where something is done to all of a host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class How(Enum):
    """What became of a guest."""

    SAVED = "saved"
    SHUT_DOWN = "shut down"
    LEFT = "left alone"
    RESTORED = "restored"
    FAILED = "failed"


@dataclass(frozen=True)
class Outcome:
    """What became of the guest `name`; `text` says where, or why, in words."""

    name: str
    how: How
    text: str = ""


Teller = Callable[[Outcome], None]
"""Called with each outcome once it is known."""


def words(error: BaseException) -> str:
    """Return all that an error says, in one line."""
    return "; ".join([str(error), *getattr(error, "__notes__", [])])
