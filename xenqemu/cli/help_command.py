"""`xenqemu help [COMMAND …]`."""

from __future__ import annotations

import argparse

from xenqemu.cli.arguments import add_json_and_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("command", metavar="COMMAND", nargs="*", help="as xenqemu itself takes it")
    add_json_and_run(parser, run, only_prints=True)


def run(chosen: argparse.Namespace) -> None:
    """Print what the command, or xenqemu itself, does and takes."""
    from xenqemu.cli.parser import parser

    parser().parse_args([*chosen.command, "--help"])
