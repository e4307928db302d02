"""`xenqemu cancel DOM`."""

from __future__ import annotations

import argparse

from xenqemu.cli.arguments import add_domain, add_json_and_run, duration
from xenqemu.operations.cancel import CANCEL_TIMEOUT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "--timeout",
        type=duration,
        metavar="TIME",
        default=CANCEL_TIMEOUT,
        help="Deadline for the operation to end (default: %(default)g s).",
    )
    add_domain(parser)
    add_json_and_run(parser, run)


def run(chosen: argparse.Namespace) -> None:
    """Cancel the operations on the domain, and print them."""
    from xenqemu.choose_host import open_host
    from xenqemu.cli import terminal
    from xenqemu.cli.chosen_settings import settings_of
    from xenqemu.cli.domain_fields import about_fields
    from xenqemu.operations.cancel import cancel

    with open_host(chosen.host, settings=settings_of(chosen)) as host:
        ended = cancel(host, chosen.domain, chosen.timeout)
    if chosen.json:
        terminal.as_json({"cancelled": [about_fields(each.about) for each in ended]})
    else:
        for each in ended:
            terminal.tell(f"the {each.about} has ended")
