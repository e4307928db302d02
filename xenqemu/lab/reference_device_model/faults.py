"""Faults of single commands, as data: ``faults={"stop": hang, "cont": late(0.5)}``.

A fault is a function of the `Turn` that decides what is done and answered; the key "greeting" is
that of the greeting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Event

from xenqemu.lab.reference_device_model.qmp_wire import Gone, QmpClient
from xenqemu.lab.reference_device_model.run_states import Died

Message = Mapping[str, object]


@dataclass(frozen=True)
class Turn:
    """One request on its way: `act` carries it out and returns the reply, which is not yet sent."""

    act: Callable[[], Message]
    echo: Message
    client: QmpClient
    stopping: Event

    def refuse(self, kind: str, words: str) -> None:
        """Send an error reply."""
        self.client.send({**self.echo, "error": {"class": kind, "desc": words}})


Fault = Callable[[Turn], None]


def play(turn: Turn) -> None:
    """No fault: carry it out and answer."""
    turn.client.send(turn.act())


def reply_lost(turn: Turn) -> None:
    """Carry it out, then hang up instead of answering."""
    turn.act()
    raise Gone("the reply is lost")


def hang(turn: Turn) -> None:
    """Do nothing, and answer no request any more."""
    turn.stopping.wait()


def hang_after(turn: Turn) -> None:
    """Carry it out, then answer no request any more."""
    turn.act()
    turn.stopping.wait()


def die(_turn: Turn) -> None:
    """Crash before anything is done."""
    raise Died("by request")


def late(seconds: float) -> Fault:
    """Carry it out at once and answer only after `seconds`."""

    def fault(turn: Turn) -> None:
        reply = turn.act()
        turn.stopping.wait(seconds)
        turn.client.send(reply)

    return fault


def refuse(kind: str, words: str) -> Fault:
    """Do nothing and answer with an error."""
    return lambda turn: turn.refuse(kind, words)


def answer(value: object) -> Fault:
    """Do nothing and return `value`."""
    return lambda turn: turn.client.send({**turn.echo, "return": value})


def garbage(data: bytes) -> Fault:
    """Do nothing and answer with these bytes."""
    return lambda turn: turn.client.send_raw(data)


def last_words(data: bytes) -> Fault:
    """Do nothing, answer with these bytes and hang up."""

    def fault(turn: Turn) -> None:
        turn.client.send_raw(data)
        raise Gone("said all")

    return fault
