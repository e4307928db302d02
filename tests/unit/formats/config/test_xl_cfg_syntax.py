"""The grammar of xl.cfg, beside libxlu's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.property.strategies import outcome
from xenqemu.errors import BadRecord, FormatError, TooBig
from xenqemu.formats.config.xl_cfg_settings import XlCfgSettings
from xenqemu.formats.config.xl_cfg_syntax import (
    MAX_TEXT,
    decoded,
    long_value,
    parse,
    parse_leniently,
)

NAMES = st.from_regex(r"[a-z][._0-9a-z]{0,8}", fullmatch=True)
PLAIN_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\n"))

# libxlu of Xen 4.17 was given each of these texts; `name = 5` and `name = "5"` are one to it.
READ = [
    ("", {}),
    ("a=1\n", {"a": 1}),
    ("a=1", {"a": 1}),
    ("a = 0x1f ; b = 012 ; c = 0", {"a": 31, "b": 10, "c": 0}),
    ("a=12ab\nb=08\nc=0x\n", {"a": "12ab", "b": "08", "c": "0x"}),
    ("a=9223372036854775807", {"a": (1 << 63) - 1}),
    ("a=9223372036854775808", {"a": "9223372036854775808"}),
    ("a='1'", {"a": "1"}),
    ("a=''", {"a": ""}),
    ('a="it\'s"\nb=\'say "x"\'', {"a": "it's", "b": 'say "x"'}),
    (r"a='\'\"\\\a\b\f\n\r\t\v'", {"a": "'\"\\\a\b\f\n\r\t\v"}),
    ("a='é'", {"a": "é"}),
    (r"a='x\101y'", {"a": "xy"}),
    ("a=[]", {"a": []}),
    ("a=[1,'x',[2,],\n3\n,4,\n]", {"a": [1, "x", [2], 3, 4]}),
    ("a=[\n# one\n1, # two\n]\n", {"a": [1]}),
    (";;;a=1;;\n\n\t b=2\n# end\n", {"a": 1, "b": 2}),
    ("a=1\na='x'", {"a": "x"}),
    ("a='x'\na+='y'\na+=2", {"a": "xy2"}),
    ("a=1\na+=2", {"a": "12"}),
    ("a=[1]\na+=[2,\n3]\na+=[]", {"a": [1, 2, 3]}),
    ("a+='x'\nb+=[1]", {"a": "x", "b": [1]}),
    ("device_model.x_1='y'", {"device_model.x_1": "y"}),
]

# (text, line, offset): libxlu refuses each of them too.
REFUSED = [
    ("a", 1, 1),
    ("a\n", 1, 1),
    ("a=", 1, 2),
    ("a=\n1", 1, 2),
    ("a=-1", 1, 2),
    ("a=1 b=2", 1, 4),
    ("a=12z", 1, 4),
    ("A=1", 1, 0),
    ("a=1\r\n", 1, 3),
    ("a=1\fb=2", 1, 3),
    ("a=1 # no newline", 1, 4),
    ("a=1\nb=[,]", 2, 7),
    ("a=[1,,2]", 1, 5),
    ("a=[1 2]", 1, 5),
    ("a=[1", 1, 4),
    ("a=[a]", 1, 3),
    ("a='x", 1, 2),
    ("a='x\ny'", 1, 2),
    ("a='x\0'", 1, 2),
    ("é='x'", 1, 0),
    ("\n\nb='é\\q'", 3, 7),
    (r"a='\x41'", 1, 3),
    (r"a='\1'", 1, 3),
    (r"a='\8'", 1, 3),
    ("a=[1]\na+='2'", 2, 9),
    ("a='1'\na+=[2]", 2, 9),
    ("a+=+=1", 1, 3),
    ("=1", 1, 0),
]


def plain(text):
    """Return what a text sets, numbers as numbers."""
    return XlCfgSettings(text).plain()


@pytest.mark.parametrize(("text", "values"), READ)
def test_a_text_reads_as_its_values(text, values):
    assert plain(text) == values
    assert plain(text.encode()) == values


@pytest.mark.parametrize(("text", "line", "offset"), REFUSED)
def test_what_xl_refuses_is_refused_with_its_place(text, line, offset):
    with pytest.raises(BadRecord) as caught:
        parse(text)
    assert (caught.value.record, caught.value.offset) == (f"xl.cfg line {line}", offset)


def test_text_is_what_bytes_can_be_and_of_a_bounded_size():
    assert plain(b"a='\xff'") == {"a": "\udcff"}
    assert plain(b"# \xff\na=1") == {"a": 1}
    with pytest.raises(BadRecord, match="offset 0x3: expected UTF-8"):
        decoded("a='\ud800'")
    assert plain("#" * (MAX_TEXT - 1) + "\n") == {}
    with pytest.raises(TooBig):
        decoded("#" * MAX_TEXT + "\n")


@pytest.mark.parametrize(
    ("text", "values", "line"),
    [
        ("a=1\r\nb=2\n", {"b": "2"}, 1),
        ("a=1\nb=\nc=3", {"a": "1", "c": "3"}, 2),
        ("a=1\n\nC=2\nb=[1\nd=4\n", {"a": "1"}, 3),
        ('x="a\nb=2', {"b": "2"}, 1),
        ("a=1\n?\n?\n?\nb=2\n", {"a": "1", "b": "2"}, 2),
        ("a='x'\na+=[1]\nb=2", {"a": "x", "b": "2"}, 2),
        ("a=1", {"a": "1"}, None),
        ("?", {}, 1),
    ],
)
def test_what_stands_beside_faulty_lines_is_read_all_the_same(text, values, line):
    settings, wrong = parse_leniently(text)
    assert {name: setting.value for name, setting in settings.items()} == values
    assert (wrong.record if wrong else None) == (line and f"xl.cfg line {line}")


def test_many_faulty_lines_are_read_in_linear_time():
    settings, wrong = parse_leniently("?\n" * 400_000 + "a=1\n")
    assert settings["a"].value == "1"
    assert isinstance(wrong, BadRecord)


def test_lists_nest_to_a_bounded_depth():
    assert plain("a=" + "[" * 16 + "]" * 16)["a"] == eval("[" * 16 + "]" * 16)
    with pytest.raises(TooBig) as caught:
        parse("a=" + "[" * 100_000)
    assert caught.value.offset == len("a=") + 16


def test_long_texts_are_read_in_linear_time():
    values = plain("a+=[1]\n" * 100_000 + "b+='x'\n" * 40_000)
    assert values == {"a": [1] * 100_000, "b": "x" * 40_000}


def spelled(value, draw):
    """Return one of the spellings of a value."""
    if isinstance(value, int):
        return draw(st.sampled_from([str(value), hex(value), f"0{value:o}"]))
    if isinstance(value, str):
        quote = draw(st.sampled_from("'\""))
        return quote + value.replace("\\", "\\\\").replace(quote, "\\" + quote) + quote
    gaps = st.sampled_from(["", " ", "\n", "\t# c\n "])
    items = [spelled(item, draw) + draw(gaps) for item in value]
    last = "," + draw(gaps) if items and draw(st.booleans()) else ""
    return "[" + draw(gaps) + ("," + draw(gaps)).join(items) + last + "]"


@st.composite
def texts_with_values(draw):
    atoms = st.integers(0, (1 << 63) - 1) | PLAIN_TEXT
    values = draw(st.dictionaries(NAMES, st.recursive(atoms, st.lists, max_leaves=8)))
    ends = st.sampled_from(["\n", ";", " ;\n", " # c\n"])
    lines = [f"{name} = {spelled(value, draw)}{draw(ends)}" for name, value in values.items()]
    return "".join(lines), values


@given(texts_with_values())
def test_any_spelling_of_values_reads_as_those_values(case):
    text, values = case
    assert plain(text) == values


@given(st.text() | st.text("ab=+'\"\\[],;#\n 01x") | st.binary())
def test_any_text_reads_or_is_refused(text):
    values = outcome(plain, text)
    if isinstance(values, FormatError):
        assert values.record.startswith("xl.cfg")
        assert 0 <= values.offset <= 4 * len(text)
    else:
        assert all(isinstance(value, str | int | list) for value in values.values())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10),
        ("  +0x10", 16),
        ("-010", -8),
        ("0", 0),
        ("-9223372036854775808", -(1 << 63)),
        ("0x8000000000000000", None),
        ("1" * 5000, None),
        ("0x" + "f" * 5000, None),
        ("", None),
        ("1 ", None),
        ("08", None),
        ("٣", None),
    ],
)
def test_numbers_are_those_of_strtol(text, value):
    assert long_value(text) == value
