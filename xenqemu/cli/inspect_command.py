"""`xenqemu inspect FILE…`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from xenqemu.cli import terminal
from xenqemu.cli.arguments import add_json_and_run
from xenqemu.cli.input_file import add_input_files, opened
from xenqemu.errors import FormatError

if TYPE_CHECKING:
    from xenqemu.host.trust import Trust
    from xenqemu.operations.inspect import Contents


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_input_files(parser)
    add_json_and_run(parser, run, only_prints=True)


def run(chosen: argparse.Namespace) -> int:
    """Show what each file holds; return the exit code of the first that cannot be shown."""
    from xenqemu.cli.each_file import for_each_file
    from xenqemu.cli.report import bad_fields
    from xenqemu.settings.xenqemu_conf import read_settings

    trust = read_settings(chosen.conf).trust
    show = print_json if chosen.json else print_tree
    several = len(chosen.files) > 1

    def act(file: Path) -> None:
        if several and not chosen.json:
            terminal.line(f"==> {file} <==")
        show(file, trust)

    return for_each_file(chosen.files, act, as_json=chosen.json, about=bad_fields)


def print_json(file: Path, trust: Trust) -> None:
    """Print all that is known of a file, for a program; raise `FormatError` with its name."""
    from xenqemu.cli import report

    terminal.as_json({"file": str(file), **report.fields(_contents(file), trust)})


def print_tree(file: Path, trust: Trust) -> None:
    """Print its records and what is known of its guest; raise `FormatError` with its name."""
    from xenqemu.cli import report

    report.tree(_contents(file), trust)


def _contents(path: Path) -> Contents:
    from xenqemu.cli.report import name_file
    from xenqemu.operations.reading_seals import inspect

    try:
        with opened(path) as file:
            return inspect(file)
    except FormatError as error:
        name_file(error, path)
        raise
