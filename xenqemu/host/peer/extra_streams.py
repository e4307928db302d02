"""The extra streams by which a save file is sent to a receiver: a command for each.

They are started one by one, once the first has reached a receiver, so that ssh asks for one
password at a time; and each is connected before the guest is touched.  In the end all are closed
before the first one is waited for: the other host may be reading from any of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from xenqemu.errors import ProtocolError, ReplyLost
from xenqemu.formats.migration.stream_chunks import READY
from xenqemu.formats.stream.buffers import Buffer
from xenqemu.host.party_deadlines import DEFAULT_DEADLINES, Deadlines
from xenqemu.host.peer.command import OnStderrLine, Transport, carried, ignore_line
from xenqemu.host.peer.peer_messages import Peer, explained
from xenqemu.host.peer.route import Rune
from xenqemu.system.deadline import Deadline


class ExtraStream:
    """Stream `number` beside that of `peer`, through a command of its own."""

    def __init__(
        self,
        number: int,
        peer: Peer,
        transport: Transport,
        deadlines: Deadlines = DEFAULT_DEADLINES,
    ) -> None:
        self.wire = transport.wire
        self._number = number
        self._peer = peer
        self._transport = transport
        self._deadlines = deadlines

    def await_ready(self) -> None:
        """Wait until the receiver has it.

        Raises `ProtocolError` for any other answer, `ReplyLost` or `HostTimeout` for none.
        """
        seconds = self._deadlines.peer_stream
        deadline = Deadline.after(seconds)
        with explained(f"waiting for stream {self._number}", seconds, self._ending):
            said = b""
            while said != READY:
                piece = self.wire.read(len(READY) - len(said), deadline)
                said += piece
                if not READY.startswith(said):
                    raise ProtocolError(f"expected {READY!r}, got {said!r}")
                if not piece:
                    raise ReplyLost("the other host closed the connection")

    def writev(self, buffers: Sequence[Buffer]) -> int:
        """Send some bytes of the save file and return how many, for a `Sink`."""
        seconds = self._deadlines.peer_stall
        with explained(f"sending the save file by stream {self._number}", seconds, self._ending):
            return self.wire.writev(buffers, Deadline.after(seconds))

    def _ending(self) -> str:
        """Say how both commands ended: the receiver's last messages came by the first."""
        self.wire.hang_up()
        self._peer.wire.hang_up()
        first = self._peer.ending
        return "; ".join([*([first()] if first else []), self._transport.ending()])


@contextmanager
def streams_by(
    runes: Sequence[Rune],
    peer: Peer,
    on_stderr: OnStderrLine = ignore_line,
    deadlines: Deadlines = DEFAULT_DEADLINES,
) -> Iterator[tuple[ExtraStream, ...]]:
    """Run the commands that lead to a receiver beside that of `peer`, for the block.

    Raises as `ExtraStream.await_ready`.
    """
    wires = [peer.wire]
    streams = []
    with ExitStack() as stack:
        try:
            for number, rune in enumerate(runes, 1):
                transport = stack.enter_context(carried(rune, on_stderr, deadlines))
                wires.append(transport.wire)
                streams.append(ExtraStream(number, peer, transport, deadlines))
                streams[-1].await_ready()
            yield tuple(streams)
        finally:
            for wire in wires:
                wire.hang_up()
