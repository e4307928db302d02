"""What becomes of each guest where something is done to all of a host."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from xenqemu.settings.hooks import Act


class How(Enum):
    """What became of a guest; what is forbidden is left alone as well."""

    SAVED = "saved"
    SHUT_DOWN = "shut down"
    LEFT = "left alone"
    FORBIDDEN = "forbidden"
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


class Around(Protocol):
    """What is around the act on each guest, in its own thread.

    Raises `Forbidden` if the act must not be: that guest is left alone then.
    """

    def __call__(self, act: Act, /, **about: object) -> AbstractContextManager[None]:
        """Return what is around the act on the guest that `about` tells of."""


def nothing_around(_act: Act, /, **_about: object) -> AbstractContextManager[None]:
    """Return what lets the act be done, and does no more."""
    return nullcontext()


def words(error: BaseException) -> str:
    """Return all that an error says, in one line."""
    return "; ".join([str(error), *getattr(error, "__notes__", [])])
