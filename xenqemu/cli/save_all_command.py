"""`xenqemu save-all`: all domains of a host, before it shuts down."""

from __future__ import annotations

import argparse
from functools import partial

from xenqemu.choose_host import open_host, with_xendomains
from xenqemu.cli import show
from xenqemu.cli.arguments import ends
from xenqemu.cli.hooked import hooked
from xenqemu.cli.outcomes import Outcomes
from xenqemu.operations.save_all import save_all
from xenqemu.settings.guest_choices import own_choices


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    ends(verb, run)


def run(chosen: argparse.Namespace) -> None:
    """Do with each domain as the settings say, and tell what became of it."""
    settings = with_xendomains(chosen.conf)
    own, complaints = own_choices(settings.save_all.configs)
    for complaint in complaints:
        show.complain(complaint)
    outcomes = Outcomes(as_json=chosen.json)
    save_all(
        partial(open_host, chosen.host, settings=settings),
        settings.save_all,
        own,
        outcomes,
        check=settings.save.verify,
        around=partial(hooked, settings.hooks),
    )
    outcomes.conclude()
