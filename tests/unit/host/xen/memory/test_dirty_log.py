"""The dirty logs of Xen and the device model: on for a while, off again whatever fails."""

from __future__ import annotations

from errno import EINVAL, EIO, EOPNOTSUPP, EPERM
from pathlib import Path
from typing import Self

import pytest

from tests.doubles.xen.fake_xen import FakeLibraries, Guest, fake_xen
from xenqemu.errors import DeviceModelError, HypervisorError
from xenqemu.host.qemu.device_model import DeviceModel
from xenqemu.host.xen.library import Xen
from xenqemu.host.xen.memory import dirty_log
from xenqemu.host.xen.memory.dirty_log import DirtyLog, dirty_log_on, switch_device_log

DOMID = 7


@pytest.fixture
def log(xen: Xen, guest: Guest) -> DirtyLog:
    guest.pages = {pfn: bytes(4096) for pfn in range(100)}
    return DirtyLog(xen, DOMID)


def bits(*pfns: int) -> int:
    return sum(1 << pfn for pfn in pfns)


@pytest.mark.parametrize("version", [(4, 13), (4, 14), (4, 15), (4, 16), (4, 17), (4, 20)])
def test_what_was_written_to_is_reported_once(version: tuple[int, int]) -> None:
    libraries, xen = fake_xen(version)
    guest = libraries.guests[DOMID] = Guest(pages={pfn: bytes(4096) for pfn in range(100)})
    log = DirtyLog(xen, DOMID)
    log.start()
    guest.mapped = {3}
    for pfn in (0, 9, 98):
        guest.write(pfn, b"x" * 4096)
    taken = log.take(99, final=False)
    assert len(taken) == 13
    assert int.from_bytes(taken, "little") == bits(0, 9, 98)
    assert int.from_bytes(log.take(99, final=False), "little") == 0
    assert int.from_bytes(log.take(99, final=True), "little") == bits(3)
    log.stop()
    assert guest.logged is None
    call = "xc_shadow_control" if version < (4, 16) else "xc_logdirty_control"
    assert [name for name in libraries.calls if "dirty" in name or "shadow" in name] == [call] * 5
    assert libraries.mappings == {}
    libraries.close()


def test_a_log_that_is_on_begins_anew(log: DirtyLog, guest: Guest) -> None:
    log.start()
    guest.write(5, b"x" * 4096)
    log.start()
    assert not any(log.take(100, final=False))


def test_a_log_that_cannot_be_on(libraries: FakeLibraries, log: DirtyLog) -> None:
    libraries.refusals["xc_logdirty_control"] = EPERM
    with pytest.raises(HypervisorError, match="not be switched off: Operation not permitted"):
        log.start()


def test_stopping_where_there_can_be_no_log(libraries: FakeLibraries, log: DirtyLog) -> None:
    libraries.refusals["xc_logdirty_control"] = EINVAL
    log.stop()


def test_whether_there_can_be_a_log(libraries: FakeLibraries, log: DirtyLog, guest: Guest) -> None:
    assert log.possible()
    assert guest.logged is None
    libraries.refusals["xc_logdirty_control"] = EOPNOTSUPP
    assert not log.possible()


def test_a_log_of_fewer_pages(
    libraries: FakeLibraries, log: DirtyLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.start()
    monkeypatch.setattr(libraries, "xc_logdirty_control", lambda *_arguments: 90)
    with pytest.raises(HypervisorError, match="the dirty log covers 90 pages, not 100"):
        log.take(100, final=False)
    assert libraries.mappings == {}


def test_no_memory_for_the_bitmap(libraries: FakeLibraries, log: DirtyLog) -> None:
    log.start()
    libraries.refusals["xc__hypercall_buffer_alloc_pages"] = EIO
    with pytest.raises(HypervisorError, match="no memory for a hypercall buffer of 13 bytes"):
        log.take(100, final=False)


class Switch:
    """A device model's dirty log, on or off; `refused` are the numbers of switches that fail."""

    def __init__(self, *refused: int) -> None:
        self.told: list[bool] = []
        self._refused = refused

    def __call__(self, on: bool) -> None:
        self.told.append(on)
        if len(self.told) in self._refused:
            raise DeviceModelError("refused")


def test_both_are_on_for_the_block_alone(log: DirtyLog, guest: Guest) -> None:
    device = Switch()
    with dirty_log_on(log, device):
        assert (device.told, guest.logged) == ([True], set())
    assert (device.told, guest.logged) == ([True, False], None)


@pytest.mark.parametrize("error", [KeyboardInterrupt, HypervisorError, OSError])
def test_both_are_off_after_an_error(
    log: DirtyLog, guest: Guest, error: type[BaseException]
) -> None:
    device = Switch()
    with pytest.raises(error), dirty_log_on(log, device):
        raise error("cause")
    assert (device.told, guest.logged) == ([True, False], None)


def test_a_device_model_that_cannot_note(log: DirtyLog, guest: Guest) -> None:
    device = Switch(1)
    with pytest.raises(DeviceModelError, match="refused"), dirty_log_on(log, device):
        pytest.fail("nothing may go on")
    assert (device.told, guest.logged) == ([True, False], None)


def test_what_cannot_be_stopped_is_noted_at_the_first_error(log: DirtyLog, guest: Guest) -> None:
    with pytest.raises(OSError, match="cause") as caught, dirty_log_on(log, Switch(2)):
        raise OSError("cause")
    assert caught.value.__notes__ == ["the dirty log may still be on: refused"]
    assert guest.logged is None


def test_what_cannot_be_stopped_after_all_went_well(
    libraries: FakeLibraries, log: DirtyLog
) -> None:
    device = Switch()
    with pytest.raises(HypervisorError, match="not be switched off"), dirty_log_on(log, device):
        libraries.refusals["xc_logdirty_control"] = EIO
    assert device.told == [True, False]  # one that fails keeps not the other


class Recorded(DeviceModel):
    """A device model that asserts as QEMU from 6.1 on does."""

    def __init__(self) -> None:
        super().__init__(Path("/nowhere"))
        self.on = False
        self.connected = 0

    def __enter__(self) -> Self:
        self.connected += 1
        return self

    def __exit__(self, *_error: object) -> None:
        self.connected -= 1

    def execute(self, command: str, arguments: object = None, fd: int | None = None) -> object:
        assert (command, fd, self.connected) == ("xen-set-global-dirty-log", None, 1)
        enable = arguments["enable"]  # type: ignore[index]
        assert enable or self.on, "QEMU would have aborted"
        self.on = enable
        return {}


@pytest.mark.parametrize("on", [True, False])
def test_qemu_is_never_told_to_stop_what_it_does_not_do(on: bool) -> None:
    for before in (True, False):
        device_model = Recorded()
        device_model.on = before
        switch_device_log(device_model, on=on)
        assert (device_model.on, device_model.connected) == (on, 0)


def test_a_guest_without_a_device_model() -> None:
    switch_device_log(None, on=True)


def test_stop_may_be_repeated(log: DirtyLog, guest: Guest) -> None:
    device = Switch()
    for _ in range(2):
        dirty_log.stop(log, device)
    assert (guest.logged, device.told) == (None, [False, False])
