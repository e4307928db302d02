"""`xenqemu check [--to FOLDER] [--on HOST [-s CMD]] DOM|FILE`: whether it could be done."""

from __future__ import annotations

import argparse
from pathlib import Path

from xenqemu.cli.arguments import add_json_and_run
from xenqemu.cli.input_file import add_key_file, key_from

EPILOG = (
    "Nothing is touched.  What has a slash in it, or names no domain, is a FILE.  The exit code is "
    "0 if nothing was found, 6 for warnings alone, 3 if anything refuses it, and 2 for a FILE that "
    "cannot be read as a save file."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.epilog = EPILOG
    parser.add_argument(
        "subject",
        metavar="DOM|FILE",
        help="a domain, whether it can be saved; or a save file, whether it can be restored",
    )
    parser.add_argument(
        "--to",
        metavar="FOLDER",
        type=Path,
        help="Check whether the save file of DOM could be written there.",
    )
    parser.add_argument(
        "--on",
        metavar="HOST",
        help="Check whether another host, as CMD takes it, can take the guest.",
    )
    parser.add_argument(
        "-s", dest="command", metavar="CMD", default="ssh", help="Use CMD in place of ssh."
    )
    add_key_file(parser)
    add_json_and_run(parser, run)


def run(chosen: argparse.Namespace) -> int:
    """Print all findings, the refusals first, and a summary; return the exit code."""
    from xenqemu.choose_host import open_host
    from xenqemu.cli import terminal
    from xenqemu.cli.chosen_settings import settings_of
    from xenqemu.cli.findings_report import report
    from xenqemu.host.peer.route import Route
    from xenqemu.operations.check import check

    settings = settings_of(chosen)
    key = key_from(chosen.key_file, settings.trust)
    route = Route(chosen.on, chosen.command) if chosen.on else None
    with open_host(chosen.host, settings=settings) as host:
        what, found = check(
            host, chosen.subject, to=chosen.to, route=route, key=key, on_stderr=terminal.aside
        )
    return report(what, found, as_json=chosen.json)
