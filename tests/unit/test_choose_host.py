"""Which host words mean, and the settings."""

import os
from pathlib import Path

import pytest

from tests.doubles.xen.xenstored import running
from xenqemu import choose_host
from xenqemu.errors import HostError, UsageError
from xenqemu.host.party_deadlines import Deadlines
from xenqemu.host.xen.xen_paths import XenPaths
from xenqemu.host.xenstore.store import Store
from xenqemu.settings import xenqemu_conf as settings_module
from xenqemu.settings.xenqemu_conf import Settings, read_settings


@pytest.fixture
def capabilities(tmp_path, monkeypatch) -> Path:
    file = tmp_path / "capabilities"
    monkeypatch.setattr(choose_host, "CAPABILITIES", file)
    return file


@pytest.mark.parametrize(
    ("text", "dom0"), [("control_d\n", True), ("", False), ("\n", False), (None, False)]
)
def test_dom0_is_what_controls_a_host(capabilities, text, dom0):
    if text is not None:
        capabilities.write_text(text)
    assert choose_host.is_dom0() is dom0


@pytest.mark.parametrize("words", ["lab:/a/b", "lab:/a:b", "lab:rel"])
def test_a_lab_of_its_own_folder(words):
    folder = Path(words.removeprefix("lab:")).absolute()
    assert choose_host.open_host(words).folder == folder


@pytest.mark.parametrize("words", ["lab", "lab:", "auto"])
def test_the_lab_is_what_there_is_without_xen(capabilities, monkeypatch, words):
    monkeypatch.setenv("XENQEMU_LAB", "/some/lab")
    assert choose_host.open_host(words).folder == Path("/some/lab")


def test_the_lab_is_in_memory_and_ours(monkeypatch):
    monkeypatch.delenv("XENQEMU_LAB", raising=False)
    monkeypatch.setattr(choose_host.os, "geteuid", lambda: 1234)
    assert choose_host.default_lab(Settings()) == Path("/dev/shm/xenqemu-lab-1234")
    monkeypatch.setattr(Path, "is_dir", lambda _path: False)
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/some/tmp")
    assert choose_host.default_lab(Settings()) == Path("/some/tmp/xenqemu-lab-1234")


@pytest.mark.parametrize("words", ["moon", "", "labs", "xen:4", "Lab"])
def test_words_that_name_no_host_are_refused(capabilities, words):
    with pytest.raises(UsageError, match="is none of xen, lab, lab:DIR, auto"):
        choose_host.open_host(words)


@pytest.fixture
def conf(tmp_path, monkeypatch) -> Path:
    """Where the host's settings are looked for; there are none yet."""
    file = tmp_path / "xenqemu.conf"
    monkeypatch.setattr(settings_module, "CONF", file)
    monkeypatch.delenv("XENQEMU_CONF", raising=False)
    return file


def test_settings_need_not_be_there(conf):
    assert read_settings() == Settings()
    conf.write_text("save.verify = false")
    assert read_settings().save.verify is False


def test_settings_that_are_named_come_first(conf, tmp_path, monkeypatch):
    conf.write_text('host = "xen"')
    other, third = tmp_path / "other", tmp_path / "third"
    other.write_text('host = "lab"')
    third.write_text('host = "lab:/third"')
    monkeypatch.setenv("XENQEMU_CONF", str(other))
    assert read_settings().host == "lab"
    assert read_settings(third).host == "lab:/third"


def test_settings_that_are_named_have_to_be_there(conf, tmp_path, monkeypatch):
    why = "none: the settings cannot be read: No such file or directory"
    with pytest.raises(UsageError, match=why):
        read_settings(tmp_path / "none")
    monkeypatch.setenv("XENQEMU_CONF", str(tmp_path / "none"))
    with pytest.raises(UsageError, match=why):
        choose_host.open_host("lab")
    monkeypatch.delenv("XENQEMU_CONF")
    conf.mkdir()
    with pytest.raises(UsageError, match="conf: the settings cannot be read: Is a directory"):
        read_settings()


def test_xendomains_says_what_the_settings_do_not(conf, tmp_path):
    old = tmp_path / "old"
    conf.write_text(f'xendomains = "{old}"')
    assert choose_host.with_xendomains() == Settings(xendomains=old)
    old.write_text("XENDOMAINS_SAVE=/old\nXENDOMAINS_STOP_MAXWAIT=17")
    found = choose_host.with_xendomains().save_all
    assert (found.folder, found.deadline) == (Path("/old"), 17.0)
    conf.write_text(f'xendomains = "{old}"\nsave_all.folder = "/new"')
    found = choose_host.with_xendomains().save_all
    assert (found.folder, found.deadline) == (Path("/new"), 17.0)
    assert read_settings().save_all.deadline == 300.0
    conf.write_text('xendomains = ""')
    assert choose_host.with_xendomains() == Settings(xendomains=None)
    conf.unlink()
    assert choose_host.with_xendomains() == Settings()


def test_what_of_xendomains_is_not_heeded_is_said(conf, tmp_path):
    old = tmp_path / "old"
    conf.write_text(f'xendomains = "{old}"\nsave_all.folder = "/new"')
    old.write_text('PEER=other\nXENDOMAINS_MIGRATE="$PEER --live"\nXENDOMAINS_SAVE=$HOME')
    said = []
    assert choose_host.with_xendomains(complain=said.append).save_all.folder == Path("/new")
    assert said == [
        f"{old}: XENDOMAINS_SAVE is not heeded: expected an absolute path, got '$HOME'",
        f"{old}: XENDOMAINS_MIGRATE is not heeded: domains are saved, not migrated",
    ]


def test_a_lab_has_the_files_of_all_its_guests_in_its_own_folder(conf, tmp_path, monkeypatch):
    old = tmp_path / "old"
    old.write_text("XENDOMAINS_SAVE=/old")
    default = Settings().but(xendomains=old)  # as the machine has it
    monkeypatch.setattr(choose_host, "DEFAULTS", default)
    lab = choose_host.open_host("lab:/some/lab")
    found = choose_host.for_all_guests(lab)
    assert (found.save_all.folder, found.save_all.configs) == (
        Path("/some/lab/save"),
        Path("/some/lab/auto"),
    )
    conf.write_text('save_all.folder = "/new"\nsave_all.configs = "/own"')
    found = choose_host.for_all_guests(lab)
    assert (found.save_all.folder, found.save_all.configs) == (Path("/new"), Path("/own"))


def test_a_lab_heeds_the_xendomains_that_its_settings_name(conf, tmp_path):
    old = tmp_path / "old"
    conf.write_text(f'xendomains = "{old}"')
    lab = choose_host.open_host("lab:/some/lab")
    old.write_text("XENDOMAINS_STOP_MAXWAIT=17")
    found = choose_host.for_all_guests(lab).save_all
    assert (found.folder, found.deadline) == (Path("/some/lab/save"), 17.0)
    old.write_text("XENDOMAINS_SAVE=/old\nXENDOMAINS_AUTO=/auto")
    found = choose_host.for_all_guests(lab).save_all
    assert (found.folder, found.configs) == (Path("/old"), Path("/auto"))


def test_the_machines_own_host_has_them_where_the_settings_say(conf, tmp_path):
    old = tmp_path / "old"
    conf.write_text(f'xendomains = "{old}"')
    old.write_text("XENDOMAINS_SAVE=/old")
    host = choose_host.open_host("xen")
    assert choose_host.for_all_guests(host) == choose_host.with_xendomains()


def test_xendomains_that_cannot_be_read(conf, tmp_path):
    old = tmp_path / "old"
    os.mkfifo(old)  # it is not waited for
    for path in (tmp_path, old):
        conf.write_text(f'xendomains = "{path}"')
        with pytest.raises(UsageError, match="the settings cannot be read: it is no regular file"):
            choose_host.with_xendomains()
    old.unlink()
    old.write_text("XENDOMAINS_SAVE=$HOME")
    conf.write_text(f'xendomains = "{old}"')
    with pytest.raises(UsageError, match=f"^{old}: XENDOMAINS_SAVE is not heeded: "):
        choose_host.with_xendomains()
    assert read_settings().xendomains == old  # all other commands do not mind


def test_settings_say_where_they_are_wrong(conf):
    conf.write_text("[save]\nverfy = true\n")
    with pytest.raises(UsageError, match=f"^{conf}: unknown key 'save.verfy'; .* save.verify.$"):
        choose_host.open_host("lab")


def test_a_host_is_as_the_settings_say(conf, monkeypatch):
    monkeypatch.delenv("XENQEMU_LAB", raising=False)
    conf.write_text('host = "lab"\nlab = "/other/lab"\ndeadlines.lab_lock = 3')
    host = choose_host.open_host()
    assert (host.folder, host.deadlines) == (Path("/other/lab"), Deadlines(lab_lock=3.0))
    hasty = Deadlines(lab_lock=1.0)
    host = choose_host.open_host("lab:/third", deadlines=hasty)
    assert (host.folder, host.deadlines) == (Path("/third"), hasty)
    host = choose_host.open_host(settings=Settings(host="lab:/fourth"))
    assert (host.folder, host.deadlines) == (Path("/fourth"), Deadlines())


def test_a_xen_host_is_where_the_settings_say(tmp_path):
    with running(tmp_path / "socket"):
        places = XenPaths(tmp_path, tmp_path / "socket")
        host = choose_host.open_host("xen", settings=Settings(xen=places))
        with host.store() as store:
            store.write("/a", "here")
        with Store(tmp_path / "socket") as store:
            assert store.read("/a") == "here"


def test_no_xen_here():
    host = choose_host.open_host("xen")
    with pytest.raises(HostError, match="this machine does not run under Xen"):
        host.config(1)
    with pytest.raises(HostError, match="this machine does not run under Xen"):
        host.hypervisor.info(1)
