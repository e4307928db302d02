"""The seal of a regular file that is read: found by its footer, or behind END."""

from __future__ import annotations

from typing import BinaryIO

from xenqemu.errors import Damaged
from xenqemu.formats.stream.seal import LIMIT, Seal, behind, find, parse, require_key
from xenqemu.formats.stream.source import Source, bytes_left, file_size, read_at
from xenqemu.operations.inspect import Contents, read_contents
from xenqemu.system.regular_file import is_regular


def seal_of(file: BinaryIO, key: bytes | None, *, unchecked: bool = False) -> Seal | None:
    """Return the seal that a regular file ends with, None without a footer; raise as `parse`."""
    there = find(file)
    return None if there is None else parse(there[1], there[0], key, unchecked=unchecked)


def seal_behind(
    file: BinaryIO, found: Contents, key: bytes | None, *, unchecked: bool = False
) -> Seal | None:
    """Return the seal behind END of a regular file, which holds what was `found`.

    This finds one whose footer is damaged, or torn, and raises what is wrong with it.
    """
    size = file_size(file) - found.size
    if not found.trailing or size > LIMIT:
        return None
    return behind(read_at(file, found.size, size), found.size, key, unchecked=unchecked)


def take_seal(found: Contents, seal: Seal | None, key: bytes | None) -> None:
    """Add the seal of a file to what was found in it.

    Raises `Damaged` for a seal of another size, `BadRecord` where a `key` was given and none is.
    """
    require_key(seal, found.size, key)
    if seal is not None:
        if seal.end != found.size:
            raise Damaged("seal", found.size, f"a seal of {found.size} bytes", str(seal.end))
        found.take_seal(seal, found.trailing)


def inspect(file: BinaryIO) -> Contents:
    """Return what a file holds, and what its seal says, which nothing is compared with.

    Raises `FormatError` where it is unsound.  In a pipe, a seal is only bytes after END.
    """
    found = read_contents(Source(file))
    if is_regular(file):
        seal = seal_of(file, None, unchecked=True)
        take_seal(found, seal or seal_behind(file, found, None, unchecked=True), None)
    elif bytes_left(file) is not None and found.trailing <= LIMIT:  # compressed, read at any place
        file.seek(found.size)
        data = Source(file, found.size).exact(found.trailing, "seal")
        take_seal(found, behind(data, found.size, None, unchecked=True), None)
    return found
