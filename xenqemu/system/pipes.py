"""The two ends of a pipe whose other end is another program's; every wait has a deadline.

A write end is our own open file, so that it may be non-blocking: those who share a standard stream
share its flags.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import select
import stat
import termios
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

from xenqemu.errors import Forbidden, HostError, HostTimeout, UsageError
from xenqemu.formats.stream.buffers import Buffer
from xenqemu.formats.stream.source import CHUNK
from xenqemu.system import descriptors
from xenqemu.system.cancellation import check_often, wait_cancellable
from xenqemu.system.deadline import Deadline
from xenqemu.system.descriptors import enlarge, kind_of

Ready = Callable[[Mapping[int, int], float], Collection[int]]

TICK = 0.01
"""Seconds between two looks at how much a pipe still holds."""


class PipeOut:
    """An outlet to the write end of a pipe, non-blocking; `name` is its reader in errors."""

    def __init__(self, fd: int, name: str, stall: float, ready: Ready = descriptors.ready) -> None:
        self._fd = fd
        self._name = name
        self._stall = stall
        self._ready = ready
        enlarge(fd, CHUNK)

    def writev(self, buffers: Sequence[Buffer]) -> int:
        """Write some of `buffers` and return how many bytes that was.

        Raises `HostError` where nobody reads any more, `HostTimeout` where nothing was read for
        the time of a stall.
        """
        check_often()
        wait = partial(self._ready, {self._fd: select.POLLOUT})
        if not wait_cancellable(wait, self._stall):
            raise HostTimeout(f"{self._name} read nothing for {self._stall:g} s")
        try:
            return os.writev(self._fd, buffers)
        except BlockingIOError:
            return 0
        except BrokenPipeError as error:
            raise self._ended() from error

    def drain(self) -> None:
        """Wait until the other end has read all of it; raise as `writev`."""
        deadline, before = Deadline.after(self._stall), self._held()
        while held := self._held():
            check_often()
            if _without_reader(self._fd):
                raise self._ended()
            if held < before:
                deadline, before = Deadline.after(self._stall), held
            if deadline.passed:
                raise HostTimeout(f"{self._name} read nothing for {self._stall:g} s")
            self._ready({}, TICK)  # what a program prints meanwhile is taken

    def _held(self) -> int:
        """Return how many bytes are in the pipe."""
        held = array.array("i", [0])
        fcntl.ioctl(self._fd, termios.FIONREAD, held)
        return held[0]

    def _ended(self) -> HostError:
        return HostError(f"{self._name} ended before it had read all of the save file")


class PipeIn:
    """An inlet from a pipe, or from what else can be read in order; `name` is its writer."""

    def __init__(self, fd: int, name: str, stall: float, ready: Ready = descriptors.ready) -> None:
        self._fd = fd
        self._ready = ready
        self._stall = stall
        self.name = name
        enlarge(fd, CHUNK)

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, b"" at the end; raise `HostTimeout`."""
        self._await()
        return os.read(self._fd, size)

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill some of `buffer`; return how much, 0 at the end; raise `HostTimeout`."""
        self._await()
        return os.readv(self._fd, [buffer])

    def _await(self) -> None:
        check_often()
        if not wait_cancellable(partial(self._ready, {self._fd: select.POLLIN}), self._stall):
            raise HostTimeout(f"{self.name} sent nothing for {self._stall:g} s")


def open_fifo_to_write(path: Path, seconds: float) -> int:
    """Open a FIFO once it has a reader; raise `HostTimeout` if that takes longer.

    Raises `Forbidden` where others could read it: what is written is a guest's memory.
    """
    mode = path.stat().st_mode
    if others := "".join(who for who, bit in (("g", 0o040), ("o", 0o004)) if mode & bit):
        raise Forbidden(f"others may read from {path} (chmod {others}-r)")

    def opened(part: float) -> int | None:
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        time.sleep(min(part, TICK))
        return None

    fd = wait_cancellable(opened, seconds)
    if fd is None:
        raise HostTimeout(f"nobody opened {path} to read it within {seconds:g} s")
    if not stat.S_ISFIFO(os.fstat(fd).st_mode):
        os.close(fd)
        raise UsageError(f"{path} is no FIFO any more")
    return fd


def reopened_to_write(fd: int, name: str) -> int:
    """Return another descriptor for a standard stream: a pipe's is non-blocking, and ours alone.

    Raises `UsageError` for what is neither a pipe nor a file: nobody would have the save file.
    """
    mode = os.fstat(fd).st_mode
    if stat.S_ISFIFO(mode):
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(mode):
        return os.dup(fd)
    raise UsageError(f"{name} is {kind_of(mode)}, expected a pipe or a file")


def _without_reader(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, 0)
    return any(events & select.POLLERR for _fd, events in poll.poll(0))
