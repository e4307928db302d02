"""`xenqemu restore [-p] [-e] [CFG] FILE`."""

from __future__ import annotations

import argparse
from dataclasses import replace

from xenqemu.cli.arguments import OneOrTwo, add_json_and_run
from xenqemu.cli.input_file import named_file
from xenqemu.cli.option_arguments import add_options, options_of
from xenqemu.operations.options import RestoreOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_options(parser, RestoreOptions)
    parser.add_argument("files", metavar="[CFG] FILE", type=named_file, nargs="+", action=OneOrTwo)
    add_json_and_run(parser, run)


def run(chosen: argparse.Namespace) -> None:
    """Restore the domain, and print its id."""
    from xenqemu.choose_host import open_host
    from xenqemu.cli import progress, terminal
    from xenqemu.cli.hooked import hooked, tell_passed_over
    from xenqemu.operations.restore import restore
    from xenqemu.settings.guest_config import read_config
    from xenqemu.settings.xenqemu_conf import read_settings

    *configs, file = chosen.files
    settings = read_settings(chosen.conf)
    tell_passed_over(settings.hooks, "restore")
    observe = progress.observer(as_lines_of_json=chosen.json)
    with open_host(chosen.host, settings=settings) as host:
        config = read_config(configs[0] if configs else None, host, terminal.complain)
        options = replace(options_of(chosen, RestoreOptions), config=config)
        with hooked(settings.hooks, "restore", file=str(file.absolute())):
            done = restore(host, file, options, observe=observe)
    used = config or done.contents.config
    name = used.name if used else ""
    if chosen.json:
        terminal.as_json({"restored": str(file), "domid": done.domid, "name": name}, indent=None)
    else:
        state = "paused" if done.paused else "running"
        terminal.line(f"restored {name} from {file}: domain {done.domid}, {state}")
