"""The files that a command reads or writes: by their names, or the standard input."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from xenqemu.errors import UsageError
from xenqemu.host.trust import Trust


def named_file(text: str) -> Path:
    """Return the path of a file that cannot be a standard stream, for argparse.

    Raises `UsageError` for "-", which other programs take for one.
    """
    if text == "-":
        raise UsageError(
            '"-" would be a pipe, which cannot be read back or read twice: name a file '
            '("./-" if it is called so)'
        )
    return Path(text)


def add_input_file(parser: argparse.ArgumentParser) -> None:
    """Add the argument for a file to read."""
    parser.add_argument("file", metavar="FILE", type=Path, help='"-" is the standard input')


def add_key_file(parser: argparse.ArgumentParser) -> None:
    """Add the option for the key of a seal."""
    text = "File with the key of the seal, 1 to 64 bytes."
    parser.add_argument("--key-file", metavar="FILE", type=named_file, help=text)


def key_from(path: Path | None, trust: Trust) -> bytes | None:
    """Return the key in a file, None if none was named; raise as `read_key` does."""
    from xenqemu.system.key_file import read_key  # noqa: PLC0415  most files have no key
    from xenqemu.system.writers import trusted_ids  # noqa: PLC0415

    return None if path is None else read_key(path, trusted_ids(trust.owners))


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open it for the block."""
    if str(path) != "-":
        with path.open("rb") as file:
            yield file
        return
    try:
        with open(0, "rb", closefd=False) as standard_input:
            yield standard_input
    except OSError as error:
        error.filename = error.filename or "standard input"
        raise
