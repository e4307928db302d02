"""How much to compress: as is, or at which level, by what compressing and the target take.

A byte takes, with what was measured,

    max((c + r p) / threads, r s)

    c    seconds to compress it; 0 as it is
    r    the part of the size that is left; 1 as it is
    p    seconds of a thread that writes beside others: a file in the system's memory
    s    seconds of what takes one byte after the other: a pipe, the disk under a file

What is not known of a level is found out by a sample of a window now and then.  The time of a pipe
sinks slowly in the average: one that is drained while we compress looks fast, and is not.
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
"""The same, of a pipe that was faster than before."""


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

    If it is `in_order`, one thread writes at a time.
    """

    def __init__(self, level: int, threads: int, *, in_order: bool) -> None:
        self._fixed = level
        self._threads = threads
        self._in_order = in_order
        self._lock = Lock()
        self._known = {RAW: _Level(0.0, 1.0)}
        self._parallel = self._serial = 0.0
        self._windows = 0

    def next(self) -> tuple[int, int | None]:
        """Return the level for the next window, and the one to be tried on a sample of it."""
        if self._fixed != AUTO:
            return self._fixed, None
        with self._lock:
            self._windows += 1
            if not (self._parallel or self._serial):
                return LEVELS[1], None
            best = min(self._known, key=self._cost)
            higher = LEVELS[min(LEVELS.index(best) + 1, len(LEVELS) - 1)]
            tried = higher not in self._known or self._windows % SAMPLED == 0
            return best, higher if tried and higher != best else None

    def compressed(self, level: int, size: int, packed: int, seconds: float) -> None:
        """Note what it took to compress so many bytes at a level."""
        with self._lock:
            each, ratio = seconds / size, min(packed / size, 1.0)
            self._known.setdefault(level, _Level(each, ratio)).take(each, ratio)

    def written(self, size: int, seconds: float) -> None:
        """Note how long it took to write so many bytes."""
        each = seconds / size
        with self._lock:
            if self._in_order:
                weight = WEIGHT if each > self._serial else SINKING
                self._serial += (weight if self._serial else 1.0) * (each - self._serial)
            else:
                self._parallel += (WEIGHT if self._parallel else 1.0) * (each - self._parallel)

    def synced(self, size: int, seconds: float) -> None:
        """Note how long it took until so many bytes were on the disk."""
        with self._lock:
            self._serial = seconds / size

    def _cost(self, level: int) -> float:
        """Return the seconds a byte that a level takes."""
        known = self._known[level]
        beside = (known.seconds + known.ratio * self._parallel) / self._threads
        return max(beside, known.ratio * self._serial)
