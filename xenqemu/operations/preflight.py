"""Whether another host can take a guest, asked before the guest is touched.

A xenqemu there answers for itself, with every reason.  Where there is none, xl's own lists tell
what they can, if they can be had.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from xenqemu.errors import FormatError, HostError, ProtocolError, UsageError
from xenqemu.formats.migration import wrapping
from xenqemu.formats.migration.preflight_messages import MAX_JSON, Answer, Question
from xenqemu.formats.migration.stream_chunks import MOST, STREAMS
from xenqemu.formats.migration.wrapping import DIGEST, ZSTD
from xenqemu.host.peer.command import NOT_FOUND, Listener, ask
from xenqemu.host.peer.rendezvous import new_token
from xenqemu.host.peer.route import XENQEMU, XL, Route
from xenqemu.host.protocol import Host, Needs

SHOWN = 80
"""Bytes that an error repeats of what came in place of an answer."""


@dataclass(frozen=True)
class Errand:
    """A guest that is to be sent: what it needs, the way, the options of whoever receives it.

    With `compress` its record is packed on the way, which is by so many `streams`.
    """

    needs: Needs
    route: Route
    options: tuple[str, ...] = ()
    compress: bool = False
    streams: int = 1


@dataclass(frozen=True)
class Agreement:
    """How a guest is sent: the command that receives it, and what is around its record.

    The `further` commands lead to the same receiver, with a stream each.
    """

    rune: str
    features: frozenset[str] = frozenset()
    further: tuple[str, ...] = ()


def agree(host: Host, errand: Errand, listener: Listener) -> Agreement:
    """Ask the other host whether it takes a guest, and return how to send it there.

    Raises `HostError` with all reasons why it does not, or if it cannot be asked; `ProtocolError`
    if it answers what makes no sense; `UsageError` for more streams than there can be.
    """
    if not 1 <= errand.streams <= MOST:
        raise UsageError(f"a record goes by 1 to {MOST} streams, not by {errand.streams}")
    asked = (_ASK[program](host, errand, listener) for program in errand.route.programs)
    agreed = next(filter(None, asked), None)
    if agreed is None:
        raise HostError(f"there is no xenqemu at the end of {errand.route.host!r}")
    if errand.compress and ZSTD not in agreed.features:
        here = ZSTD in wrapping.known()
        where = errand.route.host if here else "this host, where Python has no zstandard"
        raise HostError(f"a compressed record is nothing for {where}")
    if errand.streams > 1 and not agreed.further:
        raise HostError(f"a record in {errand.streams} streams is nothing for {errand.route.host}")
    return agreed


def answer(host: Host, question: Question) -> Answer:
    """Return what this host says to one that wants to send a guest here."""
    moving = question.host == host.identity
    needs = Needs(question.config, question.image, question.context, question.cpuid, moving)
    return Answer((*wrapping.known(), STREAMS), tuple(map(str, host.objections(needs))))


def _by_xenqemu(host: Host, errand: Errand, listener: Listener) -> Agreement | None:
    """Ask a xenqemu there; return None if there is none."""
    needs, route = errand.needs, errand.route
    question = Question(
        needs.config, host.identity, needs.image_version, needs.context, needs.cpuid
    )
    rune = route.receiver(XENQEMU, "--preflight")
    said = ask(rune, question.dump(), MAX_JSON, listener, host.deadlines)
    if said.status == NOT_FOUND:
        return None
    if said.status:
        raise HostError(f"{route.host} cannot be asked: {said.ending}")
    found = _parsed(said.data)
    _refuse(errand, found.objections)
    features = frozenset(wrapping.known()) & frozenset(found.features)
    features &= {DIGEST, ZSTD} if errand.compress else {DIGEST}
    options = list(errand.options)
    if features:
        options += ["--with", ",".join(sorted(features))]
    streams = errand.streams if STREAMS in found.features else 1
    if streams == 1:
        return Agreement(route.receiver(XENQEMU, *options), features)
    token = "--token", new_token()
    others = map(str, range(1, streams))
    further = tuple(route.receiver(XENQEMU, "--stream", each, *token) for each in others)
    options += ["--streams", str(streams), *token]
    return Agreement(route.receiver(XENQEMU, *options), features, further)


def _parsed(data: bytes) -> Answer:
    try:
        return Answer.parse(data)
    except FormatError as error:
        got = repr(data[:SHOWN])[1:]
        raise ProtocolError(f"expected an answer of xenqemu, got {got}: {error}") from error


def _by_xl(host: Host, errand: Errand, listener: Listener) -> Agreement:
    """Ask xl there; a command that stands as it is leads to nobody knows what, and is not asked."""

    def told(*words: str) -> str:
        said = ask(errand.route.run(XL, *words), b"", MAX_JSON, listener, host.deadlines)
        return said.data.decode(errors="replace") if said.status == 0 else ""

    if errand.route.command:
        objections = host.objections_elsewhere(errand.needs, told("info"), told("list", "-v"))
        _refuse(errand, map(str, objections))
    return Agreement(errand.route.receiver(XL, *errand.options))


_ASK = {XENQEMU: _by_xenqemu, XL: _by_xl}


def _refuse(errand: Errand, objections: Iterable[str]) -> None:
    """Raise `HostError` if there are any."""
    reasons = [f"{number}. {reason}" for number, reason in enumerate(objections, 1)]
    if reasons:
        name, where = errand.needs.config.name, errand.route.host
        raise HostError(f"{where} cannot take {name}: {'; '.join(reasons)}")
