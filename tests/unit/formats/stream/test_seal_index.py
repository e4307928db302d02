"""The index of a seal: which record, and which page, is where."""

from hypothesis import given
from hypothesis import strategies as st

from xenqemu.formats.stream import seal_index
from xenqemu.formats.stream.page_data import XALLOC, XTAB, PageData
from xenqemu.formats.stream.seal_index import Index, Listed, PageRun

PAGE = 4096


def made() -> Index:
    index = Index()
    index.add("xl header", 0, 100, 7)
    index.add("libxc PAGE_DATA", 100, 16 + 5 * 8 + 3 * PAGE)
    index.add_pages(PageData.of([5, 6, XALLOC | 7, XTAB | 8, 20]), 100)
    index.add("libxc PAGE_DATA", 100 + 56 + 3 * PAGE, 16 + 8 + PAGE)
    index.add_pages(PageData.of([6]), 100 + 56 + 3 * PAGE)
    return index


def test_pages_are_found_where_they_were_written_last() -> None:
    index = made()
    assert index.find(5) == 156
    assert index.find(20) == 156 + 2 * PAGE
    assert index.find(6) == 156 + 3 * PAGE + 24
    assert index.find(7) == 0
    assert index.find(8) is None


def test_records_and_pages_of_a_part() -> None:
    index = made()
    assert [each.name for each in index.within(0, 101)] == ["xl header", "libxc PAGE_DATA"]
    assert [each.name for each in index.within(50, 60)] == ["xl header"]
    assert list(index.within(0, 1)) == [Listed(0, 100, "xl header", 7)]
    assert list(index.pages_within(0, 157)) == [PageRun(5, 2, 156)]
    assert list(index.pages_within(156 + PAGE, 156 + 3 * PAGE)) == [
        PageRun(5, 2, 156),
        PageRun(20, 1, 156 + 2 * PAGE),
    ]
    assert list(index.within(1 << 30, 1 << 31)) == []


def test_words() -> None:
    assert [str(PageRun(5, count, 0)) for count in (1, 3)] == ["0x5", "0x5-0x7"]


def test_both_ways() -> None:
    index = made()
    records, runs = index.packed_records(), index.packed_runs()
    assert (len(records), len(runs)) == (3 * 32, 4 * 24)
    assert Index.parse(records, runs, index.names, 1 << 20, 0) == index


def test_what_is_too_much_is_not_listed(monkeypatch) -> None:
    monkeypatch.setattr(seal_index, "MOST", 2)
    index = made()
    assert (index.records, index.runs) == (2, 2)


@given(st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=30, unique=True), max_size=8))
def test_every_page_is_where_the_index_says(records: list[list[int]]) -> None:
    index, content, size = Index(), {}, 0
    for pfns in records:
        index.add("libxc PAGE_DATA", size, 16 + (8 + PAGE) * len(pfns))
        index.add_pages(PageData.of(pfns), size)
        for number, pfn in enumerate(pfns):
            content[pfn] = size + 16 + 8 * len(pfns) + number * PAGE
        size += 16 + (8 + PAGE) * len(pfns)
    again = Index.parse(index.packed_records(), index.packed_runs(), index.names, size, 0)
    for pfn in range(61):
        assert again.find(pfn) == content.get(pfn)
