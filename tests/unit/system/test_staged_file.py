"""A draft is whole under its final name or not there at all, whatever fails on the way."""

import errno
import io
import itertools
import os
import pwd
import signal
import stat
from pathlib import Path

import pytest

from tests.doubles.system.file_systems import disk, mounted, tmpfs
from xenqemu.errors import Forbidden, HostError, UsageError
from xenqemu.system import staged_file
from xenqemu.system.staged_file import Identity, Traces, draft_for


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_published_file_is_whole_private_and_alone(tmp_path):
    with draft_for(tmp_path / "guest") as draft:
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


@pytest.mark.parametrize("name", ["n" * 255, "ж" * 127, "aж" * 85, "\udcff" * 255])
def test_the_longest_names_that_a_file_can_have(tmp_path, name):
    (tmp_path / name).write_bytes(b"older")
    with draft_for(tmp_path / name) as draft:
        draft.create()
        draft.file.write(b"whole")
        draft.publish()
    assert names(tmp_path) == [name]
    assert (tmp_path / name).read_bytes() == b"whole"


def test_what_was_never_made_is_removed_even_where_nothing_can_be(tmp_path):
    Traces(str(tmp_path / "guest"), "n" * 300).clear()
    with mounted("-t", "tmpfs", "-o", "ro", "none") as folder:
        with pytest.raises(HostError, match="Read-only"), draft_for(folder / "guest") as draft:
            draft.create()
        draft.traces.clear()


def test_unpublished_file_leaves_nothing(tmp_path):
    with draft_for(tmp_path / "guest") as draft:
        draft.create()
        draft.file.write(b"half")
    assert names(tmp_path) == []


def test_error_inside_leaves_the_older_file(tmp_path):
    (tmp_path / "guest").write_bytes(b"older")
    with pytest.raises(ZeroDivisionError), draft_for(tmp_path / "guest") as draft:
        draft.create()
        draft.file.write(b"half")
        raise ZeroDivisionError
    assert names(tmp_path) == ["guest"]
    assert (tmp_path / "guest").read_bytes() == b"older"


def test_publishing_replaces_the_older_file(tmp_path):
    (tmp_path / "guest").write_bytes(b"older")
    with draft_for(tmp_path / "guest") as draft:
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

        monkeypatch.setattr(staged_file.os, call, act)

    with draft_for(tmp_path / "guest") as draft:
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


@pytest.mark.parametrize("older", [b"older", None])
def test_a_file_system_without_hard_links(tmp_path, monkeypatch, older):
    """As FAT: an older file is not replaced, which shows before anything is written."""

    def link(*_names, **_folders):
        if older:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        raise FileNotFoundError  # the system looks for the file first

    monkeypatch.setattr(staged_file.os, "link", link)
    path = tmp_path / "guest"
    if older is None:
        with draft_for(path) as draft:
            draft.create()
            draft.publish()
        assert names(tmp_path) == ["guest"]
        return
    path.write_bytes(older)
    why = f"^{path} exists and cannot be replaced .*: Operation not permitted; .*support hard links"
    with pytest.raises(HostError, match=why), draft_for(path) as draft:
        draft.create()
    assert names(tmp_path) == ["guest"]
    assert path.read_bytes() == older


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
    with pytest.raises(UsageError, match=what), draft_for(tmp_path / "guest"):
        pytest.fail("it was opened")


def test_device_is_refused():
    with pytest.raises(UsageError, match="a device"), draft_for(Path("/dev/full")):
        pytest.fail("it was opened")


def test_missing_folder(tmp_path):
    with pytest.raises(HostError, match="cannot open the folder .*No such file"):
        with draft_for(tmp_path / "no" / "guest"):
            pytest.fail("it was opened")


@pytest.mark.parametrize("path", ["/", "."])
def test_path_without_a_name(path):
    with pytest.raises(UsageError, match="does not name a file"), draft_for(Path(path)):
        pytest.fail("it was opened")


def test_folder_that_takes_no_files():
    with pytest.raises(HostError, match="cannot create a file in /proc"):
        with draft_for(Path("/proc/guest")) as draft:
            draft.create()


def test_name_as_long_as_the_file_system_takes(tmp_path):
    name = "g" * 255
    with draft_for(tmp_path / name) as draft:
        draft.create()
        draft.publish()
    assert names(tmp_path) == [name]


def test_nothing_is_made_before_it_is_asked_for(tmp_path):
    with draft_for(tmp_path / "guest") as draft:
        assert names(tmp_path) == []
        assert draft.traces == Traces(str(tmp_path / "guest"), draft.traces.temporary)


def test_failure_to_close_puts_all_back(tmp_path):
    """A file system over a network tells only then that it could not write."""

    class Unclosable(io.FileIO):
        def close(self):
            was_open = not self.closed
            super().close()
            if was_open:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

    (tmp_path / "guest").write_bytes(b"older")
    with pytest.raises(OSError, match="Input/output error"), draft_for(tmp_path / "guest") as draft:
        draft.create()
        draft.file = Unclosable(os.dup(draft.file.fileno()), "r+")
        draft.file.write(b"newer")
        draft.publish()
    assert names(tmp_path) == ["guest"]
    assert (tmp_path / "guest").read_bytes() == b"older"


# Room.


def used(file):
    return os.fstat(file.fileno()).st_blocks * 512


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_space_that_is_left_over_is_released(kind):
    size = 2 << 20
    with tmpfs(size) if kind == "tmpfs" else disk(kind, size) as folder:
        with draft_for(folder / "guest") as draft:
            draft.create()
            draft.reserve(512 << 10)
            assert used(draft.file) >= 512 << 10
            draft.file.write(b"x" * 5000)
            draft.sync()
            assert used(draft.file) <= 8192
            assert draft.file.tell() == 5000
            draft.publish()
        assert (folder / "guest").read_bytes() == b"x" * 5000


def test_too_little_space(tmp_path):
    with tmpfs(1 << 20) as folder, draft_for(folder / "guest") as draft:
        draft.create()
        with pytest.raises(HostError, match=f"^{folder}: 2097152 bytes of free .*, 1048576 are"):
            draft.reserve(2 << 20)


# Which file a file is.


def test_whether_a_file_could_be_made_is_told_without_making_it():
    with tmpfs(1 << 20) as folder:
        with draft_for(folder / "guest") as draft:
            draft.require_creatable(1 << 20)
            too_big = f"{folder}: {1 + (1 << 20)} bytes of free space are needed for the save file"
            with pytest.raises(HostError, match=f"^{too_big}, {1 << 20} are available"):
                draft.require_creatable(1 + (1 << 20))
        assert names(folder) == []


def test_a_folder_that_may_not_be_written_takes_no_file(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(os, "access", lambda *words: asked.append(words))
    words = f"^cannot create a file in {tmp_path}: it may not be written$"
    with draft_for(tmp_path / "guest") as draft, pytest.raises(HostError, match=words):
        draft.require_creatable(0)
    assert asked == [(tmp_path, os.W_OK | os.X_OK)]


def test_identity_goes_with_the_file_not_with_its_name(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"")
    identity = Identity.of(one.stat())
    assert identity.is_at(str(one))
    assert not identity.is_at(str(two))
    one.rename(two)
    assert not identity.is_at(str(one))
    assert identity.is_at(str(two))
    one.symlink_to(two)
    assert not identity.is_at(str(one))
    one.unlink()
    one.hardlink_to(two)
    assert identity.is_at(str(one))
    two.unlink()
    two.write_bytes(b"")
    assert not identity.is_at(str(two))


def test_identity_is_looked_for_in_a_folder(tmp_path):
    (tmp_path / "one").write_bytes(b"")
    identity = Identity.of((tmp_path / "one").stat())
    folder = os.open(tmp_path, os.O_RDONLY)
    assert identity.is_at("one", folder)
    assert not identity.is_at("two", folder)
    os.close(folder)


def test_identity_that_cannot_be_seen(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        Identity(1, 1).is_at(str(tmp_path / "file" / "one"))


# What a killed process leaves.


@pytest.mark.parametrize(
    ("left", "stays"),
    [
        ([".draft"], []),
        ([".draft.older", "guest"], ["guest"]),
        ([".draft", ".draft.older", "guest"], ["guest"]),
        (["guest"], ["guest"]),
        ([], []),
        ([".draft", ".other", ".draft.older.older"], [".draft.older.older", ".other"]),
    ],
)
def test_traces_are_cleared_away(tmp_path, left, stays):
    for name in left:
        (tmp_path / name).write_bytes(b"")
    for _again in range(2):
        Traces(str(tmp_path / "guest"), ".draft").clear()
        assert names(tmp_path) == stays


def test_traces_of_a_folder_that_is_gone(tmp_path):
    Traces(str(tmp_path / "gone" / "guest"), ".draft").clear()


def test_traces_that_cannot_be_cleared_away(tmp_path):
    """A folder that cannot be opened is not gone, nor is the guest's memory in it."""
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(HostError, match="cannot open the folder .*/loop: Too many levels"):
        Traces(str(tmp_path / "loop" / "guest"), ".draft").clear()
    (tmp_path / ".draft").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        Traces(str(tmp_path / "guest"), ".draft").clear()


CALLS = ("ftruncate", "fsync", "link", "rename", "unlink", "stat")


def killed_at(number, draft, monkeypatch, *, afterwards, unsynced):
    """Write and publish in a process that is killed at a system call; return whether it was."""
    pid = os.fork()
    if not pid:
        try:
            draft.create()
            draft.file.write(b"newer" * 1000)
            if unsynced:
                refuse_to_sync_folders(monkeypatch)
            die_at(number, monkeypatch, afterwards=afterwards)
            draft.publish()
            draft.close()
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def refuse_to_sync_folders(monkeypatch):
    really = os.fsync

    def fsync(fd):
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        really(fd)

    monkeypatch.setattr(os, "fsync", fsync)


def die_at(number, monkeypatch, *, afterwards):
    count = itertools.count()

    def deadly(call):
        real = getattr(os, call)

        def act(*args, **kwargs):
            last = next(count) == number
            if last and not afterwards:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return real(*args, **kwargs)
            finally:
                if last:
                    os.kill(os.getpid(), signal.SIGKILL)

        return act

    for call in CALLS:
        monkeypatch.setattr(os, call, deadly(call))


@pytest.mark.parametrize("unsynced", [False, True], ids=["synced", "folder not synced"])
@pytest.mark.parametrize("afterwards", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("older", [b"older", None])
def test_killed_at_any_call_of_publish(tmp_path, monkeypatch, older, afterwards, unsynced):
    path = tmp_path / "guest"
    newer = b"newer" * 1000
    seen = []
    for number in itertools.count():
        path.unlink(missing_ok=True)
        if older:
            path.write_bytes(older)
        with draft_for(path) as draft:
            killed = killed_at(number, draft, monkeypatch, afterwards=afterwards, unsynced=unsynced)
            draft.traces.clear()
            assert names(tmp_path) in ([["guest"]] if older else [["guest"], []])
            seen.append(path.read_bytes() if path.exists() else None)
            assert seen[-1] in (older, newer)
        if not killed:
            break
    assert number > len(CALLS)
    assert {older, newer} == set(seen)


@pytest.mark.parametrize("change", [lambda at: at.chmod(0o777), lambda at: os.chown(at, 4711, -1)])
def test_a_folder_whose_files_others_could_replace_is_refused(tmp_path, change):
    folder = tmp_path / "folder"
    folder.mkdir()
    change(folder)
    with pytest.raises(Forbidden, match=f"{folder} "), draft_for(folder / "file"):
        pytest.fail("there is a draft")
    assert list(folder.iterdir()) == []


def test_a_folder_of_an_owner_whom_the_settings_name(tmp_path):
    os.chown(tmp_path, pwd.getpwnam("nobody").pw_uid, -1)
    with draft_for(tmp_path / "file", ["nobody"]) as draft:
        draft.create()
        draft.publish()
    assert (tmp_path / "file").exists()


@pytest.mark.parametrize("older", [True, False])
def test_a_draft_that_somebody_replaced_is_not_published(tmp_path, older):
    path = tmp_path / "file"
    if older:
        path.write_bytes(b"older")
    with pytest.raises(HostError, match=f"{path}: somebody has replaced what was written"):
        with draft_for(path) as draft:
            draft.create()
            draft.file.write(b"ours")
            (name,) = (each for each in tmp_path.iterdir() if each != path)
            name.unlink()
            name.write_bytes(b"theirs")
            with draft.reopen() as reader:
                assert reader.read() == b"ours"
            draft.publish()
    assert path.read_bytes() == (b"older" if older else b"theirs")
    assert list(tmp_path.iterdir()) == [path]
