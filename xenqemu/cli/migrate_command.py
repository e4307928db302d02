"""`xenqemu migrate [-s CMD] [-C CFG] [-e] [-p] [-D] [--max-downtime TIME] … DOM HOST`."""

from __future__ import annotations

import argparse
from dataclasses import replace

from xenqemu.cli.arguments import add_domain, add_json_and_run, add_step_timeout
from xenqemu.cli.option_arguments import add_options, options_of
from xenqemu.operations.options import MigrateOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_options(parser, MigrateOptions)
    add_step_timeout(parser)
    add_domain(parser)
    parser.add_argument("destination", metavar="HOST", help="as CMD takes it")
    add_json_and_run(parser, run)


def run(chosen: argparse.Namespace) -> None:
    """Migrate the domain, and print that."""
    from xenqemu.choose_host import open_host
    from xenqemu.cli import progress, terminal
    from xenqemu.cli.hooked import hooked, tell_passed_over
    from xenqemu.host import domain_state
    from xenqemu.operations.migrate import migrate
    from xenqemu.settings.guest_config import read_config
    from xenqemu.settings.xenqemu_conf import read_settings

    options = options_of(chosen, MigrateOptions)
    settings = read_settings(chosen.conf)
    tell_passed_over(settings.hooks, "migrate")
    to = chosen.destination
    observe = progress.observer(as_lines_of_json=chosen.json)
    with open_host(chosen.host, step_timeout=chosen.step_timeout, settings=settings) as host:
        domain = domain_state.find(host, chosen.domain)
        config = read_config(getattr(chosen, "config", None), host, terminal.complain)
        options = replace(options, config=config)
        about = {"domid": domain.domid, "name": domain.name, "host": to}
        with hooked(settings.hooks, "migrate", **about):
            migrate(host, domain, to, options, observe=observe, on_stderr=terminal.aside)
    if chosen.json:
        terminal.as_json({"migrated": chosen.domain, "to": to}, indent=None)
    else:
        terminal.line(f"migrated {chosen.domain} to {to}")
