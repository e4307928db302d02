"""Whether a domain is saved: the answer, and when there is none."""

from functools import partial

import pytest

import xenqemu
from tests.golden import save_files
from xenqemu.operations.saved_guests import SavedGuest


@pytest.fixture
def there(tmp_path):
    """The folder of save files."""
    folder = tmp_path / "saved"
    folder.mkdir()
    return folder


@pytest.fixture
def ask(run, there, tmp_path):
    conf = tmp_path / "conf"
    conf.write_text(f'xendomains = ""\nsave_all.folder = "{there}"\n')
    return lambda *words: run("--conf", conf, "saved", *words)


def test_no(ask, there):
    assert ask("web") == (5, "", f"xenqemu: web is not saved in {there}\n")
    assert ask("--json", "web").json == {"name": "web", "saved": []}
    there.rmdir()
    assert ask("web").code == 5


@pytest.mark.parametrize("name", ["web", "win+dev", "a/b", ".web", "über x", "-h", "100%", "a%2Fb"])
def test_yes_however_the_name_is_written_there(ask, there, name):
    file = SavedGuest.of(there, name).path
    file.touch()
    assert ask("--", name) == (0, f"{name} is saved: {file}\n", "")
    assert ask("--json", "--", name).json == {"name": name, "saved": [str(file)]}
    assert ask("--", f"{name}2").code == 5


def test_yes_if_a_save_file_of_another_name_holds_it(ask, there):
    for name in ("2025-monday", "vga", "win+dev"):
        (there / name).write_bytes(save_files.unpacked("vga.save")[:9999])
    done = ask("vga")
    assert done.code == 0
    files = [f"{there}/{name}" for name in ("2025-monday", "vga", "win+dev")]
    assert done.out.splitlines() == [f"vga is saved: {file}" for file in files]
    assert ask("win+dev").out == f"win+dev is saved: {there}/win+dev\n"


def test_a_guest_that_was_restored_is_not_saved(ask, there):
    (there / ".web.ran").touch()
    (there / ".web.xenqemu-0123").touch()
    why = f"web is not saved in {there}; {there}/.web.ran is from before it ran"
    assert ask("web") == (5, "", f"xenqemu: {why}\n")


def test_another_folder(ask, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "web").touch()
    assert ask("--folder", tmp_path / "other", "web").code == 0
    monkeypatch.chdir(tmp_path)
    assert ask("--folder", "other", "web").out == f"web is saved: {tmp_path}/other/web\n"


def test_nobody_can_tell(run, ask, there, tmp_path, monkeypatch):
    (tmp_path / "wrong").write_text("?")
    assert run("--conf", tmp_path / "wrong", "saved", "web").code == 64
    assert ask().code == 64

    def unreadable(_folder):
        raise PermissionError(13, "Permission denied", str(there))

    monkeypatch.setattr(type(there), "iterdir", unreadable)  # root may read all
    assert ask("web") == (1, "", f"xenqemu: {there}: Permission denied\n")


def test_the_function_says_the_same(tmp_path):
    lab = partial(xenqemu.open_host, f"lab:{tmp_path}/lab")
    (tmp_path / "lab" / "save").mkdir(parents=True)
    (tmp_path / "lab" / "save" / "web").touch()
    assert xenqemu.saved("web", opened=lab) == [tmp_path / "lab" / "save" / "web"]
    assert xenqemu.saved("mail", opened=lab) == []
    assert xenqemu.saved("web", folder=tmp_path / "none") == []


def test_a_lab_has_a_folder_of_its_own(run, tmp_path):
    (tmp_path / "lab" / "save").mkdir(parents=True)
    (tmp_path / "lab" / "save" / "web").touch()
    done = run("--host", f"lab:{tmp_path}/lab", "saved", "web")
    assert done == (0, f"web is saved: {tmp_path}/lab/save/web\n", "")
