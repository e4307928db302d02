"""An older save file, the base of a new one: what is the same in both is shared, not written.

::

    base        │ header │ window 0 │ window 1 │ window 2 │ …   by its seal, a digest a piece
                              ║                     ║
    new file    │ header │ window 0 │ window 1'│ window 2 │ …      each file is whole

A record of guest pages whose pieces have the digests of pieces one behind the other in the base is
cloned from there.  Both have to be aligned, and on one file system that can share parts of files.
What is shared is read back when the new file gets its seal: the base may be damaged.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from xenqemu.errors import HostError, UsageError
from xenqemu.formats.stream.pieces import Piece
from xenqemu.formats.stream.seal import Seal
from xenqemu.host.trust import Trust
from xenqemu.operations.reading_seals import seal_of
from xenqemu.system.reflink import can_clone, clone_range
from xenqemu.system.regular_file import open_regular
from xenqemu.system.writers import require_owned, trusted_ids


class BaseFile:
    """A save file of which `seal` tells the digests, open for reading as `file`."""

    def __init__(self, file: BinaryIO, seal: Seal) -> None:
        self._file = file
        self._pieces = seal.pieces
        self._index = {piece.digest: number for number, piece in enumerate(seal.pieces)}

    def can_share(self, out: BinaryIO) -> bool:
        """Return whether parts of it can be shared with the file `out`."""
        return can_clone(self._file.fileno(), out.fileno())

    def share(self, pieces: Sequence[Piece], out: int) -> bool:
        """Have the file `out` share these pieces, one behind the other, if they are in the base.

        Returns whether it does; any thread may ask.
        """
        found = self._index.get(pieces[0].digest)
        if found is None:
            return False
        there = list(islice(self._pieces, found, found + len(pieces)))
        if [*map(_content, there)] != [*map(_content, pieces)]:
            return False
        start, size = there[0].start, there[-1].end - there[0].start
        try:
            clone_range(self._file.fileno(), start, size, out, pieces[0].start)
        except OSError:  # it is written then, and that says what is wrong
            return False
        return True


def _content(piece: Piece) -> tuple[int, bytes]:
    return piece.end - piece.start, piece.digest


@contextmanager
def opened_base(path: Path | None, key: bytes | None, trust: Trust) -> Iterator[BaseFile | None]:
    """Open a base for a block, None without a path.

    Raises `UsageError` for what is no regular file, or sealed with another key, `HostError` for a
    file without a seal, `Forbidden` if others than root and the users whom we trust could have
    written it, and the system's `OSError`.
    """
    if path is None:
        yield None
        return
    file = open_regular(path)
    if file is None:
        raise UsageError(f"{path} is no file that can be the base of another")
    with file:
        require_owned(path, os.fstat(file.fileno()), trusted_ids(trust.owners))
        seal = seal_of(file, key)
        if seal is None:
            raise HostError(f"{path} has no seal, which says what it holds: xenqemu seal {path}")
        yield BaseFile(file, seal)
