"""`xenqemu restore-all`: all domains of a host, after it has booted."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING

from xenqemu.cli.arguments import add_json_and_run

if TYPE_CHECKING:
    from xenqemu.cli.outcomes import Outcomes
    from xenqemu.settings.xenqemu_conf import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "--strict-disks",
        action="store_true",
        help="Refuse a domain whose disk image was changed after the save.",
    )
    add_json_and_run(parser, run)


def run(chosen: argparse.Namespace) -> None:
    """Restore each domain, if the settings say so, and print its outcome."""
    from xenqemu.choose_host import open_host
    from xenqemu.cli.chosen_settings import settings_for_all, settings_of
    from xenqemu.cli.outcomes import Outcomes

    with open_host(chosen.host, settings=settings_of(chosen)) as host:
        settings = settings_for_all(chosen, host)
    outcomes = Outcomes(as_json=chosen.json)
    if settings.restore_all.restore:
        _restore_all(chosen.host, settings, outcomes, strict_disks=chosen.strict_disks)
    outcomes.raise_if_failed()


def _restore_all(
    host: str | None, settings: Settings, outcomes: Outcomes, *, strict_disks: bool
) -> None:
    from xenqemu.choose_host import open_host
    from xenqemu.cli.hooked import hooked, tell_passed_over
    from xenqemu.operations.options import RestoreOptions
    from xenqemu.operations.restore_all import restore_all

    tell_passed_over(settings.hooks, "restore")
    restore_all(
        partial(open_host, host, settings=settings),
        settings.save_all.folder,
        settings.restore_all,
        outcomes,
        options=RestoreOptions(strict_disks=strict_disks, key_file=settings.save.key_file),
        hooks=partial(hooked, settings.hooks),
    )
