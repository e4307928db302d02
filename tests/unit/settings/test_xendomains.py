"""Settings of xendomains: what bash would read, as long as it need not compute."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xenqemu.errors import UsageError
from xenqemu.settings.xendomains import MAX_TEXT, MAX_VALUE, read

SHIPPED = Path("/etc/default/xendomains")
"""Of Debian's xen-utils-common."""


def values(text):
    return {name: found.value for name, found in read(text.encode(), "x").items()}


def by_bash(text, *names):
    """Return what bash makes of a text, which can run no program; None if it makes nothing of it.

    Names that it does not set are left out.
    """
    show = "printf '\\001'\n"  # behind what the text prints itself
    show += "".join(f'printf \'%s\\0%s\\0\' "${{{name}+{name}}}" "${name}"\n' for name in names)
    done = subprocess.run(
        ["/bin/bash", "--restricted", "-c", f"{text}\n{show}"],
        capture_output=True,
        env={"PATH": "/nowhere"},
        cwd="/",
        check=False,
    )
    _, shown, printed = done.stdout.decode(errors="surrogateescape").rpartition("\1")
    parts = printed.split("\0")
    pairs = dict(zip(parts[:-1:2], parts[1::2], strict=True))
    return {name: pairs[name] for name in names if name in pairs} if shown else None


def test_the_file_that_debian_ships_is_read():
    assert values(SHIPPED.read_text()) == {
        "XENDOMAINS_MIGRATE": "",
        "XENDOMAINS_SAVE": "/var/lib/xen/save",
        "XENDOMAINS_RESTORE": "true",
        "XENDOMAINS_AUTO": "/etc/xen/auto",
        "XENDOMAINS_STOP_MAXWAIT": "300",
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("XENDOMAINS_SAVE=/a/b", "/a/b"),
        ("  XENDOMAINS_SAVE=/a/b  ", "/a/b"),
        ("export XENDOMAINS_SAVE=/a", "/a"),
        ("XENDOMAINS_SAVE=", ""),
        ("XENDOMAINS_SAVE=''", ""),
        ("XENDOMAINS_SAVE='/a $b'", "/a $b"),
        ('XENDOMAINS_SAVE="/a b" # see $HOME', "/a b"),
        ("XENDOMAINS_SAVE=/a\nXENDOMAINS_SAVE=/b", "/b"),
        ("XENDOMAINS_SAVE=/a; export XENDOMAINS_SAVE", "/a"),
        ("XENDOMAINS_AUTO=/b XENDOMAINS_SAVE=/a", "/a"),
        ("export XENDOMAINS_AUTO XENDOMAINS_SAVE=/a", "/a"),
        ("XENDOMAINS_SAVE=/a#b", "/a#b"),
        ('XENDOMAINS_SAVE="/a\\"b\\\\c\\d"', '/a"b\\c\\d'),
        ("XENDOMAINS_SAVE=/a\\ b\\\n/c", "/a b/c"),
        ('XENDOMAINS_SAVE="/a\\\n/b"', "/a/b"),
        ("XENDOMAINS_SAVE='/a'/b\"/c d\"", "/a/b/c d"),
        ("XENDOMAINS_MIGRATE='a\nXENDOMAINS_SAVE=/no\n'\nXENDOMAINS_SAVE=/a", "/a"),
        ("# it's\nXENDOMAINS_SAVE=/a", "/a"),
        ("DIR=/srv\nXENDOMAINS_SAVE=$DIR/save", "/srv/save"),
        ('DIR=/srv; XENDOMAINS_SAVE="${DIR}/save"', "/srv/save"),
        ("if true; then :; fi\nXENDOMAINS_SAVE=/a", "/a"),
        ("case x in\n(y) :;;\nx) :;;\nesac\nXENDOMAINS_SAVE=/a", "/a"),
        ("f() {\n:\n}\nXENDOMAINS_SAVE=/a", "/a"),
        ("( : )\nXENDOMAINS_SAVE=/a", "/a"),
        ("XENDOMAINS_SYSRQ=$((5 * 3))\nXENDOMAINS_SAVE=/a", "/a"),
        ('XENDOMAINS_SYSRQ="$(printf \'%s\' "a b")"\nXENDOMAINS_SAVE=/a', "/a"),
    ],
)
def test_a_value_is_what_bash_makes_of_it(text, value):
    assert values(text)["XENDOMAINS_SAVE"] == value
    assert by_bash(text, "XENDOMAINS_SAVE") == {"XENDOMAINS_SAVE": value}


def test_lines_of_an_editor_for_windows_end_where_they_seem_to():
    text = "XENDOMAINS_SAVE=/a\r\nXENDOMAINS_AUTO='/b'\r\n"
    assert values(text) == {"XENDOMAINS_SAVE": "/a", "XENDOMAINS_AUTO": "/b"}


@pytest.mark.parametrize("text", ["# XENDOMAINS_SAVE=/a", "OTHER=$x", "", "if true; then", "\xff"])
def test_what_else_stands_there(text):
    assert read(text.encode("latin-1"), "x") == {}


@pytest.mark.parametrize(
    "value",
    [
        *("$HOME/a", '"$HOME"', "`pwd`", "$(pwd)", '"$(pwd)"', "${A:-/a}", "$((1 + 1))", "$'a'"),
        *("/a b", "'/a", '"/a', " /a", "~/a", "/a:~", "*", "/a?", "/[a]", "(/a /b)", "/a & :"),
        *("/a && true", "/a | true", "/a >/b"),
    ],
)
def test_what_a_shell_would_compute(value):
    found = read(f"XENDOMAINS_SAVE=/old\nXENDOMAINS_SAVE={value}".encode(), "x")
    assert found["XENDOMAINS_SAVE"].value is None
    assert found["XENDOMAINS_SAVE"].text == value.strip()


@pytest.mark.parametrize(
    "text",
    [
        "if [ -d /a ]; then\nXENDOMAINS_SAVE=/a\nfi",
        "if [ -d /a ]; then XENDOMAINS_SAVE=/a; fi",
        "if x; then :; else\n  XENDOMAINS_SAVE=/a\nfi",
        "if x; then\nif y; then :; fi\nXENDOMAINS_SAVE=/a\nfi",
        "[ -d /a ] && XENDOMAINS_SAVE=/a",
        "[ -d /a ] ||\nXENDOMAINS_SAVE=/a",
        "case $x in\na) :;;\nb) XENDOMAINS_SAVE=/a;;\nesac",
        "case $x in\na) :;;\nb)\nXENDOMAINS_SAVE=/a\n;;\nesac",
        "for x in a b; do\nXENDOMAINS_SAVE=/$x\ndone",
        "f() {\nXENDOMAINS_SAVE=/a\n}",
        "(\nXENDOMAINS_SAVE=/a\n)",
        "XENDOMAINS_SAVE=/a true",
        "XENDOMAINS_SAVE+=/a",
        "readonly -x XENDOMAINS_SAVE=/a",
        "DIR=$(pwd)\nXENDOMAINS_SAVE=$DIR",
        "XENDOMAINS_SAVE=$LATER\nLATER=/a",
        "XENDOMAINS_SAVE=${A:-\nXENDOMAINS_AUTO=/a}",
    ],
)
def test_what_depends_on_more_than_the_text_is_not_known(text):
    assert values(text) == {"XENDOMAINS_SAVE": None}


def test_a_text_is_bounded():
    with pytest.raises(UsageError, match="x: expected at most 65536 bytes, got more"):
        read(b"#" * (MAX_TEXT + 1), "x")


def test_a_value_is_bounded_however_often_it_is_doubled():
    text = "A=xx;" + "A=$A$A;" * 5000 + "XENDOMAINS_SAVE=$A"
    assert values(text) == {"XENDOMAINS_SAVE": None}
    assert values(f"XENDOMAINS_SAVE={'x' * MAX_VALUE}")["XENDOMAINS_SAVE"] == "x" * MAX_VALUE


A, B = "XENDOMAINS_A", "XENDOMAINS_B"
SCRAPS = [f"{A}=", f"{B}=", f"${A}", f"${{{B}}}", "export ", "x", "\\", "'", '"', "$", "#", "+"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*SCRAPS, "\n", "\n", " ", ";", "=", "{", "}"])).map("".join))
def test_of_any_text_bash_makes_the_same(text):
    """Where we know a value, and the text is one that bash takes."""
    known = {name: value for name, value in values(text).items() if value is not None}
    theirs = by_bash(text, A, B)
    assert theirs is None or known.items() <= theirs.items()


@given(st.binary() | st.text("XENDOMAINS_=\"'$ #\n").map(str.encode))
def test_any_text_is_values(text):
    assert all(name.startswith("XENDOMAINS_") for name in read(text, "x"))
