"""The file that a command reads: by its name, or the standard input."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def add_input_file(parser: argparse.ArgumentParser) -> None:
    """Add the argument for a file to read."""
    parser.add_argument("file", metavar="FILE", type=Path, help='"-" is the standard input')


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open it for the block."""
    with open(0, "rb", closefd=False) if str(path) == "-" else path.open("rb") as file:
        yield file
