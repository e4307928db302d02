"""Whether a save file is complete and sound: the readers' checks, and those between the parts.

The readers refuse what breaks a format.  Here is what only shows when all has been read: that
config, image and device state are of the same guest, and that nothing a host needs is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from xenqemu.errors import BadRecord, in_words
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.stream.detect import Layer
from xenqemu.formats.stream.framing import Record
from xenqemu.formats.stream.libxc import DomainHeader
from xenqemu.formats.stream.libxc_order import X86_HVM
from xenqemu.formats.stream.seal import Seal
from xenqemu.formats.stream.seal_check import check_file
from xenqemu.formats.stream.seal_passing import SealedInlet
from xenqemu.formats.stream.source import Source
from xenqemu.operations.events import Event, Kind, Observer, Phase, unobserved
from xenqemu.operations.inspect import Contents, read_contents
from xenqemu.operations.reading_seals import seal_behind, seal_of, take_seal
from xenqemu.system.cancellation import check_often
from xenqemu.system.regular_file import is_regular

LAB = "lab"
"""What `DomainConfig.extra["host"]` says of a guest of the lab, whose CPU is in QEMU's state."""

XEN_HVM = ("X86_TSC_INFO", "HVM_CONTEXT", "HVM_PARAMS")
"""Records without which Xen cannot restore an HVM guest."""

SPECIAL_PAGES = {1: "STORE_PFN", 5: "IOREQ_PFN", 6: "BUFIOREQ_PFN", 17: "CONSOLE_PFN"}
"""HVM_PARAMS that name a page of the guest."""

Listed = Callable[[Record], None]
"""Called with each record."""


def _unlisted(_record: Record) -> None:
    """Take no note of a record."""


def verify(file: BinaryIO, key: bytes | None = None, observe: Observer = unobserved) -> Contents:
    """Read `file` to its end and return what it holds; raise `FormatError` if it is not sound.

    Takes an xl save file, a bare libxl or libxc stream, or device state alone, from a file or a
    pipe.  All of a sealed one is compared with its seal: `Damaged` names each place that differs.
    In a file without a seal the guest's pages are skipped.  With a `key` there has to be a seal
    made with it; a file sealed with a key raises `UsageError` for want of it.  Within an operation
    it hears that this is to end.  `observe` hears how far it is.
    """
    if not is_regular(file):
        return _verify_pipe(file, key)
    seal = seal_of(file, key)
    if seal is not None:
        _check_file(file, seal, key, observe)
    return verify_structure(file, key, seal)


def _check_file(file: BinaryIO, seal: Seal, key: bytes | None, observe: Observer) -> None:
    def progress(done: int, total: int) -> None:
        check_often()
        observe(Event(Phase.VERIFY, Kind.PROGRESS, done, total))

    observe(Event(Phase.VERIFY, Kind.STARTED))
    try:
        check_file(file, seal, key, progress)
    except BaseException as error:
        observe(Event(Phase.VERIFY, Kind.FAILED, text=in_words(error)))
        raise
    observe(Event(Phase.VERIFY, Kind.DONE))


def verify_structure(
    file: BinaryIO,
    key: bytes | None = None,
    seal: Seal | None = None,
    *,
    listed: Listed = _unlisted,
) -> Contents:
    """Read a regular file as `verify` does, its pages skipped and compared with no seal.

    `seal` is the one that the file ends with, if it has a footer.  `listed` is called with each
    record.
    """
    found = checked_contents(Source(file, check=check_often), listed)
    take_seal(found, seal or seal_behind(file, found, key), key)
    return found


def checked_contents(source: Source, listed: Listed = _unlisted) -> Contents:
    """Read a source to its end; raise `FormatError` unless its parts speak of one guest."""
    found = read_contents(source, listed)
    if found.domain and found.domain.type == X86_HVM and not is_lab(found):
        _xen_hvm(found)
    if found.config and found.domain:
        _agree(found, found.config, found.domain)
    return found


def _verify_pipe(file: BinaryIO, key: bytes | None) -> Contents:
    inlet = SealedInlet(file, key)
    found = checked_contents(Source(inlet, check=check_often))
    if found.kind is Layer.XL and not found.checkpoints:
        take_seal(found, inlet.finish(), key)
    else:
        take_seal(found, None, key)
    return found


def is_lab(found: Contents) -> bool:
    """Return whether a save file is of a guest of the lab."""
    return found.config is not None and found.config.extra.get("host") == LAB


def _xen_hvm(found: Contents) -> None:
    for name in XEN_HVM:
        if name not in found.present:
            raise BadRecord("libxc image", found.size, name, "none in an image of an HVM guest")
    for index, name in SPECIAL_PAGES.items():
        pfn = found.params.get(index, 0)
        if pfn and found.pages.missing(pfn):
            offset = found.place("HVM_PARAMS")
            raise BadRecord("libxc HVM_PARAMS", offset, f"{name} among the pages", f"{pfn:#x}")


def _agree(found: Contents, config: DomainConfig, domain: DomainHeader) -> None:
    """Check config against image and device state."""
    header = found.place("header")
    hvm_image = domain.type == X86_HVM
    if (config.type != "pv") != hvm_image:
        image = "HVM" if hvm_image else "PV"
        raise BadRecord("xl config", header, f"a guest like its {image} image", config.type)
    if found.has_device_state != (config.type == "hvm"):
        got = "one" if found.has_device_state else "none"
        expected = f"{'an' if config.type == 'hvm' else 'no'} EMULATOR_CONTEXT for {config.type}"
        raise BadRecord("libxl stream", found.size, expected, got)
    expected = f"{config.max_vcpus} vcpus as in the config"
    if found.context and found.context.vcpus != config.max_vcpus:
        offset = found.place("HVM_CONTEXT")
        raise BadRecord("libxc HVM_CONTEXT", offset, expected, str(found.context.vcpus))
    if found.devices and is_lab(found):
        cpus = sum(section.idstr == "cpu" for section in found.devices.sections)
        if cpus != config.vcpus:
            expected = f"{config.vcpus} vcpus as in the config"
            offset = found.place("EMULATOR_CONTEXT")
            raise BadRecord("libxl EMULATOR_CONTEXT", offset, expected, str(cpus))
