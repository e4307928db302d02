"""A suspend: what is done in which order, what becomes of the guest, what the save file holds."""

import stat
import time

import pytest

from tests.doubles.in_memory import parties
from tests.doubles.in_memory.guest import Guest
from tests.doubles.in_memory.save_files import NAME, config, config_with, device_state
from tests.doubles.in_memory.world import World, loaded
from xenqemu.errors import (
    BadRecord,
    Forbidden,
    HostError,
    HostTimeout,
    Refused,
    RolledBack,
    UsageError,
)
from xenqemu.host.protocol import SuspendPending
from xenqemu.operations.events import Event, Kind, Phase
from xenqemu.operations.journal.folder import Journals
from xenqemu.operations.options import After, SaveOptions
from xenqemu.operations.recover import recover
from xenqemu.operations.save import save as save_domain
from xenqemu.operations.save_file import was_paused, with_paused
from xenqemu.operations.verify import checked_contents

QUIESCE = ["hypervisor.suspend", "device_model.stop", "device_model.save"]
PUBLISH = ["os.fsync", "os.rename", "os.fsync"]
GO_ON = ["device_model.cont", "hypervisor.resume"]
VERIFY = ["os.fsync"]
ORDER = {
    After.DESTROY: [*QUIESCE, "memory.save", *VERIFY, *PUBLISH, "host.destroy"],
    After.CONTINUE: [*QUIESCE, "memory.save", *GO_ON, *VERIFY, *PUBLISH],
    After.PAUSE: [*QUIESCE, "memory.save", "hypervisor.pause", *GO_ON, *VERIFY, *PUBLISH],
}


@pytest.fixture
def world():
    return World()


def save(world, path, after=After.DESTROY):
    with world.watching():
        return save_domain(
            world.host, world.domain(), path, SaveOptions(after=after), observe=world.observe
        )


@pytest.mark.parametrize("after", After)
def test_order_of_acts(world, tmp_path, after):
    save(world, tmp_path / "record", after)
    assert world.acts() == ORDER[after]
    assert world.broken == []


@pytest.mark.parametrize("after", After)
def test_record_holds_the_guest_as_it_stood(world, tmp_path, after):
    guest = world.guests[1]
    found = save(world, tmp_path / "record", after)
    copy = loaded(tmp_path / "record")
    assert (copy.config, copy.pages, copy.tick) == (guest.config, guest.pages, guest.tick)
    assert found.config == guest.config
    assert found.pages.data == len(guest.pages)
    assert found.size == (tmp_path / "record").stat().st_size
    assert stat.S_IMODE((tmp_path / "record").stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["record"]


def test_what_becomes_of_the_guest(tmp_path):
    found = {}
    for after in After:
        world = World()
        save(world, tmp_path / "record", after)
        guest = world.guests.get(1)
        found[after] = guest and (guest.runs, guest.run_state.value, guest.devices_run)
    assert found == {
        After.DESTROY: None,
        After.CONTINUE: (True, "running", True),
        After.PAUSE: (False, "paused", True),
    }


def test_nothing_changes_before_all_has_been_asked(world, tmp_path):
    save(world, tmp_path / "record")
    first = world.calls.index("hypervisor.suspend")
    parties = {"hypervisor.info", "store.read"}
    device_model = {f"device_model.{name}" for name in ("status", "blockers", "prepare_save")}
    assert parties | device_model < set(world.calls[:first])
    assert not set(world.acts()) & set(world.calls[:first])


def test_guest_without_a_device_model(world, tmp_path):
    world.has_device_model = False
    world.guests[1].config = config("pvh")
    found = save(world, tmp_path / "record", After.CONTINUE)
    assert world.acts() == [
        *("hypervisor.suspend", "memory.save", "hypervisor.resume"),
        *VERIFY,
        *PUBLISH,
    ]
    assert not found.has_device_state
    assert world.guests[1].runs


def test_phases_and_progress(world, tmp_path):
    save(world, tmp_path / "record")
    told = [(event.phase, event.kind) for event in world.events if event.kind is not Kind.PROGRESS]
    phases = (*(Phase.CHECK, Phase.QUIESCE, Phase.SAVE, Phase.VERIFY, Phase.PUBLISH), Phase.RELEASE)
    assert told == [(phase, kind) for phase in phases for kind in (Kind.STARTED, Kind.DONE)]
    progress = [event for event in world.events if event.kind is Kind.PROGRESS]
    assert progress == [
        Event(Phase.SAVE, Kind.PROGRESS, 5 * 4096, 10 * 4096),
        Event(Phase.SAVE, Kind.PROGRESS, 10 * 4096, 10 * 4096),
    ]


def refused(world, path, error, match, after=After.DESTROY):
    """Assert that a save is refused before anything is touched."""
    with pytest.raises(error, match=match) as caught:
        save(world, path, after)
    assert world.acts() == []
    assert world.broken == []
    return caught.value


def test_no_such_domain(tmp_path):
    refused(World(guests={}), tmp_path / "record", HostError, "there is no domain 1")


@pytest.mark.parametrize("devices_run", [True, False])
@pytest.mark.parametrize("after", After)
def test_a_paused_guest_that_need_not_answer_stays_paused(world, tmp_path, after, devices_run):
    guest = world.guests[1]
    guest.paused, guest.devices_run = True, devices_run
    found = save(world, tmp_path / "record", after)
    assert was_paused(found.config)
    assert not {"hypervisor.pause", "hypervisor.unpause"} & set(world.acts())
    if after is not After.DESTROY:
        assert (guest.run_state.value, guest.devices_run) == ("paused", devices_run)
    assert ("device_model.cont" in world.acts()) == (devices_run and after is not After.DESTROY)


def test_a_guest_that_was_paused_once_is_saved_as_one_that_runs(world, tmp_path):
    world.guests[1].config = with_paused(config(more="there"), paused=True)
    found = save(world, tmp_path / "record")
    assert found.config.extra == {"more": "there"}


def test_a_paused_guest_whose_save_fails_is_paused_again(world, tmp_path):
    world.guests[1].pages.pop(0xFEFFC)
    world.guests[1].paused = True
    with pytest.raises(RolledBack, match="STORE_PFN among the pages"):
        save(world, tmp_path / "record")
    assert world.acts() == [*QUIESCE, "memory.save", *VERIFY, *GO_ON]
    assert world.guests[1].run_state.value == "paused"


def test_a_name_that_the_host_could_not_restore_is_refused(world, tmp_path, monkeypatch):
    def refuse(name):
        raise HostError(f"libxl cannot restore a guest named {name!r}")

    monkeypatch.setattr(world.host, "check_name", refuse)
    refused(world, tmp_path / "record", HostError, "libxl cannot restore a guest named 'sample'")
    assert world.guests[1].runs


@pytest.mark.parametrize("after", After)
def test_a_save_file_is_as_old_as_the_last_write_of_its_guest(world, tmp_path, monkeypatch, after):
    """Its disk images are closed when it is destroyed; else it writes on from its resume."""
    times = {}
    really = world.host.destroy, parties.Hypervisor.resume

    def destroy(domid):
        really[0](domid)
        times["end"] = time.time_ns()

    def resume(hypervisor, domid):
        times["end"] = time.time_ns()
        really[1](hypervisor, domid)

    monkeypatch.setattr(world.host, "destroy", destroy)
    monkeypatch.setattr(parties.Hypervisor, "resume", resume)
    save(world, tmp_path / "record", after)
    written = (tmp_path / "record").stat().st_mtime_ns
    assert written >= times["end"] if after is After.DESTROY else written <= times["end"]


@pytest.mark.parametrize(
    ("state", "match"),
    [
        ({"paused": True, "must_answer": True}, "domain 1 cannot be suspended: it is paused"),
        ({"paused": True, "crashed": True}, "hypervisor: crashed"),
        ({"crashed": True}, "hypervisor: crashed"),
        ({"suspended": True}, f"hypervisor: suspended; name in xenstore: {NAME}"),
        ({"devices_run": False}, "device model: paused"),
    ],
)
def test_guest_that_does_not_run(world, tmp_path, state, match):
    vars(world.guests[1]).update(state)
    refused(world, tmp_path / "record", HostError, match)
    assert vars(world.guests[1]).items() >= state.items()


def test_device_that_cannot_be_saved(world, tmp_path):
    world.blockers = ["nvme is not migratable", "another"]
    match = "^domain 1 cannot be saved, for 2 reasons"
    error = refused(world, tmp_path / "record", Refused, match)
    words = "the device model of domain 1 cannot be saved"
    assert error.__notes__ == [
        f"1. {words}: nvme is not migratable",
        f"2. {words}: another",
    ]
    assert error.exit_code == HostError.exit_code
    assert world.guests[1].runs


def test_place_that_takes_no_file(world, tmp_path):
    refused(world, tmp_path / "no" / "record", HostError, "cannot open the folder")
    refused(world, tmp_path, UsageError, "exists and is a folder")


@pytest.mark.parametrize("older", [None, b"older"])
@pytest.mark.parametrize("after", After)
def test_record_that_does_not_verify_costs_the_record_only(world, tmp_path, after, older):
    if older:
        (tmp_path / "record").write_bytes(older)
    world.guests[1].pages.pop(0xFEFFC)
    with pytest.raises(RolledBack, match="STORE_PFN among the pages") as caught:
        save(world, tmp_path / "record", after)
    assert isinstance(caught.value.__cause__, BadRecord)
    assert caught.value.phase == "verify"
    assert str(caught.value).startswith("save of domain 1 (sample) failed (verify): ")
    assert world.guests[1].runs
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == ([older] if older else [])


def test_undo_is_in_reverse(world, tmp_path):
    world.guests[1].pages.pop(0xFEFFC)
    with pytest.raises(RolledBack):
        save(world, tmp_path / "record")
    assert world.acts() == [*QUIESCE, "memory.save", *VERIFY, *GO_ON]


def test_undo_of_a_pause(world, tmp_path):
    world.guests[1].pages.pop(0xFEFFC)
    with pytest.raises(RolledBack):
        save(world, tmp_path / "record", After.PAUSE)
    assert world.acts()[-1] == "hypervisor.unpause"


def test_observer_that_goes_away_strands_nobody(world, tmp_path):
    def watch(event):
        if event.kind is Kind.PROGRESS or event.phase is Phase.UNDO:
            raise BrokenPipeError("nobody reads")

    with pytest.raises(RolledBack, match="nobody reads; the guest is as it was"):
        save_domain(world.host, world.domain(), tmp_path / "record", observe=watch)
    assert world.guests[1].runs
    assert not any(tmp_path.iterdir())


def test_first_error_stays_the_one_shown(world, tmp_path):
    world.guests[1].pages.pop(0xFEFFC)

    def watch(event):
        if event.kind is Kind.FAILED:
            raise BrokenPipeError("nobody reads")

    with pytest.raises(RolledBack) as caught:
        save_domain(world.host, world.domain(), tmp_path / "record", observe=watch)
    assert isinstance(caught.value.__cause__, BadRecord)
    assert caught.value.__cause__.__notes__ == ["could not report it: nobody reads"]
    assert world.guests[1].runs


def test_state_is_the_one_of_the_moment(tmp_path):
    world = World({1: Guest.running(tick=7)})
    found = save(world, tmp_path / "record", After.CONTINUE)
    assert found.devices.sections[0].data == (7).to_bytes(8, "big") + bytes(16)
    assert device_state(7) in (tmp_path / "record").read_bytes()


def test_given_config_replaces_the_guests_own_but_for_what_is_ours(world, tmp_path):
    given = config(vcpus=2).with_name("other")
    found = save_domain(
        world.host,
        world.domain(),
        tmp_path / "record",
        SaveOptions(config=given, after=After.CONTINUE),
    )
    assert found.config == given.with_extra(world.guests[1].config.extra)


def test_a_given_config_that_does_not_fit_is_refused_before_the_guest_is_touched(world, tmp_path):
    for given, why in ((config(vcpus=1), "1 vcpus"), (config(kind="pvh"), "type is pvh")):
        with pytest.raises(HostError, match=f"the given config does not fit .*{why}"):
            save_domain(world.host, world.domain(), tmp_path / "record", SaveOptions(config=given))
    assert world.running() == [1]
    assert not any(tmp_path.iterdir())
    assert not {"suspend", "device_model.stop"} & {call.split(".", 1)[-1] for call in world.calls}


@pytest.mark.parametrize(("keep", "domid"), [(False, 0), (True, 1)])
def test_record_asks_for_the_same_id_if_told(world, tmp_path, keep, domid):
    found = save_domain(
        world.host,
        world.domain(),
        tmp_path / "record",
        SaveOptions(keep_domid=keep, after=After.CONTINUE),
    )
    assert found.config.domid == domid


# Guests that suspend late, or may.


def late(world, monkeypatch, *, withdrawn, suspends):
    """Have the guest not suspend in time, but afterwards, if `suspends`."""
    guest = world.guests[1]

    def suspend(domid):
        world.call("hypervisor.suspend", lambda: None)
        raise SuspendPending("domain 1 did not suspend", withdrawn=withdrawn)

    def withdraw_suspend(domid):
        world.call("hypervisor.withdraw_suspend", lambda: setattr(guest, "suspended", suspends))
        if not suspends:
            raise SuspendPending("it may still suspend")

    monkeypatch.setattr(world.host.hypervisor, "suspend", suspend)
    monkeypatch.setattr(world.host.hypervisor, "withdraw_suspend", withdraw_suspend)


@pytest.mark.parametrize("withdrawn", [True, False])
def test_guest_that_suspends_late_is_resumed(world, tmp_path, monkeypatch, withdrawn):
    late(world, monkeypatch, withdrawn=withdrawn, suspends=True)
    with pytest.raises(RolledBack, match="domain 1 did not suspend; the guest is as it was"):
        save(world, tmp_path / "record")
    acts = [name for name in world.calls if name.startswith("hypervisor.") and "info" not in name]
    resume = ["hypervisor.resume"] * 2  # the second time, there is nothing to do
    assert acts == [
        "hypervisor.require_suspendable",
        "hypervisor.memory",
        "hypervisor.suspend",
        "hypervisor.withdraw_suspend",
        *resume,
    ]
    assert world.running() == [1]
    assert Journals(world.host.journals).found() == []


def test_guest_whose_request_was_taken_back_is_not_waited_for_again(world, tmp_path, monkeypatch):
    late(world, monkeypatch, withdrawn=True, suspends=False)
    with pytest.raises(RolledBack) as caught:
        save(world, tmp_path / "record")
    assert not hasattr(caught.value.__cause__, "__notes__")
    assert Journals(world.host.journals).found() == []


def test_guest_that_may_suspend_yet_is_kept_in_mind(world, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        late(world, patch, withdrawn=False, suspends=False)
        with pytest.raises(RolledBack) as caught:
            save(world, tmp_path / "record")
        assert caught.value.__cause__.__notes__ == ["it may still suspend"]
        (left,) = Journals(world.host.journals).found()
        assert not left.running
    world.guests[1].suspended = True  # now it does
    with pytest.raises(HostError, match="was left unfinished .*: xenqemu recover sample"):
        save(world, tmp_path / "record")
    assert recover(world.host)[0].complete
    assert save(world, tmp_path / "record").size


def test_guest_that_suspended_later_is_recovered(world, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        late(world, patch, withdrawn=False, suspends=False)
        with pytest.raises(RolledBack):
            save(world, tmp_path / "record")
    world.guests[1].suspended = True
    (done,) = recover(world.host)
    assert (done.trouble, done.complete) == ((), True)
    assert world.running() == [1]
    assert Journals(world.host.journals).found() == []


def test_guest_in_the_hands_of_another(world, tmp_path):
    world.others = ["process 77 (xl save sample /tmp/x)"]
    match = "domain 1 is in use by process 77 .xl save sample /tmp/x."
    refused(world, tmp_path / "record", HostError, match)


def test_too_little_room_is_refused_with_both_numbers(world, tmp_path, monkeypatch):
    huge = 1 << 60
    for name in ("space", "counted_space"):
        monkeypatch.setattr(f"tests.doubles.in_memory.parties.Memory.{name}", lambda *_: huge)
    match = rf"{tmp_path}: 115\d+ bytes of free space are needed for .*, \d+ are available \("
    refused(world, tmp_path / "record", HostError, match)
    assert list(tmp_path.iterdir()) == []


def test_record_that_is_not_to_be_read_back(world, tmp_path):
    world.guests[1].pages.pop(0xFEFFC)  # which would be seen
    with world.watching():
        found = save_domain(
            world.host, world.domain(), tmp_path / "record", SaveOptions(verify=False)
        )
    assert world.acts() == [*QUIESCE, "memory.save", *PUBLISH, "host.destroy"]
    assert found.size == (tmp_path / "record").stat().st_size


def test_all_of_it_has_a_deadline(world, tmp_path):
    with pytest.raises(HostTimeout, match="the deadline of 1e-09 s for all of it has passed"):
        save_domain(world.host, world.domain(), tmp_path / "record", SaveOptions(timeout=1e-9))
    assert world.acts() == []


def test_second_save_is_told_of_the_first(world, tmp_path):
    told = []

    def observe(event):
        if event == Event(Phase.SAVE, Kind.STARTED):
            with pytest.raises(HostError) as caught:
                save_domain(world.host, world.domain(), tmp_path / "second")
            told.append(str(caught.value))

    save_domain(world.host, world.domain(), tmp_path / "first", observe=observe)
    (words,) = told
    assert words.startswith(
        f"the save of domain 1 (sample) to {tmp_path}/first is running (process "
    )
    assert not (tmp_path / "second").exists()


def test_guest_lives_on_when_the_draft_is_replaced_once_checked(world, tmp_path, monkeypatch):
    def swap(*source):
        found = checked_contents(*source)
        (draft,) = tmp_path.iterdir()
        draft.unlink()
        draft.write_bytes(b"another file")
        return found

    monkeypatch.setattr("xenqemu.operations.save.checked_contents", swap)
    with pytest.raises(RolledBack, match="somebody has replaced what was written"):
        save(world, tmp_path / "record")
    assert world.running() == [1]
    assert world.broken == []


def test_a_folder_of_others_is_refused_before_the_guest_is_touched(world, tmp_path):
    tmp_path.chmod(0o777)
    with pytest.raises(Forbidden, match="others may write to"):
        save(world, tmp_path / "record")
    assert world.acts() == []
    assert world.running() == [1]


def test_that_a_restore_here_would_refuse_the_save_file_is_said_beforehand(world, tmp_path):
    world.guests[1].config = config_with(b_info={"bootloader": "/tmp/loader"})
    save(world, tmp_path / "record")
    (note,) = (event for event in world.events if event.kind is Kind.NOTE)
    assert note.phase is Phase.CHECK
    assert note.text.startswith(
        "a restore here would refuse the save file: the config of sample names what is not "
        "allowed here: b_info.bootloader=/tmp/loader (a program); [trust]"
    )


@pytest.mark.parametrize("after", list(After))
def test_pages_of_zeros_are_counted_before_a_save_is_refused(world, tmp_path, monkeypatch, after):
    """At first while the guest runs, then once it is suspended."""
    monkeypatch.setattr("tests.doubles.in_memory.parties.Memory.space", lambda *_: 1 << 60)
    save(world, tmp_path / "save", after)
    acts = [name for name in world.calls if name in ("memory.counted_space", "hypervisor.suspend")]
    assert acts == ["memory.counted_space", "hypervisor.suspend", "memory.counted_space"]
    assert loaded(tmp_path / "save").pages == Guest.running().pages


def test_a_count_is_not_made_where_there_is_space(world, tmp_path):
    save(world, tmp_path / "save")
    assert "memory.counted_space" not in world.calls
