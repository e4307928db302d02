"""`xenqemu migrate-receive [-e] [-p]`, at the other end of `migrate`, ours or xl's.

Or one extra stream to it, which has the same token.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
from contextlib import AbstractContextManager, nullcontext

from xenqemu.choose_host import open_host
from xenqemu.cli import show
from xenqemu.cli.arguments import ends, number
from xenqemu.cli.option_arguments import add_options, options_of
from xenqemu.errors import UsageError
from xenqemu.formats.migration import wrapping
from xenqemu.formats.migration.preflight_messages import MAX_JSON, PreflightQuestion
from xenqemu.formats.migration.stream_chunks import MOST, READY
from xenqemu.host.peer.peer_messages import sender_at_standard_streams
from xenqemu.host.peer.rendezvous import DIGITS, Rendezvous, joined, rendezvous
from xenqemu.host.protocol import Host
from xenqemu.operations.options import ReceiveOptions
from xenqemu.operations.preflight import answer
from xenqemu.operations.receive import receive
from xenqemu.settings.xenqemu_conf import read_settings


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    add_options(verb, ReceiveOptions)
    for flag in ("-d", "-F"):
        verb.add_argument(flag, action="store_true", help="Nothing, as with xl.")
    verb.add_argument("--preflight", action="store_true", help="Only say whether it could be.")
    verb.add_argument(
        "--with",
        dest="features",
        metavar="FEATURE,…",
        type=_features,
        default=frozenset(),
        help="What the sender puts around the record, as --preflight offered it.",
    )
    which = verb.add_mutually_exclusive_group()
    which.add_argument(
        "--streams",
        metavar="N",
        type=number(2, MOST),
        help="Take the record from so many commands, which have the same token.",
    )
    which.add_argument(
        "--stream",
        metavar="N",
        type=number(1, MOST - 1),
        help="Be one of the others of these, counted from 1.",
    )
    verb.add_argument("--token", metavar="TOKEN", type=_token, help="What tells them from others.")
    ends(verb, run)


def run(chosen: argparse.Namespace) -> None:
    """Receive the domain, or do what else its sender wants of us."""
    if bool(chosen.token) != bool(chosen.streams or chosen.stream):
        raise UsageError("--token goes with --streams or --stream, and only with them")
    with open_host(chosen.host, settings=read_settings(chosen.conf)) as host:
        if chosen.preflight:
            question = PreflightQuestion.parse(sys.stdin.buffer.read(MAX_JSON + 1))
            sys.stdout.write(answer(host, question).dump().decode())
        elif chosen.stream:
            with joined(host.journals, chosen.token, chosen.stream, host.deadlines):
                sys.stdout.write(READY.decode())
                sys.stdout.flush()
        else:
            _receive(host, chosen)


def _receive(host: Host, chosen: argparse.Namespace) -> None:
    options = options_of(chosen, ReceiveOptions)
    _outlive_the_command()
    with _met(chosen, host) as streams, sender_at_standard_streams(host.deadlines) as peer:
        domid = receive(host, peer, options, features=chosen.features, rendezvous=streams)
    show.aside(f"received domain {domid}")


def _met(chosen: argparse.Namespace, host: Host) -> AbstractContextManager[Rendezvous | None]:
    """Return where all streams of the record meet, if it comes by several."""
    if chosen.streams:
        return rendezvous(host.journals, chosen.token, chosen.streams, host.deadlines)
    return nullcontext()


def _features(text: str) -> frozenset[str]:
    """Return the features that `--with` names; raise `UsageError` for what is not known here."""
    named = frozenset(text.split(","))
    strange = named.difference(wrapping.known())
    if strange:
        raise UsageError(f"--with {text}: {', '.join(sorted(strange))} is not known here")
    return named


def _token(text: str) -> str:
    """Return the token of a record's streams; raise `UsageError` for what cannot be one."""
    if not re.fullmatch(f"[0-9a-f]{{{DIGITS}}}", text):
        raise UsageError(f"--token {text}: expected {DIGITS} hexadecimal digits")
    return text


def _outlive_the_command() -> None:
    """Take no signal for an order to end: what ends a receiver is that its sender hangs up.

    Whoever started us may be ended, by a signal to all of it, while we clear up after that.  The
    programs that we start take signals as ever, since a handler does not pass to them.
    """
    for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, lambda *_: None)
