"""`xenqemu save-all`: all domains of a host, before it shuts down."""

from __future__ import annotations

import argparse
from functools import partial

from xenqemu.cli.arguments import add_json_and_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_json_and_run(parser, run)


def run(chosen: argparse.Namespace) -> None:
    """Do with each domain as the settings say, and print its outcome."""
    from xenqemu.choose_host import open_host
    from xenqemu.cli import terminal
    from xenqemu.cli.chosen_settings import settings_for_all, settings_of
    from xenqemu.cli.hooked import hooked, tell_passed_over
    from xenqemu.cli.outcomes import Outcomes
    from xenqemu.operations.options import save_options
    from xenqemu.operations.save_all import save_all
    from xenqemu.settings.guest_choices import own_choices

    with open_host(chosen.host, settings=settings_of(chosen)) as host:
        settings = settings_for_all(chosen, host, terminal.complain)
    own, complaints = own_choices(settings.save_all.configs)
    for complaint in complaints:
        terminal.complain(complaint)
    tell_passed_over(settings.hooks, "save")
    outcomes = Outcomes(as_json=chosen.json)
    save_all(
        partial(open_host, chosen.host, settings=settings),
        settings.save_all,
        own,
        outcomes,
        options=save_options(settings.save),
        hooks=partial(hooked, settings.hooks),
    )
    outcomes.raise_if_failed()
