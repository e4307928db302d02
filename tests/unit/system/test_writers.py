"""Who else could have written a file, or put another in its place."""

import os
from itertools import pairwise
from pathlib import Path

import pytest

from xenqemu.errors import Forbidden, UsageError
from xenqemu.system.writers import MAX_LINKS, require_sole_writers, trusted_ids

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


def test_so_is_what_came_with_the_system():
    for path in ("/", "/etc/passwd", "/bin/sh"):
        require_sole_writers(Path(path), OURS)


def trouble(path, users=OURS):
    with pytest.raises(Forbidden) as caught:
        require_sole_writers(path, users)
    return str(caught.value)


@pytest.mark.parametrize("above", [0, 1, 2])
@pytest.mark.parametrize(
    ("mode", "change"),
    [
        (0o775, "g-w"),
        (0o757, "o-w"),
        (0o777, "go-w"),
        (0o720, "g-w"),
        (0o702, "o-w"),
    ],
)
def test_what_others_may_write_is_named_wherever_it_is(file, above, mode, change):
    spoiled = [file, *file.parents][above]
    spoiled.chmod(mode)
    assert trouble(file) == f"others may write to {spoiled} (chmod {change})"


def test_in_a_sticky_folder_what_is_ours_stays_ours(file):
    folder = file.parent
    folder.chmod(0o1777)
    require_sole_writers(file, OURS)
    assert trouble(folder) == f"others may write to {folder} (chmod go-w)"
    require_sole_writers(folder, OURS, sticky=True)
    file.chmod(0o1666)  # of a file the bit means nothing
    with pytest.raises(Forbidden, match=f"others may write to {file} "):
        require_sole_writers(file, OURS, sticky=True)
    os.chown(file, OTHER, -1)
    assert trouble(file) == f"{file} is owned by user {OTHER}, who could change it"


@pytest.mark.parametrize("above", [0, 1, 2])
def test_what_is_owned_by_another_user(file, above):
    spoiled = [file, *file.parents][above]
    os.chown(spoiled, OTHER, -1)
    assert trouble(file) == f"{spoiled} is owned by user {OTHER}, who could change it"
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


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_a_link_is_walked_too(file, tmp_path, absolute, last):
    """It is the file, or a folder on the way to it."""
    aim = file if last else file.parent
    link = tmp_path / "links" / "link"
    link.parent.mkdir(mode=0o755)
    link.symlink_to(aim if absolute else os.path.relpath(aim, link.parent))
    path = link if last else link / file.name
    require_sole_writers(path, OURS)
    file.parent.chmod(0o775)  # in most cases `path` does not name it
    assert trouble(path) == f"others may write to {file.parent} (chmod g-w)"


def test_the_folder_above_is_that_of_where_a_link_leads(file, tmp_path):
    (tmp_path / "links").mkdir(mode=0o777)
    (tmp_path / "links").chmod(0o755)
    link = tmp_path / "links" / "link"
    link.symlink_to(file.parent)
    require_sole_writers(link / ".." / "a" / "file", OURS)  # in `tmp_path`, not in `links`


def test_a_chain_of_links_has_an_end(file, tmp_path):
    links = [file, *(tmp_path / str(number) for number in range(MAX_LINKS + 1))]
    for aim, link in pairwise(links):
        link.symlink_to(aim)
    require_sole_writers(links[MAX_LINKS], OURS)
    with pytest.raises(OSError, match="Too many levels of symbolic links") as caught:
        require_sole_writers(links[-1], OURS)
    assert caught.value.filename == str(links[-1])


def test_what_leads_nowhere_is_named(file, tmp_path):
    (tmp_path / "link").symlink_to("none/file")
    for path, place, error in (
        (tmp_path / "link", tmp_path / "none", FileNotFoundError),
        (file / "below", file / "below", NotADirectoryError),
    ):
        with pytest.raises(error) as caught:
            require_sole_writers(path, OURS)
        assert str(caught.value.filename) == str(place)


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
