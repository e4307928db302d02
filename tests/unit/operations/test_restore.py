"""A restore: what is checked before anything is built, the order of acts, where the guest lands."""

import os
from pathlib import Path

import pytest

from tests.doubles.in_memory.save_files import (
    DEVICES,
    STEPS,
    checkpointed,
    config,
    device_state,
    save_file,
)
from tests.doubles.in_memory.world import World
from tests.property import strategies as made
from xenqemu.errors import (
    BadRecord,
    HostError,
    PastReturn,
    RolledBack,
    Truncated,
    Unsupported,
    UsageError,
)
from xenqemu.formats.stream import xl
from xenqemu.operations.events import Event, Kind, Phase
from xenqemu.operations.options import RestoreOptions
from xenqemu.operations.restore import restore
from xenqemu.operations.save import save

BUILD = ["host.build", "memory.load"]


@pytest.fixture
def saved(tmp_path):
    """The save file of a guest that is gone, and the guest."""
    world = World()
    guest = world.guests[1]
    save(world.host, world.domain(), tmp_path / "record")
    return tmp_path / "record", guest


@pytest.fixture
def world():
    return World(guests={})


def test_guest_runs_again_as_it_was(world, saved):
    path, guest = saved
    data = path.read_bytes()
    done = restore(world.host, path, observe=world.observe)
    assert world.acts() == [*BUILD, "device_model.cont", "hypervisor.unpause"]
    assert world.running() == [done.domid] == [2]
    again = world.guests[2]
    assert (again.config, again.pages, again.tick) == (guest.config, guest.pages, guest.tick)
    assert done.contents.config == guest.config
    assert path.read_bytes() == data
    assert world.broken == []


def test_guest_lands_paused(world, saved):
    path, _ = saved
    done = restore(world.host, path, RestoreOptions(paused=True))
    assert world.acts() == BUILD
    assert world.running() == []
    assert world.guests[done.domid].run_state.value == "paused"


def test_guest_without_a_device_model(world, tmp_path):
    source = World(has_device_model=False)
    source.guests[1].config = config("pvh")
    save(source.host, source.domain(), tmp_path / "record")
    world.has_device_model = False
    restore(world.host, tmp_path / "record")
    assert world.acts() == [*BUILD, "hypervisor.unpause"]
    assert world.guests[2].run_state.value == "running"


def test_host_is_asked_before_anything_is_built(world, saved):
    path, _ = saved
    restore(world.host, path)
    assert world.calls.index("host.admit") < world.calls.index("host.build")


@pytest.mark.parametrize("paused", [True, False])
def test_phases_and_progress(world, saved, paused):
    restore(world.host, saved[0], RestoreOptions(paused=paused), observe=world.observe)
    told = [(event.phase, event.kind) for event in world.events if event.kind is not Kind.PROGRESS]
    phases = [Phase.CHECK, Phase.BUILD] + [Phase.RELEASE] * (not paused)
    assert told == [(phase, kind) for phase in phases for kind in (Kind.STARTED, Kind.DONE)]
    assert Event(Phase.BUILD, Kind.PROGRESS, 10 * 4096, 0) in world.events


JSON = xl.XlHeader.of_json(config().dump().decode())
CFG = xl.XlHeader(xl.STREAM_V2, b'name = "old"\n')
STREAM = made.stream(STEPS, DEVICES)


@pytest.mark.parametrize(
    ("data", "error", "match"),
    [
        (STREAM, Unsupported, "a bare LIBXL stream"),
        (made.image(STEPS), Unsupported, "a bare LIBXC stream"),
        (device_state(), Unsupported, "a bare DEVICE_STATE stream"),
        (JSON.pack() + checkpointed(3), Unsupported, "expected an END, got 3 checkpoints"),
        (CFG.pack() + STREAM, Unsupported, "0x30: expected a config in JSON, got none"),
        (save_file(steps=made.LAB_STEPS), BadRecord, "expected X86_TSC_INFO, got none"),
        (save_file()[:-1], Truncated, "libxl record header"),
        (b"Libvirt", BadRecord, "one of XL, LIBXL"),
    ],
)
def test_records_that_are_refused_before_anything_is_built(world, tmp_path, data, error, match):
    (tmp_path / "record").write_bytes(data)
    with pytest.raises(error, match=match):
        restore(world.host, tmp_path / "record")
    assert not {"host.admit", "host.build"} & set(world.calls)


def test_domain_that_the_host_does_not_admit(world, saved):
    def admit(needs):
        raise HostError("the name is taken")

    world.host.admit = admit
    with pytest.raises(HostError, match="the name is taken"):
        restore(world.host, saved[0])
    assert world.calls == []


def test_pipe_is_refused_without_waiting_for_its_writer(world, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="cannot be read twice: copy it to a file first"):
        restore(world.host, tmp_path / "pipe")


def test_what_cannot_seek_is_refused(world):
    master, slave = os.openpty()
    try:
        with pytest.raises(UsageError, match="cannot be read twice"):
            restore(world.host, Path(os.ttyname(slave)))
    finally:
        os.close(master)
        os.close(slave)


def test_no_such_file(world, tmp_path):
    with pytest.raises(FileNotFoundError):
        restore(world.host, tmp_path / "record")


@pytest.mark.parametrize("paused", [True, False])
def test_observer_that_goes_away_after_the_build_leaves_nothing(world, saved, paused):
    def watch(event):
        if (event.phase, event.kind) == (Phase.BUILD, Kind.DONE):
            raise BrokenPipeError("nobody reads")

    with pytest.raises(RolledBack, match="nobody reads"):
        restore(world.host, saved[0], RestoreOptions(paused=paused), observe=watch)
    assert world.guests == {}


def test_guest_that_does_not_come_to_run_is_named(world, saved):
    world.host.hypervisor.unpause = lambda domid: None
    with pytest.raises(PastReturn) as caught:
        restore(world.host, saved[0])
    assert "domain 2 is not running (hypervisor: paused" in str(caught.value)
    assert "domain 2 may have run already: it is the guest now" in str(caught.value)
    assert list(world.guests) == [2]


def test_record_of_another_writer(world, tmp_path):
    """xl's header has a tail, and the device model left keys in xenstore."""
    header = xl.XlHeader(JSON.mandatory_flags, JSON.config, b"a tail")
    data = header.pack() + made.stream(STEPS, (made.XENSTORE, *DEVICES))
    (tmp_path / "record").write_bytes(data)
    done = restore(world.host, tmp_path / "record")
    assert world.running() == [done.domid]
    assert sorted(world.guests[done.domid].pages) == [5, 6, 9]


def test_a_given_config_that_does_not_fit_is_refused_before_anything_is_built(world, saved):
    with pytest.raises(HostError, match="the given config does not fit sample: it has 1 vcpus"):
        restore(world.host, saved[0], RestoreOptions(config=config(vcpus=1)))
    assert world.guests == {}


def test_given_config_takes_the_place_of_the_records_but_for_what_is_ours(world, saved):
    seen = []
    world.host.admit = seen.append
    given = config(vcpus=2).with_name("other")
    own = restore(world.host, saved[0], RestoreOptions(config=given)).contents.config
    assert [needs.config for needs in seen] == [given.with_extra(own.extra)]
