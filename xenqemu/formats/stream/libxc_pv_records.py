"""The bodies of libxc's records that only PV guests have.

::

    X86_PV_INFO             u8 guest_width (4, 8)  u8 pt_levels (3, 4)  u8[6] 0
    X86_PV_P2M_FRAMES       u32 start_pfn  u32 end_pfn (inclusive)  u64 frame[]
    X86_PV_VCPU_*           u32 vcpu  u32 0  context (MSRS: {u32 index, u32 0, u64 value}[])
    SHARED_INFO             one page
"""

from __future__ import annotations

import struct
from typing import ClassVar, Self

from xenqemu.formats.stream.libxc_records import PAGE_SIZE
from xenqemu.formats.stream.value import Body, Value

MAX_VCPUS = 8192
"""More than any Xen has given a guest (MAX_VIRT_CPUS)."""

MAX_P2M_FRAMES = 16 << 20
"""Bytes of X86_PV_P2M_FRAMES: 8 for each 2 MiB of a guest, so that 4 TiB fit."""

PV_INFO = struct.Struct("<BBHI")
P2M_FRAMES = struct.Struct("<II")
VCPU = struct.Struct("<II")


class X86PvInfo(Value):
    """Width of a PV guest's words in bytes, and levels of its page tables."""

    TYPE = 0x02
    NAME = "X86_PV_INFO"
    guest_width: int
    pt_levels: int

    @classmethod
    def parse(cls, body: Body) -> Self:
        """Raise `BadRecord` for a pair that no guest has."""
        width, levels, *reserved = body.unpack(PV_INFO)
        good = (width, levels) in {(4, 3), (8, 4)}
        body.require(good, 0, "width and levels of 4, 3 or 8, 4", f"{width}, {levels}")
        body.zero(2, any(reserved))
        return cls(width, levels)

    def pack(self) -> bytes:
        """Return the body."""
        return PV_INFO.pack(self.guest_width, self.pt_levels, 0, 0)


class X86PvP2mFrames(Value):
    """Where a PV guest keeps its p2m table for pfns start to end, both included.

    `frames` are u64 pfns as in the record, one for each page of the table.
    """

    TYPE = 0x03
    NAME = "X86_PV_P2M_FRAMES"
    LIMIT = MAX_P2M_FRAMES
    start_pfn: int
    end_pfn: int
    frames: bytes

    @classmethod
    def parse(cls, body: Body) -> Self:
        """Raise `BadRecord` unless the frames fit the range, for one of both widths of guest."""
        start, end = body.head(P2M_FRAMES)
        body.require(start <= end, 4, f"an end from {start:#x}", f"{end:#x}")
        frames = body.data[P2M_FRAMES.size :]
        wanted = {8 * (end // entries - start // entries + 1) for entries in (512, 1024)}
        sizes = " or ".join(map(str, sorted(wanted)))
        body.require(len(frames) in wanted, 8, f"{sizes} bytes of frames", len(frames))
        return cls(start, end, frames)

    def pack(self) -> bytes:
        """Return the body."""
        return P2M_FRAMES.pack(self.start_pfn, self.end_pfn) + self.frames


class X86PvVcpu(Value):
    """Base of what a PV vcpu has; an empty `context` is legal, older senders wrote it."""

    SIZES: ClassVar[range | tuple[int, ...]]
    vcpu: int
    context: bytes

    @classmethod
    def parse(cls, body: Body) -> Self:
        """Raise `BadRecord` where Xen's reader refuses the vcpu or the size of its context."""
        vcpu, reserved = body.head(VCPU)
        body.require(vcpu < MAX_VCPUS, 0, f"a vcpu below {MAX_VCPUS}", vcpu)
        body.zero(4, reserved)
        context = body.data[VCPU.size :]
        size = len(context)
        good = not size or size in cls.SIZES
        body.require(good, 8, f"a context with a size in {cls.SIZES}", f"{size} bytes")
        return cls(vcpu, context)

    def pack(self) -> bytes:
        """Return the body."""
        return VCPU.pack(self.vcpu, 0) + self.context


class X86PvVcpuBasic(X86PvVcpu):
    """vcpu_guest_context of a 32 or 64 bit guest."""

    TYPE = 0x04
    NAME = "X86_PV_VCPU_BASIC"
    SIZES = (0xAF0, 0x1430)


class X86PvVcpuExtended(X86PvVcpu):
    """Ext_vcpucontext."""

    TYPE = 0x05
    NAME = "X86_PV_VCPU_EXTENDED"
    SIZES = range(1, 129)


class X86PvVcpuXsave(X86PvVcpu):
    """Extended processor state."""

    TYPE = 0x06
    NAME = "X86_PV_VCPU_XSAVE"
    SIZES = range(16, Value.LIMIT)


class X86PvVcpuMsrs(X86PvVcpu):
    """Model specific registers, 16 bytes each."""

    TYPE = 0x0C
    NAME = "X86_PV_VCPU_MSRS"
    SIZES = range(0, Value.LIMIT, 16)


class SharedInfo(Value):
    """The page that a PV guest shares with Xen."""

    TYPE = 0x07
    NAME = "SHARED_INFO"
    page: bytes

    @classmethod
    def parse(cls, body: Body) -> Self:
        """Raise `BadRecord` unless it is one page."""
        body.sized(PAGE_SIZE)
        return cls(body.data)

    def pack(self) -> bytes:
        """Return the page."""
        return self.page
