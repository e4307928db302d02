"""Operations whose steps only record that they were performed."""

from __future__ import annotations

import math
from contextlib import contextmanager

from xenqemu.operations.events import unobserved
from xenqemu.operations.journal.folder import Journals
from xenqemu.operations.journal.log import About
from xenqemu.operations.journal.operation import Operation

ABOUT = About("save", 1, "sample", "uuid", "/save-file")


@contextmanager
def working(host, observe=unobserved, timeout=math.inf):
    """Yield an operation in its journal."""
    with Operation.begin(host, ABOUT, observe, timeout) as job:
        yield job


def left(host):
    """Return what is in the host's folder of journals."""
    return [each.about.verb for each in Journals(host.journals).found()]
