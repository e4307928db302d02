"""Each reader of `xenqemu.formats`, with the mutators of its input."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TypeVar
from zlib import crc32

from tests.fuzz import noise, ram_streams, samples, seals, wires
from tests.fuzz.engine import Target
from tests.fuzz.records import (
    DEVICE_STATE,
    HVM,
    RECORDS,
    framed,
    page_entries,
    xl_fields,
    xl_header,
)
from tests.fuzz.texts import CFG, cfg_set, json_changed, spec_changed
from tests.property.strategies import Dribble, outcome
from xenqemu.errors import FormatError
from xenqemu.formats import zstd_seekable
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.config.libxl_json import check, dumped, loaded
from xenqemu.formats.config.xl_cfg import GuestConfig
from xenqemu.formats.config.xl_cfg_disk import parse_disk
from xenqemu.formats.config.xl_cfg_settings import XlCfgSettings
from xenqemu.formats.device_state import device_stream
from xenqemu.formats.helper.dialects import DIALECTS, parse_arguments
from xenqemu.formats.stream import framing, hvm_context, libxc, libxl, page_data, value, xl
from xenqemu.formats.stream.detect import Walk
from xenqemu.formats.stream.framing import Record
from xenqemu.formats.stream.page_data import PageData
from xenqemu.formats.stream.source import Source
from xenqemu.formats.stream.value import Value
from xenqemu.host.allowed_resources import refusals, why_refused
from xenqemu.host.trust import DEFAULT_TRUST, Trust

T = TypeVar("T")


def either_way(read: Callable[[BinaryIO], T], packed: int = 0) -> Callable[[bytes], T]:
    """Return a function that reads bytes as a file and as a pipe, with the same result.

    Where bytes are packed, `packed` is how many they are unpacked: offsets may be of those.
    """

    def run(data: bytes) -> T:
        piped = outcome(read, Dribble(data, 1 + crc32(data) % 5000))
        filed = outcome(read, io.BytesIO(data))
        if not isinstance(filed, FormatError):
            assert filed == piped, f"a pipe gives {piped!r:.200}"
            return filed
        assert repr(filed) == repr(piped), f"a pipe gives {piped!r:.200}, a file {filed!r:.200}"
        assert 0 <= filed.offset <= max(len(data), packed), f"an offset outside: {filed}"
        raise filed

    return run


def certain(act: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """Do what must work on what a reader has accepted."""
    try:
        return act(*arguments, **named)
    except FormatError as error:
        raise AssertionError(f"refused after it was read: {error}") from error


def take(pages: PageData, source: Source) -> None:
    """Read the pages of a record, run by run."""
    assert sum(run.pages for run in pages.runs()) == pages.count
    for run in pages.runs():
        if run.has_data:
            page_data.skip(PageData.of([run.pfn]), source)
            source.exact((run.pages - 1) * page_data.PAGE_SIZE, "pages")


def steps(found: Iterator[Record]) -> list[Record]:
    """Return all records; the contents of each can be written again."""
    steps = list(found)
    for step in steps:
        if isinstance(step.value, Value):
            certain(value.checked, step.value, step.layer, step.offset)
    return steps


@either_way
def walk(file: BinaryIO) -> list[Record]:
    return steps(iter(Walk(Source(file), take)))


@either_way
def xl_header_read(file: BinaryIO) -> list[Record]:
    found = xl.read(Source(file))
    if isinstance(found.value, xl.XlHeader) and found.value.is_json:
        found.value.json()
    return steps(iter([found]))


@either_way
def libxl_read(file: BinaryIO) -> list[Record]:
    return steps(libxl.read(Source(file)))


@either_way
def libxc_read(file: BinaryIO) -> list[Record]:
    return steps(libxc.read(Source(file), take))


@either_way
def pages_read(file: BinaryIO) -> PageData:
    source = Source(file)
    pages = page_data.read(source, framing.read_header(source, "libxc"))
    take(pages, source)
    return pages


def hvm_read(data: bytes) -> hvm_context.SavedContext:
    context = hvm_context.parse(data)
    assert context.pack() == data
    return certain(lambda: (context, context.header, context.vcpus, context.cpus))


@either_way
def device_state(file: BinaryIO) -> device_stream.DeviceState:
    return device_stream.read(Source(file))


def device_state_and_back(data: bytes) -> None:
    state = device_state(data)
    assert certain(device_stream.write, state.sections, state.footers) + state.trailing == data
    assert all(0 <= doubt.offset < doubt.end <= len(data) for doubt in state.ambiguities)


def json_read(data: bytes) -> None:
    tree = loaded(data)
    check(tree, 0)
    assert loaded(dumped(tree).encode()) == tree


def config_read(data: bytes) -> None:
    config = DomainConfig.parse(data)
    again = certain(DomainConfig.parse, config.dump())
    assert again == config
    refused = certain(lambda: list(refusals(DEFAULT_TRUST, config)))
    assert all(str(each.resource).isprintable() and each.why for each in refused)
    allowed = Trust(tuple(f"{each.resource.key}={each.resource.value}" for each in refused))
    assert certain(why_refused, allowed, config) == ""
    renamed = certain(config.with_name, "other")
    assert certain(renamed.with_domid, 7).domid == 7
    assert certain(config.with_extra, {"host": "lab"}).extra == {"host": "lab"}


def settings_read(data: bytes) -> None:
    settings = XlCfgSettings(data)
    settings.plain()
    assert settings.unasked() == list(settings.plain())


def cfg_read(data: bytes) -> None:
    guest = GuestConfig.from_cfg(data)
    assert certain(DomainConfig.parse, guest.config.dump()) == guest.config


SPECS_OF = (
    *("vif", "pci", "vfb", "vkb", "vtpm", "p9", "pvcalls", "vdispl", "channel", "virtio"),
    *("usbctrl", "usbdev", "cpuid", "cpus", "ioports", "iomem", "irqs", "smbios", "llc_colors"),
)
"""Keys whose lists have specs of their own; that of disks is read alone."""


def spec_read(data: bytes) -> None:
    text = data[1:-1].decode(errors="replace")
    quoted = text.replace("\\", "").replace("'", "").replace("\n", " ").replace("\0", "")
    for key in SPECS_OF:
        outcome(GuestConfig.from_cfg, f"name='g'\ntype='hvm'\n{key}=['{quoted}']\n")
    outcome(GuestConfig.from_cfg, f"name='g'\ntype='hvm'\nvsnd=[['{quoted}']]\n")
    parse_disk(text)


def messages_read(data: bytes) -> None:
    size = 1 + crc32(data) % 100
    errors = [
        outcome(lambda whole, d=d: _messages(d.reader(), whole, size), data) for d in DIALECTS
    ]
    if isinstance(errors[-1], FormatError):
        raise errors[-1]


def _messages(reader: Any, data: bytes, size: int) -> int:
    pieces = (data[start : start + size] for start in range(0, len(data), size))
    said = [message for piece in pieces for message in reader.feed(piece)]
    assert 0 <= reader.offset <= len(data)
    return len(said)


def arguments_read(data: bytes) -> None:
    words = data.decode(errors="surrogateescape").split("\0")
    outcome(lambda words: parse_arguments(words, (4, 17)), words)
    assert parse_arguments(words).checkpointed in (True, False)


def seek_table_read(data: bytes) -> None:
    size = zstd_seekable.table_size(data[-zstd_seekable.FOOTER.size :], len(data))
    if size is None:
        return
    table = zstd_seekable.parse_table(data[-size:], len(data))
    frames = [table[index] for index in range(len(table))]
    assert sum(each.packed for each in frames) == table.end == len(data) - size
    assert sum(each.size for each in frames) == table.size
    for index, each in enumerate(frames):
        assert not each.size or table.at(each.start) == index


_ANY = noise.changed

FORMATS = (
    Target("walk", samples.guest_streams, (RECORDS.changed, RECORDS.changed, _ANY), walk),
    Target("xl", samples.headers, (xl_header, xl_fields, _ANY), xl_header_read),
    Target("libxl", samples.libxl_streams, (RECORDS.changed, _ANY), libxl_read),
    Target("libxc", samples.libxc_images, (RECORDS.changed, _ANY), libxc_read),
    Target("page-data", samples.page_records, (framed(page_entries), _ANY), pages_read),
    Target("hvm", samples.contexts, (HVM.changed, HVM.changed, _ANY), hvm_read),
    Target(
        "device-state",
        samples.device_states,
        (DEVICE_STATE.changed, DEVICE_STATE.changed, _ANY),
        device_state_and_back,
    ),
    Target(
        "ram-stream",
        ram_streams.streams,
        (ram_streams.LANGUAGE.changed, ram_streams.LANGUAGE.changed, _ANY),
        either_way(ram_streams.read),
    ),
    Target("seal", seals.samples, (seals.digested, seals.digested, _ANY), seals.read),
    Target("json", samples.configs, (json_changed, json_changed, _ANY), json_read),
    Target("config", samples.configs, (json_changed, json_changed, _ANY), config_read),
    Target("xlcfg-syntax", samples.cfgs, (cfg_set, cfg_set, CFG.changed, _ANY), settings_read),
    Target("xlcfg", samples.cfgs, (cfg_set, cfg_set, CFG.changed, _ANY), cfg_read),
    Target("xlcfg-devices", samples.specs, (spec_changed, CFG.changed, _ANY), spec_read),
    Target("seek-table", samples.seekable_files, (_ANY,), seek_table_read),
    Target("helper-messages", wires.talks, (wires.MESSAGES.changed, _ANY), messages_read),
    Target("helper-arguments", wires.argument_lists, (wires.ARGUMENTS, _ANY), arguments_read),
)
