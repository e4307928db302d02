"""Folders of files that people write with editors, and packages install: what is none of theirs.

Such a folder also has what editors and packages keep beside a file; and a FIFO or a device in it
must not be opened, since that may wait for ever or do something.
"""

from __future__ import annotations

import os
import stat
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

BESIDE = (
    *(".*", "*~", "#*#", "*.bak", "*.orig", "*.rej", "*.sw[a-p]", "*.save", "*.tmp", "*,v"),
    *("*.dpkg-*", "*.ucf-*", "*.rpmsave", "*.rpmnew", "*.rpmorig"),
)
"""Names of what is kept beside a file: by editors, patch, version control, dpkg, ucf and rpm."""


def is_beside(name: str) -> bool:
    """Return whether a name is that of a hidden file, or of a copy that a program made of one."""
    return any(fnmatchcase(name, pattern) for pattern in BESIDE)


def open_regular(path: Path) -> BinaryIO | None:
    """Open a file to read it, None for what is no regular file; raise `OSError`.

    Nothing else is opened; what takes the name meanwhile is not waited for.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        return None
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return open(descriptor, "rb")
    os.close(descriptor)
    return None


def read_regular(path: Path, most: int) -> bytes | None:
    """Return up to `most` bytes of a file, None for what is no regular file; raise `OSError`."""
    file = open_regular(path)
    if file is None:
        return None
    with file:
        return file.read(most)
