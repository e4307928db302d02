"""How long libxl keeps the id of a domain that has ended from being used again.

A line for each domain that ended, in the folder of run-time files::

    SECONDS DOMID          seconds of CLOCK_MONOTONIC

While it is less than 60 s old, libxl refuses to build a domain that asks for this id, as one saved
with `-D` does.  Source: libxl_domain.c (libxl__is_domid_recent).
"""

from __future__ import annotations

import math
import os
import re
import time
from pathlib import Path

NAME = "domid-history"

REUSE_TIMEOUT = 60
"""Seconds (LIBXL_DOMID_REUSE_TIMEOUT)."""

VARIABLE = "LIBXL_DOMID_REUSE_TIMEOUT"
"""The environment variable that changes it, for libxl and for us."""

MAX_SIZE = 1 << 20
"""Bytes that are read of the file: there are 32,752 ids, and libxl drops old lines."""

_LINE = re.compile(rb"(?P<second>[0-9]{1,18}) (?P<domid>[0-9]{1,5})")
_SECONDS = re.compile(r"[0-9]{1,9}")


def seconds_kept(folder: Path, domid: int) -> int:
    """Return for how many more seconds libxl keeps an id, 0 if it does not.

    `folder` is Xen's for run-time files (XEN_RUN_DIR).
    """
    try:
        with (folder / NAME).open("rb") as file:
            lines = file.read(MAX_SIZE).splitlines()
    except FileNotFoundError:
        return 0
    found = filter(None, map(_LINE.fullmatch, lines))
    seconds = (int(line["second"]) for line in found if int(line["domid"]) == domid)
    ended = max(seconds, default=None)
    if ended is None:
        return 0
    free = ended + _timeout() + 1  # libxl compares whole seconds
    return max(0, math.ceil(free - time.monotonic()))


def _timeout() -> int:
    given = os.environ.get(VARIABLE, "")
    return int(given) if _SECONDS.fullmatch(given) else REUSE_TIMEOUT
