"""Pieces: digests of all that passes, however it is cut, and of what threads write at places."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from xenqemu.formats.stream import pieces
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
