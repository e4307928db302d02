"""Guests that xl or another program without a journal left suspended, or asked to suspend."""

import pytest

from tests.doubles.in_memory.guest import Guest
from tests.doubles.in_memory.save_files import config
from tests.doubles.in_memory.world import World
from xenqemu.errors import HostError, RolledBack, Stranded
from xenqemu.operations.events import Phase
from xenqemu.operations.journal.log import About
from xenqemu.operations.journal.operation import Operation
from xenqemu.operations.left_suspended import left_suspended
from xenqemu.operations.options import After, SaveOptions
from xenqemu.operations.recover import recover
from xenqemu.operations.save import save


@pytest.fixture
def world():
    return World()


SUSPENDED = {"suspended": True, "devices_run": False}
ASKED = {"asked": True}


def left(world, **state):
    vars(world.guests[1]).update(state)


@pytest.mark.parametrize("state", [SUSPENDED, ASKED])
@pytest.mark.parametrize("who", ["1", "sample"])
def test_the_guest_that_is_named_is_resumed(world, state, who):
    left(world, **state)
    (done,) = recover(world.host, who)
    assert world.running() == [1]
    assert not world.guests[1].asked
    assert (done.suspended, done.resumed, done.complete) == (state is SUSPENDED, True, True)
    assert done.text.endswith("by a program that is gone: it was resumed")
    assert "hypervisor: running" in done.state
    assert list(left_suspended(world.host)) == []
    assert recover(world.host, who) == []


@pytest.mark.parametrize("state", [SUSPENDED, ASKED])
def test_a_guest_that_is_not_named_is_only_told_of(world, state):
    left(world, **state)
    (told,) = recover(world.host)
    assert world.acts() == []
    assert (told.resumed, told.complete, told.state) == (False, True, "")
    assert told.text.endswith("gone: xenqemu recover 1 resumes it")
    assert recover(world.host, "other") == []


def test_guests_that_run_or_are_paused_are_left_alone(world):
    for state in ({}, {"paused": True}, {"down": True}, {"crashed": True}):
        left(world, **state)
        assert recover(world.host, "1") == []
    assert world.acts() == []


@pytest.mark.parametrize("state", [SUSPENDED, ASKED])
def test_a_guest_that_a_living_program_works_on_is_left_alone(world, state):
    left(world, **state)
    world.others = ["process 7 (xl save sample /x)"]
    assert recover(world.host, "1") == []
    assert world.acts() == []


def test_a_guest_with_a_running_operation_is_left_alone(world):
    with Operation.begin(world.host, About("save", 1, "sample", world.domain().uuid, "/f")):
        left(world, **SUSPENDED)
        assert recover(world.host, "1") == []
        left(world, suspended=False, devices_run=True)


def test_a_guest_with_a_damaged_journal_is_left_to_who_reads_that(world):
    with Operation.begin(world.host, About("save", 1, "sample", world.domain().uuid, "/f")) as job:
        left(world, **SUSPENDED)
        with job.log.path.open("a") as journal:
            journal.write("[]\n")
        assert list(left_suspended(world.host)) == recover(world.host, "1") == []
        left(world, suspended=False, devices_run=True)


def test_request_of_xl_is_withdrawn_after_our_own_killed_save(world, tmp_path):
    def observe(event):
        if event.phase is Phase.SAVE:
            world.die()

    options = SaveOptions(after=After.CONTINUE)
    run = lambda: save(world.host, world.domain(), tmp_path / "f", options, observe=observe)  # noqa: E731
    assert world.outlive(run)
    left(world, **ASKED)
    ours, theirs = recover(world.host)
    assert (ours.about.verb, theirs.resumed) == ("save", True)
    assert (world.running(), world.guests[1].asked) == ([1], False)


AWAY = "sample--migratedaway"


def migrated_away(world):
    world.guests[1].config = world.guests[1].config.with_name(AWAY)
    left(world, **SUSPENDED)


def test_a_guest_that_xl_may_have_migrated_is_in_doubt(world):
    migrated_away(world)
    (found,) = recover(world.host, AWAY)
    assert (found.in_doubt, found.complete, found.resumed) == (True, False, False)
    assert "it may run on another host" in found.text
    assert world.acts() == []


def test_one_that_stayed_gets_its_name_back_and_runs(world):
    migrated_away(world)
    (done,) = recover(world.host, AWAY, moved=False)
    assert done.resumed
    assert world.running() == [1]
    assert world.guests[1].config.name == "sample"


def test_one_that_has_moved_is_destroyed(world):
    migrated_away(world)
    (done,) = recover(world.host, AWAY, moved=True)
    assert done.moved
    assert "destroyed, since it has moved" in done.text
    assert world.guests == {}


def test_a_guest_that_cannot_be_resumed_is_named_and_tried_again(world):
    left(world, **SUSPENDED)
    world.blockers = []
    real = world.host.hypervisor.withdraw_suspend

    def refuse(_domid):
        raise HostError("Xen refuses")

    world.host.hypervisor.withdraw_suspend = refuse
    with pytest.raises((RolledBack, Stranded), match="Xen refuses"):
        recover(world.host, "1")
    world.host.hypervisor.withdraw_suspend = real
    recover(world.host, "1")
    assert world.running() == [1]


def test_a_guest_that_nobody_can_tell_of_does_not_hide_the_others(world, monkeypatch):
    world.add(Guest.running(what=config(name="other", uuid="00000000-0000-0000-0000-000000000002")))
    left(world, **SUSPENDED)
    real = world.host.hypervisor.info

    def info(domid):
        if domid == 2:
            raise HostError("its QEMU does not answer")
        return real(domid)

    monkeypatch.setattr(world.host.hypervisor, "info", info)
    assert [each.domain.name for each in left_suspended(world.host)] == ["sample"]
