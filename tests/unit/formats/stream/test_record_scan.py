"""Records found in bytes that are pushed: the same that a reader finds, however they are cut."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.doubles.in_memory.save_files import config, save_file
from tests.golden import save_files
from tests.property import strategies as made
from xenqemu.formats.stream.detect import Walk
from xenqemu.formats.stream.page_data import PageData
from xenqemu.formats.stream.record_scan import RecordScan
from xenqemu.formats.stream.source import Source

FILES = {
    "hvm": save_file(),
    "pv": save_file(config("pv"), made.PV_STEPS, made.DEVICES[1:], made.PV_DOMAIN),
    "optional": save_file(steps=(*made.HVM_STEPS[:3], made.OPTIONAL, *made.HVM_STEPS[3:])),
}


class Seen:
    """What a scan tells of."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.records: list[tuple[str, int, int]] = []
        self.tables: list[PageData] = []

    def passes(self, data) -> None:
        self.data += data

    def begins(self, name: str, size: int) -> None:
        self.records.append((name, len(self.data), size))

    def pages(self, pages: PageData) -> None:
        self.tables.append(pages)


def walked(data: bytes):
    return [record for record in Walk(Source(io.BytesIO(data))) if record.layer]


def compare(seen: Seen, data: bytes) -> None:
    records = walked(data)
    assert seen.data == data
    assert seen.records == [
        *((f"{each.layer} {each.name}", each.offset, each.size) for each in records),
        ("", len(data), 0),
    ]
    assert seen.tables == [each.value for each in records if isinstance(each.value, PageData)]


@pytest.mark.parametrize("name", FILES)
@given(sizes=st.lists(st.integers(1, 5000), min_size=1))
def test_in_any_parts(name: str, sizes: list[int]) -> None:
    data = FILES[name]
    seen = Seen()
    scan = RecordScan(seen)
    rest = memoryview(data)
    while rest:
        for size in sizes:
            scan.feed(rest[:size])
            rest = rest[size:]
    compare(seen, data)


@pytest.mark.parametrize("name", save_files.SAVES[:1])
def test_of_xl(name: str) -> None:
    data = save_files.unpacked(name)
    seen = Seen()
    scan = RecordScan(seen)
    for start in range(0, len(data), 65521):
        scan.feed(data[start : start + 65521])
    compare(seen, data)


def test_an_image_alone() -> None:
    data = made.image(made.PV_STEPS, made.PV_DOMAIN)
    seen = Seen()
    scan = RecordScan(seen, image=True)
    for start in range(len(data)):
        scan.feed(data[start : start + 1])
    scan.feed(b"behind")
    assert seen.data == data + b"behind"
    assert seen.records == [
        (f"{each.layer} {each.name}", each.offset, each.size) for each in walked(data)
    ]


@given(st.binary(max_size=300), st.integers(0, 400))
def test_whatever_passes_is_passed_on(noise: bytes, at: int) -> None:
    """What is wrong is not its business; of a header that is not complete it keeps the start."""
    data = FILES["hvm"][:at] + noise
    seen = Seen()
    RecordScan(seen).feed(data)
    assert data.startswith(seen.data)
    assert len(data) - len(seen.data) <= 2 << 20
