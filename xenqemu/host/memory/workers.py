"""Several threads that move guest memory: the caller's own, and helpers for as long as it takes.

What moves memory (`pwritev`, digests, Xen's libraries) leaves other threads running, so that two
use two processors.  Only the caller's thread reports progress and hears of cancelling.  An error in
any thread ends all of them, and is raised in the caller's when no other is left.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import cycle
from queue import SimpleQueue
from threading import Lock, Semaphore, Thread
from types import TracebackType
from typing import Generic, Self, TypeVar

from xenqemu.system.cancellation import wait_cancellable

T = TypeVar("T")

MOST = 2
"""Threads at most: more gain nothing, since a file is written to by one at a time."""

BUFFERS = 4
"""Buffers that are filled and written in turn."""

Worker = Callable[[], AbstractContextManager[Callable[[T], int]]]
"""Opens what one thread works with: a function that does an item and returns how much that was."""


def workers() -> int:
    """Return how many threads there should be on this machine."""
    return min(MOST, len(os.sched_getaffinity(0)))


def in_threads(
    items: Iterator[T], worker: Worker[T], report: Callable[[int], None], threads: int
) -> None:
    """Do all `items`, by so many threads; return when all are done.

    After each item of the caller's own thread `report` is called with what all have done so far;
    meanwhile no other item is begun, so that it may hold all back.
    """
    shared = _Shared(items, worker)
    helpers = [Thread(target=shared.help, name="memory") for _ in range(threads - 1)]
    try:
        for helper in helpers:
            helper.start()
        shared.work(report)
        for helper in helpers:
            wait_cancellable(shared.ended(helper), math.inf)
    finally:
        shared.stop()
        joined([helper for helper in helpers if helper.ident is not None])
    shared.raise_error()
    if helpers:
        report(shared.done)


class _Shared(Generic[T]):
    """Items that several threads draw from, one after the other."""

    def __init__(self, items: Iterator[T], worker: Worker[T]) -> None:
        self._items = items
        self._worker = worker
        self._lock = Lock()
        self._stopped = False
        self._error: BaseException | None = None
        self.done = 0

    def work(self, report: Callable[[int], None] | None = None) -> None:
        """Do items until there are no more, or until all are to stop."""
        with self._worker() as do:
            while True:
                with self._lock:
                    item = None if self._stopped else next(self._items, None)
                if item is None:
                    return
                size = do(item)
                with self._lock:
                    self.done += size
                    if report:
                        report(self.done)

    def help(self) -> None:
        """Do as `work`, in a thread of its own."""
        try:
            self.work()
        except BaseException as error:  # noqa: BLE001 - it is raised in the caller's thread
            self._error = self._error or error
            self.stop()

    def stop(self) -> None:
        """Begin no more items."""
        self._stopped = True

    @staticmethod
    def ended(helper: Thread) -> Callable[[float], bool]:
        """Return a wait for the end of a thread."""

        def wait(seconds: float) -> bool:
            helper.join(seconds)
            return not helper.is_alive()

        return wait

    def raise_error(self) -> None:
        """Raise what ended a helper."""
        if self._error:
            raise self._error


class WriteBehind:
    """Has `write` take buffers in another thread, in order, while the caller fills the next one.

    There are `BUFFERS` of `size` bytes.  Use it in a `with`, whose end waits until all is written.
    Without `threaded` all is done at once.
    """

    def __init__(
        self, write: Callable[[memoryview, int], None], size: int, *, threaded: bool
    ) -> None:
        self._write = write
        self._buffers = cycle([memoryview(bytearray(size)) for _ in range(BUFFERS)])
        self._free = Semaphore(BUFFERS)
        self._filled: SimpleQueue[tuple[memoryview, int] | None] = SimpleQueue()
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, name="memory") if threaded else None

    def __enter__(self) -> Self:
        if self._thread:
            self._thread.start()
        return self

    def buffer(self) -> memoryview:
        """Return a buffer to be filled; raise what ended the thread."""
        wait_cancellable(lambda seconds: self._free.acquire(timeout=seconds), math.inf)
        if self._error:
            raise self._error
        return next(self._buffers)

    def wait(self) -> None:
        """Wait until all is written that was put."""
        for _ in range(BUFFERS):
            self.buffer()
        self._free.release(BUFFERS)

    def put(self, filled: memoryview, position: int) -> None:
        """Have (some of) the last buffer written."""
        if self._thread:
            self._filled.put((filled, position))
        else:
            self._write(filled, position)
            self._free.release()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._thread:
            return
        self._error = self._error or error  # so that nothing more is written
        self._filled.put(None)
        joined([self._thread])
        if self._error and error is None:
            raise self._error

    def _run(self) -> None:
        while (item := self._filled.get()) is not None:
            try:
                if not self._error:
                    self._write(*item)
            except BaseException as error:  # noqa: BLE001 - it is raised in the caller's thread
                self._error = error
            self._free.release()


def joined(threads: Sequence[Thread]) -> None:
    """Wait for the end of threads that were started; Ctrl-C does not keep them from it."""
    try:
        for thread in threads:
            thread.join()
    finally:
        for thread in threads:
            thread.join()
