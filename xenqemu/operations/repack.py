"""Compressing a save file that is there already, and decompressing one, each into a new file.

The new file has its name only when it is whole, synced, and read back equal.  It keeps the time of
the old one: that is when the guest was saved.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

from xenqemu.errors import HostError, UsageError
from xenqemu.formats.stream.detect import detect
from xenqemu.formats.stream.sink import Outlet, Sink
from xenqemu.formats.stream.source import CHUNK, Source, bytes_left
from xenqemu.operations.compressed import compressed, packed_space
from xenqemu.system.regular_file import open_regular
from xenqemu.system.staged_file import Draft, draft_for
from xenqemu.system.zstd.unpacked import unpacked

SUFFIX = ".zst"

LEVEL = 3
"""What zstd itself takes where nobody says a level."""


def compress(
    path: Path,
    to: Path | None = None,
    *,
    level: int = LEVEL,
    force: bool = False,
    owners: Collection[str] = (),
) -> Path:
    """Compress the save file `path` to `to`, or to its name with `SUFFIX`; return which.

    `level` is 1 to 19.  With `force` a file of that name is replaced.  Raises `UsageError` where it
    is compressed already, or there is such a file; `FormatError` for what is no save file,
    `HostError` where nobody here compresses; see `draft_for` for `owners` and more.
    """
    to = to or path.with_name(path.name + SUFFIX)
    with _opened(path) as file, unpacked(file) as inside:
        if inside is not file:
            raise UsageError(f"{path} is compressed already")
        _new_file(file, file, to, level, force=force, owners=owners)
    return to


def decompress(
    path: Path, to: Path | None = None, *, force: bool = False, owners: Collection[str] = ()
) -> Path:
    """Decompress the save file `path` to `to`, or to its name without `SUFFIX`; return which.

    Raises `UsageError` where it is not compressed or has no such name, and as `compress`.
    """
    if to is None:
        if path.suffix != SUFFIX:
            raise UsageError(f"{path} does not end in {SUFFIX}: name the file to write as well")
        to = path.with_suffix("")
    with _opened(path) as file, unpacked(file) as inside:
        if inside is file:
            raise UsageError(f"{path} is not compressed")
        _new_file(file, inside, to, None, force=force, owners=owners)
    return to


def _opened(path: Path) -> BinaryIO:
    file = open_regular(path)
    if file is None:
        raise UsageError(f"{path} is not a file")
    return file


def _new_file(
    file: BinaryIO,
    inside: BinaryIO,
    to: Path,
    level: int | None,
    *,
    force: bool,
    owners: Collection[str],
) -> None:
    """Write what is `inside` a file to a new one, compressed if there is a `level`."""
    if to.exists() and not force:
        raise UsageError(f"{to} exists: --force replaces it")
    detect(Source(inside))
    inside.seek(0)
    before = os.fstat(file.fileno())
    with draft_for(to, owners) as draft:
        draft.create()
        size = bytes_left(inside)
        if size is not None:
            draft.reserve(size if level is None else packed_space(size))
        with compressed(draft.file, level) as out:
            written = _copied(inside, out)
        _require_same(draft, written)
        draft.publish()
    os.utime(to, ns=(before.st_atime_ns, before.st_mtime_ns), follow_symlinks=False)


def _copied(inside: BinaryIO, out: BinaryIO | Outlet) -> bytes:
    """Copy all that is inside to `out`; return its digest."""
    sink, digest = Sink(out), blake2b()
    for piece in _pieces(inside):
        digest.update(piece)
        sink.write(piece)
    return digest.digest()


def _require_same(draft: Draft, written: bytes) -> None:
    """Read the draft back from the disk; raise `HostError` if that is not what was written."""
    draft.sync()
    digest = blake2b()
    with draft.reopen() as file, unpacked(file) as inside:
        for piece in _pieces(inside):
            digest.update(piece)
    if digest.digest() != written:
        raise HostError(f"{draft.path}: what was read back is not what was written")


def _pieces(inside: BinaryIO) -> Iterator[bytes]:
    while piece := inside.read(CHUNK):
        yield piece
