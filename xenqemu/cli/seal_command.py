"""`xenqemu seal [--key-file FILE] FILE`."""

from __future__ import annotations

import argparse

from xenqemu.cli.arguments import add_json_and_run
from xenqemu.cli.input_file import add_key_file, key_from, named_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("file", metavar="FILE", type=named_file)
    add_key_file(parser)
    add_json_and_run(parser, run)


def run(chosen: argparse.Namespace) -> None:
    """Seal the file, unless it is sealed, and print what it holds."""
    from xenqemu.cli import report, terminal
    from xenqemu.operations.seal_file import seal_file
    from xenqemu.settings.xenqemu_conf import read_settings

    trust = read_settings(chosen.conf).trust
    found = seal_file(chosen.file, key_from(chosen.key_file, trust), trust)
    if chosen.json:
        terminal.as_json({"sealed": str(chosen.file), **report.fields(found, trust)})
    else:
        terminal.tell(f"{chosen.file}: sound and sealed; {report.summary(found)}")
