"""When a guest that is saved while it runs is frozen: the policy, decided from the rounds so far.

A round writes the pages that are known to have changed, at first all, and finds those that changed
meanwhile.  When few enough are left, or no fewer are to be hoped for, the guest is frozen and the
rest is written.  Nothing here asks a party or a clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Step(Enum):
    """What comes after a round."""

    GO_ON = "another round"
    FREEZE = "the guest is frozen and the rest is written"
    GIVE_UP = "the guest is left alone"


@dataclass(frozen=True)
class Round:
    """One round: `pages` were written as `size` bytes in `seconds`.

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
    def expected_freeze(self) -> float:
        """Seconds to find what changed once more and to write it as fast as this round's pages."""
        a_page = self.seconds / self.pages if self.pages else 0.0
        return self.look + self.changed * a_page


@dataclass(frozen=True)
class Precopy:
    """When to freeze: at `threshold` changed pages or fewer, or after so many `rounds`.

    With `max_freeze` (seconds) it is when no longer freeze is expected.  `bandwidth` limits the
    rounds (bytes per second), but not what is written of the frozen guest.  Where the policy
    cannot be met, the guest is frozen even so, or left alone if that is to `give_up`.
    """

    rounds: int = 5
    threshold: int = 50
    max_freeze: float | None = None
    bandwidth: int | None = None
    give_up: bool = False


def decide(policy: Precopy, rounds: Sequence[Round]) -> Step:
    """Return what comes after these rounds, one at least."""
    last = rounds[-1]
    settled = last.changed <= policy.threshold
    if _met(policy, last, settled=settled):
        return Step.FREEZE
    if settled or len(rounds) >= policy.rounds:  # more rounds would not help
        return Step.GIVE_UP if policy.give_up else Step.FREEZE
    return Step.GO_ON


def _met(policy: Precopy, last: Round, *, settled: bool) -> bool:
    if policy.max_freeze is None:
        return settled
    # The first round's pages lie side by side, those that change do not and cost more each: what
    # it says of a freeze is believed only where there is next to nothing to write.
    believed = settled or last.number > 1
    return believed and last.expected_freeze <= policy.max_freeze
