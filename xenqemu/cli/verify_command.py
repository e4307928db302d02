"""`xenqemu verify FILE`."""

from __future__ import annotations

import argparse

from xenqemu.cli import report, show
from xenqemu.cli.arguments import ends
from xenqemu.cli.record_file import opened, takes_record
from xenqemu.operations.verify import verify


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    takes_record(verb)
    ends(verb, run)


def run(chosen: argparse.Namespace) -> None:
    """Check that the file is whole and sound, and say so."""
    with opened(chosen.file) as file:
        found = verify(file)
    if chosen.json:
        show.as_json({"sound": True, **report.fields(found)})
    else:
        show.line(f"{chosen.file}: sound; {report.summary(found)}")
