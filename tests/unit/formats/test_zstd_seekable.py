"""The seek table and raw frames: both ways, cut at every offset, with each bit changed."""

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from xenqemu.errors import BadRecord, FormatError, TooBig, Truncated
from xenqemu.formats import zstd_seekable as seekable
from xenqemu.formats.zstd_seekable import (
    CHECKSUMS,
    ENTRY,
    FOOTER,
    FOOTER_MAGIC,
    FRAMES_MOST,
    HEADER,
    TABLE_MAGIC,
    UNPACKED_MOST,
    SeekTable,
    is_zstd,
    pack_table,
    parse_table,
    raw_frame,
    table_size,
)

SIZES = [(100, 4096), (50, 1), (9, 0), (7, 70000)]
PACKED = sum(packed for packed, _ in SIZES)


def read(table: bytes, before: int = PACKED) -> SeekTable | None:
    """Read a table that stands behind so many bytes of frames."""
    size = table_size(table[-FOOTER.size :], before + len(table))
    return None if size is None else parse_table(table[-size:], before + len(table))


def test_the_bytes():
    assert pack_table([(3, 5)]).hex(" ", -4) == (
        "5e2a4d18 11000000 03000000 05000000 01000000 00b1ea92 8f"
    )


@given(st.lists(st.tuples(st.integers(1, 1 << 20), st.integers(0, UNPACKED_MOST)), max_size=9))
def test_both_ways(sizes):
    before = sum(packed for packed, _ in sizes)
    found = read(pack_table(sizes), before)
    assert [(each.packed, each.size) for each in map(found.__getitem__, range(len(sizes)))] == sizes
    assert (found.end, found.size) == (before, sum(size for _, size in sizes))
    for offset in (0, found.size // 2, found.size - 1) if found.size else ():
        frame = found[found.at(offset)]
        assert frame.start <= offset < frame.start + frame.size


def test_entries_with_checksums_of_other_writers():
    entries = b"".join(ENTRY.pack(*each) + bytes([at] * 4) for at, each in enumerate(SIZES))
    footer = FOOTER.pack(len(SIZES), CHECKSUMS, FOOTER_MAGIC)
    table = HEADER.pack(TABLE_MAGIC, len(entries) + len(footer)) + entries + footer
    found = read(table)
    assert found[1] == (100, 50, 4096, 1, 0x01010101)


def test_cut_at_every_offset():
    table = pack_table(SIZES)
    for end in range(len(table)):
        assert table_size(table[:end][-FOOTER.size :], PACKED + end) is None


def test_without_its_start_it_is_refused():
    table = pack_table(SIZES)
    for start in range(1, len(table) - FOOTER.size):
        with pytest.raises(FormatError):
            read(table[start:], 0)


def test_no_changed_bit_gives_other_places():
    table = pack_table(SIZES)
    for bit in range(len(table) * 8):
        changed = bytearray(table)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            found = read(bytes(changed))
        except FormatError:
            continue
        if found is not None:  # sizes inside frames are these frames' own to tell
            assert found.end == PACKED
            assert len(found) == len(SIZES)


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        (FOOTER.pack(FRAMES_MOST + 1, 0, FOOTER_MAGIC), TooBig),
        (FOOTER.pack(1000, 0, FOOTER_MAGIC), Truncated),
        (FOOTER.pack(0, 4, FOOTER_MAGIC), BadRecord),
        (pack_table([(PACKED, UNPACKED_MOST + 1)]), TooBig),
        (pack_table([(PACKED, 1 << 31)]), TooBig),
        (pack_table([(seekable.PACKED_MOST + 1, 1)]), TooBig),
        (pack_table([(PACKED + 1, 5)]), BadRecord),
    ],
)
def test_what_no_file_can_have_is_refused(table, kind):
    with pytest.raises(kind):
        read(table)


@pytest.mark.parametrize("size", [0, 1, (128 << 10) - 1, 128 << 10, (128 << 10) + 1, 300000])
def test_a_raw_frame_is_read_by_zstd(size):
    data = bytes(range(256)) * (size // 256 + 1)
    frame = b"".join(raw_frame(memoryview(data)[:size]))
    parameters = zstandard.get_frame_parameters(frame)
    assert (parameters.content_size, parameters.has_checksum) == (size, True)
    assert zstandard.ZstdDecompressor().decompress(frame) == data[:size]
    if size:
        damaged = frame[:-5] + bytes([frame[-5] ^ 1]) + frame[-4:]
        with pytest.raises(zstandard.ZstdError):
            zstandard.ZstdDecompressor().decompress(damaged)


def test_what_begins_as_a_file_of_zstd():
    assert is_zstd(zstandard.compress(b""))
    assert is_zstd(pack_table([]))
    assert not is_zstd(b"Xen saved domain")
    assert not is_zstd(b"\x28\xb5\x2f")
