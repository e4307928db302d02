"""Bytes out, with an offset: the one writer under every format.

`Sink` counts what it wrote and writes all of it.  Guest pages go out as a list of buffers in one
system call (`writev`) where the stream is a file, so that they are never joined in memory.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import BinaryIO

BUFFERS_A_CALL = 1024
"""Linux' limit of buffers in one writev (IOV_MAX)."""


class Sink:
    """A binary stream being written; `offset` counts bytes from where it was opened.

    An unbuffered file (`open(…, buffering=0)`) or a `BytesIO`: what is written must not overtake
    what another layer still holds back.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._fd = None if isinstance(file, io.BytesIO) else file.fileno()
        self.offset = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write all of `data`; raise `OSError` as the system says it."""
        self.writev([data])

    def writev(self, buffers: Sequence[bytes | bytearray | memoryview]) -> None:
        """Write all `buffers` in order, resuming after short writes."""
        if self._fd is None:
            for buffer in buffers:
                self.offset += self._file.write(buffer)
            return
        for start in range(0, len(buffers), BUFFERS_A_CALL):
            self._write_all(self._fd, buffers[start : start + BUFFERS_A_CALL])

    def _write_all(self, fd: int, buffers: Sequence[bytes | bytearray | memoryview]) -> None:
        left = sum(len(buffer) for buffer in buffers)
        while left:
            done = os.writev(fd, buffers)
            self.offset += done
            left -= done
            if left:
                buffers = _without_first(buffers, done)


def _without_first(
    buffers: Sequence[bytes | bytearray | memoryview], size: int
) -> list[bytes | bytearray | memoryview]:
    """Return what is left of `buffers` after the first `size` bytes."""
    rest: list[bytes | bytearray | memoryview] = []
    for buffer in buffers:
        if size >= len(buffer):
            size -= len(buffer)
        else:
            rest.append(memoryview(buffer)[size:])
            size = 0
    return rest
