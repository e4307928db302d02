"""The other host in a migration: the messages of the protocol, sent and received.

Errors say what was waited for and, on the sending side, how the command to the other host ended and
what it printed last: the reason is often only there ("Connection refused").

A message that could not be sent whole was not received either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from xenqemu.errors import HostError, HostTimeout, ProtocolError, ReplyLost
from xenqemu.formats.migration.handshake import Handshake, HandshakeState, Message, Role
from xenqemu.formats.stream.buffers import Buffer
from xenqemu.host.party_deadlines import DEFAULT_DEADLINES, Deadlines
from xenqemu.host.peer.command import OnStderrLine, carried, ignore_line
from xenqemu.host.peer.route import Rune
from xenqemu.host.peer.wire import Incoming, Wire, standard_wire
from xenqemu.system.deadline import Deadline

MOST = 4096
"""Bytes read at a time: more than all messages together have."""


class Peer:
    """The other host; `ending` ends the command that leads to it, and says how it ended."""

    def __init__(
        self,
        role: Role,
        wire: Wire,
        ending: Callable[[], str] | None = None,
        deadlines: Deadlines = DEFAULT_DEADLINES,
    ) -> None:
        self.handshake = Handshake(role)
        self.wire = wire
        self.ending = ending
        self._deadlines = deadlines

    def send(self, message: Message) -> None:
        """Send a message; raise `HostError` or `HostTimeout` if it was not sent."""
        words = self.handshake.say(message)
        seconds = self._deadlines.peer_message
        deadline = Deadline.after(seconds)
        with explained(f"sending the {message.value}", seconds, self.ending):
            while words:
                words = words[self.wire.writev([words], deadline) :]

    def receive(self) -> Message:
        """Return the next message of the other host.

        Raises `ProtocolError` for anything else, `ReplyLost` if it closed the connection,
        `HostTimeout` if it sent nothing.
        """
        seconds = self._message_timeout
        deadline = Deadline.after(seconds)
        with explained(f"waiting for its {self.handshake.awaited}", seconds, self.ending):
            while (message := self.handshake.heard()) is None:
                data = self.wire.read(MOST, deadline)
                if not data:
                    raise ReplyLost("the other host closed the connection")
                self.handshake.feed(data)
            return message

    def writev(self, buffers: Sequence[Buffer]) -> int:
        """Send some bytes of the save file and return how many, for a `Sink`."""
        seconds = self._deadlines.peer_stall
        with explained("sending the save file", seconds, self.ending):
            return self.wire.writev(buffers, Deadline.after(seconds))

    def save_file(self) -> Incoming:
        """Return the save file that is received, for a `Source`."""
        return Incoming(self.wire, self._deadlines.peer_stall)

    @property
    def _message_timeout(self) -> float:
        """Seconds to wait for the next message."""
        slow = {
            HandshakeState.OPENED: self._deadlines.peer_banner,
            HandshakeState.SAVE_FILE: self._deadlines.peer_ready,
        }
        return slow.get(self.handshake.state, self._deadlines.peer_message)


@contextmanager
def explained(doing: str, seconds: float, ending: Callable[[], str] | None) -> Iterator[None]:
    """Add to errors what was being done, and how the command to the other host ended."""

    def words(trouble: str) -> str:
        return f"{doing}: {trouble}{f'; {ending()}' if ending else ''}"

    try:
        yield
    except BrokenPipeError as error:
        raise HostError(words("the other host closed the connection")) from error
    except HostTimeout as error:
        raise HostTimeout(words(f"{error} for {seconds:g} s")) from error
    except (ReplyLost, ProtocolError) as error:
        raise type(error)(words(str(error))) from error


@contextmanager
def receiver_by(
    rune: Rune, on_stderr: OnStderrLine = ignore_line, deadlines: Deadlines = DEFAULT_DEADLINES
) -> Iterator[Peer]:
    """Run the command that leads to a receiver, for the block.

    After a block that ends well, the command has time to end by itself.
    """
    with carried(rune, on_stderr, deadlines) as transport:
        yield Peer(Role.SENDER, transport.wire, transport.ending, deadlines)
        transport.finish(deadlines.peer_message)


@contextmanager
def sender_at_standard_streams(deadlines: Deadlines = DEFAULT_DEADLINES) -> Iterator[Peer]:
    """Talk to a sender that started us, by standard input and output, for the block."""
    with standard_wire() as wire:
        yield Peer(Role.RECEIVER, wire, None, deadlines)
