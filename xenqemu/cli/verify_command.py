"""`xenqemu verify FILE`."""

from __future__ import annotations

import argparse

from xenqemu.cli.arguments import add_json_and_run
from xenqemu.cli.input_file import add_input_file, opened


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_input_file(parser)
    add_json_and_run(parser, run)


def run(chosen: argparse.Namespace) -> None:
    """Check that the file is complete and sound, and print that."""
    from xenqemu.cli import report, terminal
    from xenqemu.operations.verify import verify

    with opened(chosen.file) as file:
        found = verify(file)
    if chosen.json:
        from xenqemu.settings.xenqemu_conf import read_settings

        trust = read_settings(chosen.conf).trust
        terminal.as_json({"sound": True, **report.fields(found, trust)})
    else:
        terminal.line(f"{chosen.file}: sound; {report.summary(found)}")
