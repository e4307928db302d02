"""The one place where the records of a whole guest get their order."""

import io

import pytest

from tests.doubles.in_memory.guest import Guest
from tests.doubles.in_memory.parties import Memory
from tests.doubles.in_memory.save_files import DEVICES, STEPS, config, device_state, save_file
from tests.doubles.in_memory.world import World
from tests.golden import save_files
from tests.property import strategies as made
from xenqemu.errors import BadRecord, FormatError, Truncated
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.stream import libxc, libxl, xl
from xenqemu.formats.stream.source import Source
from xenqemu.operations.save_file import read_save_file, suspended_image, write_save_file


def written(guest: Guest, state: bytes | None) -> bytes:
    out = io.BytesIO()
    memory = Memory(World(), guest)
    write_save_file(out, guest.config, suspended_image(memory, state, lambda done, total: None))
    return out.getvalue()


def read(source: Source):
    """Return the parts of a save file, and the guest whose memory was filled."""
    guests = []

    def memory_for(what: DomainConfig) -> Memory:
        guests.append(Guest(what, {}))
        return Memory(World(), guests[0])

    parts = read_save_file(source, memory_for, lambda done, total: None)
    return parts, *guests


@pytest.fixture
def guest():
    guest = Guest.running()
    guest.suspended, guest.devices_run = True, False
    return guest


@pytest.mark.parametrize("state", [None, device_state()])
def test_what_is_written_is_read(guest, state):
    data = written(guest, state)
    for source in (Source.of(data), made.dribbled(data, 5)):
        parts, again = read(source)
        assert (parts.config, parts.device_state) == (guest.config, state)
        assert again.pages == guest.pages
        assert source.at_end()


@pytest.mark.parametrize("state", [b"", b"QEVM", b"#!/bin/sh", device_state()[:-1]])
def test_device_state_that_is_none_is_refused_before_its_record_is_written(guest, state):
    """Of a QEMU that its guest has taken over; whatever is verified later."""
    with pytest.raises(FormatError, match="device state|timer"):
        written(guest, state)


def test_records_as_stock_xl_reads_them(guest):
    data = written(guest, device_state())
    image = data.index(b"\xff" * 8 + b"XENF")
    head = xl.XlHeader.of_json(guest.config.dump().decode()).pack()
    stream = libxl.StreamHeader().pack()
    assert data[:image] == head + stream + (1).to_bytes(4, "little") + bytes(4)
    state = device_state()
    context = (3).to_bytes(4, "little") + (8 + len(state)).to_bytes(4, "little")
    context += (2).to_bytes(4, "little") + bytes(4) + state + bytes(-len(state) % 8)
    assert data.endswith(bytes(8) + context + bytes(8))


def test_golden_record():
    parts, guest = read(Source.of(save_files.unpacked("hvm.save")))
    assert parts.config.name == guest.config.name == "hvm"
    assert parts.device_state[:4] == b"QEVM"
    assert len(parts.device_state) == 6102
    assert len(guest.pages) == 4092


@pytest.mark.parametrize("text", [None, b"", b'name = "old"\n'])
def test_no_config(text):
    header = xl.XlHeader(xl.STREAM_V2, text)
    with pytest.raises(BadRecord, match="xl header at offset 0x30: expected a config in JSON"):
        read(Source.of(header.pack() + made.stream(STEPS, DEVICES)))


def test_memory_is_made_for_the_config_before_the_image_is_read():
    def memory_for(what: DomainConfig) -> Memory:
        assert what == config()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        read_save_file(Source.of(save_file()[:-5000]), memory_for, lambda done, total: None)


def test_image_that_ends_early_is_told():
    with pytest.raises(Truncated):
        read(Source.of(save_file()[:-5000]))


def test_last_page_counts():
    steps = (*STEPS[:3], made.ONE, (libxc.PageData.of([5]), [b"\1" * 4096]), *STEPS[4:])
    _, guest = read(Source.of(save_file(steps=steps)))
    assert guest.pages == {5: b"\1" * 4096}
