"""Where the save files of all guests are, and under which names."""

import os

import pytest

from tests.doubles.in_memory.everyone import Everyone, guest
from tests.golden import save_files
from xenqemu.operations.saved_guests import (
    LONGEST,
    SavedGuest,
    already_run,
    file_name,
    saved,
    saved_as,
)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("web", "web"),
        ("web.1", "web.1"),
        ("mail box", "mail box"),
        ("a/b", "a%2Fb"),
        ("..", "%2E."),
        (".web", "%2Eweb"),
        ("100%", "100%25"),
        ("über", "%C3%BCber"),
        ("\udcff", "%FF"),
        ("a\nb", "a%0Ab"),
    ],
)
def test_a_record_has_its_guests_name(tmp_path, name, file):
    kept = SavedGuest.of(tmp_path, name)
    assert (kept.file, kept.name) == (file, name)
    kept.path.touch()
    assert saved(tmp_path) == [kept]
    assert kept.path.parent == kept.ran.parent == tmp_path


@pytest.mark.parametrize("name", ["n" * 200, "n" * 201, "n" * 5000, "ж" * 42, "/" * 3000])
def test_the_name_of_a_file_has_a_limit_in_bytes(name):
    file = file_name(name)
    assert len(file.encode()) <= LONGEST
    assert file != file_name(f"{name}x")
    assert (file == name) == (len(name) <= LONGEST and name.startswith("n"))


def test_a_record_says_whose_it_is(tmp_path):
    long = "ж" * 300
    for name in (long, "web"):
        Everyone(tmp_path, **{name: {"paused": True}}).save()
    (tmp_path / "web").rename(tmp_path / "monday")
    kept = {guest.name: guest for guest in saved(tmp_path)}
    assert kept.keys() == {long, "web"}
    assert (kept[long].by_name, kept["web"].by_name) == (True, False)
    assert kept["web"].owner.paused
    assert kept["web"].owner.uuid == guest("web").config.uuid


@pytest.mark.parametrize(("file", "mine"), [("win+dev", True), ("win%2Bdev", True), ("win", False)])
def test_a_record_that_xendomains_named_is_its_guests_own(tmp_path, file, mine):
    Everyone(tmp_path, **{"win+dev": {}}).save()
    (tmp_path / "win%2Bdev").rename(tmp_path / file)
    (kept,) = saved(tmp_path)
    assert kept.by_name == mine


def test_a_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "web")
    assert not SavedGuest.of(tmp_path, "web").is_free_for("")
    assert saved(tmp_path) == []


def test_a_record_that_somebody_else_named(tmp_path):
    (tmp_path / "a+b (1)").touch()
    (kept,) = saved(tmp_path)
    assert (kept.path, kept.name) == (tmp_path / "a+b (1)", "a+b (1)")


def test_the_order_is_as_chosen_then_by_name(tmp_path):
    for name in ("d", "b", "a", "c"):
        (tmp_path / name).touch()
    assert [kept.name for kept in saved(tmp_path, ["c", "nobody", "b"])] == ["c", "b", "a", "d"]


def test_only_files_count(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / ".web.xenqemu-0123").touch()
    assert (saved(tmp_path), already_run(tmp_path)) == ([], [])
    assert (saved(tmp_path / "none"), already_run(tmp_path / "none")) == ([], [])


def test_a_record_is_spent_and_taken_back(tmp_path):
    kept = SavedGuest.of(tmp_path, ".x/y")
    kept.path.write_text("record")
    kept.roll_back()
    kept.mark_as_run()
    assert (saved(tmp_path), already_run(tmp_path)) == ([], [kept])
    assert kept.ran.read_text() == "record"
    kept.roll_back()
    kept.roll_back()
    assert (saved(tmp_path), already_run(tmp_path)) == ([kept], [])
    assert kept.path.read_text() == "record"


def test_who_is_saved_is_known_by_the_file_or_by_what_is_in_it(tmp_path):
    for file in ("monday", "win%2Bdev", ".hidden"):
        (tmp_path / file).write_bytes(save_files.unpacked("vga.save")[:9999])
    (tmp_path / "broken").write_text("no save file")
    os.mkfifo(tmp_path / "pipe")
    assert [each.file for each in saved_as(tmp_path, "vga")] == ["monday", "win%2Bdev"]
    assert [each.file for each in saved_as(tmp_path, "win+dev")] == ["win%2Bdev"]
    assert [each.file for each in saved_as(tmp_path, "broken")] == ["broken"]
    for name in ("win%2Bdev", "pipe", ".hidden", "hidden", ""):
        assert saved_as(tmp_path, name) == []
    assert saved_as(tmp_path / "none", "vga") == []


def test_a_damaged_save_file_beside_another_of_its_name_may_be_its_guests(tmp_path):
    for file in ("web~5c3b", "web2~5c3b", "web"):
        (tmp_path / file).write_text("no save file")
    (tmp_path / "web~dev").write_bytes(save_files.unpacked("vga.save")[:9999])
    assert [each.file for each in saved_as(tmp_path, "web")] == ["web", "web~5c3b"]
