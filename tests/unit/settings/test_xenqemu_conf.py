"""The settings file that is shipped says what the program does."""

import os
import re
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from xenqemu.errors import UsageError
from xenqemu.host.trust import Trust
from xenqemu.settings.toml_values import read
from xenqemu.settings.xenqemu_conf import (
    RestoreAll,
    SaveAll,
    Settings,
    after_xendomains,
    read_settings,
)

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


def test_xendomains_as_debian_ships_it_changes_nothing():
    assert after_xendomains(Path("/etc/default/xendomains").read_bytes(), "x") == Settings()
    assert after_xendomains(b"", "x") == Settings()


@pytest.mark.parametrize(
    ("text", "save_all", "restore_all"),
    [
        ("SAVE=/some/folder", SaveAll(folder=Path("/some/folder")), RestoreAll()),
        ("SAVE=", SaveAll(save=False), RestoreAll()),
        ("RESTORE=", SaveAll(), RestoreAll(restore=False)),
        ("RESTORE=false", SaveAll(), RestoreAll(restore=False)),
        ("RESTORE=TRUE", SaveAll(), RestoreAll()),
        ("STOP_MAXWAIT=17", SaveAll(deadline=17.0), RestoreAll()),
        ("STOP_MAXWAIT=0", SaveAll(), RestoreAll()),
        ("STOP_MAXWAIT=soon", SaveAll(), RestoreAll()),
        ("AUTO=/my/guests", SaveAll(configs=Path("/my/guests")), RestoreAll()),
        ("AUTO=", SaveAll(), RestoreAll()),
    ],
)
def test_xendomains(text, save_all, restore_all):
    found = after_xendomains(f"XENDOMAINS_{text}".encode(), "x")
    assert found == Settings(save_all=save_all, restore_all=restore_all)


def test_xendomains_that_make_no_sense_here():
    with pytest.raises(UsageError, match="^old: save_all.folder: expected an absolute path"):
        after_xendomains(b"XENDOMAINS_SAVE=records", "old")
    with pytest.raises(UsageError, match="^old: save_all.deadline: expected seconds"):
        after_xendomains(b"XENDOMAINS_STOP_MAXWAIT=99999999", "old")


def test_what_xendomains_says_gives_way():
    base = after_xendomains(b"XENDOMAINS_SAVE=/old\nXENDOMAINS_STOP_MAXWAIT=17", "x")
    found = read(b'save_all.folder = "/new"', base, "x").save_all
    assert (found.folder, found.deadline) == (Path("/new"), 17.0)


@pytest.mark.parametrize("which", ["file", "folder"])
def test_settings_that_others_could_have_written_are_not_used(tmp_path, which):
    conf = tmp_path / "conf"
    conf.write_text('[trust]\nallow = ["b_info.bootloader=*"]\nowners = ["nobody"]\n')
    assert read_settings(conf).trust == Trust(("b_info.bootloader=*",), ("nobody",))
    place = conf if which == "file" else tmp_path
    place.chmod(0o777)
    why = f"{conf}: the settings are not used: others may write to {place} (chmod go-w)"
    with pytest.raises(UsageError) as caught:
        read_settings(conf)
    assert str(caught.value) == why
    place.chmod(0o755)
    os.chown(place, 4711, -1)
    with pytest.raises(UsageError, match=f"{place} is owned by user 4711"):
        read_settings(conf)
