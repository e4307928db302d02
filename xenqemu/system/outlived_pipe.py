"""A pipe whose writer is never left with nobody to read, even if this process is killed.

A second reader holds the pipe too.  It reads nothing as long as this process has it open; then it
reads all that is left, and throws it away.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from xenqemu.errors import HostTimeout
from xenqemu.system import child
from xenqemu.system.child import PIPE
from xenqemu.system.descriptors import enlarge, ready

SIZE = 256 << 10
"""Bytes that the pipe holds: what a writer gets in return may wait for as many to be read."""

END_GRACE = 1.0
"""Seconds that are waited for the second reader where nothing is left to be read."""


@dataclass(frozen=True)
class OutlivedPipe:
    """Both ends of such a pipe; `inode` distinguishes it from all others."""

    reader: FileIO
    writer: FileIO

    @property
    def inode(self) -> int:
        """Its inode."""
        return os.fstat(self.reader.fileno()).st_ino


@contextmanager
def outlived_pipe() -> Iterator[OutlivedPipe]:
    """Open a pipe for the block; the block closes the writer's end once somebody else has it.

    After the block, or once this process has ended in whatever way, `cat` reads what is left.
    Raises `HostError` if that cannot be started.
    """
    reader, writer = os.pipe()
    enlarge(reader, SIZE)
    # The first input of cat is a pipe that we hold: it ends when we do.
    words = ["cat", "-", f"/proc/self/fd/{reader}"]
    with (
        FileIO(reader, "rb") as ours,
        FileIO(writer, "wb") as theirs,
        child.started("cat", words, stdin=PIPE, descriptors=(reader,), new_session=True) as second,
    ):
        try:
            yield OutlivedPipe(ours, theirs)
        finally:
            second.hang_up()
            ours.close()
            theirs.close()
            if not second.wait(END_GRACE):
                second.leave()


def read_rest(pid: int, inode: int, seconds: float) -> None:
    """Read what is left in a pipe that a process has open, up to the end that its writers make.

    Nothing if it has no such pipe.  Raises `HostTimeout` if nothing comes for `seconds`.
    """
    for entry in _descriptors(pid):
        try:
            if entry.stat().st_ino != inode or not entry.is_fifo():
                continue
            # Where nobody writes any more, to open it would wait for ever but for O_NONBLOCK.
            pipe = os.open(entry, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:  # closed meanwhile
            continue
        with FileIO(pipe, "rb") as rest:
            while rest.read(SIZE) != b"":
                if not ready({pipe: select.POLLIN}, seconds):
                    raise HostTimeout(f"process {pid} wrote nothing to its pipe for {seconds:g} s")
        return


def _descriptors(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/fd").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return []
