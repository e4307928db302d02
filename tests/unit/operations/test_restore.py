"""A restore: what is checked before anything is built, the order of acts, where the guest lands."""

import os
import pwd
import re
from pathlib import Path

import pytest

from tests.doubles.in_memory.save_files import (
    DEVICES,
    STEPS,
    checkpointed,
    config,
    config_with,
    device_state,
    save_file,
)
from tests.doubles.in_memory.world import World
from tests.property import strategies as made
from xenqemu.errors import (
    BadRecord,
    Damaged,
    Forbidden,
    HostError,
    PastReturn,
    Refused,
    RolledBack,
    Truncated,
    Unsupported,
    UsageError,
)
from xenqemu.formats.stream import xl
from xenqemu.formats.stream.seal import find
from xenqemu.host.trust import Trust
from xenqemu.operations.events import Event, Kind, Phase
from xenqemu.operations.options import RestoreOptions
from xenqemu.operations.restore import restore
from xenqemu.operations.save import save
from xenqemu.operations.verify import verify_structure

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


def seal_end(path):
    """Return where the seal of a save file begins."""
    with path.open("rb") as file:
        return find(file)[0]


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


def test_guest_that_was_paused_lands_paused(world, tmp_path):
    source = World()
    source.guests[1].paused = True
    save(source.host, source.domain(), tmp_path / "record")
    done = restore(world.host, tmp_path / "record")
    assert (done.paused, world.acts()) == (True, BUILD)
    assert world.guests[done.domid].run_state.value == "paused"


@pytest.mark.parametrize("paused", [True, False])
def test_what_comes_before_the_guest_may_run(world, saved, paused):
    def refuse():
        assert [guest.runs for guest in world.guests.values()] == [False]
        raise HostError("it may not")

    with pytest.raises(RolledBack, match="it may not"):
        restore(world.host, saved[0], RestoreOptions(paused=paused), before_run=refuse)
    assert world.guests == {}


def notes(world):
    return [event.text for event in world.events if event.kind is Kind.NOTE]


@pytest.mark.parametrize("paused", [True, False])
def test_a_second_restore_is_noticed(world, saved, paused):
    path, _ = saved
    restore(world.host, path, RestoreOptions(paused=paused), observe=world.observe)
    assert notes(world) == []
    world.guests.clear()
    restore(world.host, path, observe=world.observe)
    (note,) = notes(world)
    assert re.fullmatch(rf"{path} was restored before \(\d{{4}}-\d\d-\d\d [\d:]{{8}}\)", note)


def with_disk(tmp_path):
    """Return the save file of a guest with a disk, and the image."""
    image = tmp_path / "disk.img"
    image.write_text("as it was")
    source = World()
    source.guests[1].config = config(image=image)
    save(source.host, source.domain(), tmp_path / "record")
    return tmp_path / "record", image


def test_a_disk_that_did_not_change(world, tmp_path):
    path, _image = with_disk(tmp_path)
    restore(world.host, path, RestoreOptions(strict_disks=True), observe=world.observe)
    assert notes(world) == []


def test_a_disk_that_was_changed_after_the_save(world, tmp_path):
    path, image = with_disk(tmp_path)
    image.write_text("changed")
    changed = rf"{image} was changed \([\d: -]+\) after sample was saved"
    with pytest.raises(HostError, match=f"{changed}, and --strict-disks forbids that"):
        restore(world.host, path, RestoreOptions(strict_disks=True))
    assert world.guests == {}
    restore(world.host, path, observe=world.observe)
    (note,) = notes(world)
    assert re.fullmatch(f"{changed}: its file systems may break", note)


def test_a_disk_that_another_config_names(world, tmp_path):
    path, _image = with_disk(tmp_path)
    other = tmp_path / "other.img"
    other.write_text("newer")
    given = RestoreOptions(config=config(image=other), strict_disks=True)
    with pytest.raises(HostError, match=f"{other} was changed"):
        restore(world.host, path, given)


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
    assert world.calls.index("host.findings") < world.calls.index("host.build")


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
    assert not {"host.findings", "host.build"} & set(world.calls)


def test_domain_that_the_host_does_not_admit(world, saved):
    world.objections = ["the name is taken"]
    with pytest.raises(HostError, match="^the name is taken$"):
        restore(world.host, saved[0])
    assert world.calls == ["host.findings"]


def test_everything_that_refuses_it_is_in_one_error(world, tmp_path):
    path = tmp_path / "record"
    path.write_bytes(save_file(config_with(b_info=LOADER)))
    world.objections = ["the name is taken", "no bridge"]
    with pytest.raises(Refused, match="^sample cannot be restored here, for 3 reasons") as caught:
        restore(world.host, path)
    assert [type(each) for each in caught.value.reasons] == [Forbidden, HostError, HostError]
    assert caught.value.__notes__[1:] == ["2. the name is taken", "3. no bridge"]
    assert "host.build" not in world.calls


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
    world.host.findings = lambda needs, *, quick: seen.append(needs) or iter(())
    given = config(vcpus=2).with_name("other")
    own = restore(world.host, saved[0], RestoreOptions(config=given)).contents.config
    assert [needs.config for needs in seen] == [given.with_extra(own.extra)]


LOADER = {"bootloader": "/tmp/loader"}


def test_what_the_config_names_is_refused_unless_it_is_allowed(world, tmp_path):
    path = tmp_path / "record"
    path.write_bytes(save_file(config_with(b_info=LOADER)))
    with pytest.raises(Forbidden) as caught:
        restore(world.host, path)
    assert str(caught.value) == (
        "the config of sample names what is not allowed here: b_info.bootloader=/tmp/loader "
        "(a program); [trust] in xenqemu.conf can allow it, and so can a CFG of your own: "
        "restore CFG FILE"
    )
    assert world.calls == ["host.findings"]
    world.host.trust = Trust(("b_info.bootloader=/tmp/*",))
    assert world.guests[restore(world.host, path).domid].config == config_with(b_info=LOADER)


def test_a_config_of_an_administrator_is_not_asked_about(world, saved, tmp_path):
    given = config_with(b_info=LOADER)
    done = restore(world.host, saved[0], RestoreOptions(config=given))
    assert world.guests[done.domid].config == given


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_save_file_that_others_could_have_written_is_refused(world, saved, what):
    path = saved[0] if what == "file" else saved[0].parent
    path.chmod(0o777)
    with pytest.raises(Forbidden, match=f"others may write to {path} "):
        restore(world.host, saved[0])
    os.chown(path, 4711, -1)
    path.chmod(0o755)
    with pytest.raises(Forbidden, match=f"{path} is owned by user 4711"):
        restore(world.host, saved[0])
    assert world.calls == []


def test_an_owner_whom_the_settings_name(world, saved):
    nobody = pwd.getpwnam("nobody").pw_uid
    os.chown(saved[0], nobody, -1)
    world.host.trust = Trust(owners=("nobody",))
    assert restore(world.host, saved[0]).domid == 2


def test_a_config_that_changes_while_the_save_file_is_checked(world, tmp_path, monkeypatch):
    path = tmp_path / "record"
    long = {"cmdline": "x" * (1 << 18)}  # longer than what is read ahead
    path.write_bytes(save_file(config_with(b_info=long)))

    def swap(file, *seal):
        path.write_bytes(save_file(config_with(b_info={**long, **LOADER})))
        return verify_structure(file, *seal)

    monkeypatch.setattr("xenqemu.operations.checked_save_file.verify_structure", swap)
    with pytest.raises(HostError, match="was changed while it was checked"):
        restore(world.host, path)
    assert "host.build" not in world.calls


@pytest.mark.parametrize(
    ("sealed", "said"),
    [
        (False, ": it has changed since it was checked"),
        (True, "xl header .* expected the bytes that were sealed"),
    ],
)
def test_what_changes_after_it_was_checked_never_runs(world, saved, sealed, said):
    """The config that is used is that which was checked, whatever the file says by then."""
    path, guest = saved
    if not sealed:
        os.truncate(path, seal_end(path))
    built = []

    def swap(_needs, *, quick):
        path.write_bytes(save_file(config_with(b_info=LOADER)) + bytes(1 << 20))
        return iter(())

    def build(save_file, progress, options):
        built.append(options.config)
        return made_by_host(save_file, progress, options)

    made_by_host, world.host.build = world.host.build, build
    world.host.findings = swap
    with pytest.raises((RolledBack, Damaged), match=said):
        restore(world.host, path)
    assert built == [guest.config]
    assert world.guests == {}
    assert "hypervisor.unpause" not in world.calls
