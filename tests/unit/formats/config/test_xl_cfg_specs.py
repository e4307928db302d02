"""C's numbers in the specs of devices, and the pieces of these."""

import pytest

from xenqemu.errors import BadRecord
from xenqemu.formats.config.xl_cfg_settings import XEN_4_17, XEN_4_20, XlCfgSettings, XlHost
from xenqemu.formats.config.xl_cfg_specs import atoi, lenient_ulong, options, pair, pieces, ulong

MOST = (1 << 64) - 1


@pytest.mark.parametrize(
    ("text", "base", "found"),
    [
        ("10", 0, (10, "")),
        ("0x1fg", 0, (31, "g")),
        ("0x", 0, (0, "x")),
        ("010", 0, (8, "")),
        ("08", 0, (0, "8")),
        (" \t+7 ", 0, (7, " ")),
        ("-1", 0, (MOST, "")),
        ("99999999999999999999", 0, (MOST, "")),
        ("9" * 5000, 10, (MOST, "")),
        ("0" * 5000 + "7", 10, (7, "")),
        ("010", 10, (10, "")),
        ("0x10", 10, (0, "x10")),
        ("1f-2f", 16, (31, "-2f")),
        ("0x1f", 16, (31, "")),
        ("0xg", 16, (0, "xg")),
        ("", 0, None),
        ("x", 16, None),
        ("٣", 10, None),
    ],
)
def test_a_number_at_the_beginning_is_that_of_strtoul(text, base, found):
    assert ulong(text, base) == found


def test_numbers_that_are_read_without_a_look_at_the_rest():
    assert [lenient_ulong(text) for text in ("5x", "x", "", "0x10")] == [5, 0, 0, 16]
    assert [atoi(text) for text in ("5x", " -7", "x", "", "0x10")] == [5, -7, 0, 0, 0]
    assert [atoi(text) for text in ("4294967295", "9" * 30, "-" + "9" * 30)] == [-1, -1, 0]


def test_pieces_and_options_are_those_of_strtok():
    assert list(pieces(",,a,,b,")) == ["a", "b"]
    assert list(options("  a=1=2, b ,=c, ")) == [
        *(("a=1=2", "a", "1=2"), ("b ", "", ""), ("=c", "", "c"), ("", "", "")),
    ]


def test_a_pair_ends_where_the_release_ends_it():
    old, new = (XlCfgSettings("c=1", XlHost(8, release)) for release in (XEN_4_17, XEN_4_20))
    assert pair(old, "c", " a = b = c") == ("a", "b")
    assert pair(new, "c", " a = b = c") == ("a", "b = c")
    for cfg in (old, new):
        with pytest.raises(BadRecord, match="c: key=value, got 'a='"):
            pair(cfg, "c", "a=")
