"""Bytes out, with an offset: the one writer under every format.

`Sink` counts what it wrote and writes all of it.  Guest pages go out as a list of buffers in one
system call (`writev`) where the stream is a file, so that they are never joined in memory.  An
`Outlet` has a `writev` of its own.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Sequence
from errno import EFAULT
from fcntl import F_GETFL, fcntl
from functools import cached_property, partial
from typing import BinaryIO, Protocol, runtime_checkable

from xenqemu.formats.stream.buffers import Buffer
from xenqemu.formats.stream.pieces import Pieces
from xenqemu.formats.stream.source import name_file

BUFFERS_A_CALL = 1024
"""Linux' limit of buffers in one writev (IOV_MAX)."""


@runtime_checkable
class Outlet(Protocol):
    """Where bytes are written to that is no file."""

    def writev(self, buffers: Sequence[Buffer]) -> int:
        """Write some of `buffers`, in order, and return how many bytes that was."""


class Sink:
    """A binary stream being written; `offset` counts bytes from where it was opened.

    An unbuffered file (`open(…, buffering=0)`), a `BytesIO` or an `Outlet`: what is written must
    not overtake what is in the buffer of another layer.  `pieces` gets the digests of all that is
    written.

    Where `has_places`, several threads write: one after the other takes a place, and each fills
    its own.  `align_pages` asks whoever writes guest pages to lay them on multiples of 4096.

    `changing` says that what is written may change at the same time, as a running guest's memory
    does: what is digested is a copy then, and that copy is written.
    """

    changing = False

    def __init__(
        self,
        file: BinaryIO | Outlet,
        pieces: Pieces | None = None,
        *,
        align_pages: bool = False,
    ) -> None:
        self._outlet = file if isinstance(file, Outlet) else _File(file)
        self._pieces = pieces
        self.align_pages = align_pages
        self.offset = 0

    @property
    def digests(self) -> bool:
        """Whether what is written is digested."""
        return self._pieces is not None

    @property
    def has_places(self) -> bool:
        """Whether `take` and `fill` may be used: it is a regular file, not appended to."""
        return isinstance(self._outlet, _File) and self._outlet.is_regular

    def take(self, size: int) -> int:
        """Take the next `size` bytes of the file, which `fill` has to write; return their place.

        A place is that of the file's own start, whatever `offset` counts from.  One thread at a
        time.
        """
        assert isinstance(self._outlet, _File)
        self.cut()
        self.offset += size
        return self._outlet.skip(size)

    def fill(self, place: int, buffers: Sequence[Buffer]) -> None:
        """Write `buffers` at a place that was taken, or share them with an older file.

        From any thread.
        It is that of a PAGE_DATA record, or a multiple of `PIECE` bytes behind its start.
        """
        assert isinstance(self._outlet, _File)
        buffers = self._unchanging(buffers)
        if self._pieces is None or not self._pieces.share(place, buffers, self.descriptor):
            self._outlet.pwritev(buffers, place)

    def cut(self) -> None:
        """Have a piece end here: before and behind each PAGE_DATA record that is written."""
        if self._pieces is not None:
            self._pieces.cut()

    def fill_start(self, place: int, data: Buffer, size: int) -> None:
        """Write `data` at a place of `size` bytes that was taken; others write the rest of it.

        They do so in the file of that `descriptor`.
        """
        assert isinstance(self._outlet, _File)
        self._outlet.pwritev([data], place)
        if self._pieces is not None:
            self._pieces.add_later(place, place + size)

    @property
    def descriptor(self) -> int:
        """The descriptor of the file, where `has_places`."""
        assert isinstance(self._outlet, _File)
        return self._outlet.descriptor

    def write(self, data: Buffer) -> None:
        """Write all of `data`; raise the system's `OSError`."""
        self.writev([data])

    def writev(self, buffers: Sequence[Buffer]) -> None:
        """Write all `buffers` in order, resuming after short writes."""
        for start in range(0, len(buffers), BUFFERS_A_CALL):
            self._write_all(buffers[start : start + BUFFERS_A_CALL])

    def _write_all(self, buffers: Sequence[Buffer]) -> None:
        buffers = self._unchanging(buffers)
        left = sum(len(buffer) for buffer in buffers)
        if self._pieces is not None:
            self._pieces.follow(self.offset, buffers)
        while left:
            done = self._outlet.writev(buffers)
            self.offset += done
            left -= done
            if left:
                buffers = _without_first(buffers, done)

    def _unchanging(self, buffers: Sequence[Buffer]) -> Sequence[Buffer]:
        return [b"".join(buffers)] if self.digests and self.changing else buffers


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
        return self._write(partial(os.writev, self._fd), buffers)

    @cached_property
    def is_regular(self) -> bool:
        if self._fd is None or not stat.S_ISREG(os.fstat(self._fd).st_mode):
            return False
        # Of a file that is appended to, Linux heeds no place.
        return not fcntl(self._fd, F_GETFL) & os.O_APPEND

    @property
    def descriptor(self) -> int:
        return self._file.fileno()

    def skip(self, size: int) -> int:
        """Move over `size` bytes and return where they begin."""
        return os.lseek(self._file.fileno(), size, os.SEEK_CUR) - size

    def pwritev(self, buffers: Sequence[Buffer], place: int) -> None:
        """Write all `buffers` at `place`."""
        fd = self._file.fileno()
        for start in range(0, len(buffers), BUFFERS_A_CALL):
            some = buffers[start : start + BUFFERS_A_CALL]
            while some:
                done = self._write(partial(_pwritev, fd, place), some)
                place += done
                some = _without_first(some, done)

    def _write(self, write: Callable[[Sequence[Buffer]], int], buffers: Sequence[Buffer]) -> int:
        try:
            return _write_foreign(write, buffers)
        except OSError as error:
            name_file(error, self._file)
            raise


def _pwritev(fd: int, place: int, buffers: Sequence[Buffer]) -> int:
    return os.pwritev(fd, buffers, place)


def _write_foreign(write: Callable[[Sequence[Buffer]], int], buffers: Sequence[Buffer]) -> int:
    try:
        return write(buffers)
    except OSError as error:
        if error.errno != EFAULT:
            raise
        # 9p takes no pages of another domain: the kernel has no page structure for them.
        return write([bytes(buffer) for buffer in buffers])


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
