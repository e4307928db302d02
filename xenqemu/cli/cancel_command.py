"""`xenqemu cancel DOM`."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from xenqemu.choose_host import open_host
from xenqemu.cli import show
from xenqemu.cli.arguments import ends, seconds, takes_domain
from xenqemu.operations.cancel import CANCEL_TIMEOUT, cancel
from xenqemu.settings.xenqemu_conf import read_settings


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    verb.add_argument(
        "--timeout",
        type=seconds,
        metavar="SECONDS",
        default=CANCEL_TIMEOUT,
        help="For it to end (default: %(default)g).",
    )
    takes_domain(verb)
    ends(verb, run)


def run(chosen: argparse.Namespace) -> None:
    """Have what goes on on the domain end, and say that it has."""
    with open_host(chosen.host, settings=read_settings(chosen.conf)) as host:
        ended = cancel(host, chosen.domain, chosen.timeout)
    if chosen.json:
        show.as_json([asdict(each.about) for each in ended])
    else:
        for each in ended:
            show.line(f"the {each.about} has ended")
