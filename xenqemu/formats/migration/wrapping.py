"""What two xenqemu may put around a save file that is sent, if both can.

::

    "digest"    the save file, then 32 bytes: BLAKE2b of all of it
    "zstd"      what is above, or the save file alone, in blocks, as many as it takes:
                    u32 size          bytes that are in the frame, 1 MiB at most   little-endian
                    u32 packed        bytes of the frame
                    a zstd frame that says its size and ends in a checksum

A save file ends where libxl's END does, so neither needs an end of its own.  The result may go by
several streams (module `stream_chunks`).  What is sent to xl, or comes from it, is not wrapped.
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
from xenqemu.formats.stream.buffers import Buffer
from xenqemu.formats.stream.sink import Blocks, Outlet, Sink
from xenqemu.formats.stream.source import Inlet, Source, bounded

DIGEST = "digest"
ZSTD = "zstd"

DIGEST_SIZE = 32
BLOCK = struct.Struct("<II")
BLOCK_MAX = 1 << 20
PACKED_MAX = BLOCK_MAX + (BLOCK_MAX >> 7)
"""Bytes of a frame at most; what zstd cannot make smaller gets a little larger."""

DIGESTED = 1 << 18
"""Bytes that are copied, digested and sent at a time."""

LEVEL = 1
"""Of zstd: more costs more time than it saves on any network worth a migration."""

WHERE = "wrapped save file"


def known() -> tuple[str, ...]:
    """Return the features that are known here."""
    return (DIGEST, ZSTD) if find_spec("zstandard") else (DIGEST,)


class Wrapper:
    """An outlet that wraps a save file in `features` and sends it to `outlet`; `finish` it.

    With `extra` outlets it is sent by all of them.
    """

    def __init__(
        self, outlet: Outlet, features: frozenset[str], extra: Sequence[Outlet] = ()
    ) -> None:
        self._blocks: list[Blocks] = []
        self._outlet = outlet
        self._digest = hashlib.blake2b(digest_size=DIGEST_SIZE) if DIGEST in features else None
        if extra:
            self._add(spread([outlet, *extra]))
        if ZSTD in features:
            self._add(Blocks(BLOCK_MAX, _packing(self._outlet)))
        self._after = Sink(self._outlet)
        if self._digest:
            self._add(Blocks(DIGESTED, self._put))

    def writev(self, buffers: Sequence[Buffer]) -> int:
        """Take some of `buffers`, in order, and return how many bytes that was."""
        return self._outlet.writev(buffers)

    def finish(self) -> None:
        """Write what follows the save file, and all that is still in buffers."""
        pending = self._blocks[::-1]
        if self._digest:
            pending.pop(0).flush()
            self._after.write(self._digest.digest())
        for blocks in pending:
            blocks.flush()

    def _add(self, blocks: Blocks) -> None:
        self._blocks.append(blocks)
        self._outlet = blocks

    def _put(self, block: bytearray) -> None:
        """Digest and send what was copied: the pages of a guest that runs change meanwhile."""
        assert self._digest is not None  # else there are no such blocks
        self._digest.update(block)
        self._after.write(block)


def _packing(outlet: Outlet) -> Callable[[bytearray], None]:
    """Return a function that packs a block and sends it to `outlet`."""
    sink = Sink(outlet)
    zstd = import_module("zstandard").ZstdCompressor(level=LEVEL, write_checksum=True)

    def put(block: bytearray) -> None:
        frame = zstd.compress(block)
        sink.writev([BLOCK.pack(len(block), len(frame)), frame])

    return put


class Unwrapper:
    """Removes `features` from a save file that comes from `inlet`; `source` is the save file.

    With `extra` inlets it comes by all of them.
    """

    def __init__(self, inlet: Inlet, features: frozenset[str], extra: Sequence[Inlet] = ()) -> None:
        if extra:
            inlet = Gathered([inlet, *extra])
        if ZSTD in features:
            inlet = _Unpacker(inlet)
        self._hashing = _Hashing(inlet) if DIGEST in features else None
        self.source = Source(self._hashing or inlet)

    def finish(self) -> None:
        """Check what follows the save file; raise `FormatError` if it is wrong."""
        if self._hashing:
            expected = self._hashing.digest.digest()
            offset = self.source.offset
            got = self.source.exact(len(expected), WHERE)
            if got != expected:
                raise BadRecord(WHERE, offset, f"the digest {expected.hex()}", got.hex())


class _Hashing:
    """An inlet that digests what is read from another."""

    def __init__(self, inlet: Inlet) -> None:
        self._inlet = inlet
        self.digest = hashlib.blake2b(digest_size=DIGEST_SIZE)

    def read(self, size: int, /) -> bytes:
        piece = self._inlet.read(size)
        self.digest.update(piece)
        return piece


class _Unpacker:
    """An inlet of what is packed in the blocks of another."""

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
            found = self._zstandard.get_frame_parameters(frame).content_size
            if found != size or not size:  # before the frame is unpacked
                raise BadRecord(WHERE, offset, f"a frame of {size} bytes", str(found))
            unpacking = self._zstandard.ZstdDecompressor().decompressobj()
            data: bytes = unpacking.decompress(frame)
        except self._zstandard.ZstdError as error:
            raise BadRecord(WHERE, offset + BLOCK.size, "a zstd frame", str(error)) from error
        if not unpacking.eof or unpacking.unused_data:
            raise BadRecord(WHERE, offset + 4, "one whole frame", f"{packed} bytes")
        return data
