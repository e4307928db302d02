"""Clones: each an operation of its own, and none shares what only one guest can have."""

from __future__ import annotations

import os

import pytest

from tests.doubles.in_memory.faults import Fault, How
from tests.doubles.in_memory.guest import Guest
from tests.doubles.in_memory.save_files import config, config_with
from tests.doubles.in_memory.world import World
from xenqemu.errors import HostError, UsageError
from xenqemu.operations.clone import clone, clone_configs, require_own_devices
from xenqemu.operations.journal.folder import Journals
from xenqemu.operations.options import CloneOptions, RestoreOptions
from xenqemu.operations.save import save


@pytest.fixture
def world(tmp_path):
    saved = World()
    with saved.watching():
        save(saved.host, saved.domain(), tmp_path / "save")
    return World(guests={})


def made(world, path, *, paused=False, **options):
    how = RestoreOptions(paused=paused, clone=CloneOptions(**options))
    return clone(world.host, path / "save", how, observe=world.observe)


def names(world):
    return [guest.config.name for guest in world.guests.values()]


def test_several_of_them(world, tmp_path):
    told = made(world, tmp_path, count=3)
    assert [each.name for each in told] == ["sample-clone-1", "sample-clone-2", "sample-clone-3"]
    assert [each.domid for each in told] == world.running()
    assert names(world) == [each.name for each in told]
    uuids = {guest.config.uuid for guest in world.guests.values()}
    assert uuids == {each.uuid for each in told}
    assert len(uuids) == 3
    first, *others = world.guests.values()
    assert all(other.pages == first.pages for other in others)
    assert world.broken == []
    assert Journals(world.host.journals).found() == []


def test_one_alone_has_the_name_itself(world, tmp_path):
    (told,) = made(world, tmp_path, name="copy", paused=True)
    assert told.name == "copy"
    assert world.running() == []
    assert names(world) == ["copy"]


def test_what_fails_of_one_is_rolled_back_and_the_others_stay(world, tmp_path):
    whole = World(guests={})
    made(whole, tmp_path, count=3)
    builds = [at for at, name in enumerate(whole.calls) if name == "host.build"]
    world.fault = Fault(builds[1], How.LOST)
    told = made(world, tmp_path, count=3)
    assert [each.error is None for each in told] == [True, False, True]
    assert told[1].domid == 0
    assert names(world) == ["sample-clone-1", "sample-clone-3"]
    assert len(world.running()) == 2


def test_every_call_fails(tmp_path, world):
    made(world, tmp_path, count=2)
    for at in range(len(world.calls)):
        for how in (How.REFUSED, How.LOST, How.INTERRUPTED):
            other = World(guests={})
            other.fault = Fault(at, how)
            try:
                told = made(other, tmp_path, count=2)
            except (HostError, OSError, KeyboardInterrupt):
                assert other.broken == []
                continue
            good = [each.domid for each in told if each.error is None]
            past = [each for each in told if each.error and "is the guest now" in str(each.error)]
            assert len(other.running()) == len(good) + len(past)
            assert other.broken == []


def test_no_name_twice():
    configs = clone_configs(config(), CloneOptions(count=3, name="x"))
    assert [each.name for each in configs] == ["x-1", "x-2", "x-3"]
    assert len({each.uuid for each in configs}) == 3


@pytest.mark.parametrize("words", ["hda", "hda=", "=x", ""])
def test_what_is_no_disk(words):
    with pytest.raises(UsageError, match="expected VDEV=FILE"):
        clone_configs(config(), CloneOptions(disks=(words,)))


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(b"disk")
    return path


def disks(own, *options, count=1):
    require_own_devices(own, clone_configs(own, CloneOptions(disks=options, count=count)))


def test_a_disk_that_is_written_is_not_shared(image, tmp_path):
    own = config(image=image)
    with pytest.raises(HostError, match="sample-clone and sample would share .*--disk hda=FILE"):
        disks(own)
    os.link(image, tmp_path / "link")
    (tmp_path / "other").symlink_to(image)
    for same in ("link", "other"):
        with pytest.raises(HostError, match="sample-clone and sample would share"):
            disks(own, f"hda={tmp_path}/{same}")
    (tmp_path / "copy").write_bytes(b"disk")
    with pytest.raises(HostError, match="sample-clone-2 and sample-clone-1 would share"):
        disks(own, f"hda={tmp_path}/copy", count=2)
    for number in (1, 2):
        (tmp_path / f"sample-clone-{number}").write_bytes(b"disk")
    disks(own, f"hda={tmp_path}/{{name}}", count=2)
    with pytest.raises(HostError, match="needs /none/sample-clone, a copy of sample's hda"):
        disks(own, "hda=/none/{name}")


def test_a_disk_that_is_read_is_shared(image):
    own = config_with(disks=[{"pdev_path": str(image), "vdev": "hda", "format": "raw"}])
    disks(own, count=3)


def test_a_serial_port_to_a_file_is_not_shared():
    own = config_with(b_info={"type.hvm": {"serial_list": ["pty", "file:/tmp/log"]}})
    with pytest.raises(HostError, match="would share its serial port file:/tmp/log"):
        disks(own)
    disks(config_with(b_info={"type.hvm": {"serial_list": ["pty"]}}))


def test_the_guests_of_a_world_are_as_before(world, tmp_path):
    other = config(name="other", uuid="c52dca42-e6df-11f1-a061-0df29b990000")
    world.guests[9] = Guest.running(what=other)
    made(world, tmp_path, count=1)
    assert len(world.guests) == 2
