"""A sealed file that passes once, in and out, makes the digests that a file's writer makes."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.doubles.in_memory.save_files import save_file
from tests.property import strategies as made
from xenqemu.errors import Damaged, FormatError, Truncated
from xenqemu.formats.stream import libxc, libxl, xl
from xenqemu.formats.stream import pieces as digests
from xenqemu.formats.stream import seal as seals
from xenqemu.formats.stream.pieces import Pieces
from xenqemu.formats.stream.seal_passing import Followed, SealedInlet, SealedOutlet
from xenqemu.formats.stream.sink import Sink

DATA = save_file()


class Pipe:
    """An outlet that takes some bytes at a time."""

    def __init__(self, most: int) -> None:
        self.written = bytearray()
        self._most = most

    def writev(self, buffers) -> int:
        data = b"".join(buffers)[: self._most]
        self.written += data
        return len(data)


def sealed(key: bytes | None = None, most: int = 1000, about=None) -> bytes:
    pipe = Pipe(most)
    outlet = SealedOutlet(pipe, key)
    sink = Sink(outlet)
    for start in range(0, len(DATA), 777):
        sink.writev([DATA[start : start + 300], DATA[start + 300 : start + 777]])
    outlet.finish(about or {})
    return bytes(pipe.written)


@pytest.mark.parametrize("key", [None, b"key"])
def test_out_and_in(key: bytes | None) -> None:
    whole = sealed(key, about={"x": 1})
    assert whole.startswith(DATA)
    inlet = SealedInlet(io.BytesIO(whole), key)
    assert inlet.read(100) == DATA[:100]
    seal = inlet.finish()
    assert seal is not None
    assert (seal.end, seal.about, seal.keyed) == (len(DATA), {"x": 1}, key is not None)
    assert seal == seals.behind(whole[len(DATA) :], len(DATA), key)


@settings(max_examples=20)
@given(st.integers(100, 9000), st.integers(10, 5000))
def test_pieces_are_those_of_the_writer(most: int, size: int) -> None:
    """Of one that cuts where it writes PAGE_DATA, and of one that sees bytes pass."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digests, "PIECE", most)
        cut, followed, out = Pieces(), Followed(), io.BytesIO()
        _write(out, cut)
        written = out.getvalue()
        for at in range(0, len(written), size):
            followed.feed(written[at : at + size])
        assert followed.found() == cut.in_order()
        assert followed.end == len(written)


def _write(out: io.BytesIO, pieces: Pieces) -> None:
    sink = Sink(out, pieces)
    xl.write(sink, xl.XlHeader.of_json(made.CONFIG))
    stream = libxl.StreamWriter(sink)
    stream.write(libxl.LibxcContext())
    made.put(libxc.ImageWriter(sink, made.DOMAIN), made.HVM_STEPS)
    stream.image_written()
    for value in made.DEVICES:
        stream.write(value)


def test_damage_is_named_at_the_end() -> None:
    whole = bytearray(sealed())
    whole[DATA.index(made.PAGE) + 5] ^= 1
    inlet = SealedInlet(io.BytesIO(whole))
    with pytest.raises(Damaged, match="libxc PAGE_DATA, pfns"):
        inlet.finish()


def test_every_cut_is_told() -> None:
    whole = sealed()
    assert SealedInlet(io.BytesIO(DATA)).finish() is None
    for size in [*range(0, len(DATA), 501), *range(len(DATA) + 1, len(whole))]:
        with pytest.raises(Truncated):
            SealedInlet(io.BytesIO(whole[:size])).finish()


def test_every_byte_of_the_seal_is_told() -> None:
    whole = sealed()
    for at in range(len(DATA), len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 0x55
        with pytest.raises(FormatError) as caught:
            SealedInlet(io.BytesIO(changed)).finish()
        assert caught.value.record == "seal"


def test_other_bytes_behind_take_no_memory() -> None:
    inlet = SealedInlet(io.BytesIO(DATA + b"other bytes" * 1000))
    assert inlet.finish() is None
    assert len(inlet.followed.behind) <= seals.FOOTER.size


def test_more_pieces_than_a_seal_has_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "MOST_PIECES", 1)
    followed = Followed()
    followed.feed(DATA)
    assert followed.found() is None
    pipe = Pipe(100)
    outlet = SealedOutlet(pipe)
    outlet.writev([DATA])
    assert outlet.finish({}) is None
    assert bytes(pipe.written) == DATA


def test_nothing_is_sealed_before_its_end() -> None:
    outlet = SealedOutlet(Pipe(100))
    outlet.writev([DATA[:-8]])
    with pytest.raises(ValueError, match="once its END is written"):
        outlet.finish({})
