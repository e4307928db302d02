"""`xenqemu migrate [-s CMD] [-C CFG] [-e] [-p] [-D] [--max-downtime TIME] … DOM HOST`."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace

from xenqemu.choose_host import open_host
from xenqemu.cli import show
from xenqemu.cli.arguments import ends, has_step_timeout, takes_domain
from xenqemu.cli.hooked import hooked
from xenqemu.cli.option_arguments import add_options, options_of
from xenqemu.host import domain_state
from xenqemu.operations.migrate import migrate
from xenqemu.operations.options import MigrateOptions
from xenqemu.settings.guest_config import read_config
from xenqemu.settings.xenqemu_conf import read_settings


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    add_options(verb, MigrateOptions)
    has_step_timeout(verb)
    takes_domain(verb)
    verb.add_argument("destination", metavar="HOST", help="as CMD takes it")
    ends(verb, run)


def run(chosen: argparse.Namespace) -> None:
    """Migrate the domain, and say so."""
    options = options_of(chosen, MigrateOptions)
    settings = read_settings(chosen.conf)
    to = chosen.destination
    observe = show.observer(as_lines_of_json=chosen.json)
    with open_host(chosen.host, step_timeout=chosen.step_timeout, settings=settings) as host:
        domain = domain_state.find(host, chosen.domain)
        options = replace(options, config=read_config(getattr(chosen, "config", None)))
        about = {"domid": domain.domid, "name": domain.name, "host": to}
        with hooked(settings.hooks, "migrate", **about):
            migrate(host, domain, to, options, observe=observe, on_stderr=show.aside)
    if chosen.json:
        show.line(json.dumps({"migrated": chosen.domain, "to": to}))
    else:
        show.line(f"migrated {chosen.domain} to {to}")
