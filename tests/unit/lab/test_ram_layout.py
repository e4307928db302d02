"""Which offset of a RAM file is which page, and how it is cut; see test_ram_file for the rest."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenqemu.lab.ram_layout import ABOVE, RamLayout, extents

PAGE = 4096
STEP = 8 * PAGE


@st.composite
def layouts(draw):
    """Return a layout of up to some steps, and an extent of it."""
    pages = draw(st.integers(1, 40))
    layout = RamLayout(pages * PAGE, draw(st.integers(1, pages)) * PAGE)
    start = draw(st.integers(0, pages - 1))
    return layout, (start * PAGE, draw(st.integers(start + 1, pages)) * PAGE)


@given(layouts())
def test_pieces_are_whole_and_where_the_others_are(made):
    layout, extent = made
    pieces = list(layout.cut(extent, STEP))
    assert [pieces[0][0], pieces[-1][1]] == list(extent)
    assert all(before[1] == after[0] for before, after in itertools.pairwise(pieces))
    everywhere = list(layout.cut((0, layout.size), STEP))
    for start, end in everywhere:
        assert end - start <= STEP
        first, last = layout.pfn(start), layout.pfn(end - PAGE)
        assert last - first == (end - start) // PAGE - 1
    wide = list(layout.cut(layout.widened(extent, STEP), STEP))
    assert wide == [(a, b) for a, b in everywhere if a < extent[1] and b > extent[0]]


def test_page_numbers_continue_above_the_hole():
    layout = RamLayout(3 * PAGE, 2 * PAGE)
    assert [layout.pfn(page * PAGE) for page in range(3)] == [0, 1, ABOVE // PAGE]


def test_extents_between_two_offsets(tmp_path):
    path = tmp_path / "ram"
    with path.open("wb") as file:
        file.truncate(100 << 20)
        for at in (10 << 20, 50 << 20, 99 << 20):
            file.seek(at)
            file.write(b"x" * 2 * PAGE)
    with path.open("rb") as file:

        def found(start, end):
            return list(extents(file.fileno(), start, end))

        assert found(0, 100 << 20) == [(n << 20, (n << 20) + 2 * PAGE) for n in (10, 50, 99)]
        assert found(11 << 20, 50 << 20) == []
        assert found(11 << 20, (50 << 20) + PAGE) == [(50 << 20, (50 << 20) + PAGE)]
        assert found((10 << 20) + PAGE, 11 << 20) == [((10 << 20) + PAGE, (10 << 20) + 2 * PAGE)]
        assert found(99 << 20, 99 << 20) == []


@pytest.mark.parametrize("end", [PAGE, 5 * PAGE])
def test_a_hole_alone(tmp_path, end):
    path = tmp_path / "ram"
    with path.open("wb") as file:
        file.truncate(end)
    with path.open("rb") as file:
        assert list(extents(file.fileno(), 0, end)) == []
