"""A folder that one user alone writes to, and one process at a time."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xenqemu.errors import HostError, HostTimeout
from xenqemu.system.flock import locked_within

LOCK_TIMEOUT = 10.0
"""Seconds to wait for a lock that others hold."""


def require_own(folder: Path) -> None:
    """Raise `HostError` for a folder that others may write to."""
    status = folder.stat()
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o022:
        raise HostError(f"{folder} must be owned by you and writable by nobody else")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder for the block; it is made if need be.

    Raises `OSError`, `HostError` where others may write to it, `HostTimeout`.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    require_own(folder)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    descriptor = os.open(folder / "lock", flags, 0o600)
    try:
        if not locked_within(LOCK_TIMEOUT, descriptor):
            where = folder / "lock"
            raise HostTimeout(f"{where} is locked by another process for {LOCK_TIMEOUT:g} s")
        yield
    finally:
        os.close(descriptor)
