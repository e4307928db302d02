"""`xenqemu restore [-p] [-e] [--clone [--name NAME] [--count N] [--disk …]] [CFG] FILE`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from xenqemu.cli.arguments import OneOrTwo, add_json_and_run
from xenqemu.cli.input_file import named_file
from xenqemu.cli.option_arguments import add_options, options_of
from xenqemu.operations.options import RestoreOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xenqemu.operations.clone import Clone


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_options(parser, RestoreOptions)
    parser.add_argument("files", metavar="[CFG] FILE", type=named_file, nargs="+", action=OneOrTwo)
    add_json_and_run(parser, run)


def run(chosen: argparse.Namespace) -> None:
    """Restore the domain, and print its id; or make clones, and print what became of each."""
    from xenqemu.choose_host import open_host
    from xenqemu.cli import progress, terminal
    from xenqemu.cli.hooked import hooked, tell_passed_over
    from xenqemu.operations.clone import clone
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
            if options.clone:
                tell = _tell_json if chosen.json else _tell
                _require_all(clone(host, file, options, observe=observe, tell=tell))
                return
            done = restore(host, file, options, observe=observe)
    used = config or done.contents.config
    name = used.name if used else ""
    if chosen.json:
        terminal.as_json({"restored": str(file), "domid": done.domid, "name": name}, indent=None)
    else:
        state = "paused" if done.paused else "running"
        terminal.line(f"restored {name} from {file}: domain {done.domid}, {state}")


def _tell(made: Clone) -> None:
    """Print what became of a clone."""
    from xenqemu.cli import terminal

    if made.error is None:
        terminal.line(f"cloned {made.name}: domain {made.domid}")
    else:
        terminal.complain(f"{made.name}: {made.error}")


def _tell_json(made: Clone) -> None:
    """Print what became of a clone as a line of JSON."""
    from xenqemu.cli import terminal

    fields: dict[str, object] = {"clone": made.name, "uuid": made.uuid, "domid": made.domid}
    if made.error is not None:
        fields["error"] = str(made.error)
    terminal.as_json(fields, indent=None)


def _require_all(made: Sequence[Clone]) -> None:
    """Raise the first error of a clone, if there is one, with how many there are not."""
    errors = [each.error for each in made if each.error is not None]
    if errors:
        errors[0].add_note(f"{len(errors)} of {len(made)} clones were not made")
        raise errors[0]
