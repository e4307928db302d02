"""Which commands there are; each is a module of its own, loaded when it is chosen."""

from __future__ import annotations

import argparse
from functools import partial
from importlib import import_module

from xenqemu.cli.arguments import CommandParser, Parser, add_common
from xenqemu.version import VERSION

COMMANDS = {
    "save": ("save_command", "save a domain state to restore later"),
    "restore": ("restore_command", "restore a domain from a saved state"),
    "migrate": ("migrate_command", "migrate a domain to another host"),
    "migrate-receive": ("receive_command", "receive a domain from another host"),
    "check": ("check_command", "say whether a domain could be saved, or a file restored"),
    "verify": ("verify_command", "check that a file is complete and sound"),
    "seal": ("seal_command", "seal a save file that is there already"),
    "inspect": ("inspect_command", "show what a file holds"),
    "compress": ("compress_command", "compress a save file into a new one"),
    "decompress": ("decompress_command", "decompress a save file into a new one"),
    "config": ("config_command", "show what libxl is told of a guest"),
    "devices": ("devices_command", "the state of a domain's devices alone"),
    "status": ("status_command", "show what all parties say of domains"),
    "job": ("job_command", "show how far operations are"),
    "recover": ("recover_command", "roll back or finish what a killed operation left"),
    "cancel": ("cancel_command", "end an operation that is running"),
    "save-all": ("save_all_command", "save all domains, as before a shutdown"),
    "restore-all": ("restore_all_command", "restore all domains, as after a boot"),
    "saved": ("saved_command", "say whether a domain is saved, by the exit code"),
    "lab": ("lab_command", "the embedded host"),
    "help": ("help_command", "say what a command does"),
}
"""Each command, its module, and its help text."""


def parser() -> argparse.ArgumentParser:
    """Return the whole command line; the chosen command is `run` of what it parses to."""
    top = Parser(
        prog="xenqemu",
        description="Suspend, restore and look into domains of a Xen host or of the lab.",
    )
    top.add_argument("--version", action="version", version=f"xenqemu {VERSION}")
    add_common(top)
    commands = top.add_subparsers(
        prog=top.prog, metavar="COMMAND", required=True, parser_class=CommandParser
    )
    for name, (module, text) in COMMANDS.items():
        commands.add_parser(name, help=text, fill=partial(_fill, module))
    return top


def _fill(module: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a command by its module."""
    import_module(f"xenqemu.cli.{module}").add_arguments(parser)
