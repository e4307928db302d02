"""The protocols: xenstore's packets, the save helper's messages and arguments."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from random import Random

from tests.doubles.xen.helper_talk import STREAM
from tests.fuzz import noise
from tests.fuzz.noise import Mutator
from tests.fuzz.pieces import Language, Piece, Pieces, one_of, pool
from tests.fuzz.texts import words_changed
from xenqemu.errors import BadRecord
from xenqemu.formats.helper.dialects import DIALECTS, RESTORE, SAVE, Dialect
from xenqemu.formats.helper.messages import (
    ERROR,
    LENGTH,
    NUMBER,
    Complete,
    HelperMessage,
    Log,
    Progress,
    Suspend,
    SwitchQemuLogdirty,
)
from xenqemu.formats.xenstore import HEADER, Op
from xenqemu.lab.xenstored import xs_wire

# The sound ones.


@cache
def talks() -> tuple[bytes, ...]:
    """The messages of a save helper, in every dialect."""
    return (STREAM, *map(_said, DIALECTS))


@cache
def saves() -> tuple[bytes, ...]:
    """The messages of the newest save helper in the course of a save."""
    said = (Log, Progress, Suspend, SwitchQemuLogdirty, Log, Complete)
    return (b"".join(DIALECTS[-1].pack(_message(cls)) for cls in said),)


def _said(dialect: Dialect) -> bytes:
    return b"".join(dialect.pack(_message(cls)) for cls in dialect.messages)


def _message(cls: type[HelperMessage]) -> HelperMessage:
    """Return a message whose numbers are that of an error's level, its strings a few words."""
    return cls(*("xc: error" if letter == "s" else ERROR for letter in cls.LAYOUT))


@cache
def argument_lists() -> tuple[bytes, ...]:
    """The save helper's arguments in every dialect, a NUL between each two."""
    return tuple(
        "\0".join(dialect.arguments(mode, {"io_fd": 3, "domid": 7, "cbflags": 0x4F})).encode()
        for dialect in DIALECTS
        for mode in (SAVE, RESTORE)
    )


@cache
def requests() -> tuple[bytes, ...]:
    """Requests to xenstored: nodes, watches and domains; a transaction."""
    plain = [
        (Op.WRITE, b"/local/domain/1/name\0guest"),
        (Op.MKDIR, b"/tool\0"),
        (Op.READ, b"/tool\0"),
        (Op.WATCH, b"/local\0token\0"),
        (Op.DIRECTORY, b"/local/domain\0"),
        (Op.DIRECTORY_PART, b"/local\0000\0"),
        (Op.SET_PERMS, b"/tool\0n0\0r1\0"),
        (Op.GET_PERMS, b"/tool\0"),
        (Op.RM, b"/tool\0"),
        (Op.INTRODUCE, b"1\0001\0001\0"),
        (Op.CONTROL, b"shutdown\0001\0"),
        (Op.RELEASE, b"1\0"),
        (Op.UNWATCH, b"/local\0token\0"),
    ]
    inside = [
        xs_wire.Packet(Op.TRANSACTION_START, 0, 0, b"\0"),
        xs_wire.Packet(Op.WRITE, 1, 1, b"a\0b"),
        xs_wire.Packet(Op.TRANSACTION_END, 2, 1, b"T\0"),
    ]
    numbered = (xs_wire.Packet(op, at, 0, said) for at, (op, said) in enumerate(plain))
    return _packed(numbered), _packed(inside)


@cache
def replies() -> tuple[bytes, ...]:
    """The replies of xenstored to the requests of `operations.answered`, in their order."""
    answers = [
        (Op.DIRECTORY, 0, b"name\0"),
        (Op.READ, 0, b"guest"),
        (Op.DIRECTORY, 0, b""),
        (Op.GET_PERMS, 0, b"n0\0r1\0"),
        (Op.GET_DOMAIN_PATH, 0, b"/local/domain/1\0"),
        (Op.TRANSACTION_START, 0, b"1\0"),
        (Op.WRITE, 1, b"OK\0"),
        (Op.TRANSACTION_END, 1, b"OK\0"),
        (Op.DIRECTORY, 0, b"0\0001\0"),
        (Op.READ, 0, b"guest"),
        (Op.READ, 0, b"guest"),
        (Op.READ, 0, b"/vm/c52dca42-e6df-11f1-a061-0df29b9903a9"),
        (Op.READ, 0, b"hvm"),
    ]
    return (
        _packed(xs_wire.Packet(op, at, tx, said) for at, (op, tx, said) in enumerate(answers, 1)),
    )


def _packed(messages: Iterable[xs_wire.Packet]) -> bytes:
    return b"".join(message.pack() for message in messages)


# Their damage.


def cut(data: bytes, header: int, length: slice, kind: str) -> Pieces:
    """Cut data into pieces that have a header, `length` being where it says what follows."""
    pieces, at = [], 0
    while at < len(data):
        if at + header > len(data):
            raise BadRecord(kind, at, f"a header of {header} bytes", "the end")
        end = at + header + int.from_bytes(data[at : at + header][length], "little")
        pieces.append(Piece(kind, data[at:end]))
        at = end
    return tuple(pieces)


def packets(data: bytes) -> Pieces:
    """Cut what is sent one way over xenstore's socket into packets."""
    return cut(data, HEADER.size, slice(12, 16), "packet")


def messages(data: bytes) -> Pieces:
    """Cut a save helper's output into its messages."""
    return cut(data, LENGTH.size, slice(0, 2), "message")


def packet(edit: Mutator) -> Mutator:
    """Return a mutator of a packet that edits its payload and corrects its length."""

    def edited(chance: Random, data: bytes) -> bytes:
        if len(data) < HEADER.size:
            return data
        op, req_id, tx_id, _ = HEADER.unpack_from(data)
        payload = edit(chance, data[HEADER.size :])
        if chance.random() < 0.2:
            op = chance.randrange(24)
        return HEADER.pack(op, req_id, tx_id, len(payload)) + payload

    return edited


STORE_WORDS = (
    *("/", "", "/local/domain", "/local/domain/1/name", "name", "/tool", "//", "/a/", "token"),
    *("/a" * 1536, "x" * 3072, "é", "\x7f", "@releaseDomain", "@introduceDomain", "T", "F"),
    *("1", "0", "-1", "²", "65535", "4294967296", "9" * 20, "9" * 21, "help", "shutdown"),
    *("n0", "r1", "b32752", "n" + "0" * 4000, "EAGAIN", "ENOENT", "E2BIG"),
)
PACKETS = Language(
    packets,
    {"packet": one_of(packet(words_changed(STORE_WORDS)), noise.head)},
    pool(requests, packets),
)


def message(chance: Random, data: bytes) -> bytes:
    """Edit the arguments of a message and correct its length."""
    start = LENGTH.size + NUMBER.size
    body = data[LENGTH.size : start] + noise.changed(chance, data[start:])
    return LENGTH.pack(min(len(body), 0xFFFF)) + body


MESSAGES = Language(
    messages,
    {"message": one_of(message, message, noise.head)},
    pool(talks, messages),
)

ARGUMENT_WORDS = (
    *("--save-domain", "--restore-domain", "", "-1", "0", "1", "-2", "٣", "9" * 20, "9" * 21),
    *("0" * 5000, "+1", " 1", "1 ", "0x1", "\n", "1\n"),
)
ARGUMENTS = words_changed(ARGUMENT_WORDS)
