"""Bytes out, with an offset: the one writer under every format.

`Sink` counts what it wrote and writes all of it.  Guest pages go out as a list of buffers in one
system call (`writev`) where the stream is a file, so that they are never joined in memory.  An
`Outlet` has a `writev` of its own.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from errno import EFAULT
from typing import BinaryIO, Protocol, runtime_checkable

from xenqemu.formats.stream.source import name_file

BUFFERS_A_CALL = 1024
"""Linux' limit of buffers in one writev (IOV_MAX)."""

Buffer = bytes | bytearray | memoryview


@runtime_checkable
class Outlet(Protocol):
    """Where bytes are written to that is no file."""

    def writev(self, buffers: Sequence[Buffer]) -> int:
        """Write some of `buffers`, in order, and return how many bytes that was."""


class Sink:
    """A binary stream being written; `offset` counts bytes from where it was opened.

    An unbuffered file (`open(…, buffering=0)`), a `BytesIO` or an `Outlet`: what is written must
    not overtake what is in the buffer of another layer.
    """

    def __init__(self, file: BinaryIO | Outlet) -> None:
        self._outlet = file if isinstance(file, Outlet) else _File(file)
        self.offset = 0

    def write(self, data: Buffer) -> None:
        """Write all of `data`; raise the system's `OSError`."""
        self.writev([data])

    def writev(self, buffers: Sequence[Buffer]) -> None:
        """Write all `buffers` in order, resuming after short writes."""
        for start in range(0, len(buffers), BUFFERS_A_CALL):
            self._write_all(buffers[start : start + BUFFERS_A_CALL])

    def _write_all(self, buffers: Sequence[Buffer]) -> None:
        left = sum(len(buffer) for buffer in buffers)
        while left:
            done = self._outlet.writev(buffers)
            self.offset += done
            left -= done
            if left:
                buffers = _without_first(buffers, done)


class Blocks:
    """An outlet that passes what is written to `put`, in blocks of `size` bytes.

    What does not fill one is kept until more comes, or until `flush`.
    """

    def __init__(self, size: int, put: Callable[[bytearray], None]) -> None:
        self._size = size
        self._put = put
        self._block = bytearray()

    def writev(self, buffers: Sequence[Buffer]) -> int:
        """Take all of `buffers` and return how many bytes that was."""
        for buffer in buffers:
            rest = memoryview(buffer)
            while rest:
                free = self._size - len(self._block)
                self._block += rest[:free]
                rest = rest[free:]
                if len(self._block) == self._size:
                    self.flush()
        return sum(len(buffer) for buffer in buffers)

    def flush(self) -> None:
        """Pass on what is kept."""
        block, self._block = self._block, bytearray()
        if block:
            self._put(block)


class _File:
    """A file or a `BytesIO` as an outlet."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._fd = None if isinstance(file, io.BytesIO) else file.fileno()

    def writev(self, buffers: Sequence[Buffer]) -> int:
        if self._fd is None:
            return sum(self._file.write(buffer) for buffer in buffers)
        try:
            return _writev(self._fd, buffers)
        except OSError as error:
            name_file(error, self._file)
            raise


def _writev(fd: int, buffers: Sequence[Buffer]) -> int:
    try:
        return os.writev(fd, buffers)
    except OSError as error:
        if error.errno != EFAULT:
            raise
        # 9p takes no pages of another domain: the kernel has no page structure for them.
        return os.writev(fd, [bytes(buffer) for buffer in buffers])


def _without_first(buffers: Sequence[Buffer], size: int) -> list[Buffer]:
    """Return what is left of `buffers` after the first `size` bytes."""
    rest: list[Buffer] = []
    for buffer in buffers:
        if size >= len(buffer):
            size -= len(buffer)
        else:
            rest.append(memoryview(buffer)[size:])
            size = 0
    return rest
