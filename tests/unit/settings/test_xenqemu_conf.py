"""The settings file that is shipped says what the program does."""

import os
import re
from pathlib import Path

import pytest

from xenqemu.errors import UsageError
from xenqemu.frozen import Frozen
from xenqemu.host.trust import Trust
from xenqemu.settings.toml_values import read
from xenqemu.settings.xenqemu_conf import Settings, read_settings

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
    for name, value in vars(settings).items():
        if isinstance(value, Frozen):
            yield from names(value, f"{name}.")
        else:
            yield above + name


def uncommented():
    """Return the shipped text with its defaults in force; prose has a blank after its #."""
    return re.sub("^#(?=[^ ])", "", CONF.read_text(), flags=re.MULTILINE)


def test_the_shipped_file_changes_nothing():
    assert read(CONF.read_bytes(), Settings(), "x") == Settings()


def test_the_shipped_file_names_every_key_with_its_default():
    assert read(uncommented().encode(), Settings(), "x") == Settings()
    assert sorted(assigned(uncommented())) == sorted(names(Settings()))
    assert assigned(CONF.read_text()) == {}


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
