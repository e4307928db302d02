"""Descriptors: files by their folder; files and memfds in one access mode, as QEMU takes them."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from xenqemu.errors import HostError, UsageError
from xenqemu.formats.stream.buffers import Buffer


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
def memory_file(content: Buffer = b"") -> Iterator[int]:
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


@contextmanager
def opened_folder(path: Path) -> Iterator[int]:
    """Open a folder, to work on what it has whatever becomes of its path; raise `OSError`."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield folder
    finally:
        os.close(folder)


def open_regular(folder: int, name: str, mode: int, users: Collection[int]) -> int:
    """Open a regular file in a folder; raise `HostError` unless it is one, and of one of `users`.

    It is looked at before it is opened: what a link leads to, a FIFO and a device never are.
    Raises `OSError` as the system does.
    """
    found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        status = os.fstat(found)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
        if not stat.S_ISREG(status.st_mode):
            raise HostError(f"{name} is {kind_of(status.st_mode)}, not a file")
        if status.st_uid not in users:
            raise HostError(f"{name} is owned by user {status.st_uid}")
        return os.open(f"/proc/self/fd/{found}", mode | os.O_CLOEXEC)
    finally:
        os.close(found)


def create_or_open(folder: int, name: str, users: Collection[int], permissions: int = 0o600) -> int:
    """Open a regular file in a folder for both directions; make it if there is none.

    Raises as `open_regular` does; `FileNotFoundError` if it was removed just now.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(name, flags, permissions, dir_fd=folder)
    except FileExistsError:
        return open_regular(folder, name, os.O_RDWR, users)


def kind_of(mode: int) -> str:
    """Return what has this mode, in words."""
    return _KINDS.get(stat.S_IFMT(mode), "not a file")


_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk; raise `OSError` where that fails."""
    with opened_folder(folder) as descriptor:
        os.fsync(descriptor)


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
