"""The descriptors 0 to 2, which whoever started us may have closed.

A file that is opened then takes a number of theirs, and what is printed goes into a save file, a
lease, or to QEMU.  So they are opened before anything else is.
"""

from __future__ import annotations

import os
import sys


def open_standard_streams() -> None:
    """Open those of the descriptors 0 to 2 that are closed, and Python's streams over them.

    What is printed to one goes nowhere, and to read from it fails with EBADF, as it did.  Programs
    that we start inherit them.
    """
    for descriptor in range(3):
        if not _is_open(descriptor):  # open(2) returns the lowest number that is free
            os.set_inheritable(os.open(os.devnull, os.O_WRONLY), True)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115  it stays open as long as we run
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
