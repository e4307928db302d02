"""What the files say of what happened after a save."""

import errno
import os

import pytest

from tests.doubles.in_memory.save_files import config
from xenqemu.operations.after_save import (
    RESTORED,
    changed_images,
    note_restored,
    restored_before,
)


@pytest.fixture
def save_file(tmp_path):
    """A save file that is open."""
    path = tmp_path / "web.save"
    path.touch()
    with path.open("rb") as file:
        yield file


def dated(path, save_file, seconds):
    """Have a file be so many seconds younger than the save file."""
    at = os.fstat(save_file.fileno()).st_mtime_ns + round(seconds * 1e9)
    os.utime(path, ns=(at, at))


@pytest.mark.parametrize(("seconds", "changed"), [(-1, 0), (0, 0), (1e-6, 1), (3600, 1)])
def test_an_image_that_is_newer_than_the_save_file(tmp_path, save_file, seconds, changed):
    image = tmp_path / "disk.img"
    image.touch()
    dated(image, save_file, seconds)
    found = list(changed_images(config(image=image), save_file))
    assert [path for path, _when in found] == [image] * changed


def test_images_that_are_not_asked_about(tmp_path, save_file):
    """One that is only read, one that is gone, and one that is no file."""
    image = tmp_path / "disk.img"
    image.touch()
    dated(image, save_file, 10)
    tree = config(image=image).tree
    read_only = type(config())({**tree, "disks": [{**tree["disks"][0], "readwrite": 0}]})
    assert list(changed_images(read_only, save_file)) == []
    assert list(changed_images(config(image=tmp_path / "none"), save_file)) == []
    assert list(changed_images(config(image=tmp_path), save_file)) == []


def test_a_restore_is_noted_in_the_save_file_alone(tmp_path, save_file):
    before = os.fstat(save_file.fileno()).st_mtime_ns
    assert restored_before(save_file) == ""
    note_restored(save_file)
    assert restored_before(save_file).startswith("20")
    assert os.fstat(save_file.fileno()).st_mtime_ns == before
    (tmp_path / "copy").write_bytes((tmp_path / "web.save").read_bytes())
    with (tmp_path / "copy").open("rb") as copy:
        assert restored_before(copy) == ""


@pytest.mark.parametrize("value", [b"", b"soon", b"\xff", b"9" * 4000, "٣".encode()])
def test_a_note_that_others_wrote(tmp_path, save_file, value):
    os.setxattr(tmp_path / "web.save", RESTORED[0], value)
    assert restored_before(save_file) == "at a time that is not known"


def test_a_file_system_that_keeps_no_notes():
    with open("/proc/self/status", "rb") as file:
        note_restored(file)
        assert restored_before(file) == ""


def test_a_file_system_that_keeps_the_notes_of_root_alone(save_file, monkeypatch):
    """As tmpfs did before Linux 6.6."""
    kept = {}

    def set_(_file, name, value):
        if name.startswith("user."):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        kept[name] = value

    def get(_file, name):
        if name not in kept:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return kept[name]

    monkeypatch.setattr(os, "setxattr", set_)
    monkeypatch.setattr(os, "getxattr", get)
    note_restored(save_file)
    assert restored_before(save_file).startswith("20")


def test_a_disk_that_fails_is_no_file_system_without_notes(save_file, monkeypatch):
    def fail(*_arguments):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "setxattr", fail)
    monkeypatch.setattr(os, "getxattr", fail)
    for act in (note_restored, restored_before):
        with pytest.raises(OSError, match="Input/output error"):
            act(save_file)
