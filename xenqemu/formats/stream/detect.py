r"""Which stream it is, by its first bytes, and the walk through all its layers.

::

    "Xen saved domain, xl format\n \0 \r"    xl save file: header, libxl stream with libxc image
    "LibxlFmt"                               libxl stream
    FF FF FF FF FF FF FF FF "XENF"           libxc image
    "QEVM"                                   device state of QEMU, alone
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

from xenqemu.errors import BadRecord, Truncated, Unsupported
from xenqemu.formats.stream import foreign, libxc, page_data, xl
from xenqemu.formats.stream.framing import Record
from xenqemu.formats.stream.libxl import Stream
from xenqemu.formats.stream.source import Source
from xenqemu.frozen import Frozen


class Layer(Enum):
    """A stream's outermost layer; the value is how it begins."""

    XL = xl.MAGIC
    LIBXL = b"LibxlFmt"
    LIBXC = b"\xff" * 8 + b"XENF"
    DEVICE_STATE = b"QEVM"


LONGEST = max(len(kind.value) for kind in Layer)


class Trailing(Frozen):
    """How many bytes follow END; no reader of a save file looks at them."""

    size: int


def detect(source: Source) -> Layer:
    """Return which layer begins here, without passing it.

    Raises `BadRecord` or `Truncated`, `Unsupported` for a known format of others.
    """
    begin = source.peek(LONGEST)
    for kind in Layer:
        if begin.startswith(kind.value):
            return kind
    names = ", ".join(kind.name for kind in Layer)
    got = repr(begin[:12])
    if any(kind.value.startswith(begin) for kind in Layer):
        raise Truncated("stream", source.offset, f"one of {names}", f"{got} and then the end")
    begin = source.peek(foreign.LONGEST)
    if happened := foreign.damage(begin):
        raise BadRecord("stream", source.offset, "a save file", f"a damaged one: {happened}")
    if what := foreign.kind(begin):
        raise Unsupported("stream", source.offset, f"one of {names}", what)
    raise BadRecord("stream", source.offset, f"one of {names}", got)


class Walk:
    """Reads a save file, or a stream or image alone, to its end; iterate over it once.

    Afterwards `image` says what was in the libxc image (`present`), and `stream` how many whole
    `checkpoints` the libxl stream has (it is None for an image alone).
    """

    def __init__(self, source: Source, on_pages: libxc.OnPages = page_data.skip) -> None:
        self._source = source
        self.image = libxc.Image(on_pages)
        self.stream: Stream | None = None

    def __iter__(self) -> Iterator[Record]:
        """Yield the records of all layers in their order, at last `Trailing` if there is any.

        The source is read to its end: not for a connection whose sender waits for an answer.
        Raises `FormatError`; `Unsupported` for a legacy stream, and for device state alone.
        """
        kind = detect(self._source)
        if kind is Layer.DEVICE_STATE:
            offset = self._source.offset
            raise Unsupported("stream", offset, "a save file", "device state alone")
        if kind is Layer.XL:
            yield self._xl_header()
        if kind is Layer.LIBXC:
            yield from self.image.part(self._source)
        else:
            self.stream = Stream(self._source, self.image.part)
            yield from self.stream
        offset = self._source.offset
        left = self._source.drain()
        if left:
            yield Record("", "bytes after END", offset, left, Trailing(left))

    def _xl_header(self) -> Record:
        step = xl.read(self._source)
        if isinstance(step.value, xl.XlHeader) and step.value.is_legacy:
            where, offset = "xl mandatory_flags", step.offset + 36
            raise Unsupported(where, offset, "a stream of Xen 4.6 or newer", "a legacy stream")
        return step
