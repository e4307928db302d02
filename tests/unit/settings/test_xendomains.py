"""Settings of xendomains: what the shell would read, as long as it need not compute."""

import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenqemu.errors import UsageError
from xenqemu.settings.xendomains import MAX_TEXT, read

SHIPPED = Path("/etc/default/xendomains")
"""Of Debian's xen-utils-common."""


def test_the_file_that_debian_ships_is_read():
    assert read(SHIPPED.read_bytes(), "x") == {
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
    ],
)
def test_a_value_is_what_the_shell_makes_of_it(text, value):
    assert read(text.encode(), "x") == {"XENDOMAINS_SAVE": value}
    shell = subprocess.run(
        ["sh", "-c", f'{text}\nprintf %s "$XENDOMAINS_SAVE"'], capture_output=True, check=True
    )
    assert shell.stdout.decode() == value


@pytest.mark.parametrize("text", ["# XENDOMAINS_SAVE=/a", "OTHER=$x", "", "if true; then", "\xff"])
def test_what_else_stands_there(text):
    assert read(text.encode("latin-1"), "x") == {}


@pytest.mark.parametrize(
    "value",
    [
        "$HOME/a",
        '"$HOME"',
        "`pwd`",
        "/a b",
        "'/a",
        '"/a\\""',
        "/a;reboot",
        "a#b",
        "~/a",
        " /a",
        "*",
    ],
)
def test_what_a_shell_would_compute(value):
    with pytest.raises(UsageError) as caught:
        read(f"XENDOMAINS_SAVE={value}".encode(), "old")
    message = f"old: XENDOMAINS_SAVE: expected one plain word, got {value!r}"
    assert str(caught.value) == message


def test_a_text_is_bounded():
    with pytest.raises(UsageError, match="x: expected at most 65536 bytes, got more"):
        read(b"#" * (MAX_TEXT + 1), "x")


@given(st.binary() | st.text("XENDOMAINS_=\"'$ #\n").map(str.encode))
def test_any_text_is_values_or_an_error(text):
    with suppress(UsageError):
        assert all(name.startswith("XENDOMAINS_") for name in read(text, "x"))
