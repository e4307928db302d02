"""Which commands there are and what each takes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from xenqemu.cli import commands, policy
from xenqemu.errors import UsageError
from xenqemu.formats.settings import MAX_SECONDS
from xenqemu.formats.streams import MOST
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
    _migrate(verbs.add_parser("migrate", help="have a domain go on on another host"))
    _receive(verbs.add_parser("migrate-receive", help="take a domain from another host"))
    _verify(verbs.add_parser("verify", help="check that a file is whole and sound"))
    _inspect(verbs.add_parser("inspect", help="show what a file holds"))
    _devices(verbs.add_parser("devices", help="the state of a domain's devices alone"))
    _status(verbs.add_parser("status", help="ask all parties about a domain"))
    _recover(verbs.add_parser("recover", help="end what a killed operation began"))
    _cancel(verbs.add_parser("cancel", help="end an operation that goes on"))
    for name, text in (
        ("save-all", "save all domains, as before a shutdown"),
        ("restore-all", "bring them all back, as after a boot"),
    ):
        _ends(verbs.add_parser(name, help=text), _of("all_domains", name.replace("-", "_")))
    _lab(verbs.add_parser("lab", help="the embedded host"))
    return top


def _save(verb: argparse.ArgumentParser) -> None:
    after = verb.add_mutually_exclusive_group()
    after.add_argument("-c", dest="checkpoint", action="store_true", help="let it run on")
    after.add_argument("-p", dest="paused", action="store_true", help="leave it paused")
    verb.add_argument("--live", action="store_true", help="let it run while it is saved")
    policy.add_options(verb)
    verb.add_argument(
        "--compact", action="store_true", help="write what was written twice but once, at the end"
    )
    _has_step_timeout(verb)
    _has_timeout(verb, "for all of it, up to where the guest is let go of")
    verb.add_argument(
        "--no-verify", dest="check", action="store_false", help="do not read the record back"
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
    _has_timeout(verb, "for all of it, up to where the guest is let run")
    verb.add_argument("files", metavar="[CFG] FILE", type=Path, nargs="+", action=_OneOrTwo)
    _ends(verb, commands.restore)


def _migrate(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "-s",
        dest="command",
        metavar="CMD",
        default="ssh",
        help='what leads to HOST; "" makes HOST the whole command (default: %(default)s)',
    )
    verb.add_argument("-C", dest="config", metavar="CFG", type=Path, help="in place of its own")
    _has_flags(verb, e="leave no process there to see to its reboots", p="leave it paused there")
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
        type=policy.number(1, MOST),
        default=1,
        help="send its record by so many commands at once (default: %(default)s)",
    )
    policy.add_options(verb)
    _has_step_timeout(verb)
    _has_timeout(verb, "for all of it, up to where it may run there")
    verb.add_argument("domain", metavar="DOM", help="name or id")
    verb.add_argument("destination", metavar="HOST", help="as CMD takes it")
    _ends(verb, _of("migration", "migrate"))


def _receive(verb: argparse.ArgumentParser) -> None:
    _has_flags(
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
        type=_of("migration", "features"),
        default=frozenset(),
        help="what the sender puts around the record, as --preflight offered it",
    )
    which = verb.add_mutually_exclusive_group()
    which.add_argument(
        "--streams",
        metavar="N",
        type=policy.number(2, MOST),
        help="take the record from so many commands, which have the same token",
    )
    which.add_argument(
        "--stream",
        metavar="N",
        type=policy.number(1, MOST - 1),
        help="be one of the others of these, counted from 1",
    )
    verb.add_argument(
        "--token",
        metavar="TOKEN",
        type=_of("migration", "token"),
        help="what tells them from others",
    )
    _has_timeout(verb, "for all of it, up to where it lives here")
    _ends(verb, _of("migration", "migrate_receive"))


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
    _ends(verb, _of("recovery", "recover"))


def _cancel(verb: argparse.ArgumentParser) -> None:
    _has_timeout(verb, "for it to end")
    verb.add_argument("domain", metavar="DOM", help="name or id")
    _ends(verb, _of("recovery", "cancel"))


def _lab(verb: argparse.ArgumentParser) -> None:
    acts = verb.add_subparsers(metavar="ACT", required=True, parser_class=_Parser)
    for name, run, text in (
        ("up", _of("lab", "up"), "start a host in a folder"),
        ("down", _of("lab", "down"), "end its domains and the host"),
    ):
        act = acts.add_parser(name, help=text)
        act.add_argument("folder", metavar="DIR", type=Path, nargs="?")
        _ends(act, run)
    create = acts.add_parser("create", help="start a domain from an xl.cfg")
    create.add_argument("-p", dest="paused", action="store_true", help="leave it paused")
    create.add_argument("--kvm", action="store_true", help="run it on /dev/kvm, not emulated")
    create.add_argument("config", metavar="CFG", type=Path)
    _ends(create, _of("lab", "create"))
    _ends(acts.add_parser("list", help="the domains there are"), _of("lab", "list_domains"))
    for name, run, text in (
        ("pause", _of("lab", "pause"), "hold a domain"),
        ("unpause", _of("lab", "unpause"), "let a held domain run"),
        ("console", _of("lab", "console"), "talk to its serial port (leave with Ctrl-])"),
        ("destroy", _of("lab", "destroy"), "end a domain at once"),
    ):
        act = acts.add_parser(name, help=text)
        act.add_argument("domain", metavar="NAME", help="name or id")
        _ends(act, run)


def _of(module: str, name: str) -> Callable[[Any], Any]:
    """Return a command, or the type of an argument, of a module that is loaded by the call."""

    def run(given: Any) -> Any:
        return getattr(import_module(f"xenqemu.cli.{module}"), name)(given)

    return run


def _has_flags(verb: argparse.ArgumentParser, **letters: str) -> None:
    """Give a command options of a letter, with what they mean; `options` holds those given."""
    verb.set_defaults(options=[])
    for letter, text in letters.items():
        verb.add_argument(
            f"-{letter}", dest="options", action="append_const", const=letter, help=text
        )


def _has_step_timeout(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--step-timeout",
        type=_seconds,
        metavar="SECONDS",
        help="for the guest to take the request, and again to suspend (default: by the settings)",
    )


def _has_timeout(verb: argparse.ArgumentParser, what: str) -> None:
    verb.add_argument("--timeout", type=_seconds, metavar="SECONDS", help=what)


def _ends(verb: argparse.ArgumentParser, run: commands.Command) -> None:
    """Give a command what all have: its function, and `--json`."""
    verb.add_argument("--json", action="store_true", help="answer in JSON, for programs")
    verb.set_defaults(run=run)
