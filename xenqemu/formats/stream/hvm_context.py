"""HVM_CONTEXT: Xen's own state of an HVM guest, walked without knowing every device.

::

    { u16 typecode, u16 instance, u32 length, length bytes }...      no padding between
    first  HEADER  u32 magic 0x54381286  u32 version 1  u64 changeset  u32 cpuid  u32 gtsc_khz
    last   END     no bytes, and none after it

Xen writes the codes in ascending order, instances (vcpus, chips) ascending inside a code.  A vcpu
that is down has no CPU record.  Records grow from release to release, so their lengths are not
checked but where a field is read.  Source: xen/include/public/hvm/save.h, arch-x86/hvm/save.h.
"""

from __future__ import annotations

import struct
from typing import Self

from xenqemu.formats.stream.libxc_records import MAX_CONTEXT
from xenqemu.formats.stream.source import bounded
from xenqemu.formats.stream.value import Body, Value
from xenqemu.frozen import Frozen

DESCRIPTOR = struct.Struct("<HHI")
SAVE_HEADER = struct.Struct("<IIQII")
MAGIC = 0x54381286
VERSION = 1
END, HEADER, CPU, LAPIC = 0, 1, 2, 5
MAX_RECORDS = 1 << 16

RIP_AT, CR3_AT, EFER_AT = 640, 664, 992
CPU_SIZE = 1016
"""Bytes of the shortest CPU record ever written (before Xen 3.4)."""

U64 = struct.Struct("<Q")

_NAMES = (
    *("END", "HEADER", "CPU", "PIC", "IOAPIC", "LAPIC", "LAPIC_REGS", "PCI_IRQ", "ISA_IRQ"),
    *("PCI_LINK", "PIT", "RTC", "HPET", "PMTIMER", "MTRR", "VIRIDIAN_DOMAIN", "CPU_XSAVE"),
    *("VIRIDIAN_VCPU", "VMCE_VCPU", "TSC_ADJUST", "CPU_MSR"),
)
NAMES = dict(enumerate(_NAMES))
"""The names of the typecodes (HVM_SAVE_CODE)."""


class SaveRecord(Frozen):
    """One record: its code (`NAMES`), its instance and its bytes."""

    typecode: int
    instance: int
    data: bytes


class SaveHeader(Frozen):
    """Who wrote it: start of the changeset's hash, CPUID leaf 1 EAX, kHz of the guest's TSC."""

    changeset: int
    cpuid: int
    gtsc_khz: int


class Cpu(Frozen):
    """Registers of a vcpu: instruction pointer, page table root, EFER."""

    rip: int
    cr3: int
    efer: int


class SavedContext(Value):
    """All records but END, HEADER first."""

    NAME = "HVM_CONTEXT"
    LIMIT = MAX_CONTEXT
    records: tuple[SaveRecord, ...]

    @classmethod
    def parse(cls, body: Body) -> Self:
        """Raise `FormatError` unless the walk ends in END where the blob ends."""
        records: list[SaveRecord] = []
        at = 0
        while True:
            found = _record(body, at)
            _check_order(body, at, records, found)
            at += DESCRIPTOR.size + len(found.data)
            if found.typecode == END:
                break
            records.append(found)
            bounded(len(records), MAX_RECORDS, body.record, body.offset + at, "a number of records")
        left = len(body.data) - at
        body.require(left == 0, at, "nothing after END", f"{left} bytes")
        return cls(tuple(records))

    def pack(self) -> bytes:
        """Return the blob."""
        ended = (*self.records, SaveRecord(END, 0, b""))
        return b"".join(
            DESCRIPTOR.pack(each.typecode, each.instance, len(each.data)) + each.data
            for each in ended
        )

    @property
    def header(self) -> SaveHeader:
        """What HEADER says."""
        _, _, changeset, cpuid, gtsc_khz = SAVE_HEADER.unpack(self.records[0].data)
        return SaveHeader(changeset, cpuid, gtsc_khz)

    @property
    def vcpus(self) -> int:
        """How many vcpus the guest has: each has a local APIC, up or down."""
        return sum(each.typecode == LAPIC for each in self.records)

    @property
    def longest(self) -> dict[int, int]:
        """Bytes of the longest record of each typecode."""
        found: dict[int, int] = {}
        for each in self.records:
            found[each.typecode] = max(found.get(each.typecode, 0), len(each.data))
        return found

    @property
    def cpus(self) -> dict[int, Cpu]:
        """The vcpus that are up, by number."""
        return {each.instance: _cpu(each.data) for each in self.records if each.typecode == CPU}


def parse(blob: bytes, offset: int = 0) -> SavedContext:
    """Return what the body of a HVM_CONTEXT record at `offset` says; raise `FormatError`."""
    return SavedContext.parse(Body("HVM_CONTEXT", SavedContext.TYPE, offset, blob))


def _record(body: Body, at: int) -> SaveRecord:
    start = at + DESCRIPTOR.size
    left = len(body.data) - start
    body.require(left >= 0, at, "a descriptor of 8 bytes", f"{left + DESCRIPTOR.size} bytes")
    typecode, instance, length = DESCRIPTOR.unpack_from(body.data, at)
    body.require(length <= left, at + 4, f"a length of at most {left}", length)
    return SaveRecord(typecode, instance, body.data[start : start + length])


def _check_order(body: Body, at: int, records: list[SaveRecord], found: SaveRecord) -> None:
    name = NAMES.get(found.typecode, f"code {found.typecode}")
    size = len(found.data)
    if not records:
        body.require(found.typecode == HEADER, at, "HEADER first", name)
        _check_header(body, at, found)
        return
    if found.typecode == END:
        body.require(size == 0 and found.instance == 0, at + 2, "an empty END", f"{size} bytes")
        return
    before = (records[-1].typecode, records[-1].instance)
    good = (found.typecode, found.instance) > before
    body.require(good, at, f"what follows {before}", (found.typecode, found.instance))
    least = CPU_SIZE if found.typecode == CPU else 0
    body.require(size >= least, at + 4, f"at least {least} bytes", size)


def _check_header(body: Body, at: int, found: SaveRecord) -> None:
    size = len(found.data)
    body.require(size == SAVE_HEADER.size, at + 4, f"{SAVE_HEADER.size} bytes", size)
    magic, version, *_ = SAVE_HEADER.unpack(found.data)
    body.require(magic == MAGIC, at + 8, f"the magic {MAGIC:#x}", f"{magic:#x}")
    body.require(version == VERSION, at + 12, f"version {VERSION}", version)


def _cpu(data: bytes) -> Cpu:
    rip, cr3, efer = (U64.unpack_from(data, at)[0] for at in (RIP_AT, CR3_AT, EFER_AT))
    return Cpu(rip, cr3, efer)
