"""Text of others: in one line, visible, not long."""

import pytest

from xenqemu.shown_text import MOST_SHOWN, printable, shown

CASES = {
    "plain": ("save of domain 7 (größer)", "save of domain 7 (größer)"),
    "new line": ("a\nxenqemu: saved", r"a\nxenqemu: saved"),
    "terminal": ("\x1b[2J\x07", r"\x1b[2J\x07"),
    "right to left": ("a\u202eb", r"a\u202eb"),
    "line separator": ("a\u2028b\x85c", r"a\u2028b\x85c"),
    "half a character": ("a\udcff", r"a\udcff"),
}


@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=CASES)
def test_what_is_not_visible_is_written_as_in_python(text, expected):
    assert printable(text) == shown(text) == expected


def test_a_text_that_is_too_long_keeps_its_start_and_end():
    text = "start" + "\n" * 10**6 + "end"
    found = shown(text)
    assert found.startswith("start\\n")
    assert found.endswith("\\nend")
    assert f"… {len(text)} characters …" in found
    assert shown("x" * MOST_SHOWN) == "x" * MOST_SHOWN
    assert shown("abcdef", 4) == "ab … 6 characters … ef"


@pytest.mark.parametrize("size", [MOST_SHOWN - 1, MOST_SHOWN, MOST_SHOWN + 1, 10**6])
@pytest.mark.parametrize("letter", ["x", "\0", "\u202e", "\U000e0001"])
def test_it_is_cut_as_it_is_shown(size, letter):
    assert len(shown(letter * size)) <= MOST_SHOWN + 30
