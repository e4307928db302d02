"""Bytes in, with an offset: the one reader under every format.

A `Source` counts its offset, for errors; it never reads more than its caller asked for, and it
works with pipes that return a few bytes at a time.  Bulk data (guest pages)
can be skipped without reading it where the file allows, or read straight into a caller's buffer.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import BinaryIO, Protocol, cast

from xenqemu.errors import TooBig, Truncated

CHUNK = 1 << 20
"""Bytes moved at a time where a stream must be read to be skipped or copied."""


class Inlet(Protocol):
    """Where bytes are read from that is no file."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none only at the end."""


def _unheard() -> None:
    """Do nothing."""


class Source:
    """A cursor over a binary stream, pipe or file.

    `offset` counts bytes from where the source was opened.  Reading never passes a position that
    a caller did not ask for, so a source can be handed from an outer format to an inner one.
    Without `seek`, what is skipped in a file is read too.  `check` is called before each read and
    skip, of `CHUNK` bytes at most: it raises where somebody wants an end.
    """

    def __init__(
        self,
        file: BinaryIO | Inlet,
        offset: int = 0,
        *,
        seek: bool = True,
        check: Callable[[], None] = _unheard,
    ) -> None:
        self._file = cast(BinaryIO, file)  # an inlet is only read, since it has no size
        self._seek = seek
        self._check = check
        self._ahead = b""
        self.offset = offset
        self._size = bytes_left(self._file)
        if self._size is not None:
            self._size += offset

    @classmethod
    def of(cls, data: bytes) -> Source:
        """Return a source over bytes in memory."""
        return cls(io.BytesIO(data))

    def read(self, size: int, /) -> bytes:
        """Return some of what comes next, at most `size` bytes, none only at the end."""
        return self._some(size)

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill some of `buffer` (bytes) with what comes next; return how much, 0 at the end."""
        readinto = getattr(self._file, "readinto", None)
        if self._ahead or readinto is None:
            piece = self._some(len(buffer))
            buffer[: len(piece)] = piece
            return len(piece)
        self._check()
        try:
            got: int = readinto(buffer)
        except OSError as error:
            name_file(error, self._file)
            raise
        self.offset += got
        return got

    def exact(self, size: int, record: str) -> bytes:
        """Return the next `size` bytes; raise `Truncated` where the stream ends before.

        Callers bound `size` first (`bounded`).  A file's size is known, so that a length beyond
        its end is refused before memory is allocated for it; a pipe is read piece by piece.
        """
        if not size:
            return b""
        self._require(size, record)
        if size <= CHUNK:
            piece = self._full(size)
            if len(piece) < size:
                raise _ended(record, self.offset - len(piece), size, len(piece))
            return piece
        joined = io.BytesIO()  # it gives its bytes away without a copy
        while (missing := size - joined.tell()) > 0:
            wanted = min(missing, CHUNK)
            got = joined.write(self._full(wanted))
            if got < wanted:
                raise _ended(record, self.offset - joined.tell(), size, joined.tell())
        return joined.getvalue()

    def rest(self, limit: int, record: str) -> bytes:
        """Return all that is left; raise `TooBig` for more than `limit` bytes."""
        start = self.offset
        joined = io.BytesIO()
        while piece := self._some(CHUNK):
            joined.write(piece)
            bounded(joined.tell(), limit, record, start, "a stream")
        return joined.getvalue()

    def into(self, buffer: memoryview, record: str) -> None:
        """Fill `buffer` (bytes, contiguous) with the next bytes, without a copy in between."""
        self._require(len(buffer), record)
        done = 0
        while done < len(buffer):
            got = self.readinto(buffer[done:])
            if not got:
                raise _ended(record, self.offset - done, len(buffer), done)
            done += got

    def skip(self, size: int, record: str) -> None:
        """Pass over `size` bytes: by seeking in a file, by reading in a pipe."""
        self._require(size, record)
        ahead = min(size, len(self._ahead))
        self._some(ahead)
        rest = size - ahead
        if self._size is not None and self._seek:
            self._check()
            self._file.seek(rest, os.SEEK_CUR)
            self.offset += rest
            return
        while rest:
            got = self.readinto(self._scratch[:rest])
            if not got:
                raise _ended(record, self.offset - (size - rest), size, size - rest)
            rest -= got

    @property
    def place(self) -> tuple[int, int] | None:
        """Descriptor and offset of what comes next, in a file in which `skip` need not read."""
        if self._size is None or not self._seek:
            return None
        try:
            return self._file.fileno(), self._file.tell() - len(self._ahead)
        except io.UnsupportedOperation:  # in memory, or inside a compressed file
            return None

    def peek(self, size: int) -> bytes:
        """Return up to `size` next bytes without passing them; fewer only at the end."""
        while len(self._ahead) < size:
            piece = self._read(size - len(self._ahead))
            if not piece:
                break
            self._ahead += piece
        return self._ahead[:size]

    def at_end(self) -> bool:
        """Return whether the stream ends here (reads one byte ahead in a pipe)."""
        return not self.peek(1)

    def drain(self) -> int:
        """Pass over all that is left and return how many bytes that was."""
        start = self.offset
        while self._some(CHUNK):
            pass
        return self.offset - start

    def _full(self, size: int) -> bytes:
        """Return `size` bytes, fewer only at the end, however small the pieces of a pipe are."""
        piece = self._some(size)
        if len(piece) == size or not piece:  # of millions of records, all
            return piece
        joined = bytearray(piece)
        while piece and len(joined) < size:
            piece = self._some(size - len(joined))
            joined += piece
        return bytes(joined)

    def _some(self, size: int) -> bytes:
        if self._ahead:
            piece, self._ahead = self._ahead[:size], self._ahead[size:]
        elif size:
            piece = self._read(size)
        else:
            return b""
        self.offset += len(piece)
        return piece

    def _read(self, size: int) -> bytes:
        self._check()
        try:
            return self._file.read(size)
        except OSError as error:
            name_file(error, self._file)
            raise

    @cached_property
    def _scratch(self) -> memoryview:
        """A buffer for what is skipped: new memory for each piece takes longer than reading it."""
        return memoryview(bytearray(CHUNK))

    def _require(self, size: int, record: str) -> None:
        if self._size is not None and self.offset + size > self._size:
            raise _ended(record, self.offset, size, self._size - self.offset)


def file_size(file: BinaryIO) -> int:
    """Return the bytes of a regular file."""
    return os.fstat(file.fileno()).st_size


def parts_at(file: BinaryIO, start: int, end: int, buffer: memoryview) -> Iterator[memoryview]:
    """Yield the bytes of a regular file from `start` to before `end`, fewer where it ends.

    They are read into `buffer`, part by part; the place of the file stays.
    """
    while start < end:
        try:
            got = os.preadv(file.fileno(), [buffer[: end - start]], start)
        except OSError as error:
            name_file(error, file)
            raise
        if not got:
            return
        yield buffer[:got]
        start += got


def read_at(file: BinaryIO, offset: int, size: int) -> bytes:
    """Return `size` bytes of a regular file, or fewer at its end; its place stays."""
    joined = io.BytesIO()
    buffer = memoryview(bytearray(min(size, CHUNK)))
    for part in parts_at(file, offset, offset + size, buffer):
        joined.write(part)
    return joined.getvalue()


def name_file(error: OSError, file: object) -> None:
    """Have an error tell which file it was, if the file has a name and the error has none."""
    name = getattr(file, "name", None)
    if isinstance(name, str) and error.filename is None:
        error.filename = name


def _ended(record: str, start: int, size: int, got: int) -> Truncated:
    return Truncated(record, start, f"{size} bytes", f"{got} and then the end")


def bytes_left(file: BinaryIO) -> int | None:
    """Return how many bytes a file or a buffer has left, None for a pipe or an inlet.

    What is no file, and can tell all the same, has a method `left` for that.
    """
    left: Callable[[], int | None] | None = getattr(file, "left", None)
    if left is not None:
        return left()
    if isinstance(file, io.BytesIO):
        return len(file.getbuffer()) - file.tell()
    try:
        status = os.fstat(file.fileno())
    except (OSError, AttributeError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return status.st_size - file.tell()


def bounded(value: int, limit: int, record: str, offset: int, what: str) -> int:
    """Return `value` if it is at most `limit`, else raise `TooBig`: call before allocating."""
    if value > limit:
        raise TooBig(record, offset, f"{what} of at most {limit}", str(value))
    return value
