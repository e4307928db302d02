"""A save file that shares with an older one what is the same, on real file systems."""

import errno
import os

import pytest

from tests.doubles.in_memory.world import World, loaded
from tests.doubles.system.file_systems import LEAST, REFLINKING, disk
from xenqemu.errors import Forbidden, HostError, RolledBack, UsageError
from xenqemu.formats.stream.layout import Layout
from xenqemu.formats.stream.pieces import Pieces
from xenqemu.operations import base_file
from xenqemu.operations.options import After, SaveOptions
from xenqemu.operations.reading_seals import seal_of
from xenqemu.operations.save import save
from xenqemu.operations.verify import verify


@pytest.fixture(scope="module", params=REFLINKING)
def place(request):
    with disk(request.param, LEAST) as folder:
        yield folder


@pytest.fixture
def folder(place):
    """An empty folder on a file system whose files may share parts."""
    yield place
    for each in place.iterdir():
        if not each.is_dir():
            each.unlink()


@pytest.fixture
def world():
    return World()


@pytest.fixture
def shared(monkeypatch):
    """The ranges that were cloned: start, size and place."""
    ranges = []

    def noting(_source, start, size, _target, place):
        real(_source, start, size, _target, place)
        ranges.append((start, size, place))

    real = base_file.clone_range
    monkeypatch.setattr(base_file, "clone_range", noting)
    return ranges


def saved(world, path, after=After.CONTINUE, **options):
    found = save(
        world.host, world.domain(), path, SaveOptions(after=after, **options), observe=world.observe
    )
    return found, loaded(path)


def notes(world):
    return [event.text for event in world.events if getattr(event, "text", "")]


def assert_sound(path):
    with path.open("rb") as file:
        assert seal_of(file, None) is not None
        verify(file)


def test_records_that_did_not_change_are_shared(world, folder, shared):
    saved(world, folder / "old")
    guest = world.guests[1]
    for name, base in (("new", "old"), ("third", "new")):
        guest.count()  # which changes a page of one of the two records
        _, copy = saved(world, folder / name, base=folder / base)
        assert copy.tick == guest.tick
        (folder / base).unlink()
        assert loaded(folder / name).pages == copy.pages
        assert_sound(folder / name)
    assert [size for _, size, _ in shared] == [6 * 4096] * 2


def test_a_guest_that_did_not_change_is_shared_whole(world, folder, shared):
    world.guests[1].paused = True
    _, first = saved(world, folder / "old")
    _, second = saved(world, folder / "new", base=folder / "old")
    assert first.pages == second.pages
    assert len(shared) == 2
    assert (folder / "old").read_bytes()[:4096] == (folder / "new").read_bytes()[:4096]
    assert_sound(folder / "new")


def test_a_save_file_may_be_the_base_of_what_replaces_it(world, folder, shared):
    saved(world, folder / "save")
    _, copy = saved(world, folder / "save", base=folder / "save")
    assert shared
    assert_sound(folder / "save")
    assert loaded(folder / "save").tick == copy.tick


@pytest.mark.parametrize("after", After)
def test_a_damaged_base_costs_the_save_file_and_not_the_guest(world, folder, shared, after):
    saved(world, folder / "old")
    with (folder / "old").open("r+b") as file:
        seal = seal_of(file, None)
        assert seal
        last = [piece for piece in seal.pieces if piece.end - piece.start == 6 * 4096][-1]
        file.seek(last.end - 1)
        file.write(b"\xa5")
    with pytest.raises(RolledBack, match="the base is damaged: what is shared at"):
        saved(world, folder / "new", after, base=folder / "old")
    assert shared
    assert [each.name for each in folder.iterdir() if each.is_file()] == ["old"]
    assert world.guests[1].runs


def test_what_the_file_system_refuses_is_written(world, folder, monkeypatch):
    def refuses(*_ranges):
        raise OSError(errno.EOPNOTSUPP, "refused")

    monkeypatch.setattr(base_file, "clone_range", refuses)
    saved(world, folder / "old")
    saved(world, folder / "new", base=folder / "old")
    assert_sound(folder / "new")


def test_two_file_systems_share_nothing_which_is_said(world, folder, tmp_path, shared):
    saved(world, folder / "old")
    saved(world, tmp_path / "new", base=folder / "old")
    assert shared == []
    assert_sound(tmp_path / "new")
    assert [text for text in notes(world) if f"nothing is shared with {folder / 'old'}" in text]


def test_pages_as_xl_writes_them_cannot_be_shared(world, folder, shared):
    saved(world, folder / "old")
    saved(world, folder / "new", base=folder / "old", layout=Layout.XL)
    assert shared == []
    assert [text for text in notes(world) if "nothing is shared" in text]


def test_a_base_as_xl_writes_it_is_of_no_use(world, folder, shared):
    saved(world, folder / "old", layout=Layout.XL)
    saved(world, folder / "new", base=folder / "old")
    assert shared == []
    assert_sound(folder / "new")


def test_a_base_without_a_seal(world, folder):
    saved(world, folder / "old", seal=False)
    with pytest.raises(HostError, match=r"old has no seal, .*: xenqemu seal "):
        saved(world, folder / "new", base=folder / "old")
    assert world.guests[1].runs


def test_a_base_with_another_key(world, folder, tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).write_bytes(name.encode())
        (tmp_path / name).chmod(0o600)
    saved(world, folder / "old", key_file=tmp_path / "first")
    with pytest.raises(UsageError, match="another key"):
        saved(world, folder / "new", base=folder / "old", key_file=tmp_path / "second")
    saved(world, folder / "new", base=folder / "old", key_file=tmp_path / "first")


def test_a_base_that_others_could_have_written(world, folder):
    saved(world, folder / "old")
    (folder / "old").chmod(0o666)
    with pytest.raises(Forbidden, match="others may write"):
        saved(world, folder / "new", base=folder / "old")


def test_a_base_that_is_no_file(world, folder):
    os.mkfifo(folder / "old")
    with pytest.raises(UsageError, match="old is no file"):
        saved(world, folder / "new", base=folder / "old")
    with pytest.raises(FileNotFoundError):
        saved(world, folder / "new", base=folder / "none")


@pytest.mark.parametrize("options", [{"seal": False}, {"compact": True}])
def test_what_goes_without_a_base(world, folder, options):
    saved(world, folder / "old")
    with pytest.raises(UsageError, match="--base goes without"):
        saved(world, folder / "new", base=folder / "old", **options)


def test_only_pieces_that_follow_each_other_are_taken(folder, shared):
    """A record of several pieces is there only if all of them are, in order."""
    block = [bytes([number]) * 4096 for number in range(4)]
    whole = Pieces()
    for number, each in enumerate(block):
        whole.add(4096 * number, [each])
    with (folder / "old").open("w+b", buffering=0) as old, (folder / "new").open("w+b") as new:
        old.write(b"".join(block))
        base = base_file.BaseFile(old, _Sealed(whole.in_order()))
        for numbers, is_there in {
            (1, 2, 3): True,
            (0,): True,
            (2, 1): False,
            (3, 0): False,
        }.items():
            wanted = Pieces()
            for place, number in enumerate(numbers):
                wanted.add(4096 * place, [block[number]])
            assert base.share(wanted.in_order(), new.fileno()) is is_there
            if is_there:
                assert os.pread(new.fileno(), 4096, 0) == block[numbers[0]]
        assert not base.share([whole.in_order()[0]._replace(digest=b"x" * 16)], new.fileno())
    assert [size for _, size, _ in shared] == [3 * 4096, 4096]


class _Sealed:
    def __init__(self, pieces):
        self.pieces = tuple(pieces)
