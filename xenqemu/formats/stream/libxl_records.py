"""The header and the records of a libxl stream (drawn in module `libxl`)."""

from __future__ import annotations

import struct
from typing import ClassVar, Self

from xenqemu.errors import Unsupported
from xenqemu.formats.stream.value import Body, Empty, Value

HEADER = struct.Struct(">QII")
IDENT = 0x4C6962786C466D74
VERSION = 2
BIG_ENDIAN = 1
LEGACY = 2
EMULATOR = struct.Struct("<II")
UNKNOWN = 0
QEMU_TRADITIONAL = 1
QEMU_UPSTREAM = 2
STATE = struct.Struct("<II")
MAX_DEVICE_STATE = 32 << 20
"""Bytes of device state at most; QEMU's is some hundred KiB: no memory is in it."""


class StreamHeader(Value):
    """The stream's header; `legacy`: it was converted from a stream of Xen 4.5 or older."""

    NAME = "header"
    legacy: bool = False

    @classmethod
    def parse(cls, body: Body) -> Self:
        """Raise `BadRecord` or `Unsupported` for a header that libxl refuses."""
        ident, version, options = body.unpack(HEADER)
        body.require(ident == IDENT, 0, f"the ident {IDENT:#x}", f"{ident:#x}")
        if version != VERSION:
            raise Unsupported(body.record, body.offset + 8, "version 2", str(version))
        if options & BIG_ENDIAN:
            raise Unsupported(body.record, body.offset + 12, "little-endian", "big-endian")
        body.zero(12, options & ~LEGACY)
        return cls(bool(options & LEGACY))

    def pack(self) -> bytes:
        """Return the 16 bytes."""
        return HEADER.pack(IDENT, VERSION, LEGACY if self.legacy else 0)


class End(Empty):
    """The stream is whole."""

    TYPE = 0
    NAME = "END"


class LibxcContext(Empty):
    """The libxc image follows."""

    TYPE = 1
    NAME = "LIBXC_CONTEXT"


class Emulator(Value):
    """Base of the records of one emulator: 0 unknown, 1 qemu-traditional, 2 qemu upstream."""

    emulator_id: int
    index: int

    @staticmethod
    def subheader(body: Body) -> tuple[int, int]:
        """Return id and index; raise `Unsupported` for an emulator that has no number yet."""
        emulator_id, index = body.head(EMULATOR)
        if emulator_id > QEMU_UPSTREAM:
            raise Unsupported(body.record, body.offset, "emulator 0, 1 or 2", str(emulator_id))
        return emulator_id, index


class EmulatorXenstoreData(Emulator):
    """What QEMU must find in xenstore: keys below .../device-model/DOMID, and their values.

    Bytes that are not UTF-8 are surrogate escapes in the strings.
    """

    TYPE = 2
    NAME = "EMULATOR_XENSTORE_DATA"
    LIMIT = 1 << 18
    entries: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, body: Body) -> Self:
        """Raise `BadRecord` unless it is pairs of strings, each key a relative path."""
        emulator_id, index = cls.subheader(body)
        packed = body.data[EMULATOR.size :]
        body.require(packed[-1:] in {b"", b"\0"}, len(body.data) - 1, "a NUL", packed[-1:])
        strings = packed.decode(errors="surrogateescape").split("\0")[:-1]
        got = f"{len(strings)} strings"
        body.require(len(strings) % 2 == 0, EMULATOR.size, "keys with values", got)
        for key in strings[::2]:
            good = bool(key) and not key.startswith("/")
            body.require(good, EMULATOR.size, "relative keys", repr(key[:80]))
        return cls(emulator_id, index, tuple(zip(strings[::2], strings[1::2], strict=True)))

    def pack(self) -> bytes:
        """Return the body."""
        strings = "".join(f"{key}\0{said}\0" for key, said in self.entries)
        packed = strings.encode(errors="surrogateescape")
        return EMULATOR.pack(self.emulator_id, self.index) + packed


class EmulatorContext(Emulator):
    """The device model's state, in the emulator's own format."""

    TYPE = 3
    NAME = "EMULATOR_CONTEXT"
    LIMIT = MAX_DEVICE_STATE + EMULATOR.size
    state: bytes

    @classmethod
    def parse(cls, body: Body) -> Self:
        """Return the value."""
        return cls(*cls.subheader(body), body.data[EMULATOR.size :])

    def pack(self) -> bytes:
        """Return the body."""
        return EMULATOR.pack(self.emulator_id, self.index) + self.state


class CheckpointEnd(Empty):
    """The checkpoint is whole."""

    TYPE = 4
    NAME = "CHECKPOINT_END"


class CheckpointState(Value):
    """A message between COLO's two sides; only NEW is sent with the image."""

    TYPE = 5
    NAME = "CHECKPOINT_STATE"
    NEW: ClassVar[int] = 0
    SVM_SUSPENDED: ClassVar[int] = 1
    SVM_READY: ClassVar[int] = 2
    SVM_RESUMED: ClassVar[int] = 3
    state: int

    @classmethod
    def parse(cls, body: Body) -> Self:
        """Raise `BadRecord` for a state that is none."""
        state, reserved = body.unpack(STATE)
        body.require(state <= cls.SVM_RESUMED, 0, "a state of 0-3", state)
        body.zero(4, reserved)
        return cls(state)

    def pack(self) -> bytes:
        """Return the body."""
        return STATE.pack(self.state, 0)


ALL: tuple[type[Value], ...] = (
    *(End, LibxcContext, EmulatorXenstoreData, EmulatorContext, CheckpointEnd, CheckpointState),
)
RECORDS = {cls.TYPE: cls for cls in ALL}
NAMES = {kind: cls.NAME for kind, cls in RECORDS.items()}
