r"""The header that xl puts before a libxl stream: magic, flags and the domain's config.

::

    char magic[32]          "Xen saved domain, xl format\n \0 \r"
    u32 byteorder           0x01020304 in the order of all that follows
    u32 mandatory_flags     bit 0: the config is JSON   bit 1: the libxl stream is v2
    u32 optional_flags      0
    u32 optional_data_len   bytes that follow, may be 0
        u32 config_len
        config              JSON and its NUL, or xl.cfg text, or nothing
        tail                never read by xl

Flags by writer: 3 since Xen 4.6; 1 by 4.5 and 0 before, whose legacy stream follows.
Source: tools/xl/xl.h and xl_vmcontrol.c.  xl ignores optional_flags though its own header file
says to refuse unknown ones; nobody ever wrote any, so they are refused here.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any, NoReturn, Self

from xenqemu.errors import Unsupported
from xenqemu.formats.stream import value
from xenqemu.formats.stream.framing import Record
from xenqemu.formats.stream.source import Source, bounded
from xenqemu.formats.stream.value import Body, Value

if TYPE_CHECKING:
    from xenqemu.formats.stream.sink import Sink

LAYER = "xl"
MAGIC = b"Xen saved domain, xl format\n \0 \r"
HEADER = struct.Struct("<32s4I")
BYTEORDER = 0x01020304
SWAPPED = 0x04030201
JSON = 1
STREAM_V2 = 2
CONFIG_LEN = struct.Struct("<I")
OPTIONAL_DATA_LIMIT = 4 << 20
CONFIG_LIMIT = (1 << 20) + 1
"""Bytes with the NUL; real configs have some KiB.  JSON may need thirty times as much memory."""


class XlHeader(Value):
    """What precedes the stream.

    `config` is as in the file: a JSON object with its NUL if `JSON` is in `mandatory_flags`, else
    the text of a cfg file; b"" if its length is zero, None if there is no optional data
    at all.  `tail` are the bytes after it that xl ignores.
    """

    NAME = "header"
    LIMIT = HEADER.size + OPTIONAL_DATA_LIMIT
    mandatory_flags: int
    config: bytes | None
    tail: bytes = b""

    @classmethod
    def of_json(cls, config: str, tail: bytes = b"") -> XlHeader:
        """Return the header that xl writes since Xen 4.6, for a libxl_domain_config as JSON."""
        return cls(JSON | STREAM_V2, config.encode() + b"\0", tail)

    @property
    def is_json(self) -> bool:
        """Whether the config is JSON."""
        return bool(self.mandatory_flags & JSON)

    @property
    def is_legacy(self) -> bool:
        """Whether a stream of Xen 4.5 or older follows."""
        return not self.mandatory_flags & STREAM_V2

    def json(self) -> dict[str, Any]:
        """Return the config of a header with `is_json`."""
        found: dict[str, Any] = _parsed((self.config or b"{}\0")[:-1])
        return found

    @classmethod
    def parse(cls, body: Body) -> Self:
        """Raise `FormatError` for a header that xl refuses, or a config that is not one."""
        flags = _flags(body)
        data = body.data[HEADER.size :]
        if not data:
            config, tail = None, b""
        else:
            body.require(len(data) >= CONFIG_LEN.size, 44, "none or 4 bytes or more", len(data))
            (size,) = CONFIG_LEN.unpack_from(data)
            bounded(size, CONFIG_LIMIT, body.record, HEADER.size, "a config_len")
            left = len(data) - CONFIG_LEN.size
            body.require(size <= left, HEADER.size, f"a config_len of at most {left}", size)
            config, tail = data[4 : 4 + size], data[4 + size :]
        if flags & JSON:
            _check_json(body, config or b"")
        return cls(flags, config, tail)

    def pack(self) -> bytes:
        """Return header and optional data."""
        data = self.tail
        if self.config is not None:
            data = CONFIG_LEN.pack(len(self.config)) + self.config + self.tail
        return HEADER.pack(MAGIC, BYTEORDER, self.mandatory_flags, 0, len(data)) + data


def read(source: Source) -> Record:
    """Read header and optional data; the record's value is an `XlHeader`."""
    where = f"{LAYER} {XlHeader.NAME}"
    offset = source.offset
    head = source.exact(HEADER.size, where)
    data = source.exact(_length(head, offset), f"{LAYER} optional data")
    header = XlHeader.parse(Body(where, XlHeader.TYPE, offset, head + data))
    return Record(LAYER, XlHeader.NAME, offset, source.offset - offset, header)


def ahead(source: Source) -> Record:
    """Return what `read` does, without passing it."""
    head = source.peek(HEADER.size)
    if len(head) < HEADER.size:
        return read(Source.of(head))  # which raises
    return read(Source.of(source.peek(HEADER.size + _length(head, source.offset))))


def write(sink: Sink, header: XlHeader) -> None:
    """Write header and optional data; raise `FormatError` if the reader would refuse them."""
    sink.write(value.checked(header, LAYER, sink.offset))


def _length(head: bytes, offset: int) -> int:
    """Return how many bytes follow the fixed fields, having checked these."""
    where = f"{LAYER} {XlHeader.NAME}"
    _flags(Body(where, XlHeader.TYPE, offset, head))
    (length,) = CONFIG_LEN.unpack_from(head, 44)
    return bounded(length, OPTIONAL_DATA_LIMIT, where, offset + 44, "an optional_data_len")


def _flags(body: Body) -> int:
    """Return the mandatory flags of a header, having checked its fixed fields."""
    magic, byteorder, mandatory, optional, _ = body.head(HEADER)
    body.require(magic == MAGIC, 0, f"the magic {MAGIC!r}", repr(magic))
    if byteorder == SWAPPED:
        raise Unsupported(body.record, body.offset + 32, "little-endian", "big-endian")
    body.require(byteorder == BYTEORDER, 32, f"{BYTEORDER:#x}", f"{byteorder:#x}")
    for at, flags in ((36, mandatory & ~(JSON | STREAM_V2)), (40, optional)):
        if flags:
            expected = "only flags that are known"
            raise Unsupported(body.record, body.offset + at, expected, f"{flags:#x} too")
    return int(mandatory)


def _check_json(body: Body, config: bytes) -> None:
    at = min(HEADER.size + CONFIG_LEN.size, len(body.data))  # there may be no optional data
    body.require(config[-1:] == b"\0", at, "a config that ends in a NUL", repr(config[-8:]))
    try:
        found = _parsed(config[:-1])
    except (ValueError, RecursionError) as error:
        raise body.bad(at, "a config in JSON", str(error)[:200]) from error
    body.require(isinstance(found, dict), at, "a JSON object", type(found).__name__)


def _parsed(text: bytes) -> Any:
    return json.loads(text.decode(), parse_constant=_not_json)


def _not_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
