"""`xenqemu migrate [-s CMD] [-C CFG] [-e] [-p] [-D] [--max-downtime TIME] … DOM HOST`."""

from __future__ import annotations

import argparse
from dataclasses import replace

from xenqemu.cli.arguments import add_domain, add_json_and_run, add_step_timeout
from xenqemu.cli.findings_report import add_dry_run, report
from xenqemu.cli.option_arguments import add_options, options_of
from xenqemu.operations.options import MigrateOptions
from xenqemu.quantities import in_bytes, in_time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_dry_run(parser)
    add_options(parser, MigrateOptions)
    add_step_timeout(parser)
    add_domain(parser)
    parser.add_argument("destination", metavar="HOST", help="as CMD takes it")
    add_json_and_run(parser, run)


def run(chosen: argparse.Namespace) -> int:
    """Migrate the domain, and print that; or what would be in the way."""
    from xenqemu.choose_host import open_host
    from xenqemu.cli import progress, terminal
    from xenqemu.cli.chosen_settings import settings_of
    from xenqemu.cli.hooked import hooked, tell_passed_over
    from xenqemu.host import domain_state
    from xenqemu.host.peer.route import Route
    from xenqemu.operations.check_elsewhere import movable
    from xenqemu.operations.migrate import migrate
    from xenqemu.operations.stopwatch import Stopwatch
    from xenqemu.settings.guest_config import read_config

    options = options_of(chosen, MigrateOptions)
    settings = settings_of(chosen)
    tell_passed_over(settings.hooks, "migrate")
    to = chosen.destination
    observe = Stopwatch(progress.observer(chosen))
    with open_host(chosen.host, step_timeout=chosen.step_timeout, settings=settings) as host:
        domain = domain_state.find(host, chosen.domain)
        config = read_config(getattr(chosen, "config", None), host, terminal.complain)
        if chosen.dry_run:
            route = Route(to, options.command)
            found = movable(host, domain, route, terminal.aside, config)
            what = f"a migration of {domain.name} to {route.name}"
            return report(what, found, as_json=chosen.json)
        options = replace(options, config=config)
        about = {"domid": domain.domid, "name": domain.name, "host": to}
        with hooked(settings.hooks, "migrate", **about):
            migrate(host, domain, to, options, observe=observe, on_stderr=terminal.aside)
    if chosen.json:
        fields = {"migrated": chosen.domain, "to": to, "downtime": round(observe.downtime, 3)}
        terminal.as_json({**fields, **progress.took_fields(observe, observe.size)}, indent=None)
    else:
        took = f"{in_bytes(observe.size)}; {progress.took(observe, observe.size)}"
        rest = f"; downtime {in_time(observe.downtime)}"
        terminal.tell(f"migrated {chosen.domain} to {to}: {took}{rest}")
    return 0
