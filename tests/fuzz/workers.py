"""Many inputs on all processors: batches in children, and what becomes of those.

A child notes which seed it is at before it begins with it.  So one that dies (memory, a crash) or
hangs where no Python runs gives a failure as well, and the seeds behind it still get their turn.
"""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from tests.fuzz.engine import Failure, Target, judge
from tests.fuzz.limits import limit_memory

STUCK = 60.0
"""Seconds after which a child that is at one seed is killed."""

MOST_MEMORY = 2 << 30
"""Bytes that a child may have more than we."""

LOOK = 1.0
BATCH_SECONDS, FIRST_BATCH, MOST_IN_BATCH = 2.0, 10, 5000
"""A batch is to take so long; how many inputs that is shows once there was a first one."""

_FORK = multiprocessing.get_context("fork")


@dataclass
class Work:
    """The work of one target: `seeds` are those that no child has yet."""

    target: Target
    seeds: range
    inputs: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def take(self) -> range:
        """Return a batch away."""
        size = int(BATCH_SECONDS * self.inputs / self.seconds) if self.inputs else FIRST_BATCH
        size = max(1, min(size, MOST_IN_BATCH))
        batch, self.seeds = self.seeds[:size], self.seeds[size:]
        return batch

    def judge(self, seed: int) -> None:
        """Do one input here and now."""
        began = time.monotonic()
        found = judge(self.target, seed)
        if isinstance(found, Failure):
            self.failures.append(found)
        else:
            self.outcomes[found] += 1
        self.inputs += 1
        self.seconds += time.monotonic() - began

    def add(
        self, inputs: int, seconds: float, outcomes: Counter[str], failures: list[Failure]
    ) -> None:
        """Count what was done elsewhere."""
        self.inputs += inputs
        self.seconds += seconds
        self.outcomes += outcomes
        self.failures += failures


class Child:
    """A process that judges a batch of `work`; `ready` is readable once it is done or dead."""

    def __init__(self, work: Work, seeds: range) -> None:
        self.work = work
        self._seeds = seeds
        self._seed = _FORK.Value("q", seeds.start, lock=False)
        self._seen = (seeds.start, time.monotonic())
        self.ready, theirs = _FORK.Pipe(duplex=False)
        arguments = (work.target, seeds, self._seed, theirs)
        self._process = _FORK.Process(target=_judge_all, args=arguments)
        self._process.start()
        theirs.close()

    def kill_if_stuck(self) -> None:
        """End the process if it has been at one seed for too long; it is ready then."""
        if self._seen[0] != self._seed.value:
            self._seen = (self._seed.value, time.monotonic())
        elif time.monotonic() - self._seen[1] > STUCK:
            self._process.kill()

    def finish(self) -> range:
        """Add what was done to the work, and return the seeds that are left if it died."""
        try:
            self.work.add(*self.ready.recv())
            rest = range(0)
        except EOFError:
            rest = self._died()
        self.ready.close()
        self._process.join()
        return rest

    def _died(self) -> range:
        """Add the seed that it was at; the outcomes of those before are lost with it."""
        self._process.join()
        seed = self._seed.value
        what = f"the process ended with status {self._process.exitcode}"
        self.work.failures.append(Failure(self.work.target.name, seed, what, what))
        self.work.inputs += seed + 1 - self._seeds.start
        return range(seed + 1, self._seeds.stop)


def _judge_all(target: Target, seeds: range, place: Any, result: Connection) -> None:
    limit_memory(MOST_MEMORY)  # for what makes inputs, which has no other limit
    work = Work(target, seeds)
    for seed in seeds:
        place.value = seed
        work.judge(seed)
    result.send((work.inputs, work.seconds, work.outcomes, work.failures))


def run(works: Sequence[Work], jobs: int, seconds: float) -> Iterator[Work]:
    """Do the work, `jobs` batches at a time, for so many seconds or until all of it is done.

    Yields each work of which another batch was done.  Who had the least time comes next.
    """
    end = time.monotonic() + seconds
    children: dict[Connection, Child] = {}
    while True:
        while len(children) < jobs and time.monotonic() < end and any(w.seeds for w in works):
            work = min((w for w in works if w.seeds), key=lambda w: w.seconds)
            _start(children, work, work.take())
        if not children:
            return
        for ready in wait(list(children), LOOK):
            child = children.pop(ready)
            if rest := child.finish():
                _start(children, child.work, rest)
            yield child.work
        for child in children.values():
            child.kill_if_stuck()


def _start(children: dict[Connection, Child], work: Work, seeds: range) -> None:
    child = Child(work, seeds)
    children[child.ready] = child
