"""The damage itself: what is pure, what keeps its framing, what bytes are left alone."""

import json
import struct
from random import Random

import pytest

from tests.fuzz import noise, records, samples, texts, wires
from tests.fuzz.__main__ import TARGETS
from tests.fuzz.pieces import MOST, Language, Piece
from xenqemu.formats.stream import hvm_context, xl
from xenqemu.formats.stream.framing import HEADER, padding

NOISE = [
    *(noise.cut, noise.dropped, noise.repeated, noise.swapped, noise.flipped, noise.special),
    *(noise.number, noise.head, noise.changed),
]
SEEDS = range(200)
MUTATORS = {mutator for target in TARGETS.values() for mutator in target.mutators}


@pytest.mark.parametrize("mutator", NOISE, ids=lambda mutator: mutator.__name__)
def test_noise_hangs_on_chance_alone_and_takes_anything(mutator):
    for data in (b"", b"x", bytes(range(256))):
        found = {mutator(Random(seed), data) for seed in SEEDS}
        assert found == {mutator(Random(seed), data) for seed in SEEDS}
    assert len(found) > 20


def test_what_noise_does():
    data = bytes(range(100, 200))
    assert {sum(map(int.bit_count, _xor(noise.flipped(Random(s), data), data))) for s in SEEDS} == {
        1
    }
    assert all(data.startswith(noise.cut(Random(seed), data)) for seed in SEEDS)
    assert all(len(noise.dropped(Random(seed), data)) <= len(data) for seed in SEEDS)
    assert all(len(noise.repeated(Random(seed), data)) >= len(data) for seed in SEEDS)
    assert all(sorted(noise.swapped(Random(seed), data)) == sorted(data) for seed in SEEDS)
    assert all(noise.head(Random(seed), data)[-80:] == data[-80:] for seed in SEEDS)
    spliced = noise.spliced(Random(1), ("a", "b"), ("c",))
    assert {*spliced} <= {"a", "b", "c"}


def _xor(one, other):
    return [a ^ b for a, b in zip(one, other, strict=True)]


def test_numbers_come_to_the_bounds_of_their_range():
    found = {noise.boundary(Random(seed), 32, 1000) for seed in range(2000)}
    assert found >= {0, 1, 999, 1001, 2000, 1 << 31, (1 << 31) - 1, (1 << 32) - 1, (1 << 32) - 2}
    assert all(0 <= number < 1 << 32 for number in found)


def test_every_mutator_takes_every_sample_and_bytes_that_are_none():
    for target in TARGETS.values():
        for sample in () if target.name == "big-save-file" else target.samples()[:3]:
            for mutator in target.mutators:
                assert isinstance(mutator(Random(1), sample), bytes)
    for mutator in MUTATORS:
        for data in (b"", b"\0", b"QEVM", b"[" * 10_000, bytes(range(256))):
            assert all(isinstance(mutator(Random(seed), data), bytes) for seed in range(10))


CUTS = [
    (records.split, samples.guest_streams),
    (records.hvm_split, samples.contexts),
    (records.device_state_split, samples.device_states),
    (texts.cfg_split, samples.cfgs),
    (wires.packets, wires.requests),
    (wires.messages, wires.talks),
]


@pytest.mark.parametrize(("split", "found"), CUTS)
def test_pieces_are_all_of_a_sample(split, found):
    for sample in found():
        pieces = split(sample)
        assert b"".join(piece.data for piece in pieces) == sample
        assert len(pieces) > 1


def test_a_record_that_is_edited_keeps_its_framing_more_often_than_not():
    (piece,) = (
        p for p in records.split(samples.guest_streams()[0]) if p.kind == "libxc HVM_PARAMS"
    )
    whole = 0
    for seed in SEEDS:
        data = records.framed(noise.changed)(Random(seed), piece.data)
        _, length = HEADER.unpack(data[: HEADER.size].ljust(HEADER.size, b"\0"))
        whole += len(data) == HEADER.size + length + padding(length)
    assert len(SEEDS) * 0.6 < whole < len(SEEDS)


def test_a_config_that_is_edited_is_as_long_as_its_header_says():
    for seed in SEEDS:
        data = records.xl_header(Random(seed), samples.headers()[0])
        total, size = struct.unpack_from("<2I", data, xl.HEADER.size - 4)
        assert (total, size) == (len(data) - xl.HEADER.size, total - 4)


def test_edits_are_those_of_the_kind_of_piece():
    language = Language(
        lambda data: tuple(Piece(chr(byte), bytes([byte])) for byte in data),
        {"a": lambda _chance, _data: b"A", "b": lambda _chance, _data: b"B"},
        lambda: (Piece("c", b"c"),),
    )
    found = {bytes(sorted(language.changed(Random(seed), b"ab"))) for seed in range(500)}
    assert {b"AB", b"Ab", b"Ba", b"aab", b"abb", b"abc", b"a", b"b"} <= found


def test_an_input_does_not_grow_without_end():
    language = Language(
        lambda data: tuple(Piece("", data[at : at + 1000]) for at in range(0, len(data), 1000)),
        {},
        lambda: (),
    )
    sizes = [len(language.changed(Random(seed), bytes(100_000))) for seed in SEEDS]
    assert MOST < max(sizes) < 2 * MOST


def test_hvm_records_keep_their_lengths():
    blob = samples.contexts()[0]
    piece = records.hvm_split(blob)[1]
    for seed in SEEDS:
        data = records.hvm_record(Random(seed), piece.data)
        assert (
            hvm_context.DESCRIPTOR.unpack_from(data)[2] == len(data) - hvm_context.DESCRIPTOR.size
        )


def test_json_that_is_edited_is_mostly_json():
    sample = samples.configs()[0]
    trees, broken = set(), 0
    for seed in SEEDS:
        try:
            trees.add(repr(json.loads(texts.json_changed(Random(seed), sample))))
        except (ValueError, RecursionError):
            broken += 1
    assert len(trees) > 120
    assert 0 < broken < 40
