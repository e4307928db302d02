"""A key in a file, which nobody else may read or replace."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path

from xenqemu.errors import Forbidden, UsageError
from xenqemu.system.regular_file import open_regular
from xenqemu.system.writers import require_owned, require_sole_writers

LONGEST = 64
"""Bytes of a key at most, as BLAKE2b takes them."""


def read_key(path: Path, users: Collection[int]) -> bytes:
    """Return the bytes of the file `path`: 1 to 64 of any values, all of them the key.

    Raises `UsageError` for a file that is none or has another size, `Forbidden` where others than
    `users` own it, may write to it or to the way to it, or may read it, and `OSError`.
    """
    file = open_regular(path)
    if file is None:
        raise UsageError(f"{path} is no key file: it is not a regular file")
    with file:
        status = os.fstat(file.fileno())
        require_owned(path, status, users)
        require_sole_writers(path, users)
        if status.st_mode & (stat.S_IRGRP | stat.S_IROTH):
            raise Forbidden(f"others may read the key in {path} (chmod go-r)")
        key = file.read(LONGEST + 1)
    if not 1 <= len(key) <= LONGEST:
        size = "no bytes" if not key else f"more than {LONGEST} bytes"
        raise UsageError(f"{path} is no key file: it has {size}, a key has 1 to {LONGEST}")
    return key
