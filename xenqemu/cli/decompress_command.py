"""`xenqemu decompress [--force] FILE [OUT]`."""

from __future__ import annotations

import argparse

from xenqemu.cli.arguments import add_json_and_run
from xenqemu.cli.input_file import add_output_file, named_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "file", metavar="FILE", type=named_file, help="a compressed save file; it is kept"
    )
    add_output_file(parser, "FILE without .zst")
    add_json_and_run(parser, run)


def run(chosen: argparse.Namespace) -> None:
    """Decompress a save file into a new one, and print which."""
    from xenqemu.cli.chosen_settings import settings_of
    from xenqemu.cli.repacked import tell
    from xenqemu.operations.repack import decompress

    owners = settings_of(chosen).trust.owners
    to = decompress(chosen.file, chosen.out, force=chosen.force, owners=owners)
    tell("decompressed", chosen.file, to, as_json=chosen.json)
