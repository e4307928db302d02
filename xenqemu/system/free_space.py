"""Free space on a file system, reserved before it is needed."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from errno import EDQUOT, EFBIG, EINTR, ENOSPC, EOPNOTSUPP
from pathlib import Path

from xenqemu.errors import HostError

KEEP_SIZE = 1
"""FALLOC_FL_KEEP_SIZE: the file does not look longer than what is written to it."""

BLOCK = 512
"""Bytes in what stat counts as a block."""

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
"""The C library: Python itself has no fallocate that leaves the size as it is."""

_TOO_LITTLE = {
    ENOSPC: "the file system has no more",
    EDQUOT: "the quota allows no more",
    EFBIG: "it exceeds the file size limit",
}


def reserve(file: int, size: int, shown: Path, before: int = 0) -> None:
    """Reserve `size` bytes for `file`, so that writing them cannot fail for lack of space.

    `before` are those that were reserved already: a tmpfs visits each page of a request.  Where the
    file system cannot reserve, that so much is free now has to suffice.  Raises `HostError` with
    both numbers if there is too little; `shown` names the place in it.  Python's posix_fallocate
    would write the whole file where the file system cannot reserve.
    """
    require_free(file, size, shown)
    error = fallocate(file, before, size)
    if error and error != EOPNOTSUPP:
        raise _too_little(size, free_for(file), shown, error)


def require_free(file: int, size: int, shown: Path) -> None:
    """Raise `HostError` as `reserve` does if too little is free for `file`; reserve nothing.

    `file` may be the folder that a file of this size is to be in.
    """
    free = free_for(file)
    error = _obstacle(size, free)
    if error:
        raise _too_little(size, free, shown, error)


def _too_little(size: int, free: int, shown: Path, error: int) -> HostError:
    why = _TOO_LITTLE.get(error, os.strerror(error))
    return HostError(
        f"{shown}: {size} bytes of free space are needed for the save file, "
        f"{free} are available ({why})"
    )


def free_for(file: int) -> int:
    """Return how many bytes the file may have, including those reserved for it."""
    found = os.fstatvfs(file)
    if not found.f_blocks:  # a file system without a size limit
        return sys.maxsize
    return found.f_bavail * found.f_frsize + os.fstat(file).st_blocks * BLOCK


def _obstacle(size: int, free: int) -> int:
    """Return the errno that writing would end with, 0 if none is known.

    Many file systems check neither when asked to reserve, and fill the disk before they fail.
    """
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if size > free:
        return ENOSPC
    return EFBIG if limit != resource.RLIM_INFINITY and size > limit else 0


def fallocate(file: int, start: int, end: int) -> int:
    """Reserve the bytes from `start` to `end` and return 0, or the errno.

    glibc's wrapper is there on each Linux.
    """
    while start < end and LIBC.fallocate(file, KEEP_SIZE, start, end - start):
        if ctypes.get_errno() != EINTR:
            return ctypes.get_errno()
    return 0
