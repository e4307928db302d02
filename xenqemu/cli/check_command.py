"""`xenqemu check [--to FOLDER] [--on HOST [-s CMD]] DOM|FILE`: whether it could be done."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from xenqemu.cli.arguments import add_json_and_run
from xenqemu.cli.input_file import add_key_file, key_from
from xenqemu.errors import HostError, UsageError

if TYPE_CHECKING:
    from xenqemu.host.domain import Domain
    from xenqemu.host.findings import Finding
    from xenqemu.host.protocol import Host
    from xenqemu.host.trust import Trust

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
    from xenqemu.cli.chosen_settings import settings_of
    from xenqemu.cli.findings_report import report

    settings = settings_of(chosen)
    with open_host(chosen.host, settings=settings) as host:
        what, found = _checked(host, chosen, settings.trust)
    return report(what, found, as_json=chosen.json)


def _checked(host: Host, chosen: argparse.Namespace, trust: Trust) -> tuple[str, list[Finding]]:
    """Return what is checked, for people, and what is found."""
    from xenqemu.cli import terminal
    from xenqemu.host.peer.route import Route
    from xenqemu.operations.check_elsewhere import movable, restorable_there
    from xenqemu.operations.check_guest import savable
    from xenqemu.operations.check_restore import restorable

    route = Route(chosen.on, chosen.command) if chosen.on else None
    subject = _subject(host, chosen.subject)
    if isinstance(subject, Path):
        if chosen.to:
            raise UsageError("--to goes with a domain")
        key = key_from(chosen.key_file, trust)
        if route:
            there = restorable_there(host, subject, key, route, terminal.aside)
            return f"a restore of {subject} on {route.name}", list(there)
        return f"a restore of {subject}", list(restorable(host, subject, key))
    if chosen.key_file:
        raise UsageError("--key-file goes with a save file")
    if route:
        if chosen.to:
            raise UsageError("--to goes without --on")
        there = movable(host, subject, route, terminal.aside)
        return f"a migration of {subject.name} to {route.name}", list(there)
    return f"a save of {subject.name}", list(savable(host, subject, chosen.to))


def _subject(host: Host, named: str) -> Domain | Path:
    """Return the domain or the save file of this name; raise `HostError` if there is neither."""
    from xenqemu.host import domain_state

    path = Path(named)
    if "/" in named:
        return path
    try:
        return domain_state.find(host, named)
    except HostError:
        if path.exists():
            return path
        raise
