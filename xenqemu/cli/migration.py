"""The commands by which guests go from host to host."""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
from contextlib import AbstractContextManager, nullcontext

from xenqemu.cli import precopy_options, show
from xenqemu.cli.chosen import config_of, host_of
from xenqemu.cli.hooked import hooked
from xenqemu.errors import UsageError
from xenqemu.formats.migration import wrapping
from xenqemu.formats.migration.preflight_messages import MAX_JSON, Question
from xenqemu.formats.migration.stream_chunks import READY
from xenqemu.host import domain_state
from xenqemu.host.peer.peer import sender_at_standard_streams
from xenqemu.host.peer.rendezvous import DIGITS, Meeting, joined, meeting
from xenqemu.host.peer.route import Route
from xenqemu.host.protocol import Host
from xenqemu.operations.migrate import migrate as migrate_domain
from xenqemu.operations.preflight import answer
from xenqemu.operations.receive import receive
from xenqemu.settings.xenqemu_conf import read_settings

PASSED_ON = ("e", "p")
"""Options that are the receiver's, as with xl."""


def migrate(chosen: argparse.Namespace) -> None:
    """`xenqemu migrate [-s CMD] [-C CFG] [-e] [-p] [-D] [--max-downtime TIME] … DOM HOST`."""
    settings = read_settings(chosen.conf)
    host = host_of(chosen, chosen.step_timeout, settings)
    domain = domain_state.find(host, chosen.domain)
    config = config_of(chosen.config)
    about = {"domid": domain.domid, "name": domain.name, "host": chosen.destination}
    with hooked(settings.hooks, "migrate", **about):
        migrate_domain(
            host,
            domain,
            Route(chosen.destination, chosen.command),
            options=tuple(f"-{letter}" for letter in PASSED_ON if letter in chosen.options),
            config=config,
            keep_domid=chosen.keep_domid,
            compress=chosen.compress,
            streams=chosen.streams,
            precopy=precopy_options.policy(chosen) if chosen.live else None,
            timeout=chosen.timeout or settings.deadlines.operation,
            observe=show.observer(as_lines_of_json=chosen.json),
            listener=_say,
        )
    if chosen.json:
        show.line(json.dumps({"migrated": chosen.domain, "to": chosen.destination}))
    else:
        show.line(f"migrated {chosen.domain} to {chosen.destination}")


def migrate_receive(chosen: argparse.Namespace) -> None:
    """`xenqemu migrate-receive [-e] [-p]`, at the other end of `migrate`, ours or xl's.

    Or one further stream to it, which has the same token.
    """
    if bool(chosen.token) != bool(chosen.streams or chosen.stream):
        raise UsageError("--token goes with --streams or --stream, and only with them")
    settings = read_settings(chosen.conf)
    host = host_of(chosen, settings=settings)
    if chosen.preflight:
        question = Question.parse(sys.stdin.buffer.read(MAX_JSON + 1))
        sys.stdout.write(answer(host, question).dump().decode())
        return
    if chosen.stream:
        with joined(host.journals, chosen.token, chosen.stream, host.deadlines):
            sys.stdout.write(READY.decode())
            sys.stdout.flush()
        return
    _outlive_the_command()
    with _met(chosen, host) as streams, sender_at_standard_streams(host.deadlines) as peer:
        domid = receive(
            host,
            peer,
            paused="p" in chosen.options,
            monitor="e" not in chosen.options,
            features=chosen.features,
            meeting=streams,
            timeout=chosen.timeout or settings.deadlines.operation,
        )
    _say(f"received domain {domid}")


def _met(chosen: argparse.Namespace, host: Host) -> AbstractContextManager[Meeting | None]:
    """Return where all streams of the record meet, if it comes by several."""
    if chosen.streams:
        return meeting(host.journals, chosen.token, chosen.streams, host.deadlines)
    return nullcontext()


def features(text: str) -> frozenset[str]:
    """Return the features that `--with` names; raise `UsageError` for what is not known here."""
    named = frozenset(text.split(","))
    strange = named.difference(wrapping.known())
    if strange:
        raise UsageError(f"--with {text}: {', '.join(sorted(strange))} is not known here")
    return named


def token(text: str) -> str:
    """Return the token of a record's streams; raise `UsageError` for what cannot be one."""
    if not re.fullmatch(f"[0-9a-f]{{{DIGITS}}}", text):
        raise UsageError(f"--token {text}: expected {DIGITS} hexadecimal digits")
    return text


def _outlive_the_command() -> None:
    """Take no signal for an order to end: what ends a receiver is that its sender hangs up.

    Whoever started us may be ended, by a signal to all of it, while we clear up after that.  The
    programs that we start take signals as ever, since a handler does not pass to them.
    """
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def _say(line: str) -> None:
    """Say something to people, aside."""
    print(show.printable(line), file=sys.stderr, flush=True)  # noqa: T201  stdout may be the wire
