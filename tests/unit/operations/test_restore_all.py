"""All guests after a boot: in order, each save file kept until its guest was seen to run."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.doubles.in_memory.everyone import Everyone, FakeHooks
from tests.doubles.in_memory.faults import Fault, How
from tests.doubles.in_memory.guest import Guest
from tests.doubles.in_memory.save_files import config
from tests.doubles.in_memory.world import World
from xenqemu.errors import HostError
from xenqemu.host.findings import Finding
from xenqemu.operations.options import RestoreOptions
from xenqemu.operations.outcome import Outcome, no_hooks
from xenqemu.operations.restore_all import restore_all
from xenqemu.operations.saved_guests import already_run, not_restored, saved
from xenqemu.settings.xenqemu_conf import RestoreAll

PLAN = RestoreAll(proof=0.01)


class Boot:
    """A host without guests, and what becomes of the save files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.world = World(guests={})
        self.told: list[Outcome] = []

    def restore(self, hooks=no_hooks, strict_disks=False, **plan: object) -> dict[str, str]:
        chosen = PLAN.but(**plan)
        restore_all(
            lambda: self.world.host,
            self.folder,
            chosen,
            self.told.append,
            options=RestoreOptions(strict_disks=strict_disks),
            hooks=hooks,
        )
        assert self.world.broken == []
        return {outcome.name: outcome.how.value for outcome in self.told}

    def running(self) -> list[str]:
        return [self.world.guests[domid].config.name for domid in self.world.running()]

    def text(self, name: str) -> str:
        (text,) = [outcome.text for outcome in self.told if outcome.name == name]
        return text


@pytest.fixture
def folder(tmp_path):
    """Two guests that were saved."""
    Everyone(tmp_path, web={}, mail={}).save()
    return tmp_path


def test_all_come_back_and_their_records_go(folder):
    boot = Boot(folder)
    assert boot.restore() == {"mail": "restored", "web": "restored"}
    assert boot.running() == ["mail", "web"]
    assert boot.text("web") == "as domain 3"
    assert list(folder.iterdir()) == []


def test_what_may_not_come_back_keeps_its_record(folder):
    boot = Boot(folder)
    hooks = FakeHooks("mail")
    assert boot.restore(hooks) == {"mail": "forbidden", "web": "restored"}
    assert boot.text("mail") == f"the backup runs; its save file is {folder}/mail"
    assert boot.running() == ["web"]
    assert [path.name for path in folder.iterdir()] == ["mail"]
    assert hooks.seen == [("restore", {"file": f"{folder}/{name}"}) for name in ("mail", "web")]


def test_in_the_order_that_is_chosen(folder):
    boot = Boot(folder)
    boot.restore(first=("web",))
    assert boot.running() == ["web", "mail"]


def test_no_folder_at_all(tmp_path):
    assert Boot(tmp_path / "none").restore() == {}


def test_a_damaged_record_is_told_and_kept_and_the_others_come_back(folder):
    record = (folder / "mail").read_bytes()
    (folder / "mail").write_bytes(record[:-100])
    (folder / "not a record").write_text("at all")
    boot = Boot(folder)
    assert boot.restore() == {"mail": "failed", "not a record": "failed", "web": "restored"}
    assert boot.running() == ["web"]
    assert boot.text("mail").endswith(f"; its save file is {folder}/mail")
    assert (folder / "mail").read_bytes() == record[:-100]
    assert [kept.name for kept in saved(folder)] == ["mail", "not a record"]
    assert already_run(folder) == []


def test_a_guest_that_does_not_run_on_keeps_its_record(folder):
    boot = Boot(folder)
    really = boot.world.host.hypervisor.unpause

    def crash(domid):
        really(domid)
        boot.world.guests[domid].crashed = boot.world.guests[domid].config.name == "mail"

    boot.world.host.hypervisor.unpause = crash
    assert boot.restore() == {"mail": "failed", "web": "restored"}
    assert boot.text("mail").endswith(f"; its save file is {folder}/.mail.ran")
    assert ([kept.name for kept in saved(folder)], [kept.name for kept in already_run(folder)]) == (
        [],
        ["mail"],
    )


def test_a_guest_that_crashes_while_it_is_watched(folder):
    boot = Boot(folder)
    really = boot.world.host.hypervisor.unpause
    boot.world.host.hypervisor.unpause = lambda domid: (really(domid), later.append(domid))
    later = []

    def build(*words):
        for domid in later:
            boot.world.guests[domid].crashed = True
        return really_build(*words)

    really_build, boot.world.host.build = boot.world.host.build, build
    assert boot.restore() == {"mail": "failed", "web": "restored"}
    why = "it was unpaused, and does not run after 0.01 s (hypervisor: crashed; "
    assert boot.text("mail").startswith(why)


def test_a_guest_that_hangs_has_not_run(folder):
    """Its vcpus are said to run, and do not."""
    boot = Boot(folder)
    really = boot.world.host.hypervisor.info

    def hangs(domid):
        info = really(domid)
        return info and replace(info, cpu_seconds=0.0)

    boot.world.host.hypervisor.info = hangs
    assert boot.restore() == {"mail": "failed", "web": "failed"}
    assert boot.running() == ["mail", "web"]
    assert [kept.name for kept in already_run(folder)] == ["mail", "web"]


def test_a_guest_is_not_brought_back_a_second_time(folder):
    """Its restore was killed after the guest was unpaused, and the host ended without a save."""
    (folder / "web").rename(folder / ".web.ran")
    boot = Boot(folder)
    assert boot.restore() == {"mail": "restored", "web": "failed"}
    assert boot.running() == ["mail"]
    why = "it was restored, and was not seen to run (there is no domain 'web' on this host)"
    assert boot.text("web") == f"{why}; its save file is {folder}/.web.ran"
    assert (folder / ".web.ran").exists()


def test_a_guest_that_was_let_run_before_and_runs_is_seen_to_run(folder):
    again = (folder / "web").read_bytes()
    boot = Boot(folder)
    boot.restore()
    (folder / ".web.ran").write_bytes(again)
    boot.told.clear()
    assert boot.restore() == {"web": "restored"}
    assert list(folder.iterdir()) == []


def test_another_guest_of_that_name_is_not_taken_for_it(folder):
    (folder / "web").rename(folder / ".web.ran")
    boot = Boot(folder)
    boot.world.add(Guest.running(what=config(name="web")))
    assert boot.restore() == {"mail": "restored", "web": "failed"}
    assert "domain 2 is another one of this name" in boot.text("web")
    assert (folder / ".web.ran").exists()


def test_what_was_not_seen_to_run_and_was_saved_since_is_restored_from_that(folder):
    shutil.copy(folder / "web", folder / ".web.ran")
    boot = Boot(folder)
    assert boot.restore() == {"mail": "restored", "web": "restored"}
    assert [outcome.how.value for outcome in boot.told] == ["restored", "restored"]
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("renamed", [False, True])
@pytest.mark.parametrize("age", [-3600, 3600])
def test_other_saves_of_a_guest_are_left_and_named(folder, age, renamed):
    """One by hand, which comes first by its name; and one of before the guest was made anew."""
    older = Everyone(folder / "elsewhere", web={"tick": 7})
    if renamed:
        older.world.guests[1].config = config(name="web")
    older.save()
    (folder / "elsewhere/web").rename(folder / "2025-monday")
    then = (folder / "web").stat().st_mtime + age
    os.utime(folder / "2025-monday", (then, then))
    boot = Boot(folder)
    became = {"2025-monday": "left alone", "mail": "restored", "web": "restored"}
    assert boot.restore() == became
    age_in_words = "an older" if age < 0 else "a newer"
    there = f"{folder}/2025-monday is {age_in_words} save of web; {folder}/web is restored"
    assert boot.text("2025-monday") == there
    (web,) = [guest for guest in boot.world.guests.values() if guest.config.name == "web"]
    assert web.tick == 41
    assert sorted(path.name for path in folder.iterdir()) == ["2025-monday", "elsewhere"]


def test_a_save_by_hand_does_not_stand_in_for_a_damaged_one(folder):
    shutil.copy(folder / "web", folder / "monday")
    (folder / "web").write_text("damaged")
    boot = Boot(folder)
    assert boot.restore() == {"mail": "restored", "monday": "left alone", "web": "failed"}
    assert boot.running() == ["mail"]


@pytest.mark.parametrize("ran", [False, True])
def test_a_save_by_hand_alone_is_left(folder, ran):
    """Its guest may have run since, and not have been saved, or not be seen to run."""
    shutil.copy(folder / "web", folder / "monday")
    if ran:
        (folder / "web").rename(folder / ".web.ran")
    else:
        (folder / "web").unlink()
    boot = Boot(folder)
    became = {"mail": "restored", "monday": "left alone"}
    assert boot.restore() == became | ({"web": "failed"} if ran else {})
    why = f"{folder}/monday is a save of web, and was not made by save-all"
    assert boot.text("monday") == why
    assert boot.running() == ["mail"]


def test_of_two_guests_of_one_name_the_last_is_restored_and_the_other_is_told(tmp_path):
    for tick, name in ((1, "web"), (2, "mail")):
        everyone = Everyone(tmp_path, **{name: {"tick": tick}})
        only = everyone.world.guests[1]
        only.config = only.config.with_name("web")
        everyone.save()
    boot = Boot(tmp_path)
    assert boot.restore() == {"web": "restored"}  # the last that is told of
    (first, _last) = boot.told
    assert first.how.value == "failed"
    assert first.text.startswith(f"its save file is {tmp_path}/web, but that of another guest")
    assert [guest.tick for guest in boot.world.guests.values()] == [2]
    assert [path.name for path in tmp_path.iterdir()] == ["web"]


def test_guests_that_share_a_uuid_have_a_file_each(tmp_path):
    for name in ("web", "mail"):
        everyone = Everyone(tmp_path, **{name: {}})
        everyone.world.guests[1].config = config(name=name)
        everyone.save()
    assert dict(not_restored(saved(tmp_path))) == {}


def test_a_paused_guest_comes_back_paused_and_keeps_its_save_file_until_it_runs(tmp_path):
    Everyone(tmp_path, web={"paused": True}).save()
    boot = Boot(tmp_path)
    assert boot.restore() == {"web": "restored"}
    assert boot.running() == []
    kept = f"paused, as it was; its save file is {tmp_path}/.web.ran until it is seen to run"
    assert boot.text("web") == f"as domain 2; {kept}"
    boot.world.guests[2].paused, boot.world.guests[2].devices_run = False, True
    boot.told.clear()
    assert boot.restore() == {"web": "restored"}
    assert list(tmp_path.iterdir()) == []


def test_a_save_file_of_another_guest_is_not_replaced_by_the_restore_of_one(folder):
    (folder / "mail").rename(folder / ".web.ran")
    boot = Boot(folder)
    assert boot.restore()["web"] == "failed"
    text = [outcome.text for outcome in boot.told if outcome.name == "web"][-1]
    assert f"{folder}/.web.ran is in the way: it may be another guest's save file" in text
    assert {path.name for path in folder.iterdir()} == {"web", ".web.ran"}
    assert boot.world.guests == {}


def test_what_happened_to_the_disks_is_told_or_forbidden(tmp_path):
    image = tmp_path / "disk.img"
    image.touch()
    folder = tmp_path / "records"
    everyone = Everyone(folder, web={})
    uuid = everyone.world.guests[1].config.uuid
    everyone.world.guests[1].config = config(name="web", uuid=uuid, image=image)
    everyone.save()
    image.write_text("changed")
    boot = Boot(folder)
    assert boot.restore(strict_disks=True) == {"web": "failed"}
    assert "--strict-disks forbids that" in boot.text("web")
    boot.told.clear()
    assert boot.restore() == {"web": "restored"}
    assert f"as domain 2; {image} was changed (" in boot.text("web")


def test_a_guest_that_is_there_already_keeps_its_record(folder):
    boot = Boot(folder)

    def refuse(needs, *, quick):
        if needs.config.name == "web":
            yield Finding.refusal("name", HostError("domain 1 is named web already"))

    boot.world.host.findings = refuse
    assert boot.restore() == {"mail": "restored", "web": "failed"}
    assert boot.text("web") == f"domain 1 is named web already; its save file is {folder}/web"
    assert [kept.name for kept in saved(folder)] == ["web"]


def test_a_folder_that_cannot_be_written_brings_nobody_back_twice(folder, monkeypatch):
    def full(self, target):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "rename", full)
    boot = Boot(folder)
    assert boot.restore() == {"mail": "failed", "web": "failed"}
    assert boot.world.guests == {}
    assert "Read-only file system" in boot.text("web")
    assert [kept.name for kept in saved(folder)] == ["mail", "web"]


def test_a_record_that_cannot_get_its_name_back(folder, monkeypatch):
    boot = Boot(folder)
    rename = Path.rename

    def refuse(_domid):
        raise HostError("Xen does not want to")

    def once(self, target):
        if self.name.endswith(".ran"):
            raise OSError(30, "Read-only file system")
        return rename(self, target)

    boot.world.host.hypervisor.unpause = refuse
    monkeypatch.setattr(Path, "rename", once)
    assert boot.restore() == {"mail": "failed", "web": "failed"}
    why = f"its save file is {folder}/.web.ran, which cannot be renamed back: Read-only file system"
    assert boot.text("web").endswith(why)
    assert boot.world.guests == {}


def test_a_record_that_cannot_be_removed(folder, monkeypatch):
    boot = Boot(folder)
    unlink = Path.unlink

    def refuse(self, **options):
        if self.name.endswith(".ran"):
            raise OSError(30, "Read-only file system")
        unlink(self, **options)

    monkeypatch.setattr(Path, "unlink", refuse)
    assert boot.restore() == {"mail": "failed", "web": "failed"}
    assert boot.running() == ["mail", "web"]
    why = f"it runs, and its save file {folder}/.web.ran cannot be removed: Read-only file system"
    assert boot.text("web") == why


def calls(folder) -> int:
    boot = Boot(folder)
    boot.restore()
    return len(boot.world.calls)


@pytest.mark.parametrize("how", [How.REFUSED, How.LOST])
def test_whatever_fails_once_costs_one_guest_at_most_and_never_a_record(tmp_path, how):
    def saved_anew(name: str) -> Path:
        Everyone(tmp_path / name, a={}, b={}).save()
        return tmp_path / name

    for at in range(calls(saved_anew("probe"))):
        boot = Boot(saved_anew(f"{at}"))
        boot.world.fault = Fault(at, how)
        became = boot.restore()
        words = (at, boot.world.calls[at], boot.told)
        assert sorted(became) == ["a", "b"], words
        assert [*became.values()].count("restored") >= 1, words
        for name in "ab":
            record = [kept for kept in saved(boot.folder) if kept.name == name]
            ran = [kept for kept in already_run(boot.folder) if kept.name == name]
            if became[name] == "restored":
                assert (record, ran) == ([], []), words
                assert name in boot.running(), words
            else:
                assert len(record) + len(ran) == 1, words
                assert not (record and name in boot.running()), words
