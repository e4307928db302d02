r"""The seal behind a save file's END: digests of all its bytes, and what is where.

::

    0                                                 end                           end + length
    │ save file of xl: header … libxc image … END     │ seal                                   │

    char magic[16]     "xenqemu seal\n \0\r"
    u32 version = 1    u32 flags    bit 0: with a key
    u64 end            bytes that are sealed, from the file's start to behind END
    u64 length         bytes of the seal
    u64 key_check      0 without a key
    u32 pieces   u32 records   u32 runs   u32 about_len
    piece[pieces]      u64 end, digest           one behind the other, the first from 0 on
    record[records]    u64 offset   u64 size   u64 name   u64 XXH3-64, 0 for PAGE_DATA
    run[runs]          u64 entry   u64 pages   u64 offset   as in PAGE_DATA; 0: no data in the file
    about              a JSON object: names of records, devices, totals, phases, versions
    digest             of all of the seal above
    footer             u64 end   u64 length   char magic[16] "xenqemu sealed\0\n"

A digest has 16 bytes (XXH3-128), with a key 32 (BLAKE2b).  Every number is little-endian.  xl stops
reading at END.  A reader of a file begins at the footer, which is written last: a seal without
one is torn, and nothing is lost by cutting it off.  A reader of a pipe finds the magic behind END.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any, BinaryIO

from xenqemu.errors import BadRecord, Damaged, FormatError, Truncated, Unsupported, UsageError
from xenqemu.formats.stream.pieces import MOST_PIECES, Piece, hash_maker
from xenqemu.formats.stream.seal_index import RECORD, RUN, Index, Listed
from xenqemu.formats.stream.source import bounded, file_size, read_at
from xenqemu.frozen import Frozen

WHERE = "seal"
MAGIC = b"xenqemu seal\n \0\r"
FOOTER_MAGIC = b"xenqemu sealed\0\n"
HEADER = struct.Struct("<16sIIQQQIIII")
FOOTER = struct.Struct("<QQ16s")
PIECE_END = struct.Struct("<Q")
VERSION_AT = 16
VERSION = 1
KEYED = 1
LIMIT = 26 << 20
"""Bytes of a seal; one with so many pieces has about as many."""

LONGEST_NAME = 300
"""Characters of the name of a record or device; QEMU's have 256 at most."""

ABOUT_LIMIT = 1 << 19
"""Bytes of the JSON; a device state of many devices takes some ten KiB."""


class Seal(Frozen):
    """What a seal says: `end` is how many bytes it is of; `about` is for people and programs."""

    end: int
    keyed: bool
    pieces: tuple[Piece, ...]
    index: Index
    about: dict[str, Any]

    def pack(self, key: bytes | None) -> bytes:
        """Return the bytes, with the footer; `key` is that of the digests of the pieces."""
        assert self.keyed == (key is not None)
        pieces = b"".join(PIECE_END.pack(piece.end) + piece.digest for piece in self.pieces)
        lists = {"names": self.index.names, "devices": self.index.devices}
        about = json.dumps({**lists, **self.about}).encode()
        body = pieces + self.index.packed_records() + self.index.packed_runs() + about
        counts = len(self.pieces), self.index.records, self.index.runs, len(about)
        length = HEADER.size + len(body) + digest_size(self.keyed) + FOOTER.size
        bounded(len(self.pieces), MOST_PIECES, WHERE, self.end, "a number of pieces")
        bounded(length, LIMIT, WHERE, self.end, "a length")
        bounded(len(about), ABOUT_LIMIT, WHERE, self.end, "a length")
        fixed = MAGIC, VERSION, KEYED * self.keyed, self.end, length, key_check(key)
        data = HEADER.pack(*fixed, *counts) + body
        return data + _digest(key, data) + FOOTER.pack(self.end, length, FOOTER_MAGIC)


def digest_size(keyed: bool) -> int:
    """Return the bytes of a digest."""
    return 32 if keyed else 16


def key_check(key: bytes | None) -> int:
    """Return by what a wrong key is told from a damaged seal."""
    if key is None:
        return 0
    return int.from_bytes(_digest(key, MAGIC)[:8], "little")


def parse(data: bytes, offset: int, key: bytes | None, *, unchecked: bool = False) -> Seal:
    """Return the seal that `data` is, which is at `offset` of its file.

    Raises `Damaged` where it is not as it was written, `UsageError` for want of its key or for
    another key, and `Unsupported` for a later version.  A seal with a key can be read `unchecked`.
    """
    version = data[VERSION_AT : VERSION_AT + 4]
    first = VERSION.to_bytes(4, "little")
    if version == first:
        return _parse(data, offset, key, unchecked=unchecked)
    try:
        _parse(data[:VERSION_AT] + first + data[VERSION_AT + 4 :], offset, key, unchecked=unchecked)
    except FormatError as error:
        got = str(int.from_bytes(version, "little"))
        raise Unsupported(WHERE, offset + VERSION_AT, f"version {VERSION}", got) from error
    raise damaged(offset + VERSION_AT, f"version {VERSION}", version.hex())


def _parse(data: bytes, offset: int, key: bytes | None, *, unchecked: bool) -> Seal:
    """Return the seal of version 1 that `data` is."""
    head = _header(data, offset)
    if head.keyed and key is None and not unchecked:
        raise UsageError("the file is sealed with a key: name its file by --key-file")
    if not head.keyed and key is not None:
        raise BadRecord(WHERE, offset, "a seal made with the key", "one without a key")
    if key is not None or not head.keyed:
        _check_digest(data, offset, head, key)
    return _contents(data, offset, head)


def length_from(head: bytes, offset: int) -> int:
    """Return the length of a seal, from its first `HEADER.size` bytes, at `offset`.

    Raises `Damaged` or `Truncated`.
    """
    if len(head) < HEADER.size:
        raise Truncated(WHERE, offset, f"{HEADER.size} bytes", f"{len(head)} and then the end")
    length = int(HEADER.unpack_from(head)[4])
    if not HEADER.size + FOOTER.size <= length <= LIMIT:
        raise damaged(offset, f"a length of at most {LIMIT}", str(length))
    return length


def find(file: BinaryIO) -> tuple[int, bytes] | None:
    """Return the place and the bytes of the seal that a file ends with, None if it has no footer.

    The file is a regular one; its own place does not change.  Raises `OSError`.
    """
    size = file_size(file)
    last = read_at(file, max(size - FOOTER.size, 0), FOOTER.size)
    if len(last) < FOOTER.size:
        return None
    end, length, magic = FOOTER.unpack(last)
    if magic != FOOTER_MAGIC or end + length != size or length > LIMIT:
        return None
    return end, read_at(file, end, length)


def behind(data: bytes, end: int, key: bytes | None, *, unchecked: bool = False) -> Seal | None:
    """Return the seal that `data` is, all that follows END at `end`; None for anything else.

    Raises what `parse` does, and `Truncated` for a torn seal.
    """
    if data.endswith(FOOTER_MAGIC):
        return parse(data, end, key, unchecked=unchecked)
    if not data or not MAGIC.startswith(data[: len(MAGIC)]):
        return None
    length = length_from(data[: HEADER.size], end)
    if len(data) < length:
        raise Truncated(WHERE, end, f"{length} bytes", f"{len(data)} and then the end")
    return parse(data, end, key, unchecked=unchecked)


def require_key(found: Seal | None, end: int, key: bytes | None) -> None:
    """Raise `BadRecord` where a key was given for a file without a seal: it may be cut off."""
    if found is None and key is not None:
        raise BadRecord(WHERE, end, "a seal made with the key", "none")


def damaged(offset: int, expected: str, got: str) -> Damaged:
    """Return the error for a seal that is not as it was written."""
    return Damaged(WHERE, offset, expected, got)


class _Head(Frozen):
    keyed: bool
    key_check: int
    end: int
    counts: tuple[int, int, int, int]


def _header(data: bytes, offset: int) -> _Head:
    """Return the header of a whole seal, whose length and footer were checked."""
    length = length_from(data[: HEADER.size], offset)
    magic, _version, flags, end, _length, check, *counts = HEADER.unpack_from(data)
    keyed = bool(flags & KEYED)
    size = digest_size(keyed)
    parts = (PIECE_END.size + size, RECORD.size, RUN.size, 1)
    least = HEADER.size + size + FOOTER.size
    whole = least + sum(n * each for n, each in zip(counts, parts, strict=True))
    if magic != MAGIC or flags & ~KEYED or end != offset:
        raise damaged(offset, "the header of a seal", data[: HEADER.size].hex())
    if counts[0] > MOST_PIECES or counts[3] > ABOUT_LIMIT:
        raise damaged(offset, "numbers within their bounds", str(counts))
    if not whole == length == len(data):
        raise damaged(offset, f"a length of {whole}", f"{length}, of {len(data)} bytes")
    footer = FOOTER.unpack_from(data, len(data) - FOOTER.size)
    if footer != (end, length, FOOTER_MAGIC):
        raise damaged(offset + len(data) - FOOTER.size, "a footer like the header", str(footer))
    return _Head(keyed, check, end, (counts[0], counts[1], counts[2], counts[3]))


def _check_digest(data: bytes, offset: int, head: _Head, key: bytes | None) -> None:
    """Raise `Damaged` unless the seal's digest is right, `UsageError` if it is by another key."""
    own = key_check(key)
    place = HEADER.size - 24
    size = digest_size(head.keyed)
    covered = data[: -FOOTER.size - size]
    covered = covered[:place] + own.to_bytes(8, "little") + covered[place + 8 :]
    if _digest(key, covered) == data[-FOOTER.size - size : -FOOTER.size]:
        if head.key_check != own:
            raise damaged(offset + place, f"the key check {own:#x}", f"{head.key_check:#x}")
    elif head.key_check != own and key is not None:
        raise UsageError("the file is sealed with another key than that of --key-file")
    else:
        raise damaged(offset, "the digest of the seal", "another one")


def _contents(data: bytes, offset: int, head: _Head) -> Seal:
    pieces, records, runs, about_len = head.counts
    size = digest_size(head.keyed)
    here = HEADER.size
    found = []
    start = 0
    for _ in range(pieces):
        (end,) = PIECE_END.unpack_from(data, here)
        if not start < end <= head.end:
            raise damaged(offset + here, "pieces one behind the other", f"{start:#x} to {end:#x}")
        found.append(Piece(start, end, data[here + PIECE_END.size : here + PIECE_END.size + size]))
        start, here = end, here + PIECE_END.size + size
    if start != head.end:
        raise damaged(offset + here, f"pieces up to {head.end:#x}", f"{start:#x}")
    table = here + records * RECORD.size
    rest = table + runs * RUN.size
    about = _about(data[rest : rest + about_len], offset + rest)
    names, devices = about.pop("names", None), about.pop("devices", None)
    if not isinstance(names, list) or not all(map(_is_name, names)):
        raise damaged(offset + rest, "the names of records", repr(names)[:80])
    index = Index.parse(data[here:table], data[table:rest], names, head.end, offset + here)
    index.devices = _devices(devices, head.end, offset + rest)
    return Seal(head.end, head.keyed, tuple(found), index, about)


def _about(data: bytes, offset: int) -> dict[str, Any]:
    try:
        about = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise damaged(offset, "a JSON object", str(error)[:80]) from error
    if not isinstance(about, dict):
        raise damaged(offset, "a JSON object", type(about).__name__)
    return about


def _is_name(name: object) -> bool:
    return isinstance(name, str) and len(name) <= LONGEST_NAME


def _devices(found: object, end: int, offset: int) -> list[Listed]:
    match found:
        case list():
            for each in found:
                match each:
                    case [int(start), int(size), name, int()] if _is_name(name):
                        if 0 <= start <= start + size <= end:
                            continue
                raise damaged(offset, "a device with its place", repr(each)[:80])
            return [Listed(*each) for each in found]
    raise damaged(offset, "a list of devices", repr(found)[:80])


def _digest(key: bytes | None, data: bytes) -> bytes:
    made = hash_maker(key)()
    made.update(data)
    return made.digest()


def contiguous(pieces: Sequence[Piece], end: int) -> tuple[Piece, ...]:
    """Return the pieces of a file, which has `end` bytes; raise `ValueError` for a gap."""
    ends = [0, *(piece.end for piece in pieces)]
    starts = [*(piece.start for piece in pieces), end]
    if ends != starts:
        gap = next((a, b) for a, b in zip(ends, starts, strict=True) if a != b)
        raise ValueError(f"there is no digest from {gap[0]:#x} to {gap[1]:#x}")
    return tuple(pieces)
