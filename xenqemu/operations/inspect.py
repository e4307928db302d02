"""What a save file holds, gathered in one walk through all its layers.

Only what stays small is kept, whatever is in the file: pages are counted, neighbouring records of a
kind are one run, and where there are too many runs the rest is one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from xenqemu.errors import FormatError
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.device_state import device_stream
from xenqemu.formats.device_state.device_stream import DeviceState
from xenqemu.formats.migration.cpu_features import with_features
from xenqemu.formats.stream import hvm_context
from xenqemu.formats.stream.detect import Layer, Trailing, Walk, detect
from xenqemu.formats.stream.framing import HEADER as RECORD_HEADER
from xenqemu.formats.stream.framing import Record
from xenqemu.formats.stream.hvm_context import SavedContext
from xenqemu.formats.stream.libxc import DomainHeader, ImageHeader
from xenqemu.formats.stream.libxc_order import X86_HVM, X86_PV
from xenqemu.formats.stream.libxc_records import (
    CpuidLeaf,
    HvmContext,
    HvmParams,
    OptionalRecord,
    X86CpuidPolicy,
    X86TscInfo,
)
from xenqemu.formats.stream.libxl_records import (
    EMULATOR,
    QEMU_TRADITIONAL,
    EmulatorContext,
    EmulatorXenstoreData,
)
from xenqemu.formats.stream.page_data import BROKEN, XALLOC, PageData
from xenqemu.formats.stream.seal import Seal
from xenqemu.formats.stream.source import Source
from xenqemu.formats.stream.xl import XlHeader

if TYPE_CHECKING:
    from xenqemu.formats.config.host_resources import Resource

PFNS_BELOW_4G = 1 << 20
"""Pages under 4 GiB, where Xen keeps all the special pages of an HVM guest."""


MOST_RUNS = 1 << 14
"""Runs of records that are listed; a guest that is no attack has some dozen, by each 1024 vcpus."""

REST = "further records"
"""The name of the run of all records that are not listed."""


class _Found:
    """What was found: two of one class are equal if all of it is."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # it grows as more is found


class RecordRun(_Found):
    """One record, or `count` neighbouring ones of a kind: `size` bytes from `offset` on."""

    def __init__(
        self, layer: str, name: str, offset: int, size: int, *, count: int = 1, text: str = ""
    ) -> None:
        self.layer = layer
        self.name = name
        self.offset = offset
        self.size = size
        self.count = count
        self.text = text


class Pages(_Found):
    """How many pages of which type a libxc image holds; a live one may hold some twice.

    `low` has a byte for each page below 4 GiB, 1 once it was populated.
    """

    def __init__(self, data: int = 0, zero: int = 0, other: int = 0) -> None:
        self.data = data
        self.zero = zero
        self.other = other
        self.low = bytearray(PFNS_BELOW_4G)

    def add(self, pages: PageData) -> None:
        """Count one record's pages."""
        for run in pages.runs():
            if run.has_data:
                self.data += run.pages
            elif run.type == XALLOC:
                self.zero += run.pages
            else:
                self.other += run.pages
            if run.type <= XALLOC and run.type != BROKEN and run.pfn < PFNS_BELOW_4G:
                end = min(run.pfn + run.pages, PFNS_BELOW_4G)
                self.low[run.pfn : end] = b"\1" * (end - run.pfn)

    def missing(self, pfn: int) -> bool:
        """Return whether a page below 4 GiB was never populated."""
        return pfn < PFNS_BELOW_4G and not self.low[pfn]


class Contents(_Found):
    """All that was found; what a save file does not have is None or empty.

    `size` is in bytes, up to the end of the last record, or of the seal; `trailing` are the bytes
    after it.  `cpuid` has the leaves with features of what the guest was told of its CPU.
    """

    kind: Layer
    size: int = 0
    trailing: int = 0
    checkpoints: int = 0
    config: DomainConfig | None = None
    image: ImageHeader | None = None
    domain: DomainHeader | None = None
    present: frozenset[str] = frozenset()
    pages: Pages
    context: SavedContext | None = None
    params: Mapping[int, int] = MappingProxyType({})
    cpuid: tuple[CpuidLeaf, ...] = ()
    devices: DeviceState | None = None
    has_device_state: bool = False
    seal: Seal | None = None

    def __init__(self, kind: Layer, **found: Any) -> None:
        self.kind = kind
        self.pages = Pages()
        self.records: list[RecordRun] = []
        self.places: dict[str, int] = {}
        vars(self).update(found)

    @property
    def host_resources(self) -> tuple[Resource, ...]:
        """What the config would have the host use that restores it."""
        from xenqemu.formats.config.host_resources import host_resources  # noqa: PLC0415

        return host_resources(self.config) if self.config else ()

    def take(self, record: Record) -> None:
        """Add one record of the walk."""
        self._keep(record)
        if record.layer:
            self.size = record.offset + record.size
        self._list(record)

    def take_seal(self, seal: Seal, size: int) -> None:
        """Add the seal that the bytes after END are."""
        self.seal = seal
        self.size += size
        self.trailing = 0
        if self.records[-1].layer:
            self.records.append(RecordRun("", "seal", seal.end, size))
        else:
            self.records[-1].name = "seal"

    def place(self, name: str) -> int:
        """Return the offset of the first record of a name; 0 if there is none."""
        return self.places.get(name, 0)

    def _keep(self, record: Record) -> None:
        """Keep what a record says: the commonest first, since there may be millions."""
        value = record.value
        kind = type(value)
        if kind is OptionalRecord:
            return
        if isinstance(value, PageData):
            self.pages.add(value)
        elif kind in _KEPT:
            self._keep_other(record)

    def _keep_other(self, record: Record) -> None:
        match record.value:
            case XlHeader(is_json=True, config=bytes(data)):
                self.config = DomainConfig.parse(data)
            case ImageHeader() as image:
                self.image = image
            case DomainHeader() as domain:
                self.domain = domain
            case HvmContext(data=blob):
                self.context = hvm_context.parse(blob, record.offset + RECORD_HEADER.size)
            case HvmParams(params=params):
                self.params = params
            case X86CpuidPolicy(leaves=leaves):
                self.cpuid = with_features(leaves)
            case EmulatorContext() as emulator:
                self._take_emulator(emulator, record.offset)
            case Trailing(size=size):
                self.trailing = size

    def _take_emulator(self, emulator: EmulatorContext, offset: int) -> None:
        self.has_device_state = True
        if emulator.emulator_id == QEMU_TRADITIONAL:  # that one's format is another
            return
        try:
            self.devices = device_stream.read(emulator.state)
        except FormatError as error:
            place = offset + RECORD_HEADER.size + EMULATOR.size + error.offset
            raise type(error)(error.record, place, error.expected, error.got) from error

    def _list(self, record: Record) -> None:
        layer, name, offset, size, value = record
        last = self.records[-1] if self.records else None
        if last and layer and ((last.layer, last.name) == (layer, name) or last.name == REST):
            last.size += size
            last.count += 1
            return
        self.places.setdefault(name, offset)
        if len(self.records) < MOST_RUNS or not layer:
            self.records.append(RecordRun(layer, name, offset, size, text=describe(value)))
        else:
            self.records.append(RecordRun(layer, REST, offset, size))


_KEPT = frozenset(
    (
        *(XlHeader, ImageHeader, DomainHeader, HvmContext, HvmParams, X86CpuidPolicy),
        *(EmulatorContext, Trailing),
    )
)
"""Whose contents are kept."""


def read_contents(
    source: Source, listed: Callable[[Record], None] = lambda _record: None
) -> Contents:
    """Read a stream of any known kind to its end; raise `FormatError` where it is unsound.

    `listed` is called with each record.
    """
    kind = detect(source)
    found = Contents(kind)
    if kind is Layer.DEVICE_STATE:
        _device_state(source, found)
        return found
    walk = Walk(source)
    for record in walk:
        found.take(record)
        listed(record)
    found.present = frozenset(walk.image.present)
    found.checkpoints = walk.stream.checkpoints if walk.stream else 0
    return found


def _device_state(source: Source, found: Contents) -> None:
    found.devices = device_stream.read(source)
    found.trailing = len(found.devices.trailing)
    found.size = source.offset - found.trailing


def describe(value: object) -> str:
    """Return a few words on what a record says, "" where its name says it all."""
    text = _WORDS.get(type(value))
    return text(value) if text else ""


_GUESTS = {X86_PV: "x86 PV", X86_HVM: "x86 HVM"}
_WORDS: Mapping[type, Callable[[Any], str]] = {
    ImageHeader: lambda image: f"version {image.version}",
    DomainHeader: lambda domain: (
        f"{_GUESTS[domain.type]}, Xen {domain.xen_major}.{domain.xen_minor}"
    ),
    X86TscInfo: lambda tsc: f"mode {tsc.mode}, {tsc.khz} kHz",
    X86CpuidPolicy: lambda policy: f"{len(policy.leaves)} leaves",
    HvmContext: lambda context: f"{len(context.data)} bytes of Xen's state",
    HvmParams: lambda params: f"{len(params.params)} parameters",
    EmulatorContext: lambda emulator: f"{len(emulator.state)} bytes of device state",
    EmulatorXenstoreData: lambda store: f"{len(store.entries)} keys",
}
