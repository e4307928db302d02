"""Save files in pieces: each record is one, and some have pieces themselves.

::

    record      header │ record │ record │ …        by the bounds that the readers tell
    xl header   its fields, and a config            (texts)
    HVM_CONTEXT     descriptor and data │ …
    EMULATOR_CONTEXT    subheader, device state: header │ section │ … │ end and trailing

Most edits of a record leave its framing right, so that they reach the reader of its body.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from itertools import pairwise
from random import Random

from tests.fuzz import noise, samples, texts
from tests.fuzz.noise import Mutator
from tests.fuzz.pieces import Language, Piece, Pieces, one_of, pool
from xenqemu.formats.device_state import device_stream
from xenqemu.formats.device_state.section_header import (
    FOOTER_SIZE,
    header_at,
    pack_footer,
    pack_header,
)
from xenqemu.formats.stream import framing, hvm_context, libxc_order, libxl_records, xl
from xenqemu.formats.stream.detect import Walk
from xenqemu.formats.stream.libxc_records import OptionalRecord
from xenqemu.formats.stream.libxl_records import EMULATOR
from xenqemu.formats.stream.page_data import COUNT, PageData
from xenqemu.formats.stream.source import Source

MOST_PAGES = 16
"""Pages that an edit of PAGE_DATA adds at most."""


@lru_cache(256)
def split(data: bytes) -> Pieces:
    """Cut an xl save file, a libxl stream or a libxc image into its records."""
    return tuple(
        Piece(f"{each.layer} {each.name}", data[each.offset : each.offset + each.size])
        for each in Walk(Source.of(data))
    )


def framed(edit: Mutator, *, before: int = 0) -> Mutator:
    """Return a mutator of records that edits the body, but for `before` bytes of it."""
    start = framing.HEADER.size + before

    def edited(chance: Random, data: bytes) -> bytes:
        if len(data) < start:
            return noise.changed(chance, data)
        kind, length = framing.HEADER.unpack_from(data)
        body = edit(chance, data[start : framing.HEADER.size + length])
        body = data[framing.HEADER.size : start] + body
        head = framing.HEADER.pack(kind, len(body))
        return head + body + bytes(framing.padding(len(body)))

    return one_of(edited, edited, edited, noise.head, noise.changed)


def xl_header(chance: Random, data: bytes) -> bytes:
    """Edit the config in an xl header and correct the lengths before it."""
    start = xl.HEADER.size + xl.CONFIG_LEN.size
    if len(data) < start:
        return noise.changed(chance, data)
    (size,) = xl.CONFIG_LEN.unpack_from(data, xl.HEADER.size)
    config, tail = data[start : start + size], data[start + size :]
    config = texts.json_changed(chance, config[:-1]) + config[-1:]
    lengths = (xl.CONFIG_LEN.size + len(config) + len(tail), len(config))
    return data[: xl.HEADER.size - 4] + struct.pack("<2I", *lengths) + config + tail


def xl_fields(chance: Random, data: bytes) -> bytes:
    """Edit the numbers before the config."""
    start, end = len(xl.MAGIC), xl.HEADER.size + xl.CONFIG_LEN.size
    return data[:start] + noise.number(chance, data[start:end]) + data[end:]


def page_entries(chance: Random, body: bytes) -> bytes:
    """Edit the entries of a PAGE_DATA; count and pages are as many as these ask for."""
    (count,) = struct.unpack_from("<I", body.ljust(4, b"\0"))
    table = body[COUNT.size : COUNT.size + 8 * min(count, len(body))]
    table = chance.choice((noise.number, noise.special, noise.rearranged))(chance, table)
    table = table[: len(table) - len(table) % 8]
    while PageData(table).data_size > MOST_PAGES * 4096:
        table = table[: len(table) // 16 * 8]
    pages = PageData(table)
    return COUNT.pack(pages.count, 0) + table + bytes(pages.data_size)


def table(head: int, width: int) -> Mutator:
    """Return a mutator of a body that is a count (in 4 of `head` bytes) and entries."""

    def edited(chance: Random, body: bytes) -> bytes:
        entries = body[head:]
        entries = chance.choice((noise.number, noise.special, noise.rearranged))(chance, entries)
        count = len(entries) // width if head else 0
        entries = entries[: len(entries) // width * width]
        return struct.pack("<Q", count)[:head] + entries

    return edited


# HVM_CONTEXT.


@lru_cache(64)
def hvm_split(data: bytes) -> Pieces:
    """Cut the body of a HVM_CONTEXT into its records, END among them."""
    found = (*hvm_context.parse(data).records, hvm_context.SaveRecord(hvm_context.END, 0, b""))
    return tuple(
        Piece(hvm_context.NAMES.get(each.typecode, ""), _hvm_bytes(each)) for each in found
    )


def _hvm_bytes(each: hvm_context.SaveRecord) -> bytes:
    return hvm_context.DESCRIPTOR.pack(each.typecode, each.instance, len(each.data)) + each.data


def hvm_record(chance: Random, data: bytes) -> bytes:
    """Edit the data after a descriptor, and correct its length."""
    size = hvm_context.DESCRIPTOR.size
    if len(data) < size:
        return data
    code, instance, _ = hvm_context.DESCRIPTOR.unpack_from(data)
    if chance.random() < 0.3:
        instance = noise.boundary(chance, 16, instance)
    body = noise.changed(chance, data[size:])
    return hvm_context.DESCRIPTOR.pack(code, instance, len(body)) + body


HVM = Language(
    hvm_split,
    {
        name: one_of(hvm_record, hvm_record, noise.head)
        for name in ("", *hvm_context.NAMES.values())
    },
    pool(samples.contexts, hvm_split),
)


# Device state.


@lru_cache(64)
def device_state_split(data: bytes) -> Pieces:
    """Cut a stream of device state into its header, its sections and the rest."""
    state = device_stream.read(data)
    places = [section.offset for section in state.sections]
    end = len(data) - len(state.trailing) - 1
    bounds = [0, *places, end, len(data)] if places else [0, end, len(data)]
    kinds = ["header", *(["section with footer" if state.footers else "section"] * len(places))]
    cuts = zip([*kinds, "end"], pairwise(bounds), strict=True)
    return tuple(Piece(kind, data[first:last]) for kind, (first, last) in cuts)


def section(*, footer: bool) -> Mutator:
    """Return a mutator of a section that keeps its shape: it changes a number or the state."""

    def edited(chance: Random, data: bytes) -> bytes:
        header = header_at(data, 0)
        if header is None:
            return noise.changed(chance, data)
        state = data[header.start : len(data) - (FOOTER_SIZE if footer else 0)]
        numbers = [header.id, header.instance_id, header.version_id]
        if chance.random() < 0.3:
            at = chance.randrange(len(numbers))
            numbers[at] = noise.boundary(chance, 32, numbers[at])
        else:
            state = noise.changed(chance, state)
        head = pack_header(numbers[0], header.idstr, *numbers[1:])
        return head + state + (pack_footer(numbers[0]) if footer else b"")

    return one_of(edited, edited, noise.head)


DEVICE_STATE = Language(
    device_state_split,
    {
        "section": section(footer=False),
        "section with footer": section(footer=True),
    },
    pool(samples.device_states, device_state_split),
)


# The whole save file.

_ANY = framed(noise.changed)

RECORDS = Language(
    split,
    {f"libxc {name}": _ANY for name in (*libxc_order.NAMES.values(), OptionalRecord.NAME)}
    | {f"libxl {name}": _ANY for name in libxl_records.NAMES.values()}
    | {
        "xl header": one_of(xl_header, xl_header, xl_fields),
        "libxc PAGE_DATA": framed(page_entries),
        "libxc HVM_CONTEXT": framed(HVM.changed),
        "libxc HVM_PARAMS": framed(one_of(table(8, 16), noise.changed)),
        "libxc X86_CPUID_POLICY": framed(one_of(table(0, 24), noise.changed)),
        "libxc X86_MSR_POLICY": framed(one_of(table(0, 16), noise.changed)),
        "libxl EMULATOR_CONTEXT": framed(DEVICE_STATE.changed, before=EMULATOR.size),
    },
    pool(samples.guest_streams, split),
)


def stream_changed(chance: Random, data: bytes) -> bytes:
    """Edit a save file, or a stream or device state alone."""
    return (DEVICE_STATE if data.startswith(device_stream.MAGIC) else RECORDS).changed(chance, data)
