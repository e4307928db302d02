"""Digests and index of a save file that passes once: out to a pipe, or in from one.

::

    written to a pipe       Sink ── SealedOutlet ── the pipe          finish() writes the seal
    read from a pipe        the pipe ── SealedInlet ── whoever reads  finish() compares it
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xenqemu.errors import Truncated
from xenqemu.formats.stream import seal as seals
from xenqemu.formats.stream import seal_check
from xenqemu.formats.stream.buffers import Buffer
from xenqemu.formats.stream.page_data import PageData
from xenqemu.formats.stream.pieces import Piece, Pieces
from xenqemu.formats.stream.record_scan import PAGES, RecordScan
from xenqemu.formats.stream.seal import Seal
from xenqemu.formats.stream.seal_index import Index
from xenqemu.formats.stream.sink import Outlet, Sink
from xenqemu.formats.stream.source import Inlet
from xenqemu.formats.xx_hash import xxh3_64


class Followed:
    """Follows a save file that passes, and keeps what comes behind its END.

    `key` is that of the digests; `offset` counts all bytes, `end` is where END ended, if it did.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self._pieces = Pieces(key)
        self._scan = RecordScan(self)
        self._name = ""
        self._start = self._size = 0
        self._hash = xxh3_64()
        self.index = Index()
        self.behind = bytearray()
        self.offset = 0
        self.end: int | None = None

    def feed(self, data: Buffer) -> None:
        """Take the next bytes."""
        self._scan.feed(data)

    def passes(self, data: Buffer) -> None:
        """Digest bytes of the file, or keep what is behind it."""
        if self.end is not None:
            self._keep(data)
            return
        self._pieces.follow(self.offset, [data])
        if self._name != PAGES:
            self._hash.update(data)
        self.offset += len(data)
        if self._name and self.offset == self._start + self._size:
            self._ended()

    def _keep(self, data: Buffer) -> None:
        """Keep what is behind END if it may be a seal, else what may be the footer of one."""
        self.behind += data
        magic = seals.MAGIC
        good = magic.startswith(self.behind[: len(magic)]) and len(self.behind) <= seals.LIMIT
        if not good:
            del self.behind[: -seals.FOOTER.size]

    def begins(self, name: str, size: int) -> None:
        """Begin a record, or come to the end of the file."""
        if not name:
            self.end = self.offset
            return
        if name == PAGES:
            self._pieces.cut()
        self._name, self._start, self._size = name, self.offset, size
        self._hash = xxh3_64()

    def pages(self, pages: PageData) -> None:
        """List the pages of a record."""
        self.index.add_pages(pages, self._start)

    def _ended(self) -> None:
        if self._name == PAGES:
            self._pieces.cut()
            self.index.add(self._name, self._start, self._size)
        else:
            self.index.add(self._name, self._start, self._size, self._hash.intdigest())
        self._name = ""

    def found(self) -> list[Piece] | None:
        """Return the pieces that have passed, None if they are too many for a seal."""
        found = self._pieces.in_order()
        return None if self._pieces.too_many else found


class SealedOutlet:
    """An outlet that a save file is written through; `finish` writes its seal behind it."""

    def __init__(self, outlet: Outlet, key: bytes | None = None) -> None:
        self._sink = Sink(outlet)
        self._key = key
        self._followed = Followed(key)

    def writev(self, buffers: Sequence[Buffer]) -> int:
        """Write all of `buffers`: a copy, since memory of a running guest changes meanwhile."""
        data = b"".join(buffers)
        self._followed.feed(data)
        self._sink.write(data)
        return len(data)

    def finish(self, about: dict[str, Any]) -> Seal | None:
        """Write the seal, once END was written, and return it; `about` is its JSON.

        None is written for a file that is too big for one.
        """
        followed = self._followed
        if followed.end is None:
            raise ValueError("a save file is sealed once its END is written")
        found = followed.found()
        if found is None:
            return None
        pieces = seals.contiguous(found, followed.end)
        seal = Seal(followed.end, self._key is not None, pieces, followed.index, about)
        self._sink.write(seal.pack(self._key))
        return seal


class SealedInlet:
    """An inlet that a save file is read through, from a pipe; `finish` compares it with its seal.

    Until then nobody has checked what was read: a guest built of it must not run.  `key` is what
    the seal has to be made with; a file sealed with a key is refused for want of it.
    `followed` has digests and index.
    """

    def __init__(self, inlet: Inlet, key: bytes | None = None) -> None:
        self._inlet = inlet
        self._key = key
        self.followed = Followed(key)

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none only at the end."""
        data = self._inlet.read(size)
        self.followed.feed(data)
        return data

    def finish(self) -> Seal | None:
        """Read the rest, and return the seal that all of it agrees with; None without a seal.

        Raises `Damaged`, naming the first place that is not as it was sealed, `Truncated` for a
        file or a seal that breaks off, `UsageError` for a missing or wrong key.
        """
        while self.read(1 << 20):
            pass
        followed = self.followed
        if followed.end is None:
            raise Truncated("save file", followed.offset, "an END", "the end")
        seal = seals.behind(bytes(followed.behind), followed.end, self._key)
        seals.require_key(seal, followed.end, self._key)
        if seal is not None:
            broken = seal_check.differing(seal, followed.found() or [])
            if broken:
                raise seal_check.damage(seal, broken)
        return seal
