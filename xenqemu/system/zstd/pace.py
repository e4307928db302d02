"""How much to compress: as is, or at which level, by what compressing and the target take.

For each byte, with the averages that were measured:

    as is                          w           seconds that the target takes
    compressed, several writers    c + r w     c to compress, r of the size is left
    compressed, one writer         max(c / threads, r w)    the others compress meanwhile

What is not known of a level is found out by a sample of a window now and then.  The target's time
falls slowly in the average: a pipe that is drained while we compress looks fast, and is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock

RAW = 0
"""The level of what is not compressed."""

AUTO = 0
"""Instead of a level: by what the target takes."""

LEVELS = (RAW, 1, 3, 6)
"""What is chosen from."""

SAMPLED = 8
"""After how many windows the next higher level is tried on a sample."""

WORTH = 0.97
"""What does not get smaller than this part is stored as it is."""

WEIGHT = 0.3
"""Of a new measure, in the average."""

SINKING = 0.03
"""How fast the target's average time may sink."""


@dataclass
class _Level:
    """What a level takes: seconds a byte, and the part of the size that is left."""

    seconds: float
    ratio: float

    def take(self, seconds: float, ratio: float) -> None:
        self.seconds += WEIGHT * (seconds - self.seconds)
        self.ratio += WEIGHT * (ratio - self.ratio)


class Pace:
    """Chooses the level of each window, for several threads; `level` is the only one if not AUTO.

    With one writer `threads` compress beside it; 0 says that each thread writes what it compressed.
    """

    def __init__(self, level: int, threads: int) -> None:
        self._fixed = level
        self._threads = threads
        self._lock = Lock()
        self._known: dict[int, _Level] = {}
        self._target: float | None = None
        self._windows = 0

    def next(self) -> tuple[int, int | None]:
        """Return the level for the next window, and the one to be tried on a sample of it."""
        if self._fixed != AUTO:
            return self._fixed, None
        with self._lock:
            self._windows += 1
            if self._target is None or not self._known:
                return LEVELS[1], None
            best = min((RAW, *self._known), key=self._cost)
            higher = LEVELS[min(LEVELS.index(best) + 1, len(LEVELS) - 1)]
            tried = higher not in self._known or self._windows % SAMPLED == 0
            return best, higher if tried and higher != best else None

    def compressed(self, level: int, size: int, packed: int, seconds: float) -> None:
        """Note what it took to compress so many bytes at a level."""
        with self._lock:
            each, ratio = seconds / size, min(packed / size, 1.0)
            if level in self._known:
                self._known[level].take(each, ratio)
            else:
                self._known[level] = _Level(each, ratio)

    def written(self, size: int, seconds: float) -> None:
        """Note how long the target took for so many bytes."""
        with self._lock:
            each = seconds / size
            if self._target is None:
                self._target = each
            weight = WEIGHT if each > self._target else SINKING
            self._target += weight * (each - self._target)

    def _cost(self, level: int) -> float:
        """Return the seconds a byte that a level takes."""
        target = self._target or 0.0
        if level == RAW:
            return target
        known = self._known[level]
        if self._threads:
            return max(known.seconds / self._threads, known.ratio * target)
        return known.seconds + known.ratio * target
