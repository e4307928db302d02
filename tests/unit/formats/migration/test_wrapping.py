"""What is around a save file between two xenqemu: put on, taken off, and damaged."""

import hashlib
import struct
import sys

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tests.doubles.peers.wrapped import NAMES, SETS, Out, wrapped
from tests.golden import save_files
from tests.property.strategies import Dribble
from xenqemu.errors import BadRecord, FormatError, TooBig, Truncated
from xenqemu.formats.migration import wrapping
from xenqemu.formats.migration.wrapping import (
    BLOCK_MAX,
    DIGEST,
    PACKED_MAX,
    ZSTD,
    Unwrapper,
    Wrapper,
)
from xenqemu.formats.stream.sink import Sink

SAVE_FILE = b"the file" * 100
BEHIND = b"GO"


def unwrapped(data, size, features, most=1 << 30):
    """Return a save file of `size` bytes and what follows it and what was around it."""
    inlet = Dribble(data, most)
    unwrapper = Unwrapper(inlet, features)
    save_file = unwrapper.source.exact(size, "save file")
    unwrapper.finish()
    return save_file, inlet.readall()


@pytest.mark.parametrize("features", SETS, ids=NAMES)
@pytest.mark.parametrize("most", [1, 7, 1 << 30])
def test_what_is_put_on_is_taken_off(features, most):
    data = wrapped(SAVE_FILE, features, most, pieces=13)
    assert data == wrapped(SAVE_FILE, features)
    assert unwrapped(data + BEHIND, len(SAVE_FILE), features, most) == (SAVE_FILE, BEHIND)


@pytest.mark.parametrize("features", SETS, ids=NAMES)
def test_pages_of_a_guest_that_runs_change_while_they_are_sent(features):
    page = bytearray(b"first" * 1000)
    out = Out(most=900)

    def changing(buffers):
        done = Out.writev(out, buffers)
        page[:] = bytes(byte ^ 1 for byte in page)
        return done

    out.writev = changing
    wrapper = Wrapper(out, features)
    Sink(wrapper).write(page)
    wrapper.finish()
    unwrapped(bytes(out.data), len(page), features)


@pytest.mark.parametrize("features", SETS, ids=NAMES)
def test_a_real_save_file(features):
    save_file = save_files.unpacked("hvm.save")
    data = wrapped(save_file, features, pieces=1 << 22)
    assert unwrapped(data, len(save_file), features) == (save_file, b"")
    if ZSTD in features:
        assert len(data) < len(save_file) // 10
    else:
        assert len(data) == len(save_file) + (32 if DIGEST in features else 0)


def test_the_bytes():
    digest = hashlib.blake2b(SAVE_FILE, digest_size=32).digest()
    assert wrapped(SAVE_FILE, SETS[0]) == SAVE_FILE
    assert wrapped(SAVE_FILE, SETS[1]) == SAVE_FILE + digest
    size, packed = struct.unpack_from("<II", both := wrapped(SAVE_FILE, SETS[3]))
    assert (size, packed) == (len(SAVE_FILE) + 32, len(both) - 8)
    assert zstandard.decompress(both[8:]) == SAVE_FILE + digest
    assert zstandard.get_frame_parameters(both[8:]).has_checksum


def test_what_cannot_be_made_smaller():
    noise = hashlib.shake_256(b"noise").digest(2 * BLOCK_MAX + 5)
    data = wrapped(noise, frozenset({ZSTD}))
    assert len(noise) < len(data) < len(noise) + 3 * (PACKED_MAX - BLOCK_MAX)
    assert unwrapped(data, len(noise), frozenset({ZSTD})) == (noise, b"")


@pytest.mark.parametrize("features", SETS[1:], ids=NAMES[1:])
def test_cut_at_every_offset(features):
    data = wrapped(SAVE_FILE, features)
    for cut in range(len(data)):
        with pytest.raises(Truncated):
            unwrapped(data[:cut], len(SAVE_FILE), features)


@pytest.mark.parametrize("features", SETS[1:], ids=NAMES[1:])
def test_no_flipped_bit_changes_the_save_file(features):
    data = wrapped(SAVE_FILE, features)
    harmless = 0
    for bit in range(8 * len(data)):
        bad = bytearray(data)
        bad[bit // 8] ^= 1 << bit % 8
        try:
            harmless += (
                unwrapped(bytes(bad) + bytes(PACKED_MAX), len(SAVE_FILE), features)[0] == SAVE_FILE
            )
        except FormatError:
            continue
    assert harmless == (1 if ZSTD in features else 0)  # zstd has a bit of no meaning


def test_a_wrong_digest_is_shown():
    data = wrapped(SAVE_FILE, SETS[1])[:-1] + b"x"
    with pytest.raises(
        BadRecord, match="wrapped save file at offset 0x320: expected the digest .*78$"
    ):
        unwrapped(data, len(SAVE_FILE), SETS[1])


def block(size, frame, packed=None):
    return struct.pack("<II", size, len(frame) if packed is None else packed) + frame


LYING = zstandard.ZstdCompressor().compress(bytes(64 << 20))
UNKNOWN = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(100))
BAD_BLOCKS = {
    "a size too big": (block(BLOCK_MAX + 1, b""), TooBig),
    "a frame too big": (block(1, b"", PACKED_MAX + 1), TooBig),
    "no frame": (block(5, b"hello"), BadRecord),
    "an empty frame": (block(0, zstandard.compress(b"")), BadRecord),
    "a frame that holds more than it may": (block(BLOCK_MAX, LYING), BadRecord),
    "a frame that does not say what it holds": (block(100, UNKNOWN), BadRecord),
}


@pytest.mark.parametrize(("data", "error"), BAD_BLOCKS.values(), ids=BAD_BLOCKS.keys())
def test_bad_blocks_are_refused(data, error):
    with pytest.raises(error, match="wrapped save file at offset"):
        unwrapped(data, 1, frozenset({ZSTD}))


@given(st.binary(max_size=200), st.sampled_from(SETS), st.integers(0, 100))
def test_any_bytes_are_a_save_file_or_a_format_error(data, features, size):
    try:
        save_file, _ = unwrapped(data, size, features)
    except FormatError:
        return
    assert len(save_file) == size


def test_without_zstandard_only_the_digest_is_known(monkeypatch):
    assert wrapping.known() == (DIGEST, ZSTD)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "zstandard")
    assert wrapping.known() == (DIGEST,)


def test_a_block_is_kept_until_it_is_full():
    out = Out()
    sink = Sink(Wrapper(out, frozenset({ZSTD})))
    sink.write(bytes(BLOCK_MAX - 1))
    assert out.data == b""
    sink.write(b"xyz")
    assert zstandard.decompress(bytes(out.data[8:])) == bytes(BLOCK_MAX - 1) + b"x"
