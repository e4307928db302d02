"""Acts that may come again, or with nothing to take back: on one guest, in each state."""

import json
from functools import partial

import pytest

from tests.doubles.in_memory.guest import Guest
from tests.doubles.in_memory.world import World
from xenqemu.errors import HostError, HypervisorError, InUse
from xenqemu.formats.typed_json import plain, typed
from xenqemu.host.disk import lease
from xenqemu.host.disk.lease import Owner
from xenqemu.host.domain import DomainInfo, RunState
from xenqemu.host.protocol import SuspendPending
from xenqemu.operations.journal import steps
from xenqemu.operations.journal.steps import Overtaken, Question, Step
from xenqemu.system.staged_file import Traces, draft_for

UUID = World().guests[1].config.uuid
ELSEWHERE = Owner("elsewhere", "boot", UUID)
OTHER = "11111111-e6df-11f1-a061-0df29b9903a9"
ON_A_GUEST = {
    "resume": steps.Resume,
    "settle": steps.WithdrawSuspend,
    "settle, withdrawn": partial(steps.WithdrawSuspend, withdrawn=True),
    "restart": steps.ContinueDeviceModel,
    "stop dirty log": steps.StopDirtyLog,
    "unpause": steps.Unpause,
    "rename": lambda domid, uuid: steps.Rename(domid, uuid, "sample--new", "sample"),
}
"""Those that take back what was done to a guest that is there."""


@pytest.fixture
def world():
    return World()


@pytest.fixture
def guest(world):
    """A guest that an operation has brought to a stop."""
    found = world.guests[1]
    found.suspended, found.devices_run = True, False
    return found


def perform(world, step):
    """Do a step as whoever recovers does it."""
    typed(Step, json.loads(json.dumps(plain(step)))).perform(world.host)


def acts(world):
    return [name for name in world.calls if "info" not in name and not name.startswith("store.")]


# What takes back.


@pytest.mark.parametrize("name", ON_A_GUEST)
def test_nothing_is_taken_back_that_did_not_happen(world, name):
    for _again in range(2):
        perform(world, ON_A_GUEST[name](1, UUID))
        assert world.running() == [1]
        assert world.guests[1].config.name == "sample"
    assert world.broken == []


@pytest.mark.parametrize("name", ON_A_GUEST)
def test_domain_that_is_gone_is_left_alone(world, name):
    with pytest.raises(Overtaken, match="^domain 2 is gone: it was destroyed, or ended, meanwhile"):
        perform(world, ON_A_GUEST[name](2, UUID))
    assert acts(world) == []


@pytest.mark.parametrize("name", ON_A_GUEST)
def test_another_domain_that_has_the_id_is_left_alone(world, name):
    with pytest.raises(Overtaken, match="domain 1 is gone"):
        perform(world, ON_A_GUEST[name](1, OTHER))
    assert acts(world) == []


@pytest.mark.parametrize("name", ON_A_GUEST)
def test_domain_that_is_dying_is_gone(world, monkeypatch, name):
    dying = DomainInfo(1, UUID, RunState.DYING, 4096, 1)
    monkeypatch.setattr(world.host.hypervisor, "info", lambda domid: dying)
    with pytest.raises(Overtaken, match="domain 1 is gone"):
        perform(world, ON_A_GUEST[name](1, UUID))
    assert acts(world) == []


@pytest.mark.parametrize("name", ON_A_GUEST)
def test_uuids_are_the_same_in_capitals(world, name):
    perform(world, ON_A_GUEST[name](1, UUID.upper()))


@pytest.mark.parametrize("name", ON_A_GUEST)
def test_hypervisor_that_cannot_tell_has_nothing_done(world, monkeypatch, name):
    def refuse(_domid):
        raise HypervisorError("Xen does not answer")

    monkeypatch.setattr(world.host.hypervisor, "info", refuse)
    with pytest.raises(HypervisorError, match="does not answer"):
        perform(world, ON_A_GUEST[name](1, UUID))
    assert acts(world) == []


def test_resume(world, guest):
    for _again in range(2):
        perform(world, steps.Resume(1, UUID))
        assert not guest.suspended
    assert not guest.devices_run  # that is another step


def test_restart(world, guest):
    for _again in range(2):
        perform(world, steps.ContinueDeviceModel(1, UUID))
        assert guest.devices_run
    assert guest.suspended
    assert world.broken == []


def test_restart_of_a_guest_without_a_device_model(world, guest):
    world.has_device_model = False
    perform(world, steps.ContinueDeviceModel(1, UUID))
    assert acts(world) == []


def test_unpause(world):
    world.guests[1].paused = True
    for _again in range(2):
        perform(world, steps.Unpause(1, UUID))
        assert world.running() == [1]


def test_rename(world):
    world.guests[1].config = world.guests[1].config.with_name("sample--new")
    for _again in range(2):
        perform(world, steps.Rename(1, UUID, "sample--new", "sample"))
        assert world.guests[1].config.name == "sample"
    with pytest.raises(HostError, match="cannot rename domain 1"):
        perform(world, steps.Rename(1, UUID, "one", "two"))


def suspends_late(world, monkeypatch, *, suspends=True):
    """Have the guest suspend while it is waited for, or not."""

    def withdraw_suspend(domid):
        world.calls.append("hypervisor.withdraw_suspend")
        world.guests[domid].suspended = suspends
        if not suspends:
            raise SuspendPending("it may still suspend")

    monkeypatch.setattr(world.host.hypervisor, "withdraw_suspend", withdraw_suspend)


@pytest.mark.parametrize(
    "step", [steps.WithdrawSuspend, partial(steps.WithdrawSuspend, withdrawn=True)]
)
def test_guest_that_suspends_late_goes_on(world, monkeypatch, step):
    suspends_late(world, monkeypatch)
    for _again in range(2):
        perform(world, step(1, UUID))
        assert world.running() == [1]
    assert acts(world) == ["hypervisor.withdraw_suspend", "hypervisor.resume"] * 2


def test_guest_that_does_not_suspend_yet(world, monkeypatch):
    suspends_late(world, monkeypatch, suspends=False)
    with pytest.raises(SuspendPending):
        perform(world, steps.WithdrawSuspend(1, UUID))
    perform(
        world, steps.WithdrawSuspend(1, UUID, withdrawn=True)
    )  # that is what was to be expected
    assert acts(world) == ["hypervisor.withdraw_suspend"] * 2
    assert world.running() == [1]


# What ends.


def test_destroy(world, guest):
    for _again in range(2):
        perform(world, steps.Destroy(1, UUID))
        assert world.guests == {}


@pytest.mark.parametrize("state", [{"paused": True}, {"crashed": True}])
def test_destroy_what_stands_still_in_any_way(world, state):
    vars(world.guests[1]).update(state)
    perform(world, steps.Destroy(1, UUID.upper()))
    assert world.guests == {}


def test_destroy_spares_what_runs(world):
    with pytest.raises(Overtaken, match="^domain 1 runs: somebody has resumed it$"):
        perform(world, steps.Destroy(1, UUID))
    assert world.running() == [1]


def test_destroy_spares_another_domain(world, guest):
    perform(world, steps.Destroy(1, OTHER))
    assert list(world.guests) == [1]


def test_sweep(world):
    world.guests[1].config = world.guests[1].config.with_name("another")
    for _built in range(2):
        world.add(Guest(Guest.running().config, {}, paused=True))
    for _again in range(2):
        perform(world, steps.DestroyIncomplete("sample", UUID))
        assert list(world.guests) == [1]


def test_sweep_spares_what_runs(world):
    with pytest.raises(Overtaken, match="domain 1 runs"):
        perform(world, steps.DestroyIncomplete("sample", UUID))
    assert world.running() == [1]


def test_sweep_of_what_is_half_made(world, monkeypatch):
    """xenstore knows of it, the hypervisor does not: any more, or yet."""
    monkeypatch.setattr(world.host.hypervisor, "info", lambda domid: None)
    perform(world, steps.DestroyIncomplete("sample", UUID))
    assert world.guests == {}


def test_clear(world, tmp_path):
    (tmp_path / ".draft").write_bytes(b"")
    (tmp_path / "record").write_bytes(b"")
    for _again in range(2):
        perform(world, steps.RemoveDraft(Traces(str(tmp_path / "record"), ".draft")))
        assert [path.name for path in tmp_path.iterdir()] == ["record"]
    assert world.calls == []


# Questions.


def passed(world, question):
    """Ask a question as whoever recovers asks it."""
    return typed(Question, json.loads(json.dumps(plain(question)))).passed(world.host)


def test_published(world, tmp_path):
    with draft_for(tmp_path / "record") as draft:
        draft.create()
        question = steps.Published(draft.traces.path, draft.identity)
        assert passed(world, question) is False
        draft.publish()
        assert passed(world, question) is True
    (tmp_path / "record").rename(tmp_path / "elsewhere")
    assert passed(world, question) is False
    (tmp_path / "record").write_bytes(b"another")
    assert passed(world, question) is False


@pytest.mark.parametrize(
    ("state", "has"),
    [
        ({}, True),
        ({"paused": True}, False),
        ({"suspended": True}, False),
        ({"paused": True, "devices_run": False}, False),
        ({"crashed": True}, True),
    ],
)
def test_has_run(world, state, has):
    vars(world.guests[1]).update(state)
    assert passed(world, steps.HasRun(1, UUID)) is has


def test_domain_that_is_gone_has_not_run(world):
    assert passed(world, steps.HasRun(2, UUID)) is False
    assert passed(world, steps.HasRun(1, OTHER)) is False


@pytest.mark.parametrize("domid", [1, 2])
def test_where_a_party_cannot_tell_it_may_have_run(world, monkeypatch, domid):
    def refuse(_domid):
        raise HypervisorError("Xen does not answer")

    monkeypatch.setattr(world.host.hypervisor, "info", refuse)
    assert passed(world, steps.HasRun(domid, UUID)) is True


def test_called(world):
    assert passed(world, steps.HasName(1, UUID, "sample")) is True
    assert passed(world, steps.HasName(1, UUID, "other")) is False
    with pytest.raises(Overtaken):
        passed(world, steps.HasName(1, OTHER, "sample"))


# Disks.


@pytest.fixture
def shared(world):
    """An image of the guest, which another host is the next_owner of."""
    lease.take(world.image, world.host.owner(UUID))
    lease.take(world.image, ELSEWHERE, incoming=True)
    return world.image


def keep(world, image):
    perform(world, steps.KeepDisks(UUID, (str(image),)))


def test_disks_of_a_guest_that_stays(world, shared):
    for _again in range(2):
        keep(world, shared)
        found = lease.held(shared)
        assert (found.owner.host, found.next_owner) == (str(world.folder), None)
    shared.with_name(f"{shared.name}.xenqemu-lease").unlink()
    keep(world, shared)
    assert lease.held(shared) is None


def test_disks_that_another_host_has_are_left_alone(world, shared):
    lease.claim(shared, ELSEWHERE)
    lease.keep(shared, ELSEWHERE)
    with pytest.raises(InUse, match=f"{shared} is leased to domain {UUID} on host elsewhere since"):
        keep(world, shared)
    assert lease.held(shared).owner.host == "elsewhere"


# In words.


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (steps.Resume(1, UUID), "resume the guest"),
        (steps.WithdrawSuspend(1, UUID), "withdraw the suspend request"),
        (steps.ContinueDeviceModel(1, UUID), "continue the device model"),
        (steps.StopDirtyLog(1, UUID), "stop the dirty log"),
        (steps.Unpause(1, UUID), "unpause the guest"),
        (steps.Rename(1, UUID, "{old}", "{new}"), "rename domain 1 back to {new}"),
        (steps.Destroy(1, UUID), "destroy domain 1"),
        (steps.DestroyIncomplete("sample", UUID), "destroy what was built of sample"),
        (steps.KeepDisks(UUID, ()), "keep the leases of the guest's disks"),
        (steps.RemoveDraft(Traces("/record", ".draft")), "remove .draft"),
    ],
)
def test_text_says_what_could_not_be_done(step, text):
    assert step.text == text
