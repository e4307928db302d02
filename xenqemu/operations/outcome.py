"""The outcome for each guest where an operation is done to all of a host."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from xenqemu.errors import in_words
from xenqemu.settings.hooks import Act


class How(Enum):
    """The outcome for a guest; a forbidden one is left alone as well."""

    SAVED = "saved"
    SHUT_DOWN = "shut down"
    LEFT = "left alone"
    FORBIDDEN = "forbidden"
    RESTORED = "restored"
    FAILED = "failed"


@dataclass(frozen=True)
class Outcome:
    """The outcome for the guest `name`; `text` says where, or why."""

    name: str
    how: How
    text: str = ""


OutcomeObserver = Callable[[Outcome], None]
"""Called with each outcome once it is known."""


class GuestHooks(Protocol):
    """Runs the hooks around the act on each guest, in the thread of that act.

    Raises `Forbidden` if a hook forbids the act: that guest is left alone then.
    """

    def __call__(self, act: Act, /, **about: object) -> AbstractContextManager[None]:
        """Return a context manager for the act on the guest that `about` describes."""


def no_hooks(_act: Act, /, **_about: object) -> AbstractContextManager[None]:
    """Run no hooks."""
    return nullcontext()


def words(error: BaseException) -> str:
    """Return the message and the notes of an error, in one line."""
    return "; ".join([in_words(error), *getattr(error, "__notes__", [])])
