"""A save file that is checked, and then used: what is used has to be what was checked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self, cast

from xenqemu.errors import HostError, Unsupported, UsageError
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.device_state.device_stream import DeviceState
from xenqemu.formats.stream import xl
from xenqemu.formats.stream.detect import Layer, detect
from xenqemu.formats.stream.libxc_records import PAGE_SIZE
from xenqemu.formats.stream.seal import Seal
from xenqemu.formats.stream.seal_check import Comparison
from xenqemu.formats.stream.source import Source
from xenqemu.host.findings import Check, findings, require
from xenqemu.host.protocol import Needs
from xenqemu.host.trust import Trust
from xenqemu.operations.inspect import Contents
from xenqemu.operations.reading_seals import seal_of
from xenqemu.operations.verify import checked_contents, verify, verify_structure
from xenqemu.system.cancellation import check_often
from xenqemu.system.read_twice import FirstReading, SecondReading
from xenqemu.system.regular_file import open_regular
from xenqemu.system.writers import require_owned, require_sole_writers, trusted_ids


@dataclass(frozen=True)
class CheckedSaveFile:
    """The save file `path`, and what it holds."""

    path: Path
    contents: Contents
    first: FirstReading
    seal: Seal | None
    key: bytes | None

    @classmethod
    def of(
        cls,
        path: Path,
        file: BinaryIO,
        save_file: BinaryIO,
        own: DomainConfig,
        *,
        sealed: bool,
        key: bytes | None,
    ) -> Self:
        """Check a save file whose config was read already; its seal too, if it is `sealed`.

        `save_file` is what is in `file`, which may be compressed: what is sealed is compared at
        once then.
        """
        packed = save_file is not file
        seal = seal_of(file, key) if sealed and not packed else None
        first = FirstReading(save_file)
        reading = cast(BinaryIO, first)
        if not sealed:
            contents = checked_contents(Source(reading, check=check_often))
        elif packed:
            contents = verify(reading, key)
        else:
            contents = verify_structure(reading, key, seal)
        if contents.config != own:
            raise HostError(f"{path} was changed while it was checked")
        return cls(path, contents, first, seal, key)

    def again(self) -> Again:
        """Return what reads it once more."""
        sealed = Comparison(self.seal, self.key) if self.seal else None
        follow = sealed.follow if sealed else None
        return Again(self.path, self.first.again(follow), sealed)

    def needs(self, config: DomainConfig) -> Needs:
        """Return what its guest needs, with `config` in place of its own."""
        return needs_of(self.contents, config)


@dataclass(frozen=True)
class Again:
    """A save file that is read once more, from its start, by `source`."""

    path: Path
    reading: SecondReading
    sealed: Comparison | None

    @property
    def source(self) -> Source:
        """What reads it."""
        return Source(cast(BinaryIO, self.reading), check=check_often)

    def require_same(self) -> None:
        """Read the rest; raise `HostError` or `Damaged` unless all is as it was checked."""
        try:
            self.reading.require_same()
        except HostError as error:
            raise HostError(f"{self.path}: {error}") from error
        if self.sealed:
            self.sealed.require_complete()


def opened_save_file(path: Path, trust: Trust) -> BinaryIO:
    """Open a save file that only root and the users whom we trust could have written."""
    file = opened_twice(path)
    try:
        checks = writer_checks(path, os.fstat(file.fileno()), trust)
        require(findings(checks), f"{path} cannot be trusted")
    except BaseException:
        file.close()
        raise
    return file


def opened_twice(path: Path) -> BinaryIO:
    """Open a save file that is to be read twice.

    It cannot be a pipe: to open one would wait for its writer.
    """
    file = open_regular(path)
    if file is None:
        raise UsageError(f"{path} cannot be read twice: copy it to a file first")
    return file


def writer_checks(path: Path, status: os.stat_result, trust: Trust) -> tuple[Check, ...]:
    """Return the checks of who could have written the save file of this status at `path`."""
    users = trusted_ids(trust.owners)

    def writers() -> None:
        require_owned(path, status, users)
        require_sole_writers(path, users)

    return (("writers", writers),)


def config_of(file: BinaryIO) -> DomainConfig:
    """Return the config of a save file, and seek to its start."""
    source = Source(file)
    kind = detect(source)
    if kind is not Layer.XL:
        raise Unsupported("stream", 0, "an xl save file", f"a bare {kind.name} stream")
    match xl.read(source).value:
        case xl.XlHeader(is_json=True, config=bytes(data)):
            file.seek(0)
            return DomainConfig.parse(data)
    raise Unsupported("xl header", 48, "a config in JSON", "none")


def needs_of(contents: Contents, config: DomainConfig) -> Needs:
    """Return what a guest needs, with `config` in place of its own.

    Raises `Unsupported` for a stream of checkpoints, which has no END.
    """
    if contents.checkpoints:
        raise Unsupported("libxl stream", 0, "an END", f"{contents.checkpoints} checkpoints")
    version = contents.image.version if contents.image else 0
    context = contents.context.longest if contents.context else {}
    devices = _versions(contents.devices) if contents.devices else {}
    data = contents.pages.data * PAGE_SIZE
    domain = contents.domain
    xen = (domain.xen_major, domain.xen_minor) if domain and domain.xen_major else None
    return Needs(config, version, context, contents.cpuid, devices=devices, data=data, xen=xen)


def _versions(state: DeviceState) -> dict[str, int]:
    """Return the highest version of each device whose section certainly begins where it does.

    That is one that is certain, or behind one that is: where the version is not known here, only
    the end of the section is uncertain.
    """
    begin = {each.offset for each in state.ambiguities}
    found: dict[str, int] = {}
    for section in state.sections:
        if section.certain or section.offset in begin:
            name = section.idstr.rpartition("/")[2]
            found[name] = max(section.version_id, found.get(name, 0))
    return found
