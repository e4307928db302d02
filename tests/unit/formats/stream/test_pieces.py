"""Pieces: digests of all that passes, however it is cut, and of what threads write at places."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from xenqemu.formats.stream import page_data, pieces
from xenqemu.formats.stream.buffers import Buffer
from xenqemu.formats.stream.page_data import PageData
from xenqemu.formats.stream.pieces import Pieces
from xenqemu.formats.stream.sink import Sink


@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(1, 50))
def test_pieces_cover_what_passes(buffers: list[bytes], size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE", size)
        found = Pieces()
        out = io.BytesIO()
        sink = Sink(out, found)
        for buffer in buffers:
            sink.write(buffer)
        written = out.getvalue()
        end = 0
        for piece in found.in_order():
            assert piece.start == end
            assert 0 < piece.end - piece.start <= size
            end = piece.end
            assert piece.digest == xxhash.xxh3_128_digest(written[piece.start : end])
        assert end == len(written)


def test_a_key_makes_another_digest() -> None:
    keyed = Pieces(b"key")
    keyed.follow(0, [b"some", b" bytes"])
    assert (
        keyed.in_order()[0].digest
        == hashlib.blake2b(b"some bytes", key=b"key", digest_size=32).digest()
    )


def test_places_are_filled_in_any_order_between_what_is_written_in_order(tmp_path: Path) -> None:
    found = Pieces()
    with open(tmp_path / "file", "w+b", buffering=0) as file:
        sink = Sink(file, found)
        sink.write(b"head")
        first, second = sink.take(3), sink.take(2)
        sink.write(b"tail")
        sink.fill(second, [b"d", b"e"])
        sink.fill(first, [b"abc"])
        assert sink.offset == 13
    assert (tmp_path / "file").read_bytes() == b"headabcdetail"
    assert [(p.start, p.end) for p in found.in_order()] == [(0, 4), (4, 7), (7, 9), (9, 13)]


def test_only_a_regular_file_has_places(tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb", buffering=0) as file:
        assert Sink(file).has_places
    with open("/dev/null", "wb", buffering=0) as null:
        assert not Sink(null).has_places
    assert not Sink(io.BytesIO()).has_places


def test_a_place_of_more_than_a_piece_is_cut_like_what_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE", 4)
    passed, filled = Pieces(), Pieces()
    passing = Sink(io.BytesIO(), passed)
    passing.write(b"header")
    page_data.write(passing, PageData.of([0]), [bytes(4096)])
    passing.write(b"end")
    record = passing.offset - len(b"headerend")
    with open(tmp_path / "file", "w+b", buffering=0) as file:
        sink = Sink(file, filled)
        sink.write(b"header")
        place = sink.take(record)
        sink.write(b"end")
        made = io.BytesIO()
        page_data.write(Sink(made), PageData.of([0]), [bytes(4096)])
        sink.fill(place, [made.getvalue()])
    assert filled.in_order() == passed.in_order()
    assert [(piece.start, piece.end) for piece in passed.in_order()[:3]] == [
        (0, 4),
        (4, 6),
        (6, 10),
    ]


def test_memory_that_changes_meanwhile_is_digested_as_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = bytearray(b"first")
    found = Pieces()
    with open(tmp_path / "file", "w+b", buffering=0) as file:
        sink = Sink(file, found)
        sink.changing = True
        follow = found.follow

        def changes(offset: int, buffers: Sequence[Buffer]) -> None:
            follow(offset, buffers)
            memory[:] = b"later"

        monkeypatch.setattr(found, "follow", changes)
        sink.write(memory)
    written = (tmp_path / "file").read_bytes()
    assert found.in_order()[0].digest == xxhash.xxh3_128_digest(written)
