"""A lock that is a file: there only while it is held or waited for, released when a process ends.

The file is opened (O_CREAT), locked by flock(LOCK_EX), then compared with what has the name by now,
because the holder removes the file before it releases the lock.  If it is another file, or none,
all is done again.  So do libxl (libxl__lock_file) and Xen's hotplug scripts (locking.sh); they wait
for ever, here there is a deadline.  On NFS the lock holds between hosts too (flock(2)).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xenqemu.errors import HostError, HostTimeout
from xenqemu.system.deadline import Deadline
from xenqemu.system.flock import locked_within


@contextmanager
def locked(path: Path, seconds: float, mode: int = 0o600) -> Iterator[None]:
    """Hold the lock for the block.

    Raises `HostTimeout` if somebody else does for `seconds`, `HostError` if the file cannot be
    made.
    """
    deadline = Deadline.after(seconds)
    descriptor = _acquire(path, mode, deadline)
    while descriptor is None:
        if deadline.passed:
            raise HostTimeout(f"{path} is locked by another process for {seconds:g} s")
        descriptor = _acquire(path, mode, deadline)
    try:
        yield
    finally:
        try:
            path.unlink(missing_ok=True)  # before the lock is released: see above
        finally:
            os.close(descriptor)


def _acquire(path: Path, mode: int, deadline: Deadline) -> int | None:
    """Return the locked file, None after the deadline, or if another file has the name."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
    except OSError as error:
        raise HostError(f"cannot open the lock file {path}: {error.strerror}") from error
    ours = False
    try:
        ours = locked_within(deadline.left, descriptor) and _has_name(descriptor, path)
    finally:
        if not ours:
            os.close(descriptor)
    return descriptor if ours else None


def _has_name(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
