"""All guests after a boot: in order, each save file kept until its guest was seen to run."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.doubles.in_memory.everyone import Everyone, FakeHooks
from tests.doubles.in_memory.faults import Fault, How
from tests.doubles.in_memory.world import World
from xenqemu.errors import HostError
from xenqemu.operations.outcome import Outcome, no_hooks
from xenqemu.operations.restore_all import restore_all
from xenqemu.operations.saved_guests import already_run, saved
from xenqemu.settings.xenqemu_conf import RestoreAll

PLAN = RestoreAll(proof=0.01)


class Boot:
    """A host without guests, and what becomes of the save files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.world = World(guests={})
        self.told: list[Outcome] = []

    def restore(self, hooks=no_hooks, **plan: object) -> dict[str, str]:
        chosen = replace(PLAN, **plan)
        restore_all(lambda: self.world.host, self.folder, chosen, self.told.append, hooks=hooks)
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
    boot = Boot(folder)
    (folder / "mail").rename(folder.parent / "mail")
    restored = Boot(folder)
    restored.restore()
    boot.world = restored.world
    (folder.parent / "mail").rename(folder / ".web.ran")
    assert boot.restore() == {"web": "restored"}
    assert list(folder.iterdir()) == []


def test_a_guest_that_is_there_already_keeps_its_record(folder):
    boot = Boot(folder)

    def refuse(needs):
        if needs.config.name == "web":
            raise HostError("domain 1 is named web already")

    boot.world.host.admit = refuse
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
