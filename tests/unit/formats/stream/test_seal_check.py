"""Comparing with a seal: what differs is found in any parts, and named."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenqemu.errors import Damaged
from xenqemu.formats.stream import seal_check
from xenqemu.formats.stream.page_data import PageData
from xenqemu.formats.stream.pieces import Pieces
from xenqemu.formats.stream.seal import Seal
from xenqemu.formats.stream.seal_check import Comparison, Place, check_file, damage, place_fields
from xenqemu.formats.stream.seal_index import Index, Listed, PageRun

DATA = bytes(range(256)) * 40
"""The bytes of a file: their digests are what matters, not the format."""

CUTS = (0, 100, 100 + 24 + 4096, 5000, len(DATA))


def seal_of(data: bytes, key: bytes | None = None) -> Seal:
    pieces = Pieces(key)
    for start, end in pairwise(CUTS):
        pieces.cut()
        pieces.follow(start, [data[start:end]])
    index = Index()
    index.add("xl header", 0, 100, 1)
    index.add("libxc PAGE_DATA", 100, 24 + 4096)
    index.add_pages(PageData.of([9]), 100)
    index.add("libxc HVM_CONTEXT", CUTS[2], CUTS[3] - CUTS[2], 2)
    index.add("libxl EMULATOR_CONTEXT", CUTS[3], CUTS[4] - CUTS[3], 3)
    index.devices = [Listed(6000, 100, "rtc", 4), Listed(6100, 50, "cpu", 5)]
    return Seal(len(data), key is not None, tuple(pieces.in_order()), index, {})


@given(st.lists(st.integers(1, 3000)), st.sampled_from([None, b"key"]))
def test_in_any_parts(sizes: list[int], key: bytes | None) -> None:
    compared = Comparison(seal_of(DATA, key), key)
    rest = DATA
    for size in sizes:
        compared.follow(rest[:size])
        rest = rest[size:]
    compared.follow(rest)
    compared.follow(b"the seal")
    compared.require_complete()


@pytest.mark.parametrize(
    ("at", "named"),
    [
        (50, "xl header"),
        (100, "libxc PAGE_DATA, pfns 0x9"),
        (4300, "libxc HVM_CONTEXT"),
        (6050, "libxl EMULATOR_CONTEXT"),
    ],
)
def test_what_passes_is_refused_at_the_end_of_its_piece(at: int, named: str) -> None:
    compared = Comparison(seal_of(DATA), None)
    compared.follow(DATA[:at])
    with pytest.raises(Damaged, match=named):
        compared.follow(b"\xff" + DATA[at + 1 :])


def test_what_ends_early_is_refused() -> None:
    compared = Comparison(seal_of(DATA), None)
    compared.follow(DATA[:-1])
    with pytest.raises(Damaged, match="EMULATOR_CONTEXT"):
        compared.require_complete()


def test_all_places_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    whole = bytearray(DATA)
    path.write_bytes(whole)
    seal = sealed_by_file(path)
    with path.open("rb") as file:
        check_file(file, seal, None)
    for at in (300, 6110):
        whole[at] ^= 4
    path.write_bytes(whole)
    with path.open("rb") as file, pytest.raises(Damaged) as caught:
        check_file(file, seal, None)
    first, second = caught.value.places
    assert str(caught.value) == (
        "libxc PAGE_DATA, pfns 0x9 (and 1 places more) at offset 0x64: "
        "expected the bytes that were sealed, got others"
    )
    assert place_fields(first)["pages"] == [{"pfn": 9, "count": 1}]
    assert place_fields(second) == {
        "offset": 6100,
        "size": 50,
        "record": "libxl EMULATOR_CONTEXT",
        "device": "cpu",
        "pages": [],
    }
    assert str(second) == "libxl EMULATOR_CONTEXT, device cpu"
    path.write_bytes(DATA[:200])
    with path.open("rb") as file, pytest.raises(Damaged):
        check_file(file, seal, None)


def sealed_by_file(path: Path) -> Seal:
    """Return the seal with the digests of records and devices that the file has."""
    seal = seal_of(path.read_bytes())
    index = Index()
    with path.open("rb") as file:
        for record in seal.index.within(0, len(DATA)):
            digest = seal_check.record_digest(file, record.offset, record.end)
            index.add(record.name, record.offset, record.size, digest)
        index.add_pages(PageData.of([9]), 100)
        for device in seal.index.devices:
            digest = seal_check.record_digest(file, device.offset, device.end)
            index.devices.append(device._replace(digest=digest))
    return Seal(seal.end, False, seal.pieces, index, {})


def test_many_places_are_not_all_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal_check, "MOST_PLACES", 2)
    seal = seal_of(DATA)
    error = damage(seal, seal.pieces)
    assert len(error.places) == 2
    assert "(and 3 places more)" in str(error)


def test_a_piece_that_no_record_is_of() -> None:
    seal = seal_of(DATA)
    bare = Seal(seal.end, False, seal.pieces, Index(), {})
    assert str(damage(bare, seal.pieces[:1])).startswith("a record at offset 0x0: ")


def test_long_places_are_cut() -> None:
    runs = tuple(PageRun(2 * number, 1, 8) for number in range(20))
    assert str(Place(0, 1, "libxc PAGE_DATA", runs)).endswith("0xe and 12 runs more")
