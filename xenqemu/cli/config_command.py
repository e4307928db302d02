"""`xenqemu config show [--release VERSION] CFG|FILE`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from xenqemu.cli.arguments import Parser, add_json_and_run

if TYPE_CHECKING:
    from xenqemu.formats.config.domain_config import DomainConfig

RELEASES = {"4.17": (4, 17), "4.20": (4, 20)}
"""Those whose xl our tables know; others are like the one before."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    acts = parser.add_subparsers(metavar="ACT", required=True, parser_class=Parser)
    show = acts.add_parser("show", help="what libxl is told of a guest by an xl.cfg or a save file")
    show.add_argument("file", metavar="CFG|FILE", type=Path)
    show.add_argument(
        "--release",
        metavar="VERSION",
        choices=RELEASES,
        help="Read CFG as the xl of this release of Xen, 4.17 or 4.20, not of this host.",
    )
    add_json_and_run(show, run)


def run(chosen: argparse.Namespace) -> None:
    """Print the configuration: an xl.cfg as `xl -N create` would, that of a save file as it is."""
    from xenqemu.cli import terminal

    config = _saved(chosen.file) or _written(chosen)
    if chosen.json:
        terminal.bare_json(config.tree, indent=4)
        return
    fields = list(_fields(config.tree))
    width = max(len(name) for name, _ in fields)
    for name, value in fields:
        terminal.line(f"{name:<{width}}  {value}")


def _saved(file: Path) -> DomainConfig | None:
    """Return the configuration in a save file; None if the file is none."""
    from xenqemu.errors import BadRecord
    from xenqemu.formats.config.domain_config import DomainConfig
    from xenqemu.formats.stream import xl
    from xenqemu.formats.stream.source import Source
    from xenqemu.system.zstd.unpacked import unpacked

    with file.open("rb") as opened, unpacked(opened) as inside:
        source = Source(inside)
        if source.peek(len(xl.MAGIC)) != xl.MAGIC:
            return None
        record = xl.read(source)
    match record.value:
        case xl.XlHeader(is_json=True, config=bytes(data)) if data:
            return DomainConfig.parse(data)
    raise BadRecord("xl header", record.offset, "a config in JSON", "none")


def _written(chosen: argparse.Namespace) -> DomainConfig:
    """Return what an xl.cfg says, and print complaints about it."""
    from xenqemu.choose_host import open_host
    from xenqemu.cli import terminal
    from xenqemu.cli.chosen_settings import settings_of
    from xenqemu.settings.guest_config import read_config

    file: Path = chosen.file
    with open_host(chosen.host, settings=settings_of(chosen)) as host:
        return read_config(file, host, terminal.complain, RELEASES.get(chosen.release))


def _fields(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    """Yield each value of the JSON that is no object and no array, with its place."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _fields(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _fields(inner, f"{name}[{place}]")
    else:
        yield name, '""' if value == "" else value
