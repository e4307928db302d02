"""A file in memory that cannot grow beyond its bound, whoever writes to it.

It is for another program that may have been taken over by its guest.  What bounds it is a tmpfs of
its own, mounted nowhere (fsopen(2), fsmount(2)), of that size: each write and fallocate beyond it
ends in ENOSPC, in the kernel and before memory is taken.  Nothing else does:

- a memfd sealed by F_SEAL_GROW could not be written after O_TRUNC, with which QEMU opens it, and
  with F_SEAL_SHRINK it could not be truncated;
- RLIMIT_FSIZE is of a process, not of a file: it would end QEMU at its disk images;
- to look at the size meanwhile comes too late for one fallocate(2) of all memory;
- a pipe is refused by QEMU.

A user without CAP_SYS_ADMIN gets a memfd without a bound: the programs of such a user may take that
user's memory anyway.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from xenqemu.system.descriptors import memory_file

FSOPEN, FSCONFIG, FSMOUNT = 430, 431, 432
"""Numbers of the system calls, the same on all architectures; Linux has them since 5.2."""

_CLOEXEC = 1
_SET_STRING, _CREATE = 1, 6

_REFUSED = (errno.EPERM, errno.ENOSYS, errno.ENODEV)
"""How Linux refuses a user, an older Linux all, and one without tmpfs."""


@contextmanager
def bounded_file(size: int) -> Iterator[int]:
    """Open a file for `size` bytes, rounded up to pages; it is O_RDWR, empty and has no name.

    Raises `OSError` if there is no memory for it.
    """
    try:
        file = _on_its_own_tmpfs(size)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        with memory_file() as memory:
            yield memory
        return
    try:
        yield file
    finally:
        os.close(file)


def _on_its_own_tmpfs(size: int) -> int:
    """Return a file without a name on a new tmpfs, which ends with it."""
    context = _call(FSOPEN, b"tmpfs", _CLOEXEC)
    try:
        for key, value in ((b"size", b"%d" % size), (b"mode", b"0700")):
            _call(FSCONFIG, context, _SET_STRING, key, value, 0)
        _call(FSCONFIG, context, _CREATE, None, None, 0)
        mount = _call(FSMOUNT, context, _CLOEXEC, 0)
    finally:
        os.close(context)
    try:
        return os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=mount)
    finally:
        os.close(mount)


def _call(number: int, *arguments: bytes | int | None) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = libc.syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
