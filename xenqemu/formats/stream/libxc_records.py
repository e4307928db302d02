"""The bodies of libxc's records, as docs/specs/libxc-migration-stream.pandoc names them.

::

    END, VERIFY, CHECKPOINT, STATIC_DATA_END     nothing
    X86_TSC_INFO            u32 mode  u32 khz  u64 nsec  u32 incarnation  u32 0
    HVM_CONTEXT             Xen's own records (module hvm)
    HVM_PARAMS              u32 count  u32 0  {u64 index, u64 value}[count]
    TOOLSTACK               bytes; deprecated, no reader since Xen 4.6 takes it
    CHECKPOINT_DIRTY_PFN_LIST    u64 pfn[]; only on COLO's way back
    X86_CPUID_POLICY        {u32 leaf, u32 subleaf, u32 a, b, c, d}[]
    X86_MSR_POLICY          {u32 index, u32 flags = 0, u64 value}[]
    type | 0x80000000       optional: nobody needs it; a long one is not kept

What only PV guests have is in module `libxc_pv_records`; PAGE_DATA, which is never read whole, in
`page_data`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple, Self

from xenqemu.formats.stream.value import Body, Empty, Value
from xenqemu.frozen import Frozen

RECORD_LIMIT = 128 << 20
"""Bytes of the longest body that any Xen takes (REC_LENGTH_MAX of xg_sr_common.h, 4.10+)."""

MAX_CONTEXT = 16 << 20
"""Bytes of HVM_CONTEXT: a vcpu has up to 16 KiB, and a guest up to 128 of them (HVM_MAX_VCPUS)."""

OPTIONAL = 1 << 31
PAGE_SIZE = 4096
MAX_HVM_PARAMS = 1024

TSC_INFO = struct.Struct("<IIQII")
PARAMS = struct.Struct("<II")
PARAM = struct.Struct("<QQ")
LEAF = struct.Struct("<6I")
MSR = struct.Struct("<IIQ")


class End(Empty):
    """The image is whole."""

    TYPE = 0x00
    NAME = "END"


class Verify(Empty):
    """The pages that follow are to be compared, not written (live and debug only)."""

    TYPE = 0x0D
    NAME = "VERIFY"


class Checkpoint(Empty):
    """All before is one consistent state; libxl's records follow."""

    TYPE = 0x0E
    NAME = "CHECKPOINT"


class StaticDataEnd(Empty):
    """All that is needed to build the domain precedes this (version 3)."""

    TYPE = 0x10
    NAME = "STATIC_DATA_END"


class X86TscInfo(Value):
    """The guest's time stamp counter: mode, kHz, nanoseconds passed, times migrated."""

    TYPE = 0x08
    NAME = "X86_TSC_INFO"
    mode: int
    khz: int
    nsec: int
    incarnation: int

    @classmethod
    def parse(cls, body: Body) -> Self:
        """Return the value."""
        mode, khz, nsec, incarnation, reserved = body.unpack(TSC_INFO)
        body.zero(20, reserved)
        return cls(mode, khz, nsec, incarnation)

    def pack(self) -> bytes:
        """Return the body."""
        return TSC_INFO.pack(self.mode, self.khz, self.nsec, self.incarnation, 0)


class Blob(Value):
    """Base of the records whose bodies this layer does not interpret."""

    data: bytes

    @classmethod
    def parse(cls, body: Body) -> Self:
        """Return the bytes."""
        return cls(body.data)

    def pack(self) -> bytes:
        """Return the bytes."""
        return self.data


class HvmContext(Blob):
    """Xen's own state of an HVM guest; module `hvm_context` reads it."""

    TYPE = 0x09
    NAME = "HVM_CONTEXT"
    LIMIT = MAX_CONTEXT

    @classmethod
    def parse(cls, body: Body) -> Self:
        """Raise `BadRecord` if there is none."""
        body.require(len(body.data) > 0, 0, "a context", "no bytes")
        return super().parse(body)


class Toolstack(Blob):
    """Data of early toolstacks; it is legal nowhere."""

    TYPE = 0x0B
    NAME = "TOOLSTACK"


class HvmParams(Value):
    """HVM_PARAM_* index -> value, in the record's order; only what is not zero is written."""

    TYPE = 0x0A
    NAME = "HVM_PARAMS"
    params: dict[int, int]

    @classmethod
    def parse(cls, body: Body) -> Self:
        """Raise `BadRecord` unless the count is right and no index comes twice."""
        count, reserved = body.head(PARAMS)
        body.zero(4, reserved)
        body.require(count <= MAX_HVM_PARAMS, 0, f"at most {MAX_HVM_PARAMS} params", count)
        body.sized(PARAMS.size + count * PARAM.size)
        params = dict(PARAM.iter_unpack(body.data[PARAMS.size :]))
        body.require(len(params) == count, 0, f"{count} different indexes", len(params))
        return cls(params)

    def pack(self) -> bytes:
        """Return the body."""
        return PARAMS.pack(len(self.params), 0) + _table(PARAM, self.params.items())


class CheckpointDirtyPfnList(Value):
    """What a COLO secondary made dirty, u64 pfns as in the record."""

    TYPE = 0x0F
    NAME = "CHECKPOINT_DIRTY_PFN_LIST"
    LIMIT = RECORD_LIMIT
    pfns: bytes

    @classmethod
    def parse(cls, body: Body) -> Self:
        """Raise `BadRecord` unless it is whole pfns."""
        size = len(body.data)
        body.require(size % 8 == 0, 0, "a multiple of 8 bytes", size)
        return cls(body.data)

    def pack(self) -> bytes:
        """Return the body."""
        return self.pfns


class CpuidLeaf(NamedTuple):
    """xen_cpuid_leaf_t."""

    leaf: int
    subleaf: int
    a: int
    b: int
    c: int
    d: int


class X86CpuidPolicy(Value):
    """The CPUID leaves that the guest sees."""

    TYPE = 0x11
    NAME = "X86_CPUID_POLICY"
    leaves: tuple[CpuidLeaf, ...]

    @classmethod
    def parse(cls, body: Body) -> Self:
        """Raise `BadRecord` unless there is one leaf or more."""
        return cls(tuple(map(CpuidLeaf._make, _entries(LEAF, body))))

    def pack(self) -> bytes:
        """Return the body."""
        return _table(LEAF, self.leaves)


class MsrEntry(NamedTuple):
    """xen_msr_entry_t; `flags` must be zero."""

    idx: int
    flags: int
    val: int


class X86MsrPolicy(Value):
    """The model specific registers that the guest sees."""

    TYPE = 0x12
    NAME = "X86_MSR_POLICY"
    msrs: tuple[MsrEntry, ...]

    @classmethod
    def parse(cls, body: Body) -> Self:
        """Raise `BadRecord` unless there is one entry or more, all flags zero."""
        msrs = tuple(map(MsrEntry._make, _entries(MSR, body)))
        for place, msr in enumerate(msrs):
            body.zero(place * MSR.size + 4, msr.flags)
        return cls(msrs)

    def pack(self) -> bytes:
        """Return the body."""
        return _table(MSR, self.msrs)


class OptionalRecord(Value):
    """A record that a reader may ignore; `number` is its type, bit 31 set."""

    NAME = "OPTIONAL"
    number: int
    data: bytes

    @classmethod
    def parse(cls, body: Body) -> Self:
        """Return type and bytes."""
        body.require(bool(body.type & OPTIONAL), 0, "a type with bit 31", f"{body.type:#x}")
        return cls(body.type, body.data)

    def pack(self) -> bytes:
        """Return the bytes."""
        return self.data

    @property
    def kind(self) -> int:
        """The type that the record's header names."""
        return self.number


class SkippedRecord(Frozen):
    """An optional record longer than is kept: its type and the bytes of its body."""

    NAME = OptionalRecord.NAME
    kind: int
    size: int


def _entries(layout: struct.Struct, body: Body) -> Iterable[tuple[int, ...]]:
    """Return the entries of a policy."""
    size = len(body.data)
    good = size > 0 and size % layout.size == 0
    body.require(good, 0, f"one or more entries of {layout.size} bytes", f"{size} bytes")
    return layout.iter_unpack(body.data)


def _table(layout: struct.Struct, entries: Iterable[Iterable[int]]) -> bytes:
    return b"".join(layout.pack(*entry) for entry in entries)
