"""Room on a file system: asking for it before it is needed."""

from __future__ import annotations

import ctypes
import os
from errno import EDQUOT, EFBIG, ENOSPC, EOPNOTSUPP
from pathlib import Path

from xenqemu.errors import HostError

KEEP_SIZE = 1
"""FALLOC_FL_KEEP_SIZE: the file does not look longer than what is written to it."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)

_TOO_LITTLE = {
    ENOSPC: "the file system has no more",
    EDQUOT: "the quota allows no more",
    EFBIG: "no file may be so long",
}


def reserve(file: int, size: int, shown: Path) -> None:
    """Set `size` bytes aside for `file`, so that writing them cannot fail for want of room.

    Where the file system knows no reserving, what is free now is compared.  Raises `HostError`
    with both numbers if there is too little; `shown` is where, in its words.  Python's own
    posix_fallocate would write the whole file where the file system cannot.
    """
    free = _free(file)
    error = _fallocate(file, size)
    if error == EOPNOTSUPP:
        error = 0 if free >= size else ENOSPC
    if error:
        why = _TOO_LITTLE.get(error, os.strerror(error))
        raise HostError(f"{shown}: {size} bytes have to be free for the record, {free} are ({why})")


def _free(file: int) -> int:
    found = os.fstatvfs(file)
    return found.f_bavail * found.f_frsize


def _fallocate(file: int, size: int) -> int:
    """Return 0 or the errno; glibc's wrapper is there on each Linux."""
    ctypes.set_errno(0)
    return ctypes.get_errno() if _libc.fallocate(file, KEEP_SIZE, 0, size) else 0
