"""Ways to a file: whoever could change what they lead to is named."""

import os
from itertools import pairwise

import pytest

from tests.as_root import as_root
from xenqemu.errors import HostError
from xenqemu.system.trusted_path import MAX_LINKS, require_trusted


@pytest.fixture
def way(tmp_path):
    """The file one/two/file."""
    file = tmp_path / "one" / "two" / "file"
    file.parent.mkdir(parents=True)
    file.touch()
    for path in (file, file.parent, file.parent.parent):
        path.chmod(0o755)
    return file


def trouble(path):
    with pytest.raises(HostError) as caught:
        require_trusted(path)
    return str(caught.value)


def test_what_root_alone_can_write_is_trusted(way):
    require_trusted(way)
    require_trusted(way.parent)
    for path in ("/", "/etc/passwd", "/bin/sh"):
        require_trusted(type(way)(path))


def test_a_path_from_the_folder_that_we_are_in(way, monkeypatch):
    monkeypatch.chdir(way.parent)
    require_trusted(type(way)("file"))
    way.parent.parent.chmod(0o777)
    assert trouble(type(way)("file")).startswith(f"{way.parent.parent}: everyone may write")


@pytest.mark.parametrize("above", [0, 1, 2])
@pytest.mark.parametrize(
    ("mode", "why"),
    [
        (0o775, "its group may write to it (chmod g-w)"),
        (0o757, "everyone may write to it (chmod o-w)"),
        (0o720, "its group may write to it (chmod g-w)"),
    ],
)
def test_what_others_may_write_is_named_wherever_it_is(way, above, mode, why):
    spoiled = [way, *way.parents][above]
    spoiled.chmod(mode)
    assert trouble(way) == f"{spoiled}: {why}"


@pytest.mark.parametrize("above", [0, 1, 2])
def test_so_is_what_others_own(way, above):
    spoiled = [way, *way.parents][above]
    as_root("chown", "12345", spoiled)
    assert trouble(way) == f"{spoiled}: it is owned by user 12345, not by root"


def test_in_a_sticky_folder_what_is_ours_stays_ours(way):
    folder = way.parent
    folder.chmod(0o1777)
    require_trusted(way)
    assert trouble(folder) == f"{folder}: everyone may write to it (chmod o-w)"
    as_root("chown", "12345", way)
    assert trouble(way) == f"{way}: it is owned by user 12345, not by root"


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_a_link_is_walked_too(way, tmp_path, absolute, last):
    """It is the file, or a folder on the way to it."""
    aim = way if last else way.parent
    link = tmp_path / "links" / "link"
    link.parent.mkdir()
    link.symlink_to(aim if absolute else os.path.relpath(aim, link.parent))
    path = link if last else link / way.name
    require_trusted(path)
    way.parent.parent.chmod(0o775)  # it is not named by `path`
    assert trouble(path) == f"{way.parent.parent}: its group may write to it (chmod g-w)"


def test_a_link_of_somebody_else(way, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(way)
    as_root("chown", "-h", "12345", link)
    assert trouble(link) == f"{link}: it is owned by user 12345, not by root"


def test_the_folder_above_is_that_of_where_a_link_leads(way, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(way.parent)
    require_trusted(link / ".." / "two" / "file")  # in `one`, not in `tmp_path`
    assert (
        trouble(tmp_path / "one" / ".." / "none") == f"{tmp_path}/none: No such file or directory"
    )


def test_a_chain_of_links_has_an_end(way, tmp_path):
    links = [way, *(tmp_path / str(number) for number in range(MAX_LINKS + 1))]
    for aim, link in pairwise(links):
        link.symlink_to(aim)
    require_trusted(links[MAX_LINKS])
    assert trouble(links[-1]) == f"{links[-1]}: Too many levels of symbolic links"
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    assert trouble(loop) == f"{loop}: Too many levels of symbolic links"


def test_what_leads_nowhere(way, tmp_path):
    (tmp_path / "link").symlink_to("none/file")
    assert trouble(tmp_path / "link") == f"{tmp_path}/none: No such file or directory"
    assert trouble(way / "below") == f"{way}/below: Not a directory"
