"""Writing the Zstandard seekable format: windows of what comes, compressed by several threads.

::

    what comes ─► window ─► queue ─► thread: compress │ wait for its turn │ take its place │ write
                                     thread: compress …

In a regular file each thread writes at the place that it took; elsewhere one after the other.  What
comes is copied: pages of a guest that runs change while they are compressed.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextvars import copy_context
from io import FileIO
from queue import Empty, Queue
from typing import BinaryIO, Self, TypeVar

from xenqemu.formats.stream.buffers import Buffer
from xenqemu.formats.stream.sink import Outlet, Sink
from xenqemu.formats.zstd_seekable import WINDOW, pack_table, raw_frame
from xenqemu.system.cancellation import wait_cancellable
from xenqemu.system.zstd.codec import Codec
from xenqemu.system.zstd.pace import RAW, WORTH, Pace

MOST_THREADS = 4
"""Each has a window and what zstd needs for one."""

END_TIMEOUT = 86400.0
"""Seconds for what is queued to be written: each wait of a target has a deadline of its own."""

SAMPLE, SAMPLES = 16 << 10, 8
"""Bytes of a sample's pieces, and how many these are."""

QUICK = 1
"""A level that takes little: higher ones are left out where this finds nothing to gain."""

SYNCS = 2
"""After so many windows a file is synced, and then each time after that many times as many.

So the pace of its disk is known, which takes what the system's memory has taken long before.
"""

T = TypeVar("T")


def threads() -> int:
    """Return how many threads compress here."""
    return min(len(os.sched_getaffinity(0)), MOST_THREADS)


class FrameOutlet:
    """An outlet that compresses what is written into `out`; `finish` it, in a `with`.

    At `level` (1 to 19), or as the target's pace has it (`AUTO`).
    """

    def __init__(self, out: BinaryIO | Outlet, codec: Codec, level: int, count: int = 0) -> None:
        count = count or threads()
        self._sink = Sink(out)
        self._codec = codec
        self._file = out.fileno() if isinstance(out, FileIO) and self._sink.has_places else None
        self._pace = Pace(level, count, in_order=not self._sink.has_places)
        self._frames: list[tuple[int, int]] = []
        self._next_sync = SYNCS
        self._synced = 0
        self._turn = threading.Condition()
        self._error: BaseException | None = None
        self._free: Queue[bytearray] = Queue()
        self._tasks: Queue[tuple[int, memoryview, bytearray] | None] = Queue()
        for _ in range(count + 1):
            self._free.put(bytearray(WINDOW))
        self._window: bytearray | None = None
        self._filled = 0
        self._given = 0
        self._threads = [
            threading.Thread(target=copy_context().run, args=(self._work,), daemon=True)
            for _ in range(count)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, _trace: object) -> None:
        """End the threads; after an error what is queued is dropped."""
        if error is not None:
            self._fail(error)
        for _thread in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def writev(self, buffers: Sequence[Buffer]) -> int:
        """Take all of `buffers` and return how many bytes that was; raise what writing raised."""
        total = 0
        for buffer in buffers:
            rest = memoryview(buffer).cast("B")
            total += len(rest)
            while rest:
                window = self._window = self._window or self._wait(self._free.get)
                size = min(WINDOW - self._filled, len(rest))
                window[self._filled : self._filled + size] = rest[:size]
                self._filled += size
                rest = rest[size:]
                if self._filled == WINDOW:
                    self._pass_on()
        return total

    def finish(self) -> int:
        """Write what is left and the seek table; return how many bytes were written in all."""
        if self._filled:
            self._pass_on()
        self._wait(self._all_written)
        self._sink.write(pack_table(self._frames))
        return self._sink.offset

    def _pass_on(self) -> None:
        window, self._window = self._window, None
        assert window is not None  # it has bytes
        self._tasks.put((self._given, memoryview(window)[: self._filled], window))
        self._given += 1
        self._filled = 0

    def _wait(self, wait: Callable[..., T]) -> T:
        """Return what `wait(timeout=…)` returns in time; raise what a thread has raised."""

        def waited(seconds: float) -> list[T]:
            self._require_no_error()
            try:
                return [wait(timeout=seconds)]
            except Empty:
                return []

        found = wait_cancellable(waited, END_TIMEOUT)
        self._require_no_error()
        return found[0]

    def _all_written(self, timeout: float) -> bool:
        with self._turn:
            if not self._turn.wait_for(self._is_done, timeout):
                raise Empty
        return True

    def _is_done(self) -> bool:
        return self._error is not None or len(self._frames) == self._given

    def _require_no_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _fail(self, error: BaseException) -> None:
        with self._turn:
            self._error = self._error or error
            self._turn.notify_all()

    def _work(self) -> None:
        """Compress and write windows until there are no more."""
        while (task := self._tasks.get()) is not None:
            index, data, window = task
            try:
                if self._error is None:
                    self._frame(index, data)
            except BaseException as error:  # noqa: BLE001  raised again where the next window comes
                self._fail(error)
            self._free.put(window)

    def _frame(self, index: int, data: memoryview) -> None:
        frame = self._encoded(data)
        size = sum(len(part) for part in frame)
        with self._turn:
            self._turn.wait_for(lambda: self._error is not None or len(self._frames) == index)
            self._require_no_error()
            if self._sink.has_places:
                place = self._sink.take(size)
            else:
                self._pace.written(size, _seconds(lambda: self._sink.writev(frame)))
            self._frames.append((size, len(data)))
            self._turn.notify_all()
        if self._sink.has_places:
            self._pace.written(size, _seconds(lambda: self._sink.fill(place, frame)))
            self._sync_sometimes(index)

    def _encoded(self, data: memoryview) -> list[Buffer]:
        """Return the frame of a window, as it is where that is better."""
        level, tried = self._pace.next()
        if tried is not None:
            self._compressed(_sample(data), tried)
        if level > QUICK and self._is_dense(data):
            return raw_frame(data)
        if level != RAW:
            frame = self._compressed(data, level)
            if len(frame) < WORTH * len(data):
                return [frame]
        return raw_frame(data)

    def _compressed(self, data: Buffer, level: int) -> bytes:
        start = time.perf_counter()
        frame = self._codec.pack(data, level)
        self._pace.compressed(level, len(data), len(frame), time.perf_counter() - start)
        return frame

    def _is_dense(self, data: memoryview) -> bool:
        """Return whether a window does not seem to get smaller, by a sample."""
        sample = _sample(data)
        return len(self._codec.pack(sample, QUICK)) >= WORTH * len(sample)

    def _sync_sometimes(self, index: int) -> None:
        file = self._file
        if file is None or index != self._next_sync:
            return
        self._next_sync *= SYNCS * SYNCS
        size = sum(packed for packed, _size in self._frames)
        self._pace.synced(size - self._synced, _seconds(lambda: os.fdatasync(file)))
        self._synced = size


def _seconds(act: Callable[[], object]) -> float:
    """Do it, and return how many seconds that took."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def _sample(data: memoryview) -> bytes:
    """Return some of a window, from all over it."""
    step = max(len(data) // SAMPLES, 1)
    return b"".join(data[start : start + SAMPLE] for start in range(0, len(data), step))
