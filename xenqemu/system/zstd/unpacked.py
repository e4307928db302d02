"""What is in a file, whether zstd has compressed it or not.

A compressed file that has a seek table is read at any place.  Another one, or a pipe, is read in
order: what is passed over is decompressed too, and to go back is to begin anew, in a file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from io import UnsupportedOperation
from typing import Any, BinaryIO, cast

from xenqemu.errors import Unsupported
from xenqemu.formats.stream.source import CHUNK, Inlet, name_file
from xenqemu.formats.zstd_seekable import WORD, is_zstd

WHERE = "zstd file"


@contextmanager
def unpacked(file: BinaryIO | Inlet) -> Iterator[BinaryIO]:
    """Yield what is in `file`, which stands at its start: itself, if it is not compressed.

    Raises `HostError` for a compressed one if nobody here can decompress it, `FormatError` for a
    seek table that is damaged.
    """
    seekable = getattr(file, "seekable", None)
    if seekable is not None and seekable():
        begin = _begin_of(cast(BinaryIO, file))
        if not is_zstd(begin):
            yield cast(BinaryIO, file)
            return
        with closing(_of_file(cast(BinaryIO, file))) as reading:
            yield cast(BinaryIO, reading)
        return
    begin = b""
    while len(begin) < WORD.size and (piece := file.read(WORD.size - len(begin))):
        begin += piece
    rest = _Begun(begin, file)
    if not is_zstd(begin):
        yield cast(BinaryIO, rest)
        return
    with closing(_InOrder(rest, getattr(file, "name", ""))) as reading:
        yield cast(BinaryIO, reading)


def _begin_of(file: BinaryIO) -> bytes:
    """Return the first bytes of a file, which stays where it is."""
    start = file.tell()
    try:
        begin = file.read(WORD.size)
    except OSError as error:
        name_file(error, file)
        raise
    file.seek(start)
    return begin


def _of_file(file: BinaryIO) -> Any:
    """Return a reader of what is packed in a file."""
    from xenqemu.system.zstd.codec import codec  # noqa: PLC0415  most files are not compressed
    from xenqemu.system.zstd.seekable_file import SeekableFile, seek_table  # noqa: PLC0415

    try:
        regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode) and file.tell() == 0
    except OSError:  # in memory
        regular = False
    table = seek_table(file) if regular else None
    return (
        SeekableFile(file, table, codec()) if table else _InOrder(file, getattr(file, "name", ""))
    )


class _Begun:
    """An inlet whose first bytes were read already."""

    def __init__(self, begin: bytes, inlet: BinaryIO | Inlet) -> None:
        self._begin = begin
        self._inlet = inlet
        self.name = getattr(inlet, "name", "")

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes."""
        if self._begin:
            piece, self._begin = self._begin[:size], self._begin[size:]
            return piece
        return self._inlet.read(size)

    def fileno(self) -> int:
        """Raise: what is inside has no descriptor of its own."""
        raise UnsupportedOperation("fileno")

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill some of `buffer`; return how much, 0 at the end."""
        readinto = getattr(self._inlet, "readinto", None)
        if readinto is not None and not self._begin:
            got: int = readinto(buffer)
            return got
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


class _InOrder:
    """What is packed in `inlet`, from its start to its end."""

    def __init__(self, inlet: Inlet, name: object) -> None:
        self._inlet = inlet
        self._position = 0
        self._reading = self._begun()
        self.name = name

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes."""
        piece = self._reading.read(size)
        self._position += len(piece)
        return piece

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill some of `buffer`; return how much, 0 at the end."""
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to another place by reading; back only in a file."""
        if whence == os.SEEK_END:
            raise Unsupported(WHERE, self._position, "a seek table, to go to its end", "none")
        offset += self._position if whence == os.SEEK_CUR else 0
        if offset < self._position:
            back = getattr(self._inlet, "seek", None)
            if back is None:
                raise Unsupported(WHERE, self._position, "a file, to read it again", "a pipe")
            back(0)
            self.close()
            self._position, self._reading = 0, self._begun()
        while self._position < offset and self.read(min(CHUNK, offset - self._position)):
            pass
        return self._position

    def tell(self) -> int:
        """Return the place."""
        return self._position

    def fileno(self) -> int:
        """Raise: what is inside has no descriptor of its own."""
        raise UnsupportedOperation("fileno")

    def left(self) -> None:
        """Return that nobody knows how many bytes there are to the end."""

    def close(self) -> None:
        """End what decompresses; the inlet stays open."""
        close = getattr(self._reading, "close", None)
        if close is not None:
            close()

    def _begun(self) -> Inlet:
        from xenqemu.system.zstd.codec import codec  # noqa: PLC0415  most files are not compressed

        return codec().unpacked(self._inlet)
