"""The files that a command reads or writes: by their names, or the standard input."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from xenqemu.errors import UsageError
from xenqemu.host.trust import Trust
from xenqemu.system.zstd.unpacked import unpacked

STANDARD = Path("-")
"""What names the standard input or output."""

STANDARD_NAMES = ("/dev/stdin", "/dev/stdout")
"""Links to them, which no file is opened by."""


def named_file(text: str) -> Path:
    """Return the path of a file that cannot be a standard stream, for argparse.

    Raises `UsageError` for "-", which other programs take for one.
    """
    if text == str(STANDARD):
        raise UsageError('"-" would be a pipe: name a file ("./-" if it is called so)')
    return Path(text)


def file_or_stream(text: str) -> Path:
    """Return the path of a file, or `STANDARD` for "-" and its other names, for argparse."""
    path = Path(text)
    if text in STANDARD_NAMES:
        return STANDARD
    return path if path != STANDARD or text == str(STANDARD) else path.absolute()


def passes_once(file: Path, command: str | None) -> bool:
    """Return whether a save file passes once, through a command or a pipe."""
    return bool(command) or file == STANDARD or file.is_fifo()


def add_command(
    parser: argparse.ArgumentParser, flag: str, text: str, file: argparse.Action
) -> None:
    """Add an option for a command, a line for a shell, that stands in for the argument `file`."""

    class InsteadOfFile(argparse.Action):
        def __call__(
            self,
            _parser: argparse.ArgumentParser,
            namespace: argparse.Namespace,
            values: Any,
            option_string: str | None = None,  # noqa: ARG002  argparse calls us so
        ) -> None:
            setattr(namespace, self.dest, values)
            file.required = False

    parser.add_argument(flag, dest="command", metavar="CMD", action=InsteadOfFile, help=text)


def add_input_files(parser: argparse.ArgumentParser) -> None:
    """Add the argument for files to read."""
    parser.add_argument(
        "files", metavar="FILE", type=file_or_stream, nargs="+", help='"-" is the standard input'
    )


def add_output_file(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the arguments for a new file, which has a name by default."""
    parser.add_argument(
        "out",
        metavar="OUT",
        type=named_file,
        nargs="?",
        help=f"the new file (default: {default})",
    )
    parser.add_argument("--force", action="store_true", help="Replace a file of that name.")


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
    """Open it for the block; what is compressed is decompressed."""
    if str(path) != "-":
        with path.open("rb") as file, unpacked(file) as inside:
            yield inside
        return
    try:
        with open(0, "rb", closefd=False) as standard_input, unpacked(standard_input) as inside:
            yield inside
    except OSError as error:
        error.filename = error.filename or "standard input"
        raise
