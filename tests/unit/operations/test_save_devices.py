"""The devices' state alone: the guest runs on, the file is whole or as it was."""

import errno
import os
import resource
import signal
import stat
from contextlib import contextmanager

import pytest

from tests.doubles.in_memory.guest import Guest
from tests.doubles.in_memory.save_files import device_state
from tests.doubles.in_memory.world import World
from xenqemu.errors import DeviceModelError, HostError, Truncated, UsageError
from xenqemu.formats.device_state import device_stream
from xenqemu.formats.stream.detect import Layer
from xenqemu.operations.journal.steps import cont
from xenqemu.operations.save_devices import save_devices


@pytest.fixture
def world():
    return World({1: Guest.running(tick=7)})


def save(world, path):
    with world.watching():
        return save_devices(world.host, world.domain(), path)


def test_file_is_the_stream(world, tmp_path):
    found = save(world, tmp_path / "state")
    data = device_state(tick=7)
    assert (tmp_path / "state").read_bytes() == data
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o600
    assert (found.kind, found.size) == (Layer.DEVICE_STATE, len(data))
    assert [section.idstr for section in found.devices.sections] == ["timer"]
    assert world.acts() == ["device_model.save", "os.fsync", "os.fsync", "os.rename", "os.fsync"]
    assert world.running() == [1]
    assert world.broken == []


def refused(world, path, error, match):
    """Assert that a save is refused before the device model is asked for its state."""
    with pytest.raises(error, match=match):
        save(world, path)
    assert world.acts() == []


def test_guest_that_does_not_run(world, tmp_path):
    world.guests[1].paused = True
    refused(world, tmp_path / "state", HostError, "domain 1 is not running")


def test_guest_without_a_device_model(world, tmp_path):
    world.has_device_model = False
    refused(world, tmp_path / "state", HostError, "domain 1 has no device model")


def test_device_that_cannot_be_saved(world, tmp_path):
    world.blockers = ["nvme is not migratable"]
    match = "cannot be saved: nvme"
    refused(world, tmp_path / "state", HostError, match)
    assert not any(tmp_path.iterdir())


def test_a_folder_is_refused_as_a_target(world, tmp_path):
    refused(world, tmp_path, UsageError, "exists and is a folder")


def test_state_that_does_not_verify_leaves_the_older_file(world, tmp_path):
    (tmp_path / "state").write_bytes(b"older")
    world.device_state = lambda tick: device_stream.write([])[:-1]
    with pytest.raises(Truncated):
        save(world, tmp_path / "state")
    assert (tmp_path / "state").read_bytes() == b"older"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


@contextmanager
def nearly_full():
    """Have the system write no file beyond 4 KiB, not even what pytest reports."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)


def test_disk_that_fills_up_is_called_so(world, tmp_path):
    """A write may do less than it was told to; the rest of it says why."""
    world.device_state = lambda tick: bytes(8192)
    with pytest.raises(OSError, match=os.strerror(errno.EFBIG)) as caught, nearly_full():
        save(world, tmp_path / "state")
    assert caught.value.errno == errno.EFBIG
    assert not any(tmp_path.iterdir())
    assert world.running() == [1]


def test_cont_has_the_devices_run_on(world):
    world.guests[1].devices_run = False
    cont(world.host, 1)
    assert world.acts() == ["device_model.cont"]
    assert world.guests[1].devices_run


def test_cont_without_a_device_model(world):
    world.has_device_model = False
    cont(world.host, 1)
    assert world.calls == []


def test_refusal_of_the_device_model_is_passed_on(world, tmp_path):
    def refuse(tick):
        raise DeviceModelError("xen-save-devices-state: no space", "GenericError")

    world.device_state = refuse
    with pytest.raises(DeviceModelError, match="no space"):
        save(world, tmp_path / "state")
    assert world.running() == [1]
    assert not any(tmp_path.iterdir())
