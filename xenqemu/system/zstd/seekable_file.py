"""A compressed file read at any place: a frame at a time, by its seek table.

Frames that come next are decompressed ahead by other threads where a file is read in order.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from io import UnsupportedOperation
from typing import BinaryIO

from xenqemu.errors import BadRecord, FormatError, Truncated
from xenqemu.formats.stream.source import file_size, read_at
from xenqemu.formats.zstd_seekable import (
    FOOTER,
    WINDOW,
    Frame,
    SeekTable,
    checksum,
    parse_table,
    table_size,
)
from xenqemu.system.zstd.codec import WHERE, Codec

AHEAD = 2
"""Frames that are decompressed ahead."""

KEPT = AHEAD + 2
"""Decompressed frames that are kept."""


def seek_table(file: BinaryIO) -> SeekTable | None:
    """Return the seek table of a regular file, None if it has none; raise `FormatError`."""
    size = file_size(file)
    footer = read_at(file, max(size - FOOTER.size, 0), FOOTER.size)
    length = table_size(footer, size)
    if length is None:
        return None
    table = read_at(file, size - length, length)
    if len(table) < length:
        raise Truncated("zstd seek table", size - length, f"{length} bytes", str(len(table)))
    return parse_table(table, size)


class SeekableFile:
    """What is packed in `file`, which has this table; errors name places in `file` itself."""

    def __init__(self, file: BinaryIO, table: SeekTable, codec: Codec) -> None:
        self._file = file
        self._table = table
        self._codec = codec
        self._threads = ThreadPoolExecutor(AHEAD, "zstd")
        self._frames: OrderedDict[int, Future[memoryview]] = OrderedDict()
        self._last = -1
        self._position = 0
        self.name = file.name

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes, all that is left for a negative one."""
        if size < 0:
            size = self.left()
        pieces = []
        while size and (piece := self._some(size)):
            pieces.append(piece)
            size -= len(piece)
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill some of `buffer`; return how much, 0 at the end."""
        piece = self._some(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to another place."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._table.size}
        self._position = max(base[whence] + offset, 0)
        return self._position

    def tell(self) -> int:
        """Return the place."""
        return self._position

    def fileno(self) -> int:
        """Raise: what is inside has no descriptor of its own."""
        raise UnsupportedOperation("fileno")

    def left(self) -> int:
        """Return how many bytes there are from here to the end."""
        return max(self._table.size - self._position, 0)

    def close(self) -> None:
        """End the threads; the file stays open."""
        self._threads.shutdown(cancel_futures=True)

    def _some(self, size: int) -> memoryview:
        if self._position >= self._table.size or not size:
            return memoryview(b"")
        index = self._table.at(self._position)
        data = self._unpacked(index)
        start = self._position - self._table[index].start
        piece = data[start : start + size]
        self._position += len(piece)
        return piece

    def _unpacked(self, index: int) -> memoryview:
        wanted = self._frame(index)
        if index != self._last:
            in_order = index == self._last + 1 and self._table.largest <= WINDOW
            self._last = index
            for ahead in range(index + 1, min(index + 1 + AHEAD, len(self._table))):
                if in_order:
                    self._frame(ahead)
        while len(self._frames) > KEPT:
            self._frames.popitem(last=False)
        return wanted.result()

    def _frame(self, index: int) -> Future[memoryview]:
        if index not in self._frames:
            act: Callable[[], memoryview] = lambda: self._read(self._table[index])  # noqa: E731
            self._frames[index] = self._threads.submit(copy_context().run, act)
        self._frames.move_to_end(index)
        return self._frames[index]

    def _read(self, frame: Frame) -> memoryview:
        packed = read_at(self._file, frame.place, frame.packed)
        if len(packed) < frame.packed:
            raise Truncated(WHERE, frame.place, f"{frame.packed} bytes", str(len(packed)))
        try:
            data = self._codec.unpack(packed, frame.size)
        except FormatError as error:
            raise type(error)(error.record, frame.place, error.expected, error.got) from error
        if frame.checksum is not None and checksum(data) != frame.checksum.to_bytes(4, "little"):
            raise BadRecord(WHERE, frame.place, f"bytes of checksum {frame.checksum:#x}", "others")
        return memoryview(data)
