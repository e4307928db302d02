"""A file that is read twice: first to check it, then to use what was checked.

Between the two, and under both, is storage that others may control (NFS): what was read the first
time has to be the same the second time.  What was passed over is not compared: nobody checked it.

::

    checking   ████──────████───█████████     read, or passed over by seeking
    using      ██████████████────████████     in order; some may be passed over again
    compared   ████      ████   █████████     by one digest
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable
from functools import cached_property
from hashlib import blake2b
from io import UnsupportedOperation
from typing import BinaryIO

from xenqemu.errors import HostError
from xenqemu.formats.stream.source import bytes_left

CHUNK = 1 << 20
"""Bytes that are read at a time where only their digest is wanted."""


class FirstReading:
    """Reads a file from its start and remembers, by a digest, what was read."""

    def __init__(self, file: BinaryIO) -> None:
        file.seek(0)
        self._file = file
        self._written = _written(file)
        self.name = file.name
        self._digest = blake2b()
        self._ends = array("Q")  # start and end of each stretch that was read

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes."""
        piece = self._file.read(size)
        self._note(memoryview(piece))
        return piece

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill some of `buffer`; return how much."""
        got: int = self._file.readinto(buffer)  # type: ignore[attr-defined]
        self._note(buffer[:got])
        return got

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to another place."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the place."""
        return self._file.tell()

    def fileno(self) -> int:
        """Return the file's descriptor."""
        return self._file.fileno()

    def left(self) -> int | None:
        """Return how many bytes there are from here to the end, None if nobody knows."""
        return bytes_left(self._file)

    def again(self, follow: Callable[[memoryview], None] | None = None) -> SecondReading:
        """Return what reads the file once more; `follow` is called with all bytes, in order."""
        return SecondReading(self._file, self._ends, self._digest.digest(), self._written, follow)

    def _note(self, piece: memoryview) -> None:
        if not piece:
            return
        end = self._file.tell()
        start = end - len(piece)
        if self._ends and self._ends[-1] > start:
            raise HostError("a file cannot be checked backwards")
        if self._ends and self._ends[-1] == start:
            self._ends[-1] = end
        else:
            self._ends.extend((start, end))
        self._digest.update(piece)


class SecondReading:
    """Reads the file in order, or passes over parts of it.

    `require_same` says whether it is what was read before.
    """

    def __init__(
        self,
        file: BinaryIO,
        ends: array[int],
        expected: bytes,
        written: tuple[int, int] | None,
        follow: Callable[[memoryview], None] | None,
    ) -> None:
        file.seek(0)
        self._file = file
        self.name = file.name
        self._ends = ends
        self._next = 0
        self._offset = 0
        self._expected = expected
        self._written = written
        self._passed_over = False
        self._follow = follow
        self._digest = blake2b()

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes."""
        piece = self._file.read(size)
        self._compare(memoryview(piece))
        return piece

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill some of `buffer`; return how much."""
        got: int = self._file.readinto(buffer)  # type: ignore[attr-defined]
        self._compare(buffer[:got])
        return got

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go forward to another place; what is on the way may be used by other means than ours.

        What was read the first time is read again, and all where somebody follows.
        """
        self._passed_over = True
        target = offset + (self._offset if whence == os.SEEK_CUR else 0)
        while self._follow and self._offset < target:
            if not self.readinto(self._scratch[: target - self._offset]):
                break
        while self._next < len(self._ends) and self._ends[self._next] < target:
            self._pass_to(max(self._offset, self._ends[self._next]))
            end = min(target, self._ends[self._next + 1])
            if not self.read(min(CHUNK, end - self._offset)):
                break
        self._pass_to(target)
        return target

    def tell(self) -> int:
        """Return the place."""
        return self._offset

    def fileno(self) -> int:
        """Return the file's descriptor."""
        return self._file.fileno()

    def require_same(self) -> None:
        """Read the rest; raise `HostError` if anything is not as it was the first time.

        Where parts were passed over, nobody may have written to the file at all.
        """
        while self.read(CHUNK):
            pass
        changed = self._digest.digest() != self._expected or self._next < len(self._ends)
        if changed or (self._passed_over and _written(self._file) != self._written):
            raise HostError("it has changed since it was checked")

    @cached_property
    def _scratch(self) -> memoryview:
        return memoryview(bytearray(CHUNK))

    def _pass_to(self, offset: int) -> None:
        self._offset = self._file.seek(offset)

    def _compare(self, piece: memoryview) -> None:
        """Take what of a piece was read the first time too."""
        if self._follow:
            self._follow(piece)
        begin, self._offset = self._offset, self._offset + len(piece)
        while self._next < len(self._ends) and self._ends[self._next] < self._offset:
            start, end = self._ends[self._next], self._ends[self._next + 1]
            self._digest.update(piece[max(start - begin, 0) : end - begin])
            if end > self._offset:
                return
            self._next += 2


def _written(file: BinaryIO) -> tuple[int, int] | None:
    """Return when a file was last written to, and its size; None for what is inside of one."""
    try:
        status = os.fstat(file.fileno())
    except UnsupportedOperation:
        return None
    return status.st_mtime_ns, status.st_size
