"""When the guest of a live save is suspended, decided from the iterations so far.

An iteration writes the pages that are known to have changed, at first all, and finds those that
changed meanwhile.  When few enough are left, or more iterations would not reduce them, the guest is
suspended and the rest is written.  Nothing here queries a party or a clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from xenqemu.host.precopy_options import PrecopyOptions


class Decision(Enum):
    """What comes after an iteration."""

    CONTINUE = "another iteration"
    SUSPEND = "the guest is suspended and the rest is written"
    GIVE_UP = "the guest is left alone"


@dataclass(frozen=True)
class Iteration:
    """One iteration: `pages` were written as `size` bytes in `seconds`.

    What the bandwidth limit made it wait is not part of `seconds`.  Finding the `changed` pages
    that are to be written next took `look` seconds.
    """

    number: int
    pages: int
    size: int
    seconds: float
    changed: int = 0
    look: float = 0.0

    @property
    def rate(self) -> float:
        """Bytes written per second."""
        return self.size / self.seconds if self.seconds else 0.0

    @property
    def expected_downtime(self) -> float:
        """Seconds to find what changed once more and to write it as fast as this iteration's."""
        per_page = self.seconds / self.pages if self.pages else 0.0
        return self.look + self.changed * per_page


def decide(options: PrecopyOptions, iterations: Sequence[Iteration]) -> Decision:
    """Return what comes after these iterations, one at least."""
    last = iterations[-1]
    few_left = last.changed <= options.threshold
    if _met(options, last, few_left=few_left):
        return Decision.SUSPEND
    if few_left or len(iterations) >= options.iterations:  # more iterations would not help
        return Decision.GIVE_UP if options.give_up else Decision.SUSPEND
    return Decision.CONTINUE


def _met(options: PrecopyOptions, last: Iteration, *, few_left: bool) -> bool:
    if options.max_downtime is None:
        return few_left
    # The first iteration's pages are contiguous, those that change are not and cost more each: its
    # estimate of the downtime is used only where there is next to nothing left to write.
    reliable = few_left or last.number > 1
    return reliable and last.expected_downtime <= options.max_downtime
