"""A save file sent by several streams: dealt out, gathered, cut and damaged."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.doubles.peers.wrapped import NAMES, SETS, Out
from tests.golden import save_files
from tests.property.strategies import Dribble
from xenqemu.errors import BadRecord, FormatError, TooBig, Truncated
from xenqemu.formats.migration import stream_chunks
from xenqemu.formats.migration.stream_chunks import CHUNK, CHUNK_MAX, Gathered, spread
from xenqemu.formats.migration.wrapping import ZSTD, Unwrapper, Wrapper
from xenqemu.formats.stream.sink import Blocks, Sink
from xenqemu.formats.stream.source import Source

BEHIND = b"GO"


def chunk(data, size=None):
    return struct.pack("<I", len(data) if size is None else size) + data


TABLE = {
    "nothing": (b"", [b"", b""]),
    "less than a chunk": (b"re", [chunk(b"re"), b""]),
    "a chunk": (b"reco", [chunk(b"reco"), b""]),
    "one for each": (b"recordre", [chunk(b"reco"), chunk(b"rdre")]),
    "one for some": (
        b"recordrecord!",
        [chunk(b"reco") + chunk(b"cord"), chunk(b"rdre") + chunk(b"!")],
    ),
    "of three": (b"recordrec!", [chunk(b"reco"), chunk(b"rdre"), chunk(b"c!")]),
}


@pytest.fixture
def small(monkeypatch):
    """Have chunks of 4 bytes."""
    monkeypatch.setattr(stream_chunks, "CHUNK", 4)


def dealt(save_file, count, most=1 << 30, piece=5):
    outs = [Out(most) for _ in range(count)]
    outlet = spread(outs)
    sink = Sink(outlet)
    sink.writev([save_file[at : at + piece] for at in range(0, len(save_file), piece)])
    outlet.flush()
    return [bytes(out.data) for out in outs]


def gathered(data, size, most=1 << 30):
    """Return a save file of `size` bytes and what follows it in each stream."""
    inlets = [Dribble(each, most) for each in data]
    save_file = Source(Gathered(inlets)).exact(size, "save file")
    return save_file, [inlet.readall() for inlet in inlets]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("most", [1, 3, 1 << 30])
@pytest.mark.parametrize(("save_file", "data"), TABLE.values(), ids=TABLE.keys())
def test_the_bytes_both_ways(save_file, data, most):
    assert dealt(save_file, len(data), most) == data
    behind = [each + BEHIND for each in data]
    assert gathered(behind, len(save_file), most) == (save_file, [BEHIND] * len(data))


@pytest.mark.parametrize(("save_file", "data"), TABLE.values(), ids=TABLE.keys())
def test_cut_at_every_offset(save_file, data):
    for number, whole in enumerate(data):
        for cut in range(len(whole)):
            streams_cut = [*data[:number], whole[:cut], *data[number + 1 :]]
            with pytest.raises(Truncated, match=f"^stream {number} at offset"):
                gathered(streams_cut, len(save_file))


def test_what_more_there_is_would_come_by_the_next():
    _, data = TABLE["one for some"]
    with pytest.raises(Truncated, match="stream 0 at offset 0x10: expected 4 bytes, got 0"):
        gathered(data, 14)


BAD = {
    "no bytes": (chunk(b""), BadRecord, "a chunk, got one of no bytes"),
    "too many": (chunk(b"", CHUNK_MAX + 1), TooBig, "a chunk of at most 1048576, got 1048577"),
    "far too many": (
        chunk(b"", (1 << 32) - 1),
        TooBig,
        "a chunk of at most 1048576, got 4294967295",
    ),
}


@pytest.mark.parametrize(("data", "error", "why"), BAD.values(), ids=BAD.keys())
def test_bad_chunks_are_refused(data, error, why):
    with pytest.raises(error, match=f"^stream 1 at offset 0x0: expected {why}$"):
        gathered([chunk(b"x"), data], 2)


def test_the_longest_chunk_there_may_be():
    longest = bytes(range(256)) * (CHUNK_MAX >> 8)
    assert gathered([chunk(longest)], CHUNK_MAX) == (longest, [b""])


@given(st.binary(max_size=60), st.integers(2, 5), st.integers(1, 9), st.integers(1, 70))
def test_any_save_file_by_any_streams(save_file, count, most, piece):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_chunks, "CHUNK", 4)
        data = dealt(save_file, count, most, piece)
    assert gathered(data, len(save_file), most) == (save_file, [b""] * count)


@given(st.lists(st.binary(max_size=40), min_size=2, max_size=4), st.integers(0, 60))
def test_any_bytes_are_a_save_file_or_a_format_error(data, size):
    try:
        save_file, _ = gathered(data, size)
    except FormatError:
        return
    assert len(save_file) == size


@pytest.mark.parametrize("features", SETS, ids=NAMES)
def test_a_real_save_file_in_each_wrapping(features):
    save_file = save_files.unpacked("hvm.save")
    outs = [Out(), Out(), Out()]
    wrapper = Wrapper(outs[0], features, outs[1:])
    Sink(wrapper).write(save_file)
    wrapper.finish()
    sizes = [len(out.data) for out in outs]
    assert max(sizes) - min(sizes) <= CHUNK + 4 or ZSTD in features
    inlets = [Dribble(bytes(out.data) + BEHIND, 1 << 30) for out in outs]
    unwrapper = Unwrapper(inlets[0], features, inlets[1:])
    assert unwrapper.source.exact(len(save_file), "save file") == save_file
    unwrapper.finish()
    assert [inlet.readall() for inlet in inlets] == [BEHIND] * 3


def test_blocks_are_kept_until_they_are_full_or_flushed():
    put = []
    blocks = Blocks(4, put.append)
    assert blocks.writev([b"ab", memoryview(b"cdefghi")]) == 9
    assert put == [b"abcd", b"efgh"]
    blocks.flush()
    blocks.flush()
    assert put == [b"abcd", b"efgh", b"i"]
