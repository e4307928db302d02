"""Which commands there are and what each takes."""

from __future__ import annotations

import argparse
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from xenqemu.cli import commands
from xenqemu.errors import UsageError
from xenqemu.formats.settings import MAX_SECONDS
from xenqemu.version import VERSION


class _Parser(argparse.ArgumentParser):
    """Complains by `UsageError`, whose exit code is no other error's."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}\n{self.format_usage().rstrip()}")


def _seconds(text: str) -> float:
    with suppress(ValueError):
        seconds = float(text)
        if 0 < seconds <= MAX_SECONDS:
            return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to {MAX_SECONDS:g}")


class _OneOrTwo(argparse.Action):
    """Takes one word or two."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,  # noqa: ARG002  argparse calls us so
    ) -> None:
        if len(values) > 2:
            parser.error(f"unrecognized arguments: {' '.join(map(str, values[2:]))}")
        setattr(namespace, self.dest, values)


def parser() -> argparse.ArgumentParser:
    """Return the whole command line; the chosen command is `run` of what it parses to."""
    top = _Parser(
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
    verbs = top.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    _save(verbs.add_parser("save", help="suspend a domain into a file"))
    _restore(verbs.add_parser("restore", help="bring a domain back from a file"))
    _verify(verbs.add_parser("verify", help="check that a file is whole and sound"))
    _inspect(verbs.add_parser("inspect", help="show what a file holds"))
    _devices(verbs.add_parser("devices", help="the state of a domain's devices alone"))
    _status(verbs.add_parser("status", help="ask all parties about a domain"))
    _lab(verbs.add_parser("lab", help="the embedded host"))
    return top


def _save(verb: argparse.ArgumentParser) -> None:
    after = verb.add_mutually_exclusive_group()
    after.add_argument("-c", dest="checkpoint", action="store_true", help="let it run on")
    after.add_argument("-p", dest="paused", action="store_true", help="leave it paused")
    verb.add_argument(
        "--step-timeout",
        type=_seconds,
        metavar="SECONDS",
        help="for the guest to take the request, and again to suspend (default: by the settings)",
    )
    verb.add_argument("-D", dest="keep_domid", action="store_true", help="ask for its id again")
    verb.add_argument("domain", metavar="DOM", help="name or id")
    verb.add_argument("file", metavar="FILE", type=Path)
    verb.add_argument("config", metavar="CFG", type=Path, nargs="?", help="in place of its own")
    _ends(verb, commands.save)


def _restore(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("-p", dest="paused", action="store_true", help="leave it paused")
    verb.add_argument(
        "-e", dest="monitor", action="store_false", help="leave no process to see to its reboots"
    )
    verb.add_argument("files", metavar="[CFG] FILE", type=Path, nargs="+", action=_OneOrTwo)
    _ends(verb, commands.restore)


def _verify(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("file", metavar="FILE", type=Path, help='"-" is the standard input')
    _ends(verb, commands.verify)


def _inspect(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("file", metavar="FILE", type=Path, help='"-" is the standard input')
    _ends(verb, commands.inspect)


def _devices(verb: argparse.ArgumentParser) -> None:
    acts = verb.add_subparsers(metavar="ACT", required=True, parser_class=_Parser)
    save = acts.add_parser("save", help="write it to a file, as QEMU has it")
    save.add_argument("domain", metavar="DOM", help="name or id")
    save.add_argument("file", metavar="FILE", type=Path)
    _ends(save, commands.save_devices)


def _status(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("domain", metavar="DOM", help="name or id")
    _ends(verb, commands.status)


def _lab(verb: argparse.ArgumentParser) -> None:
    acts = verb.add_subparsers(metavar="ACT", required=True, parser_class=_Parser)
    for name, run, text in (
        ("up", _of_lab("up"), "start a host in a folder"),
        ("down", _of_lab("down"), "end its domains and the host"),
    ):
        act = acts.add_parser(name, help=text)
        act.add_argument("folder", metavar="DIR", type=Path, nargs="?")
        _ends(act, run)
    create = acts.add_parser("create", help="start a domain from an xl.cfg")
    create.add_argument("-p", dest="paused", action="store_true", help="leave it paused")
    create.add_argument("--kvm", action="store_true", help="run it on /dev/kvm, not emulated")
    create.add_argument("config", metavar="CFG", type=Path)
    _ends(create, _of_lab("create"))
    _ends(acts.add_parser("list", help="the domains there are"), _of_lab("list_domains"))
    for name, run, text in (
        ("pause", _of_lab("pause"), "hold a domain"),
        ("unpause", _of_lab("unpause"), "let a held domain run"),
        ("console", _of_lab("console"), "talk to its serial port (leave with Ctrl-])"),
        ("destroy", _of_lab("destroy"), "end a domain at once"),
    ):
        act = acts.add_parser(name, help=text)
        act.add_argument("domain", metavar="NAME", help="name or id")
        _ends(act, run)


def _of_lab(name: str) -> commands.Command:
    """Return a command of the lab, which is loaded only if that command is run."""

    def run(chosen: argparse.Namespace) -> None:
        from xenqemu.cli import lab  # noqa: PLC0415  see above

        getattr(lab, name)(chosen)

    return run


def _ends(verb: argparse.ArgumentParser, run: commands.Command) -> None:
    """Give a command what all have: its function, and `--json`."""
    verb.add_argument("--json", action="store_true", help="answer in JSON, for programs")
    verb.set_defaults(run=run)
