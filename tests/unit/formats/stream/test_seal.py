"""The format of a seal: one value and its bytes, both ways; what is wrong is told."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenqemu.errors import (
    BadRecord,
    Damaged,
    FormatError,
    TooBig,
    Truncated,
    Unsupported,
    UsageError,
)
from xenqemu.formats.stream import seal as seals
from xenqemu.formats.stream.page_data import XALLOC, XTAB, PageData
from xenqemu.formats.stream.pieces import Piece
from xenqemu.formats.stream.seal import FOOTER, HEADER, MAGIC, Seal, behind, contiguous, find, parse
from xenqemu.formats.stream.seal_index import Index, Listed

KEY = b"k"
PAGES = 0x30 + 8 + 8 + 3 * 8
END = PAGES + 4096 + 16
RECORDS = (
    ("xl header", 0, 0x30, 0x1111),
    ("libxc PAGE_DATA", 0x30, PAGES + 4096 - 0x30, 0),
    ("libxl END", PAGES + 4096, 16, 0x2222),
)
ABOUT = (
    b'{"names": ["xl header", "libxc PAGE_DATA", "libxl END"], '
    b'"devices": [[1, 2, "cpu", 3]], "x": 1}'
)
PLAIN = bytes.fromhex(
    "78656e71656d75207365616c0a20000d"  # the magic
    "01000000 00000000"
    "6810000000000000 8f01000000000000 0000000000000000"
    "02000000 03000000 02000000 5f000000"
    "3000000000000000 61616161616161616161616161616161"
    "6810000000000000 62626262626262626262626262626262"
    "0000000000000000 3000000000000000 0000000000000000 1111000000000000"
    "3000000000000000 2810000000000000 0100000000000000 0000000000000000"
    "5810000000000000 1000000000000000 0200000000000000 2222000000000000"
    "0500000000000000 0100000000000000 5800000000000000"
    "06000000000000e0 0100000000000000 0000000000000000"
)


def index() -> Index:
    made = Index()
    for record in RECORDS:
        made.add(*record)
    made.add_pages(PageData.of([5, XALLOC | 6, XTAB | 7]), 0x30)
    made.devices = [Listed(1, 2, "cpu", 3)]
    return made


def seal(key: bytes | None = None) -> Seal:
    size = 32 if key else 16
    pieces = (Piece(0, 0x30, b"a" * size), Piece(0x30, END, b"b" * size))
    return Seal(END, key is not None, pieces, index(), {"x": 1})


def test_layout() -> None:
    data = seal().pack(None)
    assert data[: len(PLAIN)] == PLAIN
    assert data[len(PLAIN) : len(PLAIN) + len(ABOUT)] == ABOUT
    assert data[-FOOTER.size :] == data[24:40] + b"xenqemu sealed\0\n"
    assert len(data) == int.from_bytes(data[32:40], "little")


@pytest.mark.parametrize("key", [None, KEY])
def test_both_ways(key: bytes | None) -> None:
    data = seal(key).pack(key)
    assert parse(data, END, key) == seal(key)
    assert behind(data, END, key) == seal(key)
    assert parse(data, END, None, unchecked=True) == seal(key)


@pytest.mark.parametrize("key", [None, KEY])
def test_cut_anywhere(key: bytes | None) -> None:
    data = seal(key).pack(key)
    assert behind(b"", END, key) is None
    for size in range(1, len(data)):
        with pytest.raises(Truncated, match="seal at offset"):
            behind(data[:size], END, key)


@pytest.mark.parametrize("key", [None, KEY])
@given(data=st.data())
def test_changed_anywhere(key: bytes | None, data: st.DataObject) -> None:
    whole = seal(key).pack(key)
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(FormatError) as caught:
        behind(bytes(changed), END, key)
    assert caught.value.record == "seal"
    assert END <= caught.value.offset < END + len(whole)


@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_are_a_seal_or_an_error(data: bytes, footed: bool) -> None:
    data = MAGIC + data + (seals.FOOTER_MAGIC if footed else b"")
    with pytest.raises(FormatError):
        behind(data, END, None)


def test_other_bytes_are_no_seal() -> None:
    assert behind(b"of somebody else", END, None) is None
    assert behind(bytes(100), END, None) is None


def test_keys() -> None:
    keyed, plain = seal(KEY).pack(KEY), seal().pack(None)
    with pytest.raises(UsageError, match="--key-file"):
        parse(keyed, END, None)
    with pytest.raises(UsageError, match="another key"):
        parse(keyed, END, b"other")
    with pytest.raises(BadRecord, match="one without a key"):
        parse(plain, END, KEY)
    with pytest.raises(BadRecord, match="got none"):
        seals.require_key(None, END, KEY)
    seals.require_key(None, END, None)


def made_with(about: bytes, **tables: bytes) -> bytes:
    """Return a seal of any contents, with a digest that is right."""
    parts = {"pieces": END.to_bytes(8, "little") + bytes(16), "records": b"", "runs": b"", **tables}
    sizes = {"pieces": 24, "records": 32, "runs": 24}
    counts = [len(parts[name]) // size for name, size in sizes.items()]
    length = HEADER.size + sum(map(len, parts.values())) + len(about) + 16 + FOOTER.size
    head = HEADER.pack(MAGIC, 1, 0, END, length, 0, *counts, len(about))
    data = head + b"".join(parts[name] for name in sizes) + about
    made = seals.hash_maker(None)()
    made.update(data)
    return data + made.digest() + FOOTER.pack(END, length, seals.FOOTER_MAGIC)


def numbers(*values: int) -> bytes:
    return b"".join(value.to_bytes(8, "little") for value in values)


GOOD = b'{"names": ["a"], "devices": []}'


def test_what_is_made_by_hand_is_read() -> None:
    assert parse(made_with(GOOD), END, None).pieces == (Piece(0, END, bytes(16)),)


@pytest.mark.parametrize(
    "data",
    [
        made_with(b""),
        made_with(b"[]"),
        made_with(b"[" * 10000),
        made_with(b'{"names": 1, "devices": []}'),
        made_with(b'{"names": [1], "devices": []}'),
        made_with(b'{"names": [], "devices": {}}'),
        made_with(b'{"names": [], "devices": [[1, 2, "a"]]}'),
        made_with(b'{"names": [], "devices": [[-1, 2, "a", 1]]}'),
        made_with(b'{"names": [], "devices": [[1, 99999, "a", 1]]}'),
        made_with(json.dumps({"names": ["a"] * 1025, "devices": []}).encode()),
        made_with(GOOD, pieces=b""),
        made_with(GOOD, pieces=numbers(END - 1) + bytes(16)),
        made_with(GOOD, pieces=numbers(END + 1) + bytes(16)),
        made_with(GOOD, pieces=(numbers(END) + bytes(16)) * 2),
        made_with(GOOD, records=numbers(0, END + 1, 0, 0)),
        made_with(GOOD, records=numbers(0, 8, 1, 0)),
        made_with(GOOD, records=numbers(8, 8, 0, 0, 0, 8, 0, 0)),
        made_with(GOOD, records=numbers(2**64 - 8, 8, 0, 0)),
        made_with(GOOD, runs=numbers(1, 2, 8)),
        made_with(GOOD, runs=numbers(1, 2**63, 8)),
        made_with(GOOD, runs=numbers(0, 1, 0, 0, 1, 8)),
    ],
)
def test_contents_that_cannot_be(data: bytes) -> None:
    with pytest.raises(Damaged):
        parse(data, END, None)


def test_a_later_version() -> None:
    later = bytearray(made_with(GOOD)[: -FOOTER.size - 16])
    later[16] = 2
    made = seals.hash_maker(None)()
    made.update(later)
    whole = bytes(later) + made.digest() + made_with(GOOD)[-FOOTER.size :]
    with pytest.raises(Unsupported, match="expected version 1, got 2"):
        parse(whole, END, None)


def test_bounds() -> None:
    with pytest.raises(Damaged, match="a length of at most"):
        seals.length_from(HEADER.pack(MAGIC, 1, 0, END, 1 << 40, 0, 0, 0, 0, 0), END)
    big = Seal(END, False, seal().pieces, index(), {"x": "y" * seals.ABOUT_LIMIT})
    with pytest.raises(TooBig):
        big.pack(None)


def test_found_from_the_end(tmp_path: Path) -> None:
    path, data = tmp_path / "file", seal().pack(None)
    path.write_bytes(bytes(END) + data)
    with path.open("rb") as file:
        assert find(file) == (END, data)
        assert file.tell() == 0
    for content in (b"", b"short", bytes(END), bytes(END - 1) + data, bytes(END) + data[:-1]):
        path.write_bytes(content)
        with path.open("rb") as file:
            assert find(file) is None


def test_pieces_without_gaps() -> None:
    pieces = seal().pieces
    assert contiguous(pieces, END) == pieces
    for some, end in ((pieces[:1], END), (pieces[1:], END), (pieces, END + 1), ((), 1)):
        with pytest.raises(ValueError, match="there is no digest from"):
            contiguous(some, end)
