"""What two xenqemu may put around a record on its way, if both said that they know it.

::

    "digest"    the record, then 32 bytes: BLAKE2b of all of it
    "zstd"      what is above, or the record alone, in blocks, as many as it takes:
                    u32 size          bytes that the frame holds, 1 MiB at most    little-endian
                    u32 packed        bytes of the frame
                    a zstd frame that says its size and ends in a checksum

A record ends where libxl's END does, so neither needs an end of its own.  All that may go by
several streams then (module `stream_chunks`).  What goes to xl, or comes from it, is not wrapped.
Where Python has no zstandard only the digest is known.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec

from xenqemu.errors import BadRecord
from xenqemu.formats.migration.stream_chunks import Gathered, spread
from xenqemu.formats.stream.sink import Blocks, Buffer, Outlet, Sink
from xenqemu.formats.stream.source import Inlet, Source, bounded

DIGEST = "digest"
ZSTD = "zstd"

DIGEST_SIZE = 32
BLOCK = struct.Struct("<II")
BLOCK_MAX = 1 << 20
PACKED_MAX = BLOCK_MAX + (BLOCK_MAX >> 7)
"""Bytes of a frame at most; what cannot be made smaller gets a little larger."""

DIGESTED = 1 << 18
"""Bytes that are copied, digested and sent at a time."""

LEVEL = 1
"""Of zstd: more costs more time than it saves on any network worth a migration."""

WHERE = "wrapped record"


def known() -> tuple[str, ...]:
    """Return the features that are known here."""
    return (DIGEST, ZSTD) if find_spec("zstandard") else (DIGEST,)


class Wrapper:
    """An outlet that wraps a record in `features`, on its way to `outlet`; `finish` it.

    With `extra` outlets it is spread over all of them.
    """

    def __init__(
        self, outlet: Outlet, features: frozenset[str], extra: Sequence[Outlet] = ()
    ) -> None:
        self._holding: list[Blocks] = []
        self._outlet = outlet
        self._digest = hashlib.blake2b(digest_size=DIGEST_SIZE) if DIGEST in features else None
        if extra:
            self._hold(spread([outlet, *extra]))
        if ZSTD in features:
            self._hold(Blocks(BLOCK_MAX, _packing(self._outlet)))
        self._behind = Sink(self._outlet)
        if self._digest:
            self._hold(Blocks(DIGESTED, self._put))

    def writev(self, buffers: Sequence[Buffer]) -> int:
        """Take some of `buffers`, in order, and return how many bytes that was."""
        return self._outlet.writev(buffers)

    def finish(self) -> None:
        """Put behind the record what belongs there, and hold nothing back any more."""
        holding = self._holding[::-1]
        if self._digest:
            holding.pop(0).flush()
            self._behind.write(self._digest.digest())
        for blocks in holding:
            blocks.flush()

    def _hold(self, blocks: Blocks) -> None:
        self._holding.append(blocks)
        self._outlet = blocks

    def _put(self, block: bytearray) -> None:
        """Digest and send what was copied: the pages of a guest that runs change meanwhile."""
        assert self._digest is not None  # else there are no such blocks
        self._digest.update(block)
        self._behind.write(block)


def _packing(outlet: Outlet) -> Callable[[bytearray], None]:
    """Return what packs a block and sends it to `outlet`."""
    sink = Sink(outlet)
    zstd = import_module("zstandard").ZstdCompressor(level=LEVEL, write_checksum=True)

    def put(block: bytearray) -> None:
        frame = zstd.compress(block)
        sink.writev([BLOCK.pack(len(block), len(frame)), frame])

    return put


class Unwrapper:
    """Takes `features` off a record that comes from `inlet`; `source` gives the record.

    With `extra` inlets it comes spread over all of them.
    """

    def __init__(self, inlet: Inlet, features: frozenset[str], extra: Sequence[Inlet] = ()) -> None:
        if extra:
            inlet = Gathered([inlet, *extra])
        if ZSTD in features:
            inlet = _Unpacker(inlet)
        self._hashing = _Hashing(inlet) if DIGEST in features else None
        self.source = Source(self._hashing or inlet)

    def finish(self) -> None:
        """Check what stands behind the record, at its end; raise `FormatError` if it is wrong."""
        if self._hashing:
            expected = self._hashing.digest.digest()
            offset = self.source.offset
            got = self.source.exact(len(expected), WHERE)
            if got != expected:
                raise BadRecord(WHERE, offset, f"the digest {expected.hex()}", got.hex())


class _Hashing:
    """Gives what comes from `inlet`, and the digest of what it gave."""

    def __init__(self, inlet: Inlet) -> None:
        self._inlet = inlet
        self.digest = hashlib.blake2b(digest_size=DIGEST_SIZE)

    def read(self, size: int, /) -> bytes:
        piece = self._inlet.read(size)
        self.digest.update(piece)
        return piece


class _Unpacker:
    """Gives what is in the blocks that come from `inlet`."""

    def __init__(self, inlet: Inlet) -> None:
        self._source = Source(inlet)
        self._block = b""
        self._zstandard = import_module("zstandard")

    def read(self, size: int, /) -> bytes:
        if not self._block and not self._source.at_end():
            self._block = self._next()
        piece, self._block = self._block[:size], self._block[size:]
        return piece

    def _next(self) -> bytes:
        offset = self._source.offset
        size, packed = BLOCK.unpack(self._source.exact(BLOCK.size, WHERE))
        bounded(size, BLOCK_MAX, WHERE, offset, "a size")
        bounded(packed, PACKED_MAX, WHERE, offset + 4, "a frame")
        frame = self._source.exact(packed, WHERE)
        try:
            held = self._zstandard.get_frame_parameters(frame).content_size
            if held != size or not size:  # else the frame is not looked into
                raise BadRecord(WHERE, offset, f"a frame of {size} bytes", str(held))
            unpacking = self._zstandard.ZstdDecompressor().decompressobj()
            data: bytes = unpacking.decompress(frame)
        except self._zstandard.ZstdError as error:
            raise BadRecord(WHERE, offset + BLOCK.size, "a zstd frame", str(error)) from error
        if not unpacking.eof or unpacking.unused_data:
            raise BadRecord(WHERE, offset + 4, "one whole frame", f"{packed} bytes")
        return data
