"""HVM_CONTEXT: the walk, what it shows, what it refuses."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.golden import save_files as golden
from tests.property.strategies import SAVE_HEADER, SAVED
from xenqemu.errors import BadRecord, FormatError, TooBig
from xenqemu.formats.stream import hvm_context
from xenqemu.formats.stream.detect import Walk
from xenqemu.formats.stream.hvm_context import Cpu, SaveHeader
from xenqemu.formats.stream.source import Source


def blob(*records: tuple[int, int, bytes]) -> bytes:
    return b"".join(
        struct.pack("<HHI", code, instance, len(data)) + data for code, instance, data in records
    )


HEAD = (1, 0, SAVE_HEADER)
END = (0, 0, b"")


def test_what_a_context_says():
    found = hvm_context.parse(SAVED.pack())
    assert found == SAVED
    assert found.vcpus == 2
    assert found.cpus == {0: Cpu(0xFFF0, 0x1000, 0x500)}
    assert found.header == SaveHeader(2**64 - 1, 0x60FB1, 2596137)


def test_the_smallest_context():
    found = hvm_context.parse(blob(HEAD, END))
    assert (found.vcpus, found.cpus) == (0, {})
    assert found.pack() == blob(HEAD, END)


BAD = [
    (b"", 0),
    (blob(END), 0),
    (blob((2, 0, bytes(1032)), END), 0),
    (blob((1, 0, SAVE_HEADER[:-1]), END), 4),
    (blob((1, 0, b"\1" + SAVE_HEADER[1:]), END), 8),
    (blob((1, 0, SAVE_HEADER[:4] + b"\2" + SAVE_HEADER[5:]), END), 12),
    (blob(HEAD), 32),
    (blob(HEAD) + b"1234567", 32),
    (blob(HEAD, HEAD, END), 32),
    (blob(HEAD, (5, 1, b""), (5, 0, b""), END), 40),
    (blob(HEAD, (5, 0, b""), (3, 1, b""), END), 40),
    (blob(HEAD, (2, 0, bytes(1015)), END), 36),
    (blob(HEAD) + struct.pack("<HHI", 5, 0, 9) + blob(END), 36),
    (blob(HEAD, (0, 0, b"x")), 34),
    (blob(HEAD, (0, 1, b"")), 34),
    (blob(HEAD, END) + b"x", 40),
    (blob(HEAD, (77, 2, b""), (76, 1, b""), END), 40),
]


@pytest.mark.parametrize(("data", "offset"), BAD)
def test_what_is_refused(data, offset):
    with pytest.raises(BadRecord) as caught:
        hvm_context.parse(data, 0x1000)
    assert caught.value.offset == 0x1000 + offset
    assert caught.value.record == "HVM_CONTEXT"


def test_records_without_end_are_bounded():
    many = [(code, instance, b"") for code in (100, 101) for instance in range(1 << 15)]
    with pytest.raises(TooBig, match="a number of records of at most 65536"):
        hvm_context.parse(blob(HEAD, *many, END))


def test_cut_at_every_offset():
    whole = SAVED.pack()
    for size in range(len(whole)):
        with pytest.raises(BadRecord):
            hvm_context.parse(whole[:size])


@settings(deadline=None)
@given(st.integers(0, len(SAVED.pack()) * 8 - 1))
def test_any_flipped_bit(bit):
    data = bytearray(SAVED.pack())
    data[bit // 8] ^= 1 << bit % 8
    try:
        found = hvm_context.parse(bytes(data))
    except FormatError:
        return
    assert found.pack() == data


GOLDEN = [
    ("hvm.save", 1, {0: Cpu(47033, 0, 0)}, 24),
    ("hvm-xen4.20.save", 1, {0: Cpu(47042, 0, 0)}, 32),
    ("vga.save", 2, {0: Cpu(2424, 0, 0)}, 24),  # its second vcpu is down
]


@pytest.mark.parametrize(("name", "vcpus", "cpus", "lapic"), GOLDEN)
def test_what_xen_wrote(name, vcpus, cpus, lapic):
    walk = Walk(Source.of(golden.unpacked(name)))
    (step,) = (step for step in walk if step.name == "HVM_CONTEXT")
    found = hvm_context.parse(step.value.data, step.offset + 8)
    assert (found.vcpus, found.cpus) == (vcpus, cpus)
    assert found.pack() == step.value.data
    assert {len(each.data) for each in found.records if each.typecode == hvm_context.LAPIC} == {
        lapic
    }
    assert {hvm_context.NAMES[each.typecode] for each in found.records} >= {
        "PIC",
        "HPET",
        "TSC_ADJUST",
    }
