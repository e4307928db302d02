"""`xenqemu inspect FILE`."""

from __future__ import annotations

import argparse

from xenqemu.cli.arguments import add_json_and_run
from xenqemu.cli.input_file import add_input_file, opened
from xenqemu.errors import FormatError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_input_file(parser)
    add_json_and_run(parser, run, only_prints=True)


def run(chosen: argparse.Namespace) -> None:
    """Show what the file holds."""
    from xenqemu.cli import report, terminal
    from xenqemu.operations.reading_seals import inspect
    from xenqemu.settings.xenqemu_conf import read_settings

    trust = read_settings(chosen.conf).trust
    try:
        with opened(chosen.file) as file:
            found = inspect(file)
    except FormatError as error:
        report.name_file(error, chosen.file)
        raise
    if chosen.json:
        terminal.as_json(report.fields(found, trust))
    else:
        report.tree(found, trust)
