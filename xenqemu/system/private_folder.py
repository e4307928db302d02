"""A folder that one user alone writes to, and one process at a time."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xenqemu.errors import HostError, HostTimeout
from xenqemu.system.descriptors import create_or_open, opened_folder
from xenqemu.system.flock import locked_within

LOCK_TIMEOUT = 10.0
"""Seconds to wait for a lock that others hold."""


def require_own(folder: Path) -> None:
    """Raise `HostError` for a folder that others may write to."""
    _require_own(folder, folder.stat())


def _require_own(folder: Path, status: os.stat_result) -> None:
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o022:
        raise HostError(f"{folder} must be owned by you and writable by nobody else")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder for the block; it is made if need be.

    Raises `OSError`, `HostError` where others may write to it, `HostTimeout`.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with opened_folder(folder) as here:
        _require_own(folder, os.fstat(here))
        descriptor = create_or_open(here, "lock", {os.geteuid()})
    try:
        if not locked_within(LOCK_TIMEOUT, descriptor):
            where = folder / "lock"
            raise HostTimeout(f"{where} is locked by another process for {LOCK_TIMEOUT:g} s")
        yield
    finally:
        os.close(descriptor)
