"""`xenqemu save [-c|-p] [-D] [--live [--max-downtime TIME] …] DOM FILE [CFG]`."""

from __future__ import annotations

import argparse
from dataclasses import replace

from xenqemu.cli.arguments import add_domain, add_json_and_run, add_step_timeout
from xenqemu.cli.input_file import named_file
from xenqemu.cli.option_arguments import add_options, options_of
from xenqemu.errors import UsageError
from xenqemu.operations.options import After, SaveOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_options(parser, SaveOptions)
    add_step_timeout(parser)
    add_domain(parser)
    parser.add_argument("file", metavar="FILE", type=named_file)
    parser.add_argument(
        "config",
        metavar="CFG",
        type=named_file,
        nargs="?",
        help="use this config instead of the domain's own",
    )
    add_json_and_run(parser, run)


def run(chosen: argparse.Namespace) -> None:
    """Save the domain, and print what its save file holds."""
    from xenqemu.choose_host import open_host
    from xenqemu.cli import progress, report, terminal
    from xenqemu.cli.hooked import hooked, tell_passed_over
    from xenqemu.host import domain_state
    from xenqemu.operations.save import save
    from xenqemu.settings.guest_config import read_config
    from xenqemu.settings.xenqemu_conf import read_settings

    options = options_of(chosen, SaveOptions)
    if options.compact and not options.precopy:
        raise UsageError("--compact goes with --live")
    settings = read_settings(chosen.conf)
    verify = settings.save.verify and options.verify
    tell_passed_over(settings.hooks, "save")
    watch = progress.Stopwatch(progress.observer(as_lines_of_json=chosen.json))
    with open_host(chosen.host, step_timeout=chosen.step_timeout, settings=settings) as host:
        domain = domain_state.find(host, chosen.domain)
        config = read_config(chosen.config, host, terminal.complain)
        layout = options.layout if "layout" in chosen else settings.save.layout
        options = replace(options, config=config, verify=verify, layout=layout)
        file = str(chosen.file.absolute())  # hooks have another folder
        about = {"domid": domain.domid, "name": domain.name, "file": file}
        with hooked(settings.hooks, "save", **about):
            found = save(host, domain, chosen.file, options, observe=watch)
    downtime = round(watch.seconds, 3) if options.after is After.CONTINUE else None
    if chosen.json:
        fields = {"saved": str(chosen.file), "domid": domain.domid, "size": found.size}
        if downtime is not None:
            fields["downtime"] = downtime
        terminal.as_json(fields, indent=None)
    else:
        rest = "" if downtime is None else f"; downtime {downtime:.3g} s"
        terminal.line(f"saved {chosen.domain} to {chosen.file}: {report.summary(found)}{rest}")
