"""A draft is whole under its final name or not there at all, whatever fails on the way."""

import errno
import os
import stat
from pathlib import Path

import pytest

from xenqemu.errors import HostError, UsageError
from xenqemu.host import staging
from xenqemu.host.staging import staged


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_published_file_is_whole_private_and_alone(tmp_path):
    with staged(tmp_path / "guest") as draft:
        draft.create()
        draft.file.write(b"whole")
        draft.sync()
        assert "guest" not in names(tmp_path)
        with draft.reopen() as reader:
            assert reader.read() == b"whole"
        draft.publish()
    assert names(tmp_path) == ["guest"]
    assert (tmp_path / "guest").read_bytes() == b"whole"
    assert stat.S_IMODE((tmp_path / "guest").stat().st_mode) == 0o600


def test_unpublished_file_leaves_nothing(tmp_path):
    with staged(tmp_path / "guest") as draft:
        draft.create()
        draft.file.write(b"half")
    assert names(tmp_path) == []


def test_error_inside_leaves_the_older_file(tmp_path):
    (tmp_path / "guest").write_bytes(b"older")
    with pytest.raises(ZeroDivisionError), staged(tmp_path / "guest") as draft:
        draft.create()
        draft.file.write(b"half")
        raise ZeroDivisionError
    assert names(tmp_path) == ["guest"]
    assert (tmp_path / "guest").read_bytes() == b"older"


def test_publishing_replaces_the_older_file(tmp_path):
    (tmp_path / "guest").write_bytes(b"older")
    with staged(tmp_path / "guest") as draft:
        draft.create()
        draft.file.write(b"newer")
        draft.publish()
    assert names(tmp_path) == ["guest"]
    assert (tmp_path / "guest").read_bytes() == b"newer"


@pytest.mark.parametrize("older", [b"older", None])
@pytest.mark.parametrize("fails", ["fsync of the file", "link", "rename", "fsync of the folder"])
def test_failure_to_publish_puts_all_back(tmp_path, monkeypatch, older, fails):
    if older:
        (tmp_path / "guest").write_bytes(older)

    def failing(call, when):
        real = getattr(os, call)

        def act(*args, **kwargs):
            if when(*args):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(*args, **kwargs)

        monkeypatch.setattr(staging.os, call, act)

    with staged(tmp_path / "guest") as draft:
        draft.create()
        draft.file.write(b"newer")
        file = draft.file.fileno()
        match fails:
            case "fsync of the file":
                failing("fsync", lambda fd: fd == file)
            case "fsync of the folder":
                failing("fsync", lambda fd: fd != file)
            case "rename":
                failing("rename", lambda old, new: new == "guest" and not old.endswith("older"))
            case "link":
                failing("link", lambda *_: True)
        with pytest.raises(OSError, match="Input/output error"):
            draft.publish()
        monkeypatch.undo()
    assert names(tmp_path) == (["guest"] if older else [])
    if older:
        assert (tmp_path / "guest").read_bytes() == older


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda path: path.mkdir(), "a folder"),
        (lambda path: path.symlink_to("elsewhere"), "a symbolic link"),
        (os.mkfifo, "a FIFO"),
    ],
)
def test_special_targets_are_refused(tmp_path, make, what):
    make(tmp_path / "guest")
    with pytest.raises(UsageError, match=what), staged(tmp_path / "guest"):
        pytest.fail("it was opened")


def test_device_is_refused():
    with pytest.raises(UsageError, match="a device"), staged(Path("/dev/full")):
        pytest.fail("it was opened")


def test_missing_folder(tmp_path):
    with pytest.raises(HostError, match="cannot open the folder .*No such file"):
        with staged(tmp_path / "no" / "guest"):
            pytest.fail("it was opened")


@pytest.mark.parametrize("path", ["/", "."])
def test_path_without_a_name(path):
    with pytest.raises(UsageError, match="does not name a file"), staged(Path(path)):
        pytest.fail("it was opened")


def test_folder_that_takes_no_files():
    with pytest.raises(HostError, match="cannot create a file in /proc"):
        with staged(Path("/proc/guest")) as draft:
            draft.create()


def test_name_as_long_as_the_file_system_takes(tmp_path):
    name = "g" * 255
    with staged(tmp_path / name) as draft:
        draft.create()
        draft.publish()
    assert names(tmp_path) == [name]
