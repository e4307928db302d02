"""Which commands there are and what each takes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from xenqemu.cli import precopy_options
from xenqemu.cli.arguments import (
    OneOrTwo,
    Parser,
    Verb,
    command,
    ends,
    has_flags,
    has_step_timeout,
    has_timeout,
)
from xenqemu.formats.migration.stream_chunks import MOST
from xenqemu.version import VERSION


def parser() -> argparse.ArgumentParser:
    """Return the whole command line; the chosen command is `run` of what it parses to.

    What the command opens for as long as it runs is given back by `opened`.
    """
    top = Parser(
        prog="xenqemu",
        description="Suspend, restore and look into domains of a Xen host or of the lab.",
    )
    top.add_argument("--version", action="version", version=f"xenqemu {VERSION}")
    top.add_argument(
        "--host",
        metavar="xen|lab[:DIR]|auto",
        default=os.environ.get("XENQEMU_HOST") or None,
        help="the host to work on (default: $XENQEMU_HOST, the settings, or what this machine is)",
    )
    top.add_argument(
        "--conf",
        metavar="FILE",
        type=Path,
        help="the settings (default: $XENQEMU_CONF, or /etc/xenqemu/xenqemu.conf if it is there)",
    )
    top.set_defaults(opened=ExitStack())
    verbs = top.add_subparsers(prog=top.prog, metavar="COMMAND", required=True, parser_class=Verb)
    verbs.add_parser("save", help="suspend a domain into a file", of=_save)
    verbs.add_parser("restore", help="bring a domain back from a file", of=_restore)
    verbs.add_parser("migrate", help="have a domain go on on another host", of=_migrate)
    verbs.add_parser("migrate-receive", help="take a domain from another host", of=_receive)
    verbs.add_parser("verify", help="check that a file is whole and sound", of=_verify)
    verbs.add_parser("inspect", help="show what a file holds", of=_inspect)
    verbs.add_parser("devices", help="the state of a domain's devices alone", of=_devices)
    verbs.add_parser("status", help="ask all parties about a domain", of=_status)
    verbs.add_parser("recover", help="end what a killed operation began", of=_recover)
    verbs.add_parser("cancel", help="end an operation that goes on", of=_cancel)
    verbs.add_parser("save-all", help="save all domains, as before a shutdown", of=_all("save_all"))
    verbs.add_parser(
        "restore-all", help="bring them all back, as after a boot", of=_all("restore_all")
    )
    verbs.add_parser("lab", help="the embedded host", of=_lab)
    return top


def _save(verb: argparse.ArgumentParser) -> None:
    after = verb.add_mutually_exclusive_group()
    after.add_argument("-c", dest="checkpoint", action="store_true", help="let it run on")
    after.add_argument("-p", dest="paused", action="store_true", help="leave it paused")
    verb.add_argument("--live", action="store_true", help="let it run while it is saved")
    precopy_options.add_options(verb)
    verb.add_argument(
        "--compact", action="store_true", help="write what was written twice but once, at the end"
    )
    has_step_timeout(verb)
    has_timeout(verb, "for all of it, up to where the guest is let go of")
    verb.add_argument(
        "--no-verify", dest="check", action="store_false", help="do not read the record back"
    )
    verb.add_argument("-D", dest="keep_domid", action="store_true", help="ask for its id again")
    verb.add_argument("domain", metavar="DOM", help="name or id")
    verb.add_argument("file", metavar="FILE", type=Path)
    verb.add_argument("config", metavar="CFG", type=Path, nargs="?", help="in place of its own")
    ends(verb, command("saving", "save"))


def _restore(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("-p", dest="paused", action="store_true", help="leave it paused")
    verb.add_argument(
        "-e", dest="monitor", action="store_false", help="leave no process to see to its reboots"
    )
    has_timeout(verb, "for all of it, up to where the guest is let run")
    verb.add_argument("files", metavar="[CFG] FILE", type=Path, nargs="+", action=OneOrTwo)
    ends(verb, command("restoring", "restore"))


def _migrate(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "-s",
        dest="command",
        metavar="CMD",
        default="ssh",
        help='what leads to HOST; "" makes HOST the whole command (default: %(default)s)',
    )
    verb.add_argument("-C", dest="config", metavar="CFG", type=Path, help="in place of its own")
    has_flags(verb, e="leave no process there to see to its reboots", p="leave it paused there")
    verb.add_argument("-D", dest="keep_domid", action="store_true", help="ask for its id again")
    verb.add_argument(
        "--live",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="let it run while it is sent, as with xl; or not, which may take less time in all",
    )
    verb.add_argument("--compress", action="store_true", help="pack its record on the way")
    verb.add_argument(
        "--streams",
        metavar="N",
        type=precopy_options.number(1, MOST),
        default=1,
        help="send its record by so many commands at once (default: %(default)s)",
    )
    precopy_options.add_options(verb)
    has_step_timeout(verb)
    has_timeout(verb, "for all of it, up to where it may run there")
    verb.add_argument("domain", metavar="DOM", help="name or id")
    verb.add_argument("destination", metavar="HOST", help="as CMD takes it")
    ends(verb, command("migration", "migrate"))


def _receive(verb: argparse.ArgumentParser) -> None:
    has_flags(
        verb,
        e="leave no process to see to its reboots",
        p="leave it paused",
        d="as with xl: nothing",
        F="as with xl: nothing",
    )
    verb.add_argument("--preflight", action="store_true", help="only say whether it could be")
    verb.add_argument(
        "--with",
        dest="features",
        metavar="FEATURE,…",
        type=command("migration", "features"),
        default=frozenset(),
        help="what the sender puts around the record, as --preflight offered it",
    )
    which = verb.add_mutually_exclusive_group()
    which.add_argument(
        "--streams",
        metavar="N",
        type=precopy_options.number(2, MOST),
        help="take the record from so many commands, which have the same token",
    )
    which.add_argument(
        "--stream",
        metavar="N",
        type=precopy_options.number(1, MOST - 1),
        help="be one of the others of these, counted from 1",
    )
    verb.add_argument(
        "--token",
        metavar="TOKEN",
        type=command("migration", "token"),
        help="what tells them from others",
    )
    has_timeout(verb, "for all of it, up to where it lives here")
    ends(verb, command("migration", "migrate_receive"))


def _verify(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("file", metavar="FILE", type=Path, help='"-" is the standard input')
    ends(verb, command("files", "verify"))


def _inspect(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("file", metavar="FILE", type=Path, help='"-" is the standard input')
    ends(verb, command("files", "inspect"))


def _devices(verb: argparse.ArgumentParser) -> None:
    acts = verb.add_subparsers(metavar="ACT", required=True, parser_class=Parser)
    save = acts.add_parser("save", help="write it to a file, as QEMU has it")
    save.add_argument("domain", metavar="DOM", help="name or id")
    save.add_argument("file", metavar="FILE", type=Path)
    ends(save, command("devices", "save_devices"))


def _status(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("domain", metavar="DOM", help="name or id")
    ends(verb, command("state", "status"))


def _recover(verb: argparse.ArgumentParser) -> None:
    which = verb.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="on all domains (so too without DOM)")
    which.add_argument("domain", metavar="DOM", nargs="?", help="name or id")
    lives = verb.add_mutually_exclusive_group()
    lives.add_argument(
        "--moved",
        action="store_true",
        default=None,
        help="a guest in doubt lives on the other host",
    )
    lives.add_argument(
        "--stayed", dest="moved", action="store_false", help="it does not: let it go on here"
    )
    ends(verb, command("recovery", "recover"))


def _cancel(verb: argparse.ArgumentParser) -> None:
    has_timeout(verb, "for it to end")
    verb.add_argument("domain", metavar="DOM", help="name or id")
    ends(verb, command("recovery", "cancel"))


def _all(name: str) -> Callable[[argparse.ArgumentParser], None]:
    return partial(ends, run=command("all_domains", name))


def _lab(verb: argparse.ArgumentParser) -> None:
    acts = verb.add_subparsers(metavar="ACT", required=True, parser_class=Parser)
    for name, run, text in (
        ("up", command("lab", "up"), "start a host in a folder"),
        ("down", command("lab", "down"), "end its domains and the host"),
    ):
        act = acts.add_parser(name, help=text)
        act.add_argument("folder", metavar="DIR", type=Path, nargs="?")
        ends(act, run)
    create = acts.add_parser("create", help="start a domain from an xl.cfg")
    create.add_argument("-p", dest="paused", action="store_true", help="leave it paused")
    create.add_argument("--kvm", action="store_true", help="run it on /dev/kvm, not emulated")
    create.add_argument("config", metavar="CFG", type=Path)
    ends(create, command("lab", "create"))
    ends(acts.add_parser("list", help="the domains there are"), command("lab", "list_domains"))
    for name, run, text in (
        ("pause", command("lab", "pause"), "hold a domain"),
        ("unpause", command("lab", "unpause"), "let a held domain run"),
        ("console", command("lab", "console"), "talk to its serial port (leave with Ctrl-])"),
        ("destroy", command("lab", "destroy"), "end a domain at once"),
    ):
        act = acts.add_parser(name, help=text)
        act.add_argument("domain", metavar="NAME", help="name or id")
        ends(act, run)
