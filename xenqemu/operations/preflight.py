"""Whether another host can take a guest, asked before the guest is touched.

A xenqemu there answers for itself, with every reason.  Where there is none, what xl lists there
is checked, if it can be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from xenqemu.errors import FormatError, HostError, ProtocolError, UsageError
from xenqemu.formats.migration import wrapping
from xenqemu.formats.migration.preflight_messages import (
    MAX_JSON,
    PreflightAnswer,
    PreflightQuestion,
)
from xenqemu.formats.migration.stream_chunks import MOST, STREAMS
from xenqemu.formats.migration.wrapping import DIGEST, ZSTD
from xenqemu.host.findings import Finding, refusal_texts
from xenqemu.host.peer.command import NOT_FOUND, OnStderrLine, ask
from xenqemu.host.peer.rendezvous import new_token
from xenqemu.host.peer.route import XENQEMU, XL, Route, Rune
from xenqemu.host.protocol import Host, Needs
from xenqemu.operations.check_restore import takeable
from xenqemu.shown_text import shown

MOST_REASONS = 20
"""Objections of another host that an error repeats."""

NOBODY = "there is no xenqemu at the end of {!r}"

ELSEWHERE = "elsewhere"
"""The key of what another host says."""

SHOWN = 80
"""Bytes that an error repeats of what came in place of an answer."""


@dataclass(frozen=True)
class MigrationPlan:
    """A guest to send: what it needs, the route, the receiver's options.

    With `compress` its save file is compressed on the way; `streams` is the number of streams.
    """

    needs: Needs
    route: Route
    options: tuple[str, ...] = ()
    compress: bool = False
    streams: int = 1


@dataclass(frozen=True)
class Agreement:
    """How a guest is sent: the command that receives it, and how its save file is wrapped.

    Each of the `extra` commands adds a stream to the same receiver.
    """

    rune: Rune
    features: frozenset[str] = frozenset()
    extra: tuple[Rune, ...] = ()


def agree(host: Host, plan: MigrationPlan, on_stderr: OnStderrLine) -> Agreement:
    """Ask the other host whether it takes a guest, and return how to send it there.

    Raises `HostError` with all reasons why it does not, or if it cannot be asked; `ProtocolError`
    if it answers what makes no sense; `UsageError` for more streams than there can be.
    """
    if not 1 <= plan.streams <= MOST:
        raise UsageError(f"streams: expected 1 to {MOST}, got {plan.streams}")
    asked = (_ASK[program](host, plan, on_stderr) for program in plan.route.programs)
    agreed = next(filter(None, asked), None)
    if agreed is None:
        raise HostError(NOBODY.format(plan.route.name))
    if plan.compress and ZSTD not in agreed.features:
        if ZSTD not in wrapping.known():
            raise HostError("this host cannot compress: its Python has no zstandard")
        raise HostError(f"{plan.route.name} cannot take a compressed save file")
    if plan.streams > 1 and not agreed.extra:
        raise HostError(f"{plan.route.name} cannot take a save file over {plan.streams} streams")
    return agreed


def answer(host: Host, question: PreflightQuestion) -> PreflightAnswer:
    """Return this host's answer to one that wants to send a guest here."""
    needs = Needs(
        question.config,
        question.image,
        question.context,
        question.cpuid,
        moving=question.host == host.identity,
        devices=question.devices,
    )
    objections = refusal_texts(takeable(host, needs, question.config))
    return PreflightAnswer((*wrapping.known(), STREAMS), tuple(objections))


def found_there(
    host: Host, needs: Needs, route: Route, on_stderr: OnStderrLine
) -> Iterator[Finding]:
    """Yield what the other host has against a guest, as a migration would ask it.

    Where it cannot be asked, or only by its lists, that is found.
    """
    try:
        asked = XENQEMU in route.programs
        told = _answer(host, needs, route, on_stderr) if asked else None
    except (HostError, ProtocolError) as error:
        yield Finding.refusal(ELSEWHERE, error)
        return
    if told is not None:
        for each in told.objections:
            yield Finding.refusal(ELSEWHERE, HostError(f"{route.name}: {shown(each)}"))
    elif route.command:
        yield Finding.warning(
            ELSEWHERE, f"there is no xenqemu on {route.name}: only what xl lists there is checked"
        )
        for found in _by_lists(host, needs, route, on_stderr):
            yield found._replace(text=f"{route.name}: {found.text}")
    elif asked:
        yield Finding.refusal(ELSEWHERE, HostError(NOBODY.format(route.name)))
    else:
        yield Finding.warning(ELSEWHERE, f"nobody can tell what {route.name!r} leads to")


def _by_xenqemu(host: Host, plan: MigrationPlan, on_stderr: OnStderrLine) -> Agreement | None:
    """Ask a xenqemu there; return None if there is none."""
    needs, route = plan.needs, plan.route
    found = _answer(host, needs, route, on_stderr)
    if found is None:
        return None
    _refuse(plan, found.objections)
    features = frozenset(wrapping.known()) & frozenset(found.features)
    features &= {DIGEST, ZSTD} if plan.compress else {DIGEST}
    options = list(plan.options)
    if features:
        options += ["--with", ",".join(sorted(features))]
    streams = plan.streams if STREAMS in found.features else 1
    if streams == 1:
        return Agreement(route.receiver(XENQEMU, *options), features)
    token = "--token", new_token()
    others = map(str, range(1, streams))
    extra = tuple(route.receiver(XENQEMU, "--stream", each, *token) for each in others)
    options += ["--streams", str(streams), *token]
    return Agreement(route.receiver(XENQEMU, *options), features, extra)


def _answer(
    host: Host, needs: Needs, route: Route, on_stderr: OnStderrLine
) -> PreflightAnswer | None:
    """Return what a xenqemu there answers, None if there is none."""
    question = PreflightQuestion(
        needs.config,
        host.identity,
        needs.image_version,
        needs.context,
        needs.cpuid,
        needs.devices,
    )
    rune = route.receiver(XENQEMU, "--preflight")
    said = ask(rune, question.dump(), MAX_JSON, on_stderr, host.deadlines)
    if said.status == NOT_FOUND:
        return None
    if said.status:
        raise HostError(f"{route.name} cannot be asked: {said.ending}")
    return _parsed(said.data)


def _parsed(data: bytes) -> PreflightAnswer:
    try:
        return PreflightAnswer.parse(data)
    except FormatError as error:
        got = repr(data[:SHOWN])[1:]
        raise ProtocolError(f"expected an answer of xenqemu, got {got}: {error}") from error


def _by_xl(host: Host, plan: MigrationPlan, on_stderr: OnStderrLine) -> Agreement:
    """Ask xl there; a command given as a whole is not asked: what it runs is unknown."""
    if plan.route.command:
        _refuse(plan, refusal_texts(_by_lists(host, plan.needs, plan.route, on_stderr)))
    return Agreement(plan.route.receiver(XL, *plan.options))


def _by_lists(host: Host, needs: Needs, route: Route, on_stderr: OnStderrLine) -> Iterator[Finding]:
    """Return what is found by the lists that xl prints there."""

    def output(*words: str) -> str:
        said = ask(route.run(XL, *words), b"", MAX_JSON, on_stderr, host.deadlines)
        return said.data.decode(errors="replace") if said.status == 0 else ""

    return host.findings_elsewhere(needs, output("info"), output("list", "-v"))


_ASK = {XENQEMU: _by_xenqemu, XL: _by_xl}


def _refuse(plan: MigrationPlan, objections: Iterable[str]) -> None:
    """Raise `HostError` if there are any: the other host may say what it likes, and how much."""
    found = list(objections)
    reasons = [f"{number}. {shown(each)}" for number, each in enumerate(found[:MOST_REASONS], 1)]
    if len(found) > MOST_REASONS:
        reasons.append(f"and {len(found) - MOST_REASONS} more")
    if reasons:
        name, where = shown(plan.needs.config.name), plan.route.name
        raise HostError(f"{where} cannot take {name}: {'; '.join(reasons)}")
