"""`xenqemu inspect FILE`."""

from __future__ import annotations

import argparse

from xenqemu.cli import report, show
from xenqemu.cli.arguments import ends
from xenqemu.cli.record_file import opened, takes_record
from xenqemu.formats.stream.source import Source
from xenqemu.operations.inspect import outline


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    takes_record(verb)
    ends(verb, run)


def run(chosen: argparse.Namespace) -> None:
    """Show what the file holds."""
    with opened(chosen.file) as file:
        found = outline(Source(file))
    if chosen.json:
        show.as_json(report.fields(found))
    else:
        report.tree(found)
