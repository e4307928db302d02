"""Descriptors: files and memfds in exactly one access mode, as QEMU takes them; pipes; waits."""

from __future__ import annotations

import fcntl
import os
import select
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from xenqemu.errors import UsageError


def require_file(fd: int, mode: int) -> None:
    """Raise `UsageError` unless `fd` is a regular file in `mode` (os.O_WRONLY or os.O_RDONLY).

    QEMU would refuse it too, but later, when the guest is suspended already.
    """
    try:
        fit = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == mode
        regular = stat.S_ISREG(os.fstat(fd).st_mode)
    except OSError as error:
        raise UsageError(f"descriptor {fd}: {error}") from error
    if not (fit and regular):
        what = "write-only" if mode == os.O_WRONLY else "read-only"
        raise UsageError(f"descriptor {fd} must be {what} and on a regular file or a memfd")


@contextmanager
def memory_file(content: bytes = b"") -> Iterator[int]:
    """Open a memfd, which is O_RDWR and stands at its start."""
    fd = os.memfd_create("xenqemu")
    try:
        os.pwrite(fd, content, 0)
        yield fd
    finally:
        os.close(fd)


@contextmanager
def reopened(memory: int, mode: int) -> Iterator[int]:
    """Open a memfd once more, from its start, in one mode."""
    fd = os.open(f"/proc/self/fd/{memory}", mode | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk; raise `OSError` where that fails."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def enlarge(pipe: int, size: int) -> None:
    """Have a pipe hold `size` bytes, if it is one and a user may have so many."""
    with suppress(OSError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, size)


def ready(wanted: Mapping[int, int], seconds: float) -> list[int]:
    """Return which descriptors are ready, each for its events of poll(2); none after `seconds`."""
    poll = select.poll()
    for descriptor, events in wanted.items():
        poll.register(descriptor, events)
    return [descriptor for descriptor, _events in poll.poll(seconds * 1000)]
