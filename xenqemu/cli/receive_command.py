"""`xenqemu migrate-receive [-e] [-p]`, at the other end of `migrate`, ours or xl's.

Or one of its extra streams, with the same token.
"""

from __future__ import annotations

import argparse
import re
import signal
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from xenqemu.cli.arguments import add_json_and_run, number
from xenqemu.cli.option_arguments import add_options, options_of
from xenqemu.errors import UsageError
from xenqemu.formats.migration.stream_chunks import MOST
from xenqemu.operations.options import ReceiveOptions

if TYPE_CHECKING:
    from xenqemu.host.peer.rendezvous import Rendezvous
    from xenqemu.host.protocol import Host
    from xenqemu.settings.hooks import Hooks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_options(parser, ReceiveOptions)
    for flag in ("-d", "-F"):
        parser.add_argument(flag, action="store_true", help="No effect, as with xl.")
    parser.add_argument(
        "--preflight", action="store_true", help="Only check whether the domain could be received."
    )
    parser.add_argument(
        "--with",
        dest="features",
        metavar="FEATURE,…",
        type=_features,
        default=frozenset(),
        help="How the sender wraps the save file, as --preflight offered it.",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--streams",
        metavar="N",
        type=number(2, MOST),
        help="Take the save file over N streams: this command and others with the same token.",
    )
    which.add_argument(
        "--stream",
        metavar="N",
        type=number(1, MOST - 1),
        help="Be one of these others, counted from 1.",
    )
    parser.add_argument(
        "--token", metavar="TOKEN", type=_token, help="Identifies the streams of one migration."
    )
    add_json_and_run(parser, run)


def run(chosen: argparse.Namespace) -> None:
    """Receive the domain, or answer its preflight, or be an extra stream."""
    from xenqemu.choose_host import open_host
    from xenqemu.cli import terminal
    from xenqemu.cli.chosen_settings import settings_of
    from xenqemu.formats.migration.preflight_messages import MAX_JSON, PreflightQuestion
    from xenqemu.formats.migration.stream_chunks import READY
    from xenqemu.host.peer.rendezvous import joined
    from xenqemu.host.peer.wire import standard_wire
    from xenqemu.operations.preflight import answer
    from xenqemu.system.deadline import Deadline

    settings = settings_of(chosen)
    if bool(chosen.token) != bool(chosen.streams or chosen.stream):
        raise UsageError("--token goes with --streams or --stream, and only with them")
    with open_host(chosen.host, settings=settings) as host:
        if chosen.preflight:
            with standard_wire() as wire:
                deadline = Deadline.after(host.deadlines.peer_answer)
                question = PreflightQuestion.parse(wire.read_all(MAX_JSON, deadline))
                reply = answer(host, question).dump()
            terminal.reply(reply)
        elif chosen.stream:
            with joined(host.journals, chosen.token, chosen.stream, host.deadlines):
                terminal.reply(READY)
        else:
            _receive(host, chosen, settings.hooks)


def _receive(host: Host, chosen: argparse.Namespace, hooks: Hooks) -> None:
    from xenqemu.cli import terminal
    from xenqemu.cli.hooked import hooked, tell_passed_over
    from xenqemu.host.peer.peer_messages import sender_at_standard_streams
    from xenqemu.operations.receive import receive

    options = options_of(chosen, ReceiveOptions)
    _ignore_signals()
    tell_passed_over(hooks, "receive")
    with _rendezvous(chosen, host) as streams, sender_at_standard_streams(host.deadlines) as peer:
        domid = receive(
            host,
            peer,
            options,
            features=chosen.features,
            rendezvous=streams,
            hooks=partial(hooked, hooks),
        )
    terminal.aside(f"received domain {domid}")


def _rendezvous(
    chosen: argparse.Namespace, host: Host
) -> AbstractContextManager[Rendezvous | None]:
    """Return the rendezvous of all streams of the save file, if it comes over several."""
    from xenqemu.host.peer.rendezvous import rendezvous

    if chosen.streams:
        return rendezvous(host.journals, chosen.token, chosen.streams, host.deadlines)
    return nullcontext()


def _features(text: str) -> frozenset[str]:
    """Return the features that `--with` names; raise `UsageError` for unknown ones."""
    from xenqemu.formats.migration import wrapping

    named = frozenset(text.split(","))
    strange = named.difference(wrapping.known())
    if strange:
        raise UsageError(f"--with {text}: {', '.join(sorted(strange))} is not known here")
    return named


def _token(text: str) -> str:
    """Return the token of a migration's streams; raise `UsageError` if it is malformed."""
    from xenqemu.host.peer.rendezvous import DIGITS

    if not re.fullmatch(f"[0-9a-f]{{{DIGITS}}}", text):
        raise UsageError(f"--token {text}: expected {DIGITS} hexadecimal digits")
    return text


def _ignore_signals() -> None:
    """Ignore signals that ask us to end: a receiver ends when its sender hangs up.

    The ssh session that started us may be killed, by a signal to its group, while we clean up after
    that.  The programs that we start get signals as usual, since handlers are not inherited.
    """
    for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, lambda *_: None)
