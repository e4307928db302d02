r"""A save file that is sent by several streams at once: cut into chunks, one to each in turn.

::

    "streams"    the name of all this in a preflight answer
                 stream 0, the wire of xl's protocol        stream K of N, by a command of its own
    back         (module handshake)                         "xenqemu migration stream ready\n"
    out          chunk 0, chunk N, chunk 2N, …              chunk K, chunk N + K, …
                 go

    chunk        u32 size    1 byte to 1 MiB        little-endian
                 so many bytes of the save file as it is wrapped (module wrapping)

A save file ends where libxl's END does, so the chunks need no end of their own; the next one would
come by the stream whose turn it is.  A stream says that it is ready once the receiver has it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import cycle

from xenqemu.errors import BadRecord, Truncated
from xenqemu.formats.stream.sink import Blocks, Outlet, Sink
from xenqemu.formats.stream.source import Inlet, Source, bounded

STREAMS = "streams"

MOST = 16
"""Streams of a save file at most."""

READY = b"xenqemu migration stream ready\n"

SIZE = struct.Struct("<I")
CHUNK_MAX = 1 << 20

CHUNK = 1 << 17
"""Bytes of the chunks that we make: small enough for several to fit in each stream's pipe."""


def spread(outlets: Sequence[Outlet]) -> Blocks:
    """Return an outlet to all of `outlets`; it buffers a chunk until that is full or flushed."""
    turns = cycle([Sink(outlet) for outlet in outlets])

    def put(chunk: bytearray) -> None:
        next(turns).writev([SIZE.pack(len(chunk)), chunk])

    return Blocks(CHUNK, put)


class Gathered:
    """An inlet of what comes by all of `inlets`; only the content says where it ends."""

    def __init__(self, inlets: Sequence[Inlet]) -> None:
        named = [(Source(inlet), f"stream {number}") for number, inlet in enumerate(inlets)]
        self._turns = cycle(named)
        self._source, self._name = named[0]
        self._left = 0

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes; raise `FormatError` where a stream ends, or has no chunk."""
        if not self._left:
            self._begin()
        piece = self._source.read(min(size, self._left))
        if not piece:
            offset = self._source.offset
            raise Truncated(self._name, offset, f"{self._left} bytes", "the end")
        self._left -= len(piece)
        return piece

    def _begin(self) -> None:
        self._source, self._name = next(self._turns)
        offset = self._source.offset
        (size,) = SIZE.unpack(self._source.exact(SIZE.size, self._name))
        self._left = bounded(size, CHUNK_MAX, self._name, offset, "a chunk")
        if not size:
            raise BadRecord(self._name, offset, "a chunk", "one of no bytes")
