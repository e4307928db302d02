"""`xenqemu saved [--folder DIR] NAME`: what whoever starts a domain asks before."""

from __future__ import annotations

import argparse
from pathlib import Path

from xenqemu.cli.arguments import add_json_and_run
from xenqemu.errors import NotSaved

EPILOG = (
    "The exit code is 0 if it is saved, 5 if it is not; every other means that nobody can tell."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.epilog = EPILOG
    parser.add_argument(
        "--folder",
        metavar="DIR",
        type=Path,
        help="Where save files are (default: save_all.folder of the settings).",
    )
    parser.add_argument("name", metavar="NAME", help="the domain's name")
    add_json_and_run(parser, run)


def run(chosen: argparse.Namespace) -> None:
    """Print the save files of the domain; raise `NotSaved` if it has none."""
    from xenqemu.cli import terminal
    from xenqemu.operations.saved_guests import already_run, saved_as

    folder = (chosen.folder or _folder(chosen)).absolute()
    found = saved_as(folder, chosen.name)
    if chosen.json:
        terminal.as_json({"name": chosen.name, "saved": [str(each.path) for each in found]})
    else:
        for each in found:
            terminal.line(f"{chosen.name} is saved: {each.path}")
    if not found:
        ran = [each.ran for each in already_run(folder) if each.name == chosen.name]
        behind = "".join(f"; {file} is from before it ran" for file in ran)
        raise NotSaved(f"{chosen.name} is not saved in {folder}{behind}")


def _folder(chosen: argparse.Namespace) -> Path:
    """Return where save-all saves the domains of the host."""
    from xenqemu.choose_host import open_host
    from xenqemu.cli.chosen_settings import settings_for_all, settings_of

    with open_host(chosen.host, settings=settings_of(chosen)) as host:
        return settings_for_all(chosen, host).save_all.folder
