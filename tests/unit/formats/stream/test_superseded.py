"""Pages that later ones replace: what is left replays to the same memory, and nothing twice."""

import io

from hypothesis import given, settings
from hypothesis import strategies as st

from xenqemu.formats.stream import framing, page_data
from xenqemu.formats.stream.page_data import BROKEN, PAGE_SIZE, PFN_MASK, XALLOC, XTAB, PageData
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.source import Source
from xenqemu.formats.stream.superseded import Latest

DATA = 0
PINNED = 0x9 << 60


def written(tables):
    """Return PAGE_DATA records, in which the contents of a page say which one it is."""
    out = io.BytesIO()
    sink = Sink(out)
    for number, entries in enumerate(tables):
        table = PageData.of(entries)
        pages = [content(number, entry & PFN_MASK) for entry in entries if entry < BROKEN]
        page_data.write(sink, table, pages)
    return out.getvalue()


def content(number, pfn):
    return f"{number} {pfn}".encode().ljust(PAGE_SIZE, b".")


def walk(data, take):
    source = Source.of(data)
    while not source.at_end():
        take(page_data.read(source, framing.read_header(source, "libxc")), source)


def compacted(data):
    """Return what is left of the records, those that became empty included."""
    latest, out = Latest(), []
    walk(data, latest.note)

    def take(table, source):
        left, buffers = latest.left(table, source)
        assert all(len(buffer) for buffer in buffers)
        out.append((list(left.entries()), b"".join(buffers)))

    walk(data, take)
    return out


def entries_left(tables):
    return [entries for entries, _ in compacted(written(tables))]


def test_the_last_contents_stay():
    tables = [[1, 2, 3, 4], [2, 4], [4]]
    left = compacted(written(tables))
    assert left == [
        ([1, 3], content(0, 1) + content(0, 3)),
        ([2], content(1, 2)),
        ([4], content(2, 4)),
    ]


def test_a_record_may_become_empty():
    assert entries_left([[7], [6, 7]]) == [[], [6, 7]]


def test_entries_without_contents_give_way_to_those_with():
    tables = [[XALLOC | 1, XALLOC | 2, 3], [1, XALLOC | 3, XALLOC | 9]]
    assert entries_left(tables) == [[XALLOC | 2, 3], [1, XALLOC | 9]]


def test_holes_and_broken_pages_are_as_they_were():
    tables = [[XTAB | 1, BROKEN | 2, 1], [XTAB | 1, 2]]
    assert entries_left(tables) == tables


def test_page_tables_are_pages():
    assert entries_left([[PINNED | 5, 6], [5]]) == [[6], [5]]


def test_runs_over_the_end_of_a_block():
    tables = [list(range(1000, 3100)), list(range(1020, 1030)), list(range(2047, 2050))]
    left = [pfn for pfn in tables[0] if pfn not in {*tables[1], *tables[2]}]
    assert entries_left(tables) == [left, *tables[1:]]


PAGES = st.lists(
    st.builds(int.__or__, st.integers(0, 2100), st.sampled_from([DATA, XALLOC, XTAB])),
    min_size=1,
    max_size=8,
    unique_by=lambda entry: entry & PFN_MASK,
)


def replayed(steps):
    """Return what a reader makes of entries and their pages."""
    memory = {}
    for entries, pages in steps:
        rest = memoryview(pages)
        for entry in entries:
            if entry < BROKEN:
                memory[entry & PFN_MASK], rest = bytes(rest[:PAGE_SIZE]), rest[PAGE_SIZE:]
            elif entry & ~PFN_MASK == XALLOC:
                memory.setdefault(entry & PFN_MASK, None)
    return memory


@settings(max_examples=200)
@given(st.lists(PAGES, max_size=6))
def test_what_is_left_replays_to_the_same(tables):
    data = written(tables)
    whole = []
    walk(data, lambda table, source: whole.append((
        list(table.entries()), source.exact(table.data_size, "pages")
    )))  # fmt: skip
    left = compacted(data)
    assert replayed(left) == replayed(whole)
    pfns = [entry & PFN_MASK for entries, _ in left for entry in entries if entry < BROKEN]
    assert len(pfns) == len(set(pfns))
