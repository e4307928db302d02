"""Who else could have written a file, or put another in its place."""

import os
from pathlib import Path

import pytest

from xenqemu.errors import Forbidden, UsageError
from xenqemu.system.writers import require_sole_writers, trusted_ids

OURS = trusted_ids()
OTHER = 4711


@pytest.fixture
def file(tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "a").mkdir(mode=0o755)
    path = tmp_path / "a" / "file"
    path.touch()
    path.chmod(0o644)
    return path


def test_what_is_ours_alone(file):
    require_sole_writers(file, OURS)
    require_sole_writers(file.parent, OURS)


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_may_write(file, mode):
    file.chmod(mode)
    with pytest.raises(Forbidden, match=rf"others may write to {file} \(chmod go-w\)"):
        require_sole_writers(file, OURS)


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
def test_a_folder_on_the_way_that_others_may_write(file, mode):
    file.parent.chmod(mode)
    with pytest.raises(Forbidden, match=f"others may write to {file.parent} "):
        require_sole_writers(file, OURS)
    file.parent.chmod(mode | 0o1000)
    require_sole_writers(file, OURS)


@pytest.mark.parametrize("which", ["file", "parent"])
def test_what_is_owned_by_another_user(file, which):
    place = {"file": file, "parent": file.parent}[which]
    os.chown(place, OTHER, -1)
    with pytest.raises(Forbidden, match=f"{place} is owned by user {OTHER}"):
        require_sole_writers(file, OURS)
    require_sole_writers(file, OURS | {OTHER})


def test_each_link_on_the_way_counts_and_the_folder_that_has_it(file, tmp_path):
    way = tmp_path / "way"
    way.symlink_to("a/../a/./file")
    require_sole_writers(way, OURS)
    os.lchown(way, OTHER, -1)
    with pytest.raises(Forbidden, match=f"{way} is owned by user {OTHER}"):
        require_sole_writers(way, OURS)
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    (open_to_all / "to").symlink_to(file)
    (tmp_path / "first").symlink_to(open_to_all / "to")
    open_to_all.chmod(0o777)
    with pytest.raises(Forbidden, match=f"others may write to {open_to_all} "):
        require_sole_writers(tmp_path / "first", OURS)


def test_links_in_a_circle_and_what_is_not_there(tmp_path):
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        require_sole_writers(tmp_path / "one", OURS)
    with pytest.raises(FileNotFoundError):
        require_sole_writers(tmp_path / "none", OURS)


def test_a_relative_path_is_from_our_folder(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    file.parent.chmod(0o777)
    with pytest.raises(Forbidden, match=f"others may write to {file.parent} "):
        require_sole_writers(Path("file"), OURS)


def test_users_by_their_names():
    assert trusted_ids(["root"]) == {0, os.geteuid()}
    with pytest.raises(UsageError, match="there is no user 'no-such-user'"):
        trusted_ids(["no-such-user"])
