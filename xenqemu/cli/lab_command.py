"""`xenqemu lab …`: the embedded host."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

from xenqemu.choose_host import open_host
from xenqemu.cli import terminal
from xenqemu.cli.arguments import Parser, add_json_and_run
from xenqemu.cli.chosen_settings import settings_of
from xenqemu.cli.domain_fields import print_domains, state_fields
from xenqemu.cli.input_file import named_file
from xenqemu.errors import HostError, UsageError
from xenqemu.host import domain_state
from xenqemu.host.findings import require
from xenqemu.host.protocol import Needs
from xenqemu.lab import admission
from xenqemu.lab.command_line import HEEDED, Hardware
from xenqemu.lab.console import attach
from xenqemu.lab.lab_host import Lab
from xenqemu.lab.ram_file import IMAGE_VERSION
from xenqemu.settings.guest_config import read_guest

RAM_HELP = "Have the RAM files of new guests there, on a disk perhaps; it is kept."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the commands."""
    acts = parser.add_subparsers(metavar="ACT", required=True, parser_class=Parser)
    for name, act, text in (
        ("up", up, "start a host in a folder"),
        ("down", down, "end its domains and the host"),
    ):
        parser = acts.add_parser(name, help=text)
        parser.add_argument("folder", metavar="DIR", type=Path, nargs="?")
        if act is up:
            parser.add_argument("--ram", metavar="DIR", type=Path, help=RAM_HELP)
        add_json_and_run(parser, partial(_on_lab, act))
    parser = acts.add_parser("create", help="start a domain from an xl.cfg")
    parser.add_argument("-p", dest="paused", action="store_true", help="Leave it paused.")
    parser.add_argument("--kvm", action="store_true", help="Run it on /dev/kvm, not emulated.")
    parser.add_argument("config", metavar="CFG", type=named_file)
    add_json_and_run(parser, partial(_on_lab, create))
    parser = acts.add_parser("list", help="the domains there are")
    add_json_and_run(parser, partial(_on_lab, list_domains), only_prints=True)
    for name, act, text in (
        ("pause", pause, "pause a domain"),
        ("unpause", unpause, "unpause a paused domain"),
        ("console", console, "talk to its serial port (leave with Ctrl-])"),
        ("destroy", destroy, "end a domain at once"),
    ):
        parser = acts.add_parser(name, help=text)
        parser.add_argument("domain", metavar="NAME", help="name or id")
        add_json_and_run(parser, partial(_on_lab, act))


def up(lab: Lab, chosen: argparse.Namespace) -> None:
    """`xenqemu lab up [--ram DIR] [DIR]`."""
    lab.up()
    if chosen.json:
        terminal.as_json(
            {"folder": str(lab.folder), "xenstored": str(lab.folder / "xenstored.socket")}
        )
    else:
        terminal.tell(f"the lab host is up: --host lab:{lab.folder}")


def down(lab: Lab, chosen: argparse.Namespace) -> None:
    """`xenqemu lab down [DIR]`."""
    ended = lab.down()
    if chosen.json:
        terminal.as_json({"folder": str(lab.folder), "ended": ended})
    else:
        guests = f"; ended: {', '.join(ended)}" if ended else ""
        terminal.tell(f"the lab host {lab.folder} is down{guests}")


def create(lab: Lab, chosen: argparse.Namespace) -> None:
    """`xenqemu lab create [-p] [--kvm] CFG`."""
    guest = read_guest(chosen.config)
    accel = "kvm" if chosen.kvm else "tcg"
    hardware = Hardware(admission.default_machine(), accel)
    for warning in guest.warnings:
        terminal.complain(f"{chosen.config}: {warning}")
    config = hardware.kept_in(guest.config)
    found = lab.findings(Needs(config, IMAGE_VERSION), quick=True)
    require(found, f"{config.name} cannot run here")
    domid = lab.create(config)
    if not chosen.paused:
        lab.hypervisor.unpause(domid)
    if chosen.json:
        terminal.as_json(state_fields(domain_state.state(lab, domid)))
    else:
        unheeded = [name for name in guest.names if name not in HEEDED]
        ignored = f"; ignored: {', '.join(unheeded)}" if unheeded else ""
        terminal.tell(f"created {config.name}: domain {domid}{ignored}")


def list_domains(lab: Lab, chosen: argparse.Namespace) -> None:
    """`xenqemu lab list`."""
    found = lab.domains()
    if chosen.json:
        terminal.as_json({"domains": [state_fields(now) for now in found]})
        return
    print_domains(found)


def pause(lab: Lab, chosen: argparse.Namespace) -> None:
    """`xenqemu lab pause NAME`."""
    lab.hypervisor.pause(domain_state.find(lab, chosen.domain).domid)


def unpause(lab: Lab, chosen: argparse.Namespace) -> None:
    """`xenqemu lab unpause NAME`."""
    lab.hypervisor.unpause(domain_state.find(lab, chosen.domain).domid)


def console(lab: Lab, chosen: argparse.Namespace) -> None:
    """`xenqemu lab console NAME`."""
    domid = domain_state.find(lab, chosen.domain).domid
    with lab.store() as store:
        tty = store.read(f"/local/domain/{domid}/serial/0/tty")
    if not tty:
        raise HostError(f'{chosen.domain} has no serial port with serial="pty"')
    attach(Path(tty))


def destroy(lab: Lab, chosen: argparse.Namespace) -> None:
    """`xenqemu lab destroy NAME`."""
    lab.destroy(domain_state.find(lab, chosen.domain).domid)


def _on_lab(act: Callable[[Lab, argparse.Namespace], None], chosen: argparse.Namespace) -> None:
    """Do what a command does on the lab of DIR, of `--host` or the settings, or else one's own."""
    settings = settings_of(chosen)
    if getattr(chosen, "ram", None):
        settings = settings.but(lab_ram=chosen.ram)
    words = chosen.host or settings.host
    if getattr(chosen, "folder", None):
        words = f"lab:{chosen.folder}"
    with open_host("lab" if words == "auto" else words, settings=settings) as host:
        if not isinstance(host, Lab):
            raise UsageError(f"host {words} is no lab")
        act(host, chosen)
