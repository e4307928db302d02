"""Files that are read by names that others may have given to something else.

A FIFO or a device must not be opened: that may wait for ever, or do something.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def open_regular(path: Path) -> BinaryIO | None:
    """Open a file to read it, None for what is no regular file; raise `OSError`.

    Nothing else is opened; what takes the name meanwhile is not waited for.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        return None
    file = open(path, "rb", opener=lambda name, _flags: os.open(name, _FLAGS))  # noqa: SIM115  returned
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    return None


def is_regular(file: BinaryIO) -> bool:
    """Return whether an open file is a regular one, and no pipe, or bytes in memory."""
    try:
        return stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except OSError:  # io.UnsupportedOperation, of what has no descriptor
        return False


def read_regular(path: Path, most: int) -> bytes | None:
    """Return up to `most` bytes of a file, None for what is no regular file; raise `OSError`."""
    file = open_regular(path)
    if file is None:
        return None
    with file:
        return file.read(most)
