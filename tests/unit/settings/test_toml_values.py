"""Settings: a text becomes a typed object, or an error that says what to write."""

import math
from contextlib import suppress
from enum import Enum
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenqemu.errors import UsageError
from xenqemu.frozen import Frozen
from xenqemu.settings.toml_values import MAX_TEXT, read


class Waits(Frozen):
    reply: float = 10.0
    finish: float = 1.5


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Chosen(Frozen):
    colour: Colour = Colour.RED
    name: str = "auto"
    folder: Path = Path("/var/lib")
    other: Path | None = None
    sound: bool = True
    parallel: int = 4
    first: tuple[str, ...] = ()
    waits: Waits = Waits()


def test_what_is_left_out_keeps_its_default():
    assert read(b"", Chosen(), "x") == Chosen()
    assert read(b"[waits]\n# reply = 3\n", Chosen(), "x") == Chosen()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('name = "xen"', Chosen(name="xen")),
        ('colour = "blue"', Chosen(colour=Colour.BLUE)),
        ('folder = "/a/b c"', Chosen(folder=Path("/a/b c"))),
        ('other = "/a"', Chosen(other=Path("/a"))),
        ('other = ""', Chosen()),
        ("sound = false", Chosen(sound=False)),
        ("parallel = 1", Chosen(parallel=1)),
        ('first = ["b", "a"]', Chosen(first=("b", "a"))),
        ("waits.reply = 3", Chosen(waits=Waits(reply=3.0))),
        ('waits.reply = "1m30s"', Chosen(waits=Waits(reply=90.0))),
        ("[waits]\nfinish = 86400\nreply = 0.25", Chosen(waits=Waits(0.25, 86400.0))),
    ],
)
def test_values_have_the_types_of_their_fields(text, expected):
    found = read(text.encode(), Chosen(), "x")
    assert found == expected
    assert [*map(type, vars(found).values())] == [*map(type, vars(expected).values())]
    assert isinstance(found.waits.reply, float)


SECONDS = 'seconds or a time as "5m", above 0 and up to 86400 s'
COUNT = "a whole number from 1 to 1000"
TEXT = "printable text"
PATH = "an absolute path"


@pytest.mark.parametrize(
    ("text", "key", "expected", "got"),
    [
        ("name = 3", "name", TEXT, "3"),
        ('colour = "RED"', "colour", "one of red, blue", "'RED'"),
        ('colour = ["red"]', "colour", "one of red, blue", "['red']"),
        ("colour.red = 1", "colour", "one of red, blue", "{'red': 1}"),
        ('name = ""', "name", TEXT, "''"),
        (r'name = "a\nb"', "name", TEXT, r"'a\nb'"),
        ('folder = "a/b"', "folder", PATH, "'a/b'"),
        ('folder = ""', "folder", PATH, "''"),
        (r'folder = "/a\u0000"', "folder", PATH, r"'/a\x00'"),
        ('other = "a"', "other", f'{PATH}, or ""', "'a'"),
        ("sound = 1", "sound", "true or false", "1"),
        ("parallel = 0", "parallel", COUNT, "0"),
        ("parallel = 1001", "parallel", COUNT, "1001"),
        (f"parallel = 0x{'f' * 5000}", "parallel", COUNT, "a number of too many digits"),
        ("parallel = 2.0", "parallel", COUNT, "2.0"),
        ("parallel = true", "parallel", COUNT, "True"),
        ('first = "a"', "first", "a list of printable texts", "'a'"),
        ('first = ["a", 1]', "first", "a list of printable texts", "['a', 1]"),
        ("waits = 3", "waits", "a table", "3"),
        ("[[waits]]", "waits", "a table", "[{}]"),
        ("waits.reply = 0", "waits.reply", SECONDS, "0"),
        ("waits.reply = -1.0", "waits.reply", SECONDS, "-1.0"),
        ("waits.reply = 86401", "waits.reply", SECONDS, "86401"),
        ("waits.reply = nan", "waits.reply", SECONDS, "nan"),
        ("waits.reply = inf", "waits.reply", SECONDS, "inf"),
        ("waits.reply = true", "waits.reply", SECONDS, "True"),
        ('waits.reply = "soon"', "waits.reply", SECONDS, "'soon'"),
        ("waits.reply.x = 3", "waits.reply", SECONDS, "{'x': 3}"),
        (f'first = "{"a" * 200}"', "first", "a list of printable texts", "'" + "a" * 79),
    ],
)
def test_wrong_values(text, key, expected, got):
    with pytest.raises(UsageError) as caught:
        read(text.encode(), Chosen(), "some.conf")
    assert str(caught.value) == f"some.conf: {key}: expected {expected}, got {got}"


@pytest.mark.parametrize(
    ("text", "unknown", "nearest"),
    [
        ("nane = 3", "nane", "name"),
        ("[waits]\nreplay = 3", "waits.replay", "waits.reply"),
        ("[wait]\nreply = 3", "wait", "waits"),
        ("reply = 3", "reply", "waits.reply"),
        ("[waits]\nsound = true", "waits.sound", "waits"),
        ('"other.x" = 1', "other.x", "other"),
    ],
)
def test_unknown_keys_are_refused_with_the_nearest_known_one(text, unknown, nearest):
    with pytest.raises(UsageError) as caught:
        read(text.encode(), Chosen(), "x")
    assert str(caught.value) == f"x: unknown key {unknown!r}; did you mean {nearest}?"


@pytest.mark.parametrize("key", ["", "\x1b", "a" * 5000])
def test_an_unknown_key_is_shown_safely(key):
    text = f'"{key}" = 1'.replace("\x1b", r"\u001b")
    with pytest.raises(UsageError) as caught:
        read(text.encode(), Chosen(), "x")
    shown = str(caught.value)
    assert shown.startswith(f"x: unknown key {key!r:.80}; did you mean ")
    assert shown.isprintable()


@pytest.mark.parametrize(
    "text",
    [
        b"name",
        b"name = 3\nname = 4",
        b"\xff",
        b"a = " + b"[" * 20000,
        b"a = " + b"9" * 5000,
        b"a = 1\0",
    ],
)
def test_what_is_no_toml(text):
    with pytest.raises(UsageError, match="^x: not TOML: "):
        read(text, Chosen(), "x")


def test_a_text_is_bounded():
    text = b"#" * MAX_TEXT
    assert read(text, Chosen(), "x") == Chosen()
    with pytest.raises(UsageError, match="x: expected at most 65536 bytes, got more"):
        read(text + b"#", Chosen(), "x")


WORDS = ["name", "waits", "reply", ".", "=", "[", "]", '"', "1", "\n", "true", "-", " ", "{", "}"]


@given(st.binary(max_size=60) | st.lists(st.sampled_from(WORDS)).map(lambda w: "".join(w).encode()))
def test_any_text_is_settings_or_an_error(text):
    with suppress(UsageError):
        assert math.isfinite(read(text, Chosen(), "x").waits.reply)
