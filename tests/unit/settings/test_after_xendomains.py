"""What xendomains' settings mean here, and what is said of those that mean nothing."""

from pathlib import Path

import pytest

from xenqemu.errors import UsageError
from xenqemu.settings.after_xendomains import UNKNOWN, after_xendomains
from xenqemu.settings.choice import Choice
from xenqemu.settings.toml_values import read
from xenqemu.settings.xenqemu_conf import RestoreAll, SaveAll, Settings
from xenqemu.system.deadline import MAX_SECONDS


def heeded(text):
    """Return what a text changes, where nothing is said of it."""
    found = after_xendomains(text.encode(), "x")
    assert found.complaints == ()
    return found.require_folder(found.settings)


def said(text):
    """Return what is said of a text that changes nothing."""
    found = after_xendomains(text.encode(), "x")
    assert found.settings == Settings()
    return list(found.complaints)


def test_xendomains_as_debian_ships_it_changes_nothing():
    assert heeded(Path("/etc/default/xendomains").read_text()) == Settings()
    assert heeded("") == Settings()


AS_XEN_SHIPS_IT = """
XENDOMAINS_SYSRQ=""
XENDOMAINS_USLEEP=100000
XENDOMAINS_CREATE_USLEEP=5000000
XENDOMAINS_MIGRATE=""
XENDOMAINS_SAVE=/var/lib/xen/save
XENDOMAINS_SHUTDOWN="--wait"
XENDOMAINS_SHUTDOWN_ALL="--all --wait"
XENDOMAINS_RESTORE=true
XENDOMAINS_AUTO=/etc/xen/auto
XENDOMAINS_AUTO_ONLY=true
XENDOMAINS_STOP_MAXWAIT=300
"""


def test_xendomains_as_xen_ships_it_saves_what_has_a_file_and_shuts_down_the_others():
    assert heeded(AS_XEN_SHIPS_IT) == Settings(save_all=SaveAll(others=Choice.SHUT_DOWN))


@pytest.mark.parametrize(
    ("text", "save_all", "restore_all"),
    [
        ("SAVE=/some/folder", SaveAll(folder=Path("/some/folder")), RestoreAll()),
        ("SAVE=", SaveAll(save=False), RestoreAll()),
        ("RESTORE=", SaveAll(), RestoreAll(restore=False)),
        ("RESTORE=false", SaveAll(), RestoreAll(restore=False)),
        ("RESTORE=TRUE", SaveAll(), RestoreAll()),
        ("STOP_MAXWAIT=17", SaveAll(deadline=17.0), RestoreAll()),
        ("STOP_MAXWAIT=99999999", SaveAll(deadline=MAX_SECONDS), RestoreAll()),
        (f"STOP_MAXWAIT={'9' * 999}", SaveAll(deadline=MAX_SECONDS), RestoreAll()),
        ("STOP_MAXWAIT=", SaveAll(), RestoreAll()),
        ("AUTO=/my/guests", SaveAll(configs=Path("/my/guests")), RestoreAll()),
        ("AUTO=", SaveAll(), RestoreAll()),
        ("AUTO_ONLY=true", SaveAll(others=Choice.LEAVE), RestoreAll()),
        ("AUTO_ONLY=false", SaveAll(), RestoreAll()),
        ("AUTO_ONLY=", SaveAll(), RestoreAll()),
        ("MIGRATE=", SaveAll(), RestoreAll()),
        ("SHUTDOWN=--wait", SaveAll(), RestoreAll()),
        ("SHUTDOWN_ALL='--all --wait'", SaveAll(), RestoreAll()),
    ],
)
def test_what_is_heeded(text, save_all, restore_all):
    found = heeded(f"XENDOMAINS_{text}")
    assert found == Settings(save_all=save_all, restore_all=restore_all)


def test_guests_without_a_file_are_shut_down_where_the_script_would_at_its_end():
    text = "XENDOMAINS_AUTO_ONLY=true\nXENDOMAINS_SHUTDOWN_ALL='--all --wait'"
    assert heeded(text).save_all.others is Choice.SHUT_DOWN
    assert heeded(f"{text}\nXENDOMAINS_SHUTDOWN_ALL=").save_all.others is Choice.LEAVE


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("MIGRATE=other", "is not heeded: domains are saved, not migrated"),
        ('MIGRATE="$PEER --live"', "is not heeded: domains are saved, not migrated"),
        ("SYSRQ='s e i u o'", "is not heeded: no SysRq is sent to domains"),
        ("SHUTDOWN=", "is empty, and not heeded: what is not saved is shut down"),
        ("AUTO_ONLY=yes", "is not heeded: expected true or false, got 'yes'"),
        ("AUTO_ONLY=$ONLY", "is not heeded: expected true or false, got '$ONLY'"),
        ("RESTORE=maybe", "is not heeded: expected true or false, got 'maybe'"),
        ("RESTORE=$(date)", "is not heeded: expected true or false, got '$(date)'"),
        ("AUTO=auto", "is not heeded: expected an absolute path, got 'auto'"),
        ("AUTO=$HOME/auto", "is not heeded: expected an absolute path, got '$HOME/auto'"),
        ("STOP_MAXWAIT=0", "is not heeded: expected seconds, above 0, got '0'"),
        ("STOP_MAXWAIT=5m", "is not heeded: expected seconds, above 0, got '5m'"),
        ("STOP_MAXWAIT=²", "is not heeded: expected seconds, above 0, got '²'"),
        ("STOP_MAXWAIT=$((5 * 60))", "is not heeded: expected seconds, above 0, got '$((5 * 60))'"),
    ],
)
def test_what_is_not_heeded_is_said_and_stops_nothing(text, why):
    name = text.partition("=")[0]
    assert said(f"XENDOMAINS_{text}") == [f"x: XENDOMAINS_{name} {why}"]


@pytest.mark.parametrize(
    "text",
    [
        "XENDOMAINS_CREATE_USLEEP=$((5 * 1000000))",
        "XENDOMAINS_USLEEP=`sleep`\nXENDOMAINS_NEW='x",
        "PEER=$(hostname -f)",
    ],
)
def test_what_is_not_about_what_is_done_here_is_passed_over(text):
    assert said(text) == []


@pytest.mark.parametrize("folder", ["records", "$HOME/save", "$(pwd)", "~/save", "/a b"])
def test_a_folder_that_is_not_known_is_an_error_unless_ours_is_set(folder):
    found = after_xendomains(f"XENDOMAINS_SAVE={folder}".encode(), "old")
    assert found.settings.save_all.folder == UNKNOWN
    why = f"old: XENDOMAINS_SAVE is not heeded: expected an absolute path, got {folder!r}"
    assert found.complaints == (why,)
    with pytest.raises(UsageError) as caught:
        found.require_folder(found.settings)
    assert str(caught.value) == f"{why}; set save_all.folder in xenqemu.conf"
    ours = read(b'save_all.folder = "/var/lib/xen/save"', found.settings, "x")
    assert found.require_folder(ours) == Settings()


def test_what_xendomains_says_gives_way():
    base = heeded("XENDOMAINS_SAVE=/old\nXENDOMAINS_STOP_MAXWAIT=17")
    found = read(b'save_all.folder = "/new"', base, "x")
    assert found == base.but(save_all=SaveAll(folder=Path("/new"), deadline=17.0))
