"""The messages of another host while a guest migrates, and xl's output there."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from random import Random
from typing import BinaryIO

from tests.doubles.peers.preflight import PAIRS
from tests.doubles.peers.wrapped import wrapped as wrap
from tests.doubles.xen.xl_prints import INFO, LIST
from tests.fuzz import noise
from tests.fuzz.engine import Target
from tests.fuzz.pieces import Language, Piece, Pieces, pool
from tests.fuzz.targets import certain, either_way
from tests.fuzz.texts import WORDS, json_changed, lines_split
from tests.fuzz.wires import cut
from tests.property.strategies import Dribble
from xenqemu.errors import BadRecord, ProtocolError
from xenqemu.formats.config import xl_tables
from xenqemu.formats.migration.cpu_features import lacking
from xenqemu.formats.migration.handshake import WORDS as SAID
from xenqemu.formats.migration.handshake import Handshake, Message, Role
from xenqemu.formats.migration.preflight_messages import PreflightAnswer, PreflightQuestion
from xenqemu.formats.migration.stream_chunks import SIZE as CHUNK_SIZE
from xenqemu.formats.migration.stream_chunks import Gathered
from xenqemu.formats.migration.wrapping import BLOCK, DIGEST, ZSTD, Unwrapper
from xenqemu.formats.stream.source import Source

FEATURES = (frozenset({DIGEST}), frozenset({ZSTD}), frozenset({DIGEST, ZSTD}))
SIZE = 3000
"""Bytes of the save file that is wrapped."""


# The handshake: all messages of one side, in one piece.


@cache
def sayings() -> tuple[bytes, ...]:
    """The messages of a receiver that has the guest, and of one that failed to run it."""
    ends = [(Message.STARTED,), (Message.FAILED, Message.BACK)]
    begin = (Message.BANNER, Message.READY, Message.REPORT)
    return tuple(b"".join(SAID[each][1] for each in (*begin, *end)) for end in ends)


_SAYING = re.compile(b"|".join(re.escape(words) for _, words in SAID.values()) + b"|(?s:.)")


def sayings_split(data: bytes) -> Pieces:
    """Cut it into the messages, where they are whole, and single bytes."""
    return tuple(Piece("saying", words) for words in _SAYING.findall(data))


SAYINGS = Language(sayings_split, {}, pool(sayings, sayings_split))


def heard(data: bytes) -> None:
    """A sender receives it in two pieces, and sends its own message between."""
    handshake = Handshake(Role.SENDER)
    for piece in (data[: len(data) // 2], data[len(data) // 2 :]):
        handshake.feed(piece)
        while (message := handshake.heard()) is not None:
            if message is Message.READY:
                assert handshake.say(Message.GO)
    assert handshake.awaited


# What is around a save file.


@cache
def wrapped() -> tuple[bytes, ...]:
    """A save file in each way to wrap it, and in two blocks; the first byte says in which way."""
    save_file = bytes(range(200)) * (SIZE // 200)
    halves = b"".join(
        wrap(half, FEATURES[1]) for half in (save_file[: SIZE // 2], save_file[SIZE // 2 :])
    )
    ways = enumerate(wrap(save_file, features) for features in FEATURES)
    return (*(bytes([way]) + data for way, data in ways), b"\1" + halves)


def blocks_split(data: bytes) -> Pieces:
    """Cut it into its blocks, each with its header, after the byte that says the way."""
    pieces, at = [Piece("way", data[:1])], 1
    while at < len(data):
        if at + BLOCK.size > len(data):
            raise BadRecord("block", at, "a header", "the end")
        end = at + BLOCK.size + BLOCK.unpack_from(data, at)[1]
        pieces.append(Piece("block", data[at:end]))
        at = end
    return tuple(pieces)


def way(chance: Random, _data: bytes) -> bytes:
    """Unwrap it in another way."""
    return bytes([chance.randrange(len(FEATURES))])


BLOCKS = Language(blocks_split, {"way": way}, pool(wrapped, blocks_split))


def unwrapped(data: bytes) -> None:
    features = FEATURES[sum(data[:1]) % len(FEATURES)]
    _unwrapping(features)(data[1:])


def _unwrapping(features: frozenset[str]) -> Callable[[bytes], bytes]:
    def unwrap(file: BinaryIO) -> bytes:
        unwrapper = Unwrapper(file, features)
        save_file = unwrapper.source.exact(SIZE, "save file")
        unwrapper.finish()
        return save_file

    return either_way(unwrap, SIZE)


# A save file sent by two streams, here one after the other, of the same length.


@cache
def spread() -> tuple[bytes, ...]:
    """The same save file in chunks of several sizes; each of two streams has half of it."""
    return tuple(
        (CHUNK_SIZE.pack(size) + bytes(range(size))) * (SIZE // size) for size in (50, 150, 250)
    )


def chunks_split(data: bytes) -> Pieces:
    """Cut it into its chunks."""
    return cut(data, CHUNK_SIZE.size, slice(0, CHUNK_SIZE.size), "chunk")


CHUNKS = Language(chunks_split, {"chunk": noise.head}, pool(spread, chunks_split))


def gathered(data: bytes) -> None:
    half = len(data) // 2
    pipes = [Dribble(each, 1 + len(data) % 500) for each in (data[:half], data[half:])]
    assert len(Source(Gathered(pipes)).exact(SIZE, "record")) == SIZE


# Questions and answers.


def asked(data: bytes) -> None:
    question = PreflightQuestion.parse(data)
    assert certain(PreflightQuestion.parse, question.dump()) == question
    assert len([*lacking(question.cpuid, ())]) < 32 * 32


def answered(data: bytes) -> None:
    answer = PreflightAnswer.parse(data)
    assert certain(PreflightAnswer.parse, answer.dump()) == answer


def _pairs(kind: type) -> tuple[bytes, ...]:
    return tuple(data for value, data in PAIRS.values() if isinstance(value, kind))


# xl's output.


def tables() -> tuple[bytes, ...]:
    """The output of `xl info` and `xl list -v`."""
    return INFO.encode(), LIST.encode()


def word_changed(chance: Random, data: bytes) -> bytes:
    """Change a word of a line."""
    words = tuple(data.split(b" "))
    at = chance.randrange(len(words))
    new = chance.choice((*WORDS, "9" * 5000, " " * 5000)).encode(errors="replace")
    return b" ".join((*words[:at], new, *words[at + 1 :]))


TABLES = Language(lines_split, {"line": word_changed}, lambda: ())


def tables_read(data: bytes) -> None:
    text = data.decode(errors="replace")
    assert all(isinstance(value, int) for value in xl_tables.numbers(text).values())
    assert all(len(each.uuid) == 36 for each in xl_tables.domains(text))


_ANY = noise.changed

MIGRATION = (
    Target("handshake", sayings, (SAYINGS.changed, _ANY), heard, (ProtocolError,)),
    Target("wrapping", wrapped, (BLOCKS.changed, BLOCKS.changed, _ANY), unwrapped),
    Target("streams", spread, (CHUNKS.changed, _ANY), gathered),
    Target(
        "question", lambda: _pairs(PreflightQuestion), (json_changed, json_changed, _ANY), asked
    ),
    Target("answer", lambda: _pairs(PreflightAnswer), (json_changed, json_changed, _ANY), answered),
    Target(
        "xl-tables", lambda: (INFO.encode(), LIST.encode()), (TABLES.changed, _ANY), tables_read
    ),
)
