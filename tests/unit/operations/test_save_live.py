"""A save of a guest that runs: it is stopped late, for short, and all notes of changes end."""

from __future__ import annotations

import pytest

from tests.doubles.in_memory.world import World, loaded
from xenqemu.errors import Cancelled, HostError, HostTimeout, NotConverged, RolledBack
from xenqemu.host.precopy import Iteration
from xenqemu.host.precopy_options import PrecopyOptions
from xenqemu.operations.cancel import cancel
from xenqemu.operations.events import Event, Kind, Phase
from xenqemu.operations.options import After, SaveOptions
from xenqemu.operations.save import save as save_domain

QUIESCE = ["hypervisor.suspend", "device_model.stop", "device_model.save"]
MEMORY = ["memory.save_live", *QUIESCE, "memory.rest", "memory.stop"]
PUBLISH = ["os.fsync", "os.rename", "os.fsync"]
GO_ON = ["device_model.cont", "hypervisor.resume"]
VERIFY = ["os.fsync"]
ORDER = {
    After.DESTROY: [*MEMORY, *VERIFY, *PUBLISH, "host.destroy"],
    After.CONTINUE: [*MEMORY, *GO_ON, *VERIFY, *PUBLISH],
    After.PAUSE: [*MEMORY, "hypervisor.pause", *GO_ON, *VERIFY, *PUBLISH],
}


@pytest.fixture
def world():
    return World()


def save(world, path, after=After.CONTINUE, **options):
    options = {"precopy": PrecopyOptions()} | options
    with world.watching():
        return save_domain(
            world.host,
            world.domain(),
            path,
            SaveOptions(after=after, **options),
            observe=world.observe,
        )


@pytest.mark.parametrize("after", After)
def test_order_of_acts(world, tmp_path, after):
    save(world, tmp_path / "record", after)
    assert world.acts() == ORDER[after]
    assert world.broken == []


@pytest.mark.parametrize("compacted", [False, True])
def test_the_record_holds_the_guest_as_it_was_frozen(world, tmp_path, compacted):
    guest = world.guests[1]
    found = save(world, tmp_path / "record", compact=compacted)
    copy = loaded(tmp_path / "record")
    assert (copy.config, copy.pages, copy.tick) == (guest.config, guest.pages, guest.tick)
    assert copy.tick == 43
    assert found.pages.data == len(guest.pages) * (1 if compacted else 2) + (not compacted)
    assert found.size == (tmp_path / "record").stat().st_size
    assert [entry.name for entry in tmp_path.iterdir()] == ["record"]


def test_the_guest_goes_on_before_its_record_is_compacted(world, tmp_path):
    save(world, tmp_path / "record", compact=True)
    told = [(event.phase, event.kind) for event in world.events]
    assert told.index((Phase.RELEASE, Kind.DONE)) < told.index((Phase.COMPACT, Kind.STARTED))
    assert told.index((Phase.COMPACT, Kind.DONE)) < told.index((Phase.VERIFY, Kind.STARTED))
    assert any(each == (Phase.COMPACT, Kind.PROGRESS) for each in told)


def test_a_guest_that_cannot_be_logged_is_not_touched(world, tmp_path):
    world.guests[1].can_log_dirty = False
    with pytest.raises(HostError, match="this host cannot tell which of its pages change"):
        save(world, tmp_path / "record")
    assert world.acts() == []
    assert list(tmp_path.iterdir()) == []


def test_phases_and_iterations(world, tmp_path):
    save(world, tmp_path / "record")
    told = [
        (event.phase, event.kind, event.iteration and event.iteration.number)
        for event in world.events
        if event.kind is not Kind.PROGRESS
    ]
    assert told == [
        (Phase.CHECK, Kind.STARTED, None),
        (Phase.CHECK, Kind.DONE, None),
        (Phase.SAVE, Kind.STARTED, None),
        (Phase.SAVE, Kind.ITERATION, 1),
        (Phase.SAVE, Kind.ITERATION, 2),
        (Phase.QUIESCE, Kind.STARTED, None),
        (Phase.QUIESCE, Kind.DONE, None),
        (Phase.SAVE, Kind.ITERATION, 3),
        (Phase.SAVE, Kind.DONE, None),
        (Phase.RELEASE, Kind.STARTED, None),
        (Phase.RELEASE, Kind.DONE, None),
        (Phase.RELEASE, Kind.LIVE, None),
        *(
            (phase, kind, None)
            for phase in (Phase.VERIFY, Phase.PUBLISH)
            for kind in (Kind.STARTED, Kind.DONE)
        ),
    ]
    (first, *_) = [event for event in world.events if event.kind is Kind.ITERATION]
    assert first == Event(Phase.SAVE, Kind.ITERATION, iteration=Iteration(1, 10, 40960, 0.5, 1))
    last = [event for event in world.events if event.kind is Kind.PROGRESS][-1]
    assert last == Event(Phase.SAVE, Kind.PROGRESS, 4096, 4096)


def test_a_guest_that_never_settles_is_as_it_was(world, tmp_path):
    with pytest.raises(RolledBack, match="it never converges; the guest is as it was") as caught:
        save(world, tmp_path / "record", precopy=PrecopyOptions(give_up=True))
    assert isinstance(caught.value.__cause__, NotConverged)
    assert world.acts() == ["memory.save_live", "hypervisor.stop_dirty_log"]
    assert world.guests[1].runs
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("act", "phase"), [("Memory.rest", "save"), ("DeviceModel.save_state_bytes", "quiesce")]
)
def test_an_error_in_the_freeze_or_after_it_says_where(world, tmp_path, monkeypatch, act, phase):
    def fails(*_arguments, **_options):
        raise HostError("no more")

    monkeypatch.setattr(f"tests.doubles.in_memory.parties.{act}", fails)
    told = rf"failed \({phase}\): no more; the guest is as it was"
    with pytest.raises(RolledBack, match=told):
        save(world, tmp_path / "record")
    assert world.guests[1].runs


def test_the_room_for_the_rest_is_asked_for_before_the_freeze(world, tmp_path, monkeypatch):
    asked = []

    def reserve(self, size):
        asked.append((size, "hypervisor.suspend" in world.calls))
        if len(asked) == 3:
            raise HostError("too little")

    monkeypatch.setattr("xenqemu.system.staged_file.Draft.reserve", reserve)
    with pytest.raises(RolledBack, match="too little"):
        save(world, tmp_path / "record")
    (_first, _), (one, _), (two, frozen) = asked
    assert one < two  # what is written already counts
    assert not frozen


def test_a_save_that_is_cancelled_between_iterations(world, tmp_path):
    def observe(event):
        if event.kind is Kind.ITERATION and event.iteration.number == 1:
            with pytest.raises(HostTimeout):  # it is we who are to end
                cancel(world.host, "1", 0.0)

    with pytest.raises(RolledBack) as caught:
        save_domain(
            world.host,
            world.domain(),
            tmp_path / "record",
            SaveOptions(precopy=PrecopyOptions()),
            observe=observe,
        )
    assert isinstance(caught.value.__cause__, Cancelled)
    assert not world.guests[1].logged
