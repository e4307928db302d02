"""Inputs that cost a reader as much as their size allows, in each way that we know of.

Each is a function of about how many bytes it is to have.  All are sound as far as they go, so that
a reader has to read them to their end; what a bound refuses is left out, and has tests of its own.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from itertools import cycle, islice

from tests.doubles.in_memory import save_files as sample
from tests.fuzz import layouts
from tests.property import strategies as made
from xenqemu.formats.device_state import device_stream
from xenqemu.formats.device_state.section_header import pack_header
from xenqemu.formats.device_state.section_search import MOST_SECTIONS
from xenqemu.formats.stream import framing, hvm_context, libxc, libxl, page_data, xl
from xenqemu.formats.stream import libxc_pv_records as pv
from xenqemu.formats.stream import libxc_records as records
from xenqemu.formats.stream.page_data import ENTRY, PageData
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.value import Value

Costly = Callable[[int], bytes]


def record(what: Value) -> bytes:
    """Return a record, with its header and padding."""
    out = io.BytesIO()
    framing.write_record(Sink(out), what.kind, what.pack())
    return out.getvalue()


def pages(*entries: int) -> bytes:
    """Return a PAGE_DATA whose entries have no data."""
    out = io.BytesIO()
    page_data.write(Sink(out), PageData.of(entries), ())
    return out.getvalue()


def _times(piece: bytes, size: int) -> bytes:
    return piece * max(1, size // len(piece))


def _image(filling: bytes) -> bytes:
    """Return a save file with `filling` among the pages."""
    whole = sample.save_file()
    place = whole.index(record(made.TSC))
    return whole[:place] + filling + whole[place:]


def _checkpointed(checkpoint: bytes, size: int) -> bytes:
    """Return a libxl stream that is a checkpoint again and again."""
    whole = sample.checkpointed(1)
    return whole + _times(checkpoint, size)


# Records.


def empty_optional_records(size: int) -> bytes:
    """8 bytes each."""
    return _image(_times(record(libxc.OptionalRecord(0x80000000, b"")), size))


def different_records(size: int) -> bytes:
    """No two neighbours are of a kind, so that none can be listed with the one before."""
    both = record(libxc.OptionalRecord(0x80000000, b"")) + pages(libxc.XALLOC | 5)
    return _image(_times(both, size))


def long_optional_records(size: int) -> bytes:
    """Each as long as a record may be, or as the file is."""
    body = min(size, records.RECORD_LIMIT)
    one = framing.HEADER.pack(0x80000000, body) + bytes(body + framing.padding(body))
    return _image(_times(one, size))


def records_of_one_page(size: int) -> bytes:
    """24 bytes each, without data."""
    return _image(_times(pages(libxc.XALLOC | 5), size))


def records_of_many_pages(size: int) -> bytes:
    """All entries that a record may have, of consecutive pages without data."""
    return _image(_entries(size, lambda index: libxc.XTAB | index))


def pages_out_of_order(size: int) -> bytes:
    """No two entries are of consecutive pages."""
    return _image(_entries(size, lambda index: libxc.XALLOC | (index * 7919) % (1 << 20)))


def pages_of_changing_types(size: int) -> bytes:
    """No two entries are of one type."""
    types = (libxc.XALLOC, libxc.XTAB, libxc.BROKEN)
    return _image(_entries(size, lambda index: types[index % 3] | index))


def _entries(size: int, entry: Callable[[int], int]) -> bytes:
    count = max(1, size // ENTRY.size)
    most = min(count, page_data.MAX_ENTRIES)
    return pages(*map(entry, range(most))) * (count // most)


def bytes_after_the_end(size: int) -> bytes:
    """Which no reader of a save file looks at."""
    return sample.save_file() + bytes(size)


def tail_of_the_header(size: int) -> bytes:
    """Which xl ignores; the rest is behind the end."""
    config = sample.config().dump().decode()
    tail = bytes(min(size, xl.OPTIONAL_DATA_LIMIT - len(config) - 8))
    return _headed(xl.XlHeader.of_json(config, tail), size - len(tail))


# Checkpoints.


def empty_checkpoints(size: int) -> bytes:
    """16 bytes each."""
    return _checkpointed(record(libxc.Checkpoint()) + record(libxl.CheckpointEnd()), size)


def checkpoints_with_devices(size: int) -> bytes:
    """Each with all the state that a guest has."""
    parts = (made.CONTEXT, libxc.HvmParams({1: 5}), libxc.Checkpoint(), sample.DEVICES[0])
    return _checkpointed(b"".join(map(record, (*parts, libxl.CheckpointEnd()))), size)


def checkpoints_with_many_xenstore_keys(size: int) -> bytes:
    """Each as long as such a record may be."""
    pairs = tuple(islice(cycle([("\udc80", "\udc81")]), libxl.EmulatorXenstoreData.LIMIT // 5))
    parts = (libxc.Checkpoint(), libxl.EmulatorXenstoreData(2, 0, pairs), sample.DEVICES[0])
    return _checkpointed(b"".join(map(record, (*parts, libxl.CheckpointEnd()))), size)


def checkpoints_with_many_contexts(size: int) -> bytes:
    """HVM_CONTEXT of many records without bytes."""
    header = hvm_context.SaveRecord(hvm_context.HEADER, 0, made.SAVE_HEADER)
    room = min(size // hvm_context.DESCRIPTOR.size, hvm_context.MAX_RECORDS - 1)
    tiny = (hvm_context.SaveRecord(9, instance, b"") for instance in range(room))
    blob = hvm_context.SavedContext((header, *tiny)).pack()
    parts = (records.HvmContext(blob), libxc.Checkpoint(), libxl.CheckpointEnd())
    return _checkpointed(b"".join(map(record, parts)), size)


def checkpoints_with_long_contexts(size: int) -> bytes:
    """HVM_CONTEXT of few records, as long as one may be."""
    header = hvm_context.SaveRecord(hvm_context.HEADER, 0, made.SAVE_HEADER)
    most = min(size, records.HvmContext.LIMIT) - 100
    long = hvm_context.SaveRecord(9, 0, bytes(most))
    blob = hvm_context.SavedContext((header, long)).pack()
    parts = (records.HvmContext(blob), libxc.Checkpoint(), libxl.CheckpointEnd())
    return _checkpointed(b"".join(map(record, parts)), size)


# What there is once.


def many_vcpus(size: int) -> bytes:
    """A PV guest with as many vcpus as there can be, and checkpoints of them."""
    kinds = (pv.X86PvVcpuMsrs, pv.X86PvVcpuXsave)
    vcpus = b"".join(record(kind(vcpu, b"")) for vcpu in range(pv.MAX_VCPUS) for kind in kinds)
    ended = record(libxc.Checkpoint()) + record(libxl.CheckpointEnd())
    begin = made.stream((*made.PV_STEPS[:6], libxc.End()), (), domain=made.PV_DOMAIN)
    return begin[: -len(record(libxc.End()))] + _times(vcpus + ended, size)


def long_policies(size: int) -> bytes:
    """Checkpoints of them are not legal, so each is there once."""
    leaves = (made.CPUID.leaves[0],) * (records.X86CpuidPolicy.LIMIT // records.LEAF.size)
    msrs = (made.MSRS.msrs[0],) * (records.X86MsrPolicy.LIMIT // records.MSR.size)
    policies = (records.X86CpuidPolicy(leaves), records.X86MsrPolicy(msrs))
    steps = (*policies, *sample.STEPS[2:])
    return sample.save_file(steps=steps) + bytes(size)


def _configured(config: str, size: int) -> bytes:
    return _headed(xl.XlHeader.of_json(config), size)


def _headed(header: xl.XlHeader, behind: int) -> bytes:
    return header.pack() + made.stream(sample.STEPS, sample.DEVICES) + bytes(behind)


def _tree(**more: object) -> str:
    return json.dumps({**sample.config().tree, **more}, separators=(",", ":"))


MOST_CONFIG = (1 << 20) - 1000


def config_of_many_keys(size: int) -> bytes:
    """As long as a config may be."""
    return _configured(_tree(x={f"{n:x}": n for n in range(MOST_CONFIG // 15)}), size)


def config_of_many_lists(size: int) -> bytes:
    """3 bytes each."""
    return _configured(_tree(x=[[]] * (MOST_CONFIG // 3)), size)


def config_of_many_disks(size: int) -> bytes:
    """Each as short as one can be."""
    return _configured(_tree(disks=[{"format": "raw", "vdev": "hda"}] * (MOST_CONFIG // 32)), size)


# Device state, in a save file.


def _with_state(state: bytes) -> bytes:
    return sample.save_file(after=(libxl.EmulatorContext(2, 0, state), libxl.End()))


def _stream(body: bytes) -> bytes:
    return device_stream.HEADER.pack(device_stream.MAGIC, device_stream.VERSION) + body + b"\0"


def long_device_state(size: int) -> bytes:
    """One device that nobody knows."""
    most = min(size, device_stream.MAX_SIZE - 100)
    return _with_state(_stream(pack_header(1, "unknown", 0, 1) + bytes(most)))


def many_device_sections(size: int) -> bytes:
    """As many as there may be, and then one with the rest."""
    head = [pack_header(n, "port92", 0, 1) + b"\1" for n in range(MOST_SECTIONS - 1)]
    rest = min(size, device_stream.MAX_SIZE - (1 << 17))
    return _with_state(_stream(b"".join(head) + pack_header(9999, "unknown", 0, 1) + bytes(rest)))


def what_looks_like_device_sections(size: int) -> bytes:
    """Everywhere in a device's state are the bytes of a header that is none."""
    most = min(size, device_stream.MAX_SIZE - 100)
    shapes = b"\x04\0\0\0\x09\xffaa" * (most // 8)
    return _with_state(_stream(pack_header(1, "unknown", 0, 1) + shapes))


def what_may_be_device_sections(size: int) -> bytes:
    """As many headers as are searched for, of devices whose layout is not known, far apart."""
    count = 500
    gap = min(size, device_stream.MAX_SIZE - (1 << 17)) // count
    parts = (pack_header(n, "unknown", 0, 1) + bytes(gap) for n in range(1, count))
    return _with_state(_stream(b"".join(parts)))


def device_states_of_checkpoints(size: int) -> bytes:
    """Each of some hundred devices."""
    state = device_stream.write(device_stream.Section(n, "port92", 0, 1, b"\1") for n in range(400))
    parts = (libxc.Checkpoint(), libxl.EmulatorContext(2, 0, state), libxl.CheckpointEnd())
    return _checkpointed(b"".join(map(record, parts)), size)


def made_for_a_pattern(size: int) -> bytes:
    """Devices whose layout has numbers of elements: as many as are walked one by one."""
    longest = max(layouts.streams(), key=len)
    state = device_stream.read(longest).sections
    count = max(1, min(size, device_stream.MAX_SIZE) // len(longest))
    most = min(count, MOST_SECTIONS // len(state))
    sections = [each.but(id=number) for number, each in enumerate(state * most, 1)]
    return _with_state(device_stream.write(sections)) + bytes(size)


COSTLY: tuple[Costly, ...] = (
    *(empty_optional_records, different_records, long_optional_records),
    *(records_of_one_page, records_of_many_pages, pages_out_of_order, pages_of_changing_types),
    *(bytes_after_the_end, tail_of_the_header),
    *(empty_checkpoints, checkpoints_with_devices, checkpoints_with_many_xenstore_keys),
    *(checkpoints_with_many_contexts, checkpoints_with_long_contexts),
    *(many_vcpus, long_policies),
    *(config_of_many_keys, config_of_many_lists, config_of_many_disks),
    *(long_device_state, many_device_sections, what_looks_like_device_sections),
    *(what_may_be_device_sections, device_states_of_checkpoints, made_for_a_pattern),
)
