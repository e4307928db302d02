r"""What two hosts say to each other while a guest migrates: xl's migration protocol, without I/O.

::

    receiver   "xl migration receiver ready, send binary domain data.\n"    banner, without a NUL
    sender     an xl save file up to libxl's END (modules xl, libxl)
    receiver   "domain received, ready to unpause\0"                        ready
    sender     "domain is yours, you are cleared to unpause\0"              go
    receiver   "my copy unpause results are as follows\0"                   report
    receiver   u8 status: 0, the guest runs there                           started
                          else it failed, and nothing is left there:        failed
    receiver   "domain is yours, you are cleared to unpause\0"              back

Once go is written the guest is the receiver's, unless back follows.  A receiver that gives up while
it waits for go reports too, with a status that is not 0; the sender may have sent go meanwhile.

The machine is the two tables below, the same for both sides.  What is not in them raises, and
leaves the machine where it was.  Source: tools/xl/xl_migrate.c.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

from xenqemu.errors import ProtocolError


class Role(Enum):
    """The two sides of a migration."""

    SENDER = "sender"
    RECEIVER = "receiver"


class Message(Enum):
    """The messages; the values are xl's names for them."""

    BANNER = "banner"
    READY = "ready message"
    GO = "GO message"
    REPORT = "success/failure report message"
    STARTED = "success status"
    FAILED = "failure status"
    BACK = "permission for sender to resume"


class HandshakeState(Enum):
    """How far the migration is."""

    OPENED = auto()
    SAVE_FILE = auto()
    RECEIVED = auto()
    CLEARED = auto()
    REPORTED = auto()
    GIVEN_UP = auto()
    FAILED = auto()
    MIGRATED = auto()
    RETURNED = auto()


_YOURS = b"domain is yours, you are cleared to unpause\0"

WORDS: Mapping[Message, tuple[Role, bytes]] = {
    Message.BANNER: (Role.RECEIVER, b"xl migration receiver ready, send binary domain data.\n"),
    Message.READY: (Role.RECEIVER, b"domain received, ready to unpause\0"),
    Message.GO: (Role.SENDER, _YOURS),
    Message.REPORT: (Role.RECEIVER, b"my copy unpause results are as follows\0"),
    Message.STARTED: (Role.RECEIVER, b"\0"),
    Message.FAILED: (Role.RECEIVER, b"\3"),
    Message.BACK: (Role.RECEIVER, _YOURS),
}
"""Who sends each message, in which bytes; a failure is any byte but 0, we send ERROR_FAIL."""

TRANSITIONS: Mapping[HandshakeState, Mapping[Message, HandshakeState]] = {
    HandshakeState.OPENED: {Message.BANNER: HandshakeState.SAVE_FILE},
    HandshakeState.SAVE_FILE: {Message.READY: HandshakeState.RECEIVED},
    HandshakeState.RECEIVED: {
        Message.GO: HandshakeState.CLEARED,
        Message.REPORT: HandshakeState.GIVEN_UP,
    },
    HandshakeState.CLEARED: {Message.REPORT: HandshakeState.REPORTED},
    HandshakeState.REPORTED: {
        Message.STARTED: HandshakeState.MIGRATED,
        Message.FAILED: HandshakeState.FAILED,
    },
    HandshakeState.GIVEN_UP: {Message.FAILED: HandshakeState.FAILED},
    HandshakeState.FAILED: {Message.BACK: HandshakeState.RETURNED},
}
"""Which message may come next, and where it leads; MIGRATED and RETURNED are the ends."""

SHOWN = 64
"""Bytes that an error repeats of what was received instead of a message."""

HINT = "; is there a login script over there that prints on standard output?"


class Handshake:
    """One side of one migration; `code` is the receiver's status once it was received.

    `feed` takes the bytes that are received, `heard` returns the messages in them, and `say` the
    bytes to send.  The save file is not fed: it is sent and received in the state SAVE_FILE.
    """

    def __init__(self, role: Role) -> None:
        self.role = role
        self.state = HandshakeState.OPENED
        self.code = 0
        self._unread = b""
        self._offset = 0

    def say(self, message: Message) -> bytes:
        """Return the bytes of a message of ours; raise `ValueError` if it may not be sent now."""
        speaker, words = WORDS[message]
        if speaker is not self.role or message not in self._next:
            raise ValueError(f"no {message.value} can be sent by the {self.role.value} now")
        self.state = self._next[message]
        return words

    def feed(self, data: bytes) -> None:
        """Take some bytes from the other side, split anywhere."""
        self._unread += data

    def heard(self) -> Message | None:
        """Return the next message that is here whole, None if there is none.

        Raises `ProtocolError` as soon as what is here cannot be the start of an allowed message.
        """
        if not self._unread:
            return None
        message = self._begun()
        size = len(WORDS[message][1])
        if len(self._unread) < size:
            return None
        if message in {Message.STARTED, Message.FAILED}:
            self.code = self._unread[0]
        self.state = self._next[message]
        self._unread = self._unread[size:]
        self._offset += size
        return message

    @property
    def awaited(self) -> str:
        """What the other side may send next, in xl's words."""
        names = [message.value for message in self._next if WORDS[message][0] is not self.role]
        return " or ".join(names) or "nothing"

    @property
    def _next(self) -> Mapping[Message, HandshakeState]:
        return TRANSITIONS.get(self.state, {})

    def _begun(self) -> Message:
        """Return the message that the unread bytes are, or begin."""
        for message in self._next:
            speaker, words = WORDS[message]
            begins = words.startswith(self._unread[: len(words)])
            if message is Message.FAILED:
                begins = self._unread[0] != 0
            if speaker is not self.role and begins:
                return message
        got = repr(self._unread[:SHOWN])[1:]
        hint = HINT if self.state is HandshakeState.OPENED else ""
        raise ProtocolError(
            f"byte {self._offset} of what the other host says: "
            f"expected {self.awaited}, got {got}{hint}"
        )
