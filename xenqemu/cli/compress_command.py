"""`xenqemu compress [--level N] [--force] FILE [OUT]`."""

from __future__ import annotations

import argparse

from xenqemu.cli.arguments import add_json_and_run, number
from xenqemu.cli.input_file import add_output_file, named_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "--level", metavar="N", type=number(1, 19), default=3, help="1 (fast) to 19 (small)"
    )
    parser.add_argument("file", metavar="FILE", type=named_file, help="a save file; it is kept")
    add_output_file(parser, "FILE.zst")
    add_json_and_run(parser, run)


def run(chosen: argparse.Namespace) -> None:
    """Compress a save file into a new one, and print which."""
    from xenqemu.cli.chosen_settings import settings_of
    from xenqemu.cli.repacked import tell
    from xenqemu.operations.repack import compress

    owners = settings_of(chosen).trust.owners
    to = compress(chosen.file, chosen.out, level=chosen.level, force=chosen.force, owners=owners)
    tell("compressed", chosen.file, to, as_json=chosen.json)
