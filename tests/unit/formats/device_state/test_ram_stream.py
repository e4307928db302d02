"""QEMU's stream of RAM and devices: what a real QEMU wrote, what may stand in it, and what not."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.doubles.qemu.ram_records import EOS, HEADER, PART, START, page, sizes
from tests.golden.save_files import unpacked
from xenqemu.errors import BadRecord, FormatError, TooBig, Truncated, Unsupported
from xenqemu.formats.device_state import device_stream
from xenqemu.formats.device_state.ram_stream import PAGE, RamStream
from xenqemu.formats.stream.source import Source

GOLDEN = "background-snapshot.migration"
"""QEMU 7.2.22's background snapshot of a guest of 1 MiB, which loops in a firmware of 64 KiB."""

Found = dict[tuple[str, int], bytes]

STATE = b"\4\0\0\0\3\5timer\0\0\0\0\0\0\0\2" + bytes(24) + b"\0"


def block_of(total: int, size: int) -> bytes:
    """Return the record of sizes of one block, and of all together, whatever they are."""
    return struct.pack(">QB3sQ", total | 4, 3, b"ram", size)


def places(blocks: dict[str, int]) -> list[tuple[str, int]]:
    """Return where the pages of all blocks are."""
    return [(name, at) for name, size in blocks.items() for at in range(0, size, PAGE)]


A_PAGE = page(0, b"a" * PAGE, "ram")
SOUND = START + sizes(ram=4 * PAGE) + EOS + PART + A_PAGE + EOS + STATE


class Trickle(io.RawIOBase):
    """Bytes as of a pipe, some at a time."""

    def __init__(self, data: bytes, step: int) -> None:
        super().__init__()
        self._data, self._step, self._at = data, step, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        size = min(len(buffer), self._step)
        piece = self._data[self._at : self._at + size]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


def read(data: bytes, step: int = 1 << 20) -> tuple[dict[str, int], Found, bytes]:
    """Return blocks, pages and devices of a stream; each page comes once."""
    stream = RamStream(Source(Trickle(data, step)))
    found: Found = {}
    for block, offset, contents in _pages(stream):
        assert (block, offset) not in found
        found[block, offset] = contents
    return stream.blocks, found, stream.device_state()


def _pages(stream: RamStream) -> Iterator[tuple[str, int, bytes]]:
    for group in stream.pages():
        for each in group:
            contents = each.contents() or [bytes(PAGE)] * len(each.offsets)
            assert len(contents) == len(each.offsets)
            for offset, data in zip(each.offsets, contents, strict=True):
                yield each.block, offset, bytes(data)


def test_what_a_real_qemu_wrote():
    blocks, found, state = read(unpacked(GOLDEN))
    assert blocks["ram"] == 1 << 20
    assert blocks["pc.bios"] == 1 << 16
    assert set(found) == set(places(blocks))
    ram = {at // PAGE: data[0] for (name, at), data in found.items() if name == "ram" and any(data)}
    assert ram == {3: 3, 4: 4, 5: 5, 9: 9, 100: 100}
    bios = found["pc.bios", 0xF000]
    assert bios == bytes(0xFF0) + b"\xeb\xfe" + bytes(14)
    sections = device_stream.read(state).sections
    assert len(sections) == 29
    assert all(section.certain for section in sections)


@pytest.mark.parametrize("step", [1, 7, 4096, 4104, 65536])
def test_it_comes_in_pieces(step):
    if step == 1:
        assert read(SOUND, step) == read(SOUND)
    else:
        assert read(unpacked(GOLDEN), step) == read(unpacked(GOLDEN))


contents = st.one_of(st.just(bytes(PAGE)), st.binary(min_size=1, max_size=8).map(
    lambda some: (some * PAGE)[:PAGE]))  # fmt: skip


@given(st.data())
def test_any_order_of_any_pages(data):
    names, lengths = st.sampled_from(["ram", "vga", "rom/x"]), st.integers(1, 40)
    counts = data.draw(st.dictionaries(names, lengths, min_size=1))
    blocks = {name: count * PAGE for name, count in counts.items()}
    order = data.draw(st.permutations(places(blocks)))
    kinds = data.draw(st.lists(contents, min_size=1, max_size=5))
    runs = data.draw(st.integers(1, 8))
    wanted = {place: kinds[number // runs % len(kinds)] for number, place in enumerate(order)}
    stream, before = START + sizes(**blocks) + EOS, ""
    for number, ((name, at), held) in enumerate(wanted.items()):
        if number % 13 == 0:
            stream += (EOS if number else b"") + PART
        stream += page(at, held, "" if name == before else name)
        before = name
    stream += EOS + STATE
    step = data.draw(st.integers(1, 9000))
    assert read(stream, step) == (blocks, wanted, HEADER + STATE)


def test_more_pages_than_the_buffer_holds():
    count = 3000
    body = page(0, b"x" * PAGE, "ram")
    body += b"".join(page(n * PAGE, struct.pack("<I", n) * 1024) for n in range(1, count))
    stream = START + sizes(ram=count * PAGE) + EOS + PART + body + EOS + STATE
    _, found, _ = read(stream, 100_000)
    assert len(found) == count
    assert all(found["ram", n * PAGE][:4] == struct.pack("<I", n) for n in range(1, count))


def test_cut_at_every_offset():
    for end in range(len(SOUND) - len(STATE) + 1):
        with pytest.raises(Truncated) as error:
            read(SOUND[:end])
        assert error.value.offset <= end


def test_a_real_one_cut_in_many_places():
    whole = unpacked(GOLDEN)
    ram = len(whole) - len(read(whole)[2]) + len(HEADER)
    for end in range(0, ram, 97):
        with pytest.raises(Truncated):
            read(whole[:end])


@given(st.binary(max_size=200), st.integers(0, len(SOUND)))
def test_what_random_bytes_give(noise, at):
    for stream in (noise, SOUND[:at] + noise, HEADER + noise, START + noise):
        try:
            read(stream)
        except FormatError:
            continue


REFUSED = [
    ("another magic", b"Q3VM" + SOUND[4:], BadRecord, "b'QEVM'"),
    ("another version", b"QEVM\0\0\0\4" + SOUND[8:], Unsupported, "version 3"),
    ("a configuration first", HEADER + b"\7" + SOUND[9:], Unsupported, "0x07"),
    ("another device first", SOUND.replace(b"\3ram\0", b"\3ras\0", 1), Unsupported, "ras"),
    ("no sizes", START + page(0, bytes(PAGE), "ram"), BadRecord, "sizes of the blocks"),
    ("a part of a page", START + block_of(PAGE, 100), BadRecord, "whole pages"),
    ("too much RAM", START + struct.pack(">Q", 1 << 60 | 4), TooBig, "a size of RAM"),
    ("a block beyond all", START + block_of(PAGE, 2 * PAGE), TooBig, "a block ram"),
    ("compressed", SOUND.replace(EOS + STATE, struct.pack(">Q", 0x100)), Unsupported, "0x100"),
    ("xbzrle", SOUND.replace(EOS + STATE, struct.pack(">Q", 0x60)), Unsupported, "0x60"),
    ("a footer", SOUND.replace(EOS + STATE, EOS + b"\x7e\0\0\0\2"), BadRecord, "0x7e"),
    ("another section", SOUND.replace(PART, b"\2\0\0\0\3"), BadRecord, "section 2"),
    ("an unknown block", SOUND.replace(b"\3ramaa", b"\3ragaa"), BadRecord, "rag"),
    ("no block yet", SOUND.replace(A_PAGE, page(0, b"a" * PAGE)), BadRecord, "name of a block"),
    ("beyond the block", SOUND.replace(A_PAGE, page(4 * PAGE, b"a" * PAGE, "ram")), BadRecord,
     "offset below 16384"),
    ("beyond it in a run", SOUND.replace(EOS + STATE, page(1 << 40, b"b" * PAGE)), BadRecord,
     "offset below 16384"),
    ("a page of ones", SOUND.replace(EOS + STATE, struct.pack(">QB", PAGE | 0x22, 1)), Unsupported,
     "one of 0x01"),
    ("an end with an offset", SOUND.replace(EOS + STATE, struct.pack(">Q", PAGE | 0x10)), BadRecord,
     "no offset"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("stream", "kind", "words"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_what_is_refused(stream, kind, words):
    with pytest.raises(kind, match=words.replace("(", r"\(")):
        read(stream)


def test_too_many_devices():
    with pytest.raises(TooBig):
        read(SOUND + bytes(device_stream.MAX_SIZE))
