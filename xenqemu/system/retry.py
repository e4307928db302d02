"""Retries, only for acts that may be repeated; a save or a suspend never is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from xenqemu.frozen import Frozen

T = TypeVar("T")


def load() -> Any:
    """Load what retries need, and return it; before a guest is touched, if an undo may retry."""
    import tenacity  # noqa: PLC0415  loading it takes longer than most commands run

    return tenacity


class Retry(Frozen):
    """Which errors an act is repeated after, how often, with what pauses; then the last is raised.

    `seconds` is for all repetitions, `pause` the longest between two.  May be shared by threads and
    nested: each use has a state of its own.
    """

    repeats: Callable[[BaseException], bool]
    attempts: int
    seconds: float
    pause: float

    def __call__(self, act: Callable[[], T]) -> T:
        """Return what `act` returns, at last; nothing is loaded for one that works at once."""
        try:
            return act()
        except Exception as error:
            if self.attempts == 1 or not self.repeats(error):
                raise
        tenacity = load()
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(self.repeats),
            stop=tenacity.stop_after_attempt(self.attempts - 1)
            | tenacity.stop_after_delay(self.seconds),
            wait=tenacity.wait_random_exponential(multiplier=0.001, max=self.pause),
            reraise=True,
        )
        done: T = retrying(act)
        return done
