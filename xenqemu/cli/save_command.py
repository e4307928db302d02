"""`xenqemu save [-c|-p] [-D] [--live [--max-downtime TIME] …] DOM FILE [CFG]`."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from xenqemu.choose_host import open_host
from xenqemu.cli import report, show
from xenqemu.cli.arguments import ends, has_step_timeout, takes_domain
from xenqemu.cli.hooked import hooked
from xenqemu.cli.option_arguments import add_options, options_of
from xenqemu.errors import UsageError
from xenqemu.host import domain_state
from xenqemu.operations.options import After, SaveOptions
from xenqemu.operations.save import save
from xenqemu.settings.guest_config import read_config
from xenqemu.settings.xenqemu_conf import read_settings


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    add_options(verb, SaveOptions)
    has_step_timeout(verb)
    takes_domain(verb)
    verb.add_argument("file", metavar="FILE", type=Path)
    verb.add_argument("config", metavar="CFG", type=Path, nargs="?", help="in place of its own")
    ends(verb, run)


def run(chosen: argparse.Namespace) -> None:
    """Save the domain, and say what its record holds."""
    options = options_of(chosen, SaveOptions)
    if options.compact and not options.precopy:
        raise UsageError("--compact goes with --live")
    settings = read_settings(chosen.conf)
    verify = settings.save.verify and options.verify
    watch = show.Stopwatch(show.observer(as_lines_of_json=chosen.json))
    with open_host(chosen.host, step_timeout=chosen.step_timeout, settings=settings) as host:
        domain = domain_state.find(host, chosen.domain)
        options = replace(options, config=read_config(chosen.config), verify=verify)
        about = {"domid": domain.domid, "name": domain.name, "file": str(chosen.file)}
        with hooked(settings.hooks, "save", **about):
            found = save(host, domain, chosen.file, options, observe=watch)
    downtime = round(watch.seconds, 3) if options.after is After.CONTINUE else None
    if chosen.json:
        fields = {"saved": str(chosen.file), "domid": domain.domid, "size": found.size}
        if downtime is not None:
            fields["downtime"] = downtime
        show.line(json.dumps(fields))
    else:
        rest = "" if downtime is None else f"; downtime {downtime:.3g} s"
        show.line(f"saved {chosen.domain} to {chosen.file}: {report.summary(found)}{rest}")
