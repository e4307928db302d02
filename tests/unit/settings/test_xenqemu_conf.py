"""The settings file that is shipped says what the program does."""

import re
from dataclasses import fields, is_dataclass
from pathlib import Path

from xenqemu.settings.toml_values import read
from xenqemu.settings.xenqemu_conf import Settings

CONF = Path(__file__).parents[3] / "etc" / "xenqemu.conf"


def assigned(text):
    """Return every `table.key` of a text, with the words that are assigned to it."""
    found, table = {}, ""
    for line in text.splitlines():
        if section := re.fullmatch(r"\[(\w+)\]", line):
            table = f"{section[1]}."
        elif setting := re.fullmatch(r"(\w+) = (.+)", line):
            found[table + setting[1]] = setting[2]
    return found


def names(settings, above=""):
    for field in fields(settings):
        value = getattr(settings, field.name)
        if is_dataclass(value):
            yield from names(value, f"{field.name}.")
        else:
            yield above + field.name


def uncommented():
    """Return the shipped text with its defaults in force; prose has a blank after its #."""
    return re.sub("^#(?=[^ ])", "", CONF.read_text(), flags=re.MULTILINE)


def test_the_shipped_file_changes_nothing():
    assert read(CONF.read_bytes(), Settings(), "x") == Settings()


def test_the_shipped_file_names_every_key_with_its_default():
    assert read(uncommented().encode(), Settings(), "x") == Settings()
    assert sorted(assigned(uncommented())) == sorted(names(Settings()))
    assert assigned(CONF.read_text()) == {}
