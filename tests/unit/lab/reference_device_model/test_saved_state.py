from __future__ import annotations

import os
from pathlib import Path

import pytest

from xenqemu.errors import BadRecord, FormatError, TooBig, Truncated
from xenqemu.formats.device_state import device_stream
from xenqemu.lab.reference_device_model import Registry, small_pc
from xenqemu.lab.reference_device_model.saved_state import check, write


def few() -> Registry:
    registry = Registry()
    registry.register("ram", lambda: bytes(4096), version_id=4, is_ram=True)
    registry.register("dma", lambda: b"\x11\x22")
    registry.register("none", None)
    registry.register("dma", lambda: b"\x00")
    registry.register("timer", lambda: b"", version_id=2)
    return registry


WRITTEN = bytes.fromhex(
    "5145564d 00000003"
    "04 00000001 03 646d61 00000000 00000001 1122"
    "04 00000003 03 646d61 00000001 00000001 00"
    "04 00000004 05 74696d6572 00000000 00000002"
    "00"
)
"""By hand after docs/xen-save-devices-state.txt: no RAM, nothing of a device without a state."""


def written(path: Path, registry: Registry) -> bytes:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    write(fd, registry)
    os.close(fd)
    return path.read_bytes()


def checked(path: Path, data: bytes, registry: Registry) -> None:
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    try:
        check(fd, registry)
    finally:
        os.close(fd)


def test_what_is_written_byte_for_byte(tmp_path: Path) -> None:
    assert written(tmp_path / "state", few()) == WRITTEN


def test_ids_and_instances_count_up() -> None:
    entry = few().register("dma", lambda: b"")
    assert (entry.section_id, entry.instance_id, entry.is_ram) == (5, 2, False)


def test_the_reader_of_the_format_tells_every_section(tmp_path: Path) -> None:
    state = device_stream.read(written(tmp_path / "state", small_pc()))
    assert state.ambiguities == ()
    assert [
        (each.id, each.idstr, each.instance_id, each.version_id, each.length)
        for each in state.sections
    ] == [
        (0, "timer", 0, 2, 24),
        (3, "PCIBUS", 0, 1, 4),
        (4, "dma", 0, 1, 75),
        (5, "dma", 1, 1, 75),
        (6, "i8259", 0, 1, 16),
        (7, "pckbd", 0, 3, 4),
        (8, "port92", 0, 1, 1),
    ]
    assert state.sections[4].data == b"tick 10\ntick 10\n"


def test_a_stream_too_big_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    os.truncate(tmp_path / "state", device_stream.MAX_SIZE + 1)
    fd = os.open(tmp_path / "state", os.O_RDONLY)
    with pytest.raises(TooBig):
        check(fd, few())
    os.close(fd)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    for registry in (few(), small_pc(), Registry()):
        checked(tmp_path / "in", written(tmp_path / "out", registry) + b"tail", registry)


@pytest.mark.parametrize("size", range(len(WRITTEN)))
def test_cut_at_every_offset(tmp_path: Path, size: int) -> None:
    expected = Truncated if WRITTEN[size:] == b"\0" else FormatError
    with pytest.raises(expected):
        checked(tmp_path / "state", WRITTEN[:size], few())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"QEVM", b"QEVN"),
        (b"\0\0\0\x03\x04", b"\0\0\0\x02\x04"),
        (b"\x04\0\0\0\x01", b"\x01\0\0\0\x01"),
        (b"timer", b"Timer"),
        (b"dma\0\0\0\x01", b"dma\0\0\0\x02"),
    ],
)
def test_what_is_not_for_these_devices_is_refused(tmp_path: Path, old: bytes, new: bytes) -> None:
    assert old in WRITTEN
    with pytest.raises(BadRecord):
        checked(tmp_path / "state", WRITTEN.replace(old, new), few())


def test_refusals_are_format_errors_for_any_bytes(tmp_path: Path) -> None:
    for data in (b"", b"\0", b"QEVM" * 3, bytes(100), WRITTEN[:8] + b"\x04" * 30):
        with pytest.raises(FormatError):
            checked(tmp_path / "state", data, few())
