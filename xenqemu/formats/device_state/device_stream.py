"""The state of QEMU's devices, as save_devices (today xen-save-devices-state) writes it.

::

    "QEVM", u32 version 3 (big-endian)
    sections                 see `section_header`: header, state, perhaps a footer
    0x00                     the end; what follows is not part of the stream

A section does not say how long it is.  `read` finds out by the layouts of QEMU's devices
(`layouts`) and by searching (`section_search`), and says what is not certain.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import Enum
from itertools import groupby

from xenqemu.errors import BadRecord, Truncated, Unsupported
from xenqemu.formats.device_state.layouts import known_qemu
from xenqemu.formats.device_state.section_header import (
    EOF,
    Header,
    is_idstr,
    pack_footer,
    pack_header,
)
from xenqemu.formats.device_state.section_search import MOST_SECTIONS, MOST_SHAPES, Cut, Search
from xenqemu.formats.stream.source import Source, bounded
from xenqemu.frozen import Frozen

MAGIC = b"QEVM"
VERSION = 3
HEADER = struct.Struct(">4sI")
MAX_SIZE = 32 << 20
"""Bytes of a stream that are read at most; real ones have some 10 kB to a few hundred."""

OTHER_SECTIONS = {
    0x01: "QEMU_VM_SECTION_START",
    0x02: "QEMU_VM_SECTION_PART",
    0x03: "QEMU_VM_SECTION_END",
    0x06: "QEMU_VM_VMDESCRIPTION",
    0x07: "QEMU_VM_CONFIGURATION",
    0x08: "QEMU_VM_COMMAND",
}
"""Sections that other commands of QEMU write, and save_devices never does."""


class Evidence(Enum):
    """How it is known where the state of a section ends, given where it starts."""

    FOOTER = "footer"
    LAYOUT = "layout"
    SHAPE = "shape"


class Section(Frozen):
    """The state of one device.

    `offset` is where its header starts, `data` its state without header and footer.  `certain` is
    False if other bounds are possible too: then an `Ambiguity` covers it.  Neither offset nor
    certainty nor evidence matters to `write`.
    """

    id: int
    idstr: str
    instance_id: int
    version_id: int
    data: bytes
    offset: int = 0
    certain: bool = True
    evidence: Evidence = Evidence.LAYOUT

    @property
    def length(self) -> int:
        """Bytes of state."""
        return len(self.data)


class Ambiguity(Frozen):
    """A part of the stream, from `offset` to `end`, that can be read in several ways.

    `reason` says what is unknown.  `headers` are all headers there that some reading has; the
    sections that `DeviceState` lists are one choice of them.
    """

    offset: int
    end: int
    reason: str
    headers: tuple[Header, ...]


class DeviceState(Frozen):
    """A stream: its sections in their order, and how far that is certain.

    `footers` is whether sections end with footers; `trailing` is what follows the end.
    """

    sections: tuple[Section, ...]
    ambiguities: tuple[Ambiguity, ...] = ()
    footers: bool = False
    trailing: bytes = b""


def read(stream: bytes | Source) -> DeviceState:
    """Read a whole stream of at most `MAX_SIZE` bytes; a `Source` is read to its end.

    Raises `BadRecord`, `Truncated`, `TooBig` or `Unsupported`.
    """
    data = stream if isinstance(stream, bytes) else stream.rest(MAX_SIZE, "device state")
    bounded(len(data), MAX_SIZE, "device state", 0, "a stream")
    _check_header(data)
    found = Search(data, HEADER.size)
    cuts, end = found.finest()
    sections = tuple(_section(data, cut, found.footers) for cut in cuts)
    return DeviceState(sections, _ambiguities(found, cuts), found.footers, data[end + 1 :])


def write(sections: Iterable[Section], footers: bool = False) -> bytes:
    """Return the stream of `sections`; with `footers`, each ends with one.

    Raises `BadRecord` for what no stream can have.
    """
    stream = bytearray(HEADER.pack(MAGIC, VERSION))
    for count, section in enumerate(sections, 1):
        offset = len(stream)
        _check(section, offset)
        stream += pack_header(section.id, section.idstr, section.instance_id, section.version_id)
        stream += section.data + (pack_footer(section.id) if footers else b"")
        bounded(count, MOST_SECTIONS, section.idstr, offset, "a number of sections")
        bounded(len(stream) + 1, MAX_SIZE, section.idstr, offset, "a stream")
    return bytes(stream) + bytes([EOF])


def _check_header(data: bytes) -> None:
    if len(data) < HEADER.size:
        raise Truncated(
            "device state header", 0, f"{HEADER.size} bytes", f"{len(data)} and then the end"
        )
    magic, version = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise BadRecord("device state header", 0, repr(MAGIC), repr(magic))
    if version != VERSION:
        raise Unsupported("device state header", 4, f"version {VERSION}", str(version))
    other = OTHER_SECTIONS.get(data[HEADER.size]) if len(data) > HEADER.size else None
    if other:
        raise Unsupported("device state", HEADER.size, "a stream of xen-save-devices-state", other)


def _section(data: bytes, cut: Cut, footers: bool) -> Section:
    header = cut.node.header
    evidence = Evidence.LAYOUT if cut.node.fits else Evidence.SHAPE
    return Section(
        header.id,
        header.idstr,
        header.instance_id,
        header.version_id,
        data[header.start : cut.end],
        header.offset,
        cut.certain,
        Evidence.FOOTER if footers else evidence,
    )


def _ambiguities(found: Search, cuts: list[Cut]) -> tuple[Ambiguity, ...]:
    """Return one ambiguity for each run of sections that are not certain."""
    ambiguities = []
    for certain, group in groupby(cuts, lambda cut: cut.certain):
        if not certain:
            run = list(group)
            start, end = run[0].node.header.offset, run[-1].after
            headers = tuple(found.headers_between(start, end))
            ambiguities.append(Ambiguity(start, end, _reason(found, run[0]), headers))
    return tuple(ambiguities)


def _reason(found: Search, cut: Cut) -> str:
    header = cut.node.header
    device = f"{header.idstr} version {header.version_id}"
    if found.crowded:
        return f"more than {MOST_SHAPES} places look like headers after {device}"
    if cut.node.fits:
        return f"several lengths of {device} fit"
    if cut.node.extent.measured:
        return f"the state of {device} is not as in QEMU {', '.join(known_qemu())}"
    return f"the length of {device} is unknown"


def _check(section: Section, offset: int) -> None:
    """Raise `BadRecord` if no stream can have the section."""
    if not is_idstr(section.idstr):
        raise BadRecord(
            "device state section", offset, "1 to 255 ASCII letters", repr(section.idstr)
        )
    for name in ("id", "instance_id", "version_id"):
        value = getattr(section, name)
        if not 0 <= value < 1 << 32:
            raise BadRecord(section.idstr, offset, f"32 bits of {name}", str(value))
