"""The commands on files that need no host."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from xenqemu.cli import report, show
from xenqemu.formats.stream.source import Source
from xenqemu.operations.inspect import outline
from xenqemu.operations.verify import verify as verify_file


def verify(chosen: argparse.Namespace) -> None:
    """`xenqemu verify FILE`."""
    with _opened(chosen.file) as file:
        found = verify_file(file)
    if chosen.json:
        show.as_json({"sound": True, **report.fields(found)})
    else:
        show.line(f"{chosen.file}: sound; {report.summary(found)}")


def inspect(chosen: argparse.Namespace) -> None:
    """`xenqemu inspect FILE`."""
    with _opened(chosen.file) as file:
        found = outline(Source(file))
    if chosen.json:
        show.as_json(report.fields(found))
    else:
        report.tree(found)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    with open(0, "rb", closefd=False) if str(path) == "-" else path.open("rb") as file:
        yield file
