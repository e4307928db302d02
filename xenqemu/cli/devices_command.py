"""`xenqemu devices save DOM FILE`."""

from __future__ import annotations

import argparse

from xenqemu.cli.arguments import Parser, add_domain, add_json_and_run
from xenqemu.cli.input_file import named_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    acts = parser.add_subparsers(metavar="ACT", required=True, parser_class=Parser)
    save = acts.add_parser("save", help="write it to a file, in QEMU's format")
    add_domain(save)
    save.add_argument("file", metavar="FILE", type=named_file)
    add_json_and_run(save, run)


def run(chosen: argparse.Namespace) -> None:
    """Save the state of the domain's devices, and print a summary."""
    from xenqemu.choose_host import open_host
    from xenqemu.cli import report, terminal
    from xenqemu.cli.chosen_settings import settings_of
    from xenqemu.host import domain_state
    from xenqemu.operations.save_devices import save_devices

    with open_host(chosen.host, settings=settings_of(chosen)) as host:
        domain = domain_state.find(host, chosen.domain)
        found = save_devices(host, domain, chosen.file)
    if chosen.json:
        fields = {"saved": str(chosen.file), "domid": domain.domid, "size": found.size}
        terminal.as_json(fields, indent=None)
    else:
        terminal.tell(
            f"saved the devices of {chosen.domain} to {chosen.file}: {report.summary(found)}"
        )
