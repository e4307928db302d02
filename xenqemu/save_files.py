"""For toolstacks: save files without a host.  `xenqemu.api` has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from xenqemu.operations import reading_seals as inspecting
from xenqemu.operations import repack as repacking
from xenqemu.operations import seal_file as sealing
from xenqemu.operations import verify as verifying
from xenqemu.operations.inspect import Contents
from xenqemu.settings.xenqemu_conf import read_settings
from xenqemu.system.key_file import read_key
from xenqemu.system.writers import trusted_ids
from xenqemu.system.zstd.unpacked import unpacked

InputFile = str | Path | BinaryIO
"""A file by its name, or one that is open for reading, which may be a pipe."""


def verify(file: InputFile, *, key_file: str | Path | None = None) -> Contents:
    """Return what a file holds; raise `FormatError` if it is not complete and sound.

    All of a sealed file is compared with its seal: `Damaged` has the places that differ.  With a
    `key_file` it has to be sealed with that key.
    """
    with _opened(file) as opened:
        return verifying.verify(opened, _key(key_file))


def seal(file: str | Path, *, key_file: str | Path | None = None) -> Contents:
    """Seal a save file that is there already, unless it is sealed; return what it holds.

    Raises `FormatError` if it is not complete and sound, `UsageError` where it cannot be sealed.
    """
    return sealing.seal_file(Path(file), _key(key_file), read_settings().trust)


def inspect(file: InputFile) -> Contents:
    """Return what a file holds, record by record; raise `FormatError` where it is unsound."""
    with _opened(file) as opened:
        return inspecting.inspect(opened)


def compress(
    file: str | Path,
    to: str | Path | None = None,
    *,
    level: int = repacking.LEVEL,
    force: bool = False,
) -> Path:
    """Compress a save file into `to`, or into `file` with .zst behind its name; return which.

    `level` is 1 (fast) to 19 (small).  Raises `UsageError` where it is compressed already, or where
    there is such a file and no `force`; `FormatError` for what is no save file, `HostError` where
    nobody here compresses, `OSError` as the system says it.
    """
    return repacking.compress(Path(file), Path(to) if to else None, level=level, force=force)


def decompress(file: str | Path, to: str | Path | None = None, *, force: bool = False) -> Path:
    """Decompress a save file into `to`, or into `file` without its .zst; return which.

    Raises `UsageError`, `FormatError`, `HostError` and `OSError` as `compress` does.
    """
    return repacking.decompress(Path(file), Path(to) if to else None, force=force)


def _key(file: str | Path | None) -> bytes | None:
    """Return the key in a file that this host trusts."""
    if file is None:
        return None
    return read_key(Path(file), trusted_ids(read_settings().trust.owners))


@contextmanager
def _opened(file: InputFile) -> Iterator[BinaryIO]:
    if isinstance(file, (str, Path)):
        with Path(file).open("rb") as opened, unpacked(opened) as inside:
            yield inside
    else:
        with unpacked(file) as inside:
            yield inside
