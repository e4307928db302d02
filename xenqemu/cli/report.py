"""What a save file holds, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xenqemu.cli.terminal import MIB, line
from xenqemu.errors import Damaged, FormatError, Truncated
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.device_state.device_stream import DeviceState
from xenqemu.formats.stream.libxc_records import PAGE_SIZE
from xenqemu.formats.stream.seal import Seal
from xenqemu.formats.stream.seal_check import Place, place_fields
from xenqemu.operations.inspect import Contents, RecordRun
from xenqemu.quantities import in_bytes

if TYPE_CHECKING:
    from xenqemu.formats.config.host_resources import Resource
    from xenqemu.host.trust import Trust

DEPTH = {"xl": 0, "libxl": 1, "libxc": 2}


def summary(found: Contents) -> str:
    """Return a summary of a sound save file, in one line."""
    parts = [f"{found.kind.name.lower().replace('_', ' ')}, {in_bytes(found.size)}"]
    if found.config:
        parts.append(f"{found.config.type} guest {found.config.name}")
    if found.image:
        parts.append(_memory(found))
    if found.devices:
        parts.append(f"{len(found.devices.sections)} devices")
    if found.checkpoints:
        parts.append(f"{found.checkpoints} complete checkpoints and no END, as Remus leaves it")
    if found.trailing:
        parts.append(f"{found.trailing} bytes after END")
    if found.seal and found.seal.keyed:
        parts.append("sealed with a key")
    return "; ".join(parts)


def ratio(path: Path, found: Contents) -> str:
    """Return how small the file is that holds what was found, "" where it is not compressed."""
    size = path.stat().st_size
    return f"; compressed to {in_bytes(size)}, {size / found.size:.0%}" if size < found.size else ""


def name_file(error: FormatError, file: object) -> None:
    """Have an error say in which `file` it was found, and what that is."""
    error.args = (f"{file}: {verdict(error)}",)


def verdict(error: FormatError) -> str:
    """Return what to say of a file that is none of ours, or damaged."""
    if _is_other(error):
        return f"not a save file, but {error.got}"
    return f"damaged: {error}"


def bad_fields(error: Exception) -> dict[str, object]:
    """Return what is known of a file by the error it gave, for a program."""
    if not isinstance(error, FormatError):
        return {}
    if _is_other(error):
        return {"state": "not a save file"}
    found = error.places if isinstance(error, Damaged) else ()
    places = [place_fields(each) for each in found if isinstance(each, Place)]
    return {"state": "damaged", "places": places}


def _is_other(error: FormatError) -> bool:
    """Return whether the error says that a file is none of ours.

    One that was copied as text was one of ours.
    """
    other = error.record == "stream" and not isinstance(error, Truncated)
    return other and error.expected != "a save file"


def tree(found: Contents, trust: Trust | None = None) -> None:
    """Print the records with their places, then what is known of the guest.

    Of what its config names, that is marked which `trust` does not allow.
    """
    if found.records:
        line(f"{'OFFSET':>12} {'SIZE':>12}  RECORD")
    for run in found.records:
        line(f"{run.offset:#12x} {run.size:12}  {_record(run)}")
    if found.config:
        line()
        _config(found.config)
    if found.image:
        line(f"memory   {_memory(found)}")
    if found.seal:
        line(f"seal     {_seal(found.seal)}")
    if found.context:
        for number, cpu in found.context.cpus.items():
            line(f"vcpu {number}   rip {cpu.rip:#x} cr3 {cpu.cr3:#x} efer {cpu.efer:#x}")
    if found.devices:
        line()
        _devices(found.devices)
    if found.config and found.host_resources:
        line()
        _named(found.host_resources, _refused(trust, found.config))


def fields(found: Contents, trust: Trust | None = None) -> dict[str, Any]:
    """Return all that is known of a save file, for a program.

    Of what its config names, that is marked which `trust` does not allow.
    """
    answer: dict[str, Any] = {
        "kind": found.kind.name.lower(),
        "size": found.size,
        "trailing": found.trailing,
        "checkpoints": found.checkpoints,
        "records": [vars(run) for run in found.records],
    }
    if found.seal:
        answer["seal"] = _seal_fields(found.seal)
    if found.config:
        answer["config"] = found.config.tree
        answer["host_resources"] = list(_resource_fields(found, found.config, trust))
    if found.image and found.domain:
        pages = found.pages
        answer["image"] = {
            "version": found.image.version,
            **vars(found.domain),
            "pages": {"data": pages.data, "zero": pages.zero, "other": pages.other},
            "hvm_params": {**found.params},
        }
    if found.context:
        cpus = found.context.cpus
        answer["vcpus"] = {number: vars(cpu) for number, cpu in cpus.items()}
    if found.devices:
        answer["devices"] = list(_device_fields(found.devices))
        answer["ambiguities"] = [*_doubts(found.devices)]
    return answer


def _record(run: RecordRun) -> str:
    indent = "  " * DEPTH.get(run.layer, 0)
    count = f" x {run.count}" if run.count > 1 else ""
    text = f"  {run.text}" if run.text else ""
    return f"{indent}{run.layer} {run.name}{count}{text}".rstrip()


def _seal(seal: Seal) -> str:
    """Return a few words on a seal; what it says of itself was not compared with anything."""
    made = "BLAKE2b with a key" if seal.keyed else "XXH3-128, without a key"
    return f"{len(seal.pieces)} digests ({made}) of {seal.end} bytes"


def _seal_fields(seal: Seal) -> dict[str, Any]:
    """Return what a seal says, but not its tables."""
    return {
        "keyed": seal.keyed,
        "size": seal.end,
        "pieces": len(seal.pieces),
        "records": seal.index.records,
        "runs": seal.index.runs,
        "about": seal.about,
    }


def _memory(found: Contents) -> str:
    pages = found.pages
    words = [f"{pages.data} pages ({pages.data * PAGE_SIZE // MIB} MiB)"]
    if pages.zero:
        words.append(f"{pages.zero} of zeros")
    if pages.other:
        words.append(f"{pages.other} holes")
    return ", ".join(words)


def _config(config: DomainConfig) -> None:
    line(f"name     {config.name}")
    line(f"uuid     {config.uuid}")
    line(f"type     {config.type}{' of the lab' if config.extra.get('host') == 'lab' else ''}")
    line(f"config   {config.max_memkb >> 10} MiB, {config.max_vcpus} vcpus")
    for disk in config.disks:
        access = "rw" if disk.readwrite else "ro"
        line(f"disk     {disk.vdev} {disk.target or 'empty'} {disk.format} {access}")
    for nic in config.nics:
        line(f"nic      {nic.mac or 'no mac'} {nic.model or ''} {nic.bridge or ''}".rstrip())


def _named(resources: Sequence[Resource], refused: Mapping[Resource, str]) -> None:
    """Print what the config names on the host that restores it, and why it is refused."""
    from xenqemu.formats.config.host_resources import Kind  # noqa: PLC0415

    line("NAMED ON THE HOST")
    for resource in resources:
        if resource in refused:
            line(f"{resource}  refused: {refused[resource]}")
        elif resource.kind is not Kind.WORD:  # a mode of the guest's
            line(str(resource))


def _devices(devices: DeviceState) -> None:
    line(f"{'OFFSET':>12} {'LENGTH':>12}  {'VERSION':>7}  DEVICE")
    for section in devices.sections:
        instance = f" #{section.instance_id}" if section.instance_id else ""
        doubt = "" if section.certain else "  (uncertain)"
        line(
            f"{section.offset:#12x} {section.length:12}  {section.version_id:7}  "
            f"{section.idstr}{instance}{doubt}"
        )
    for ambiguity in devices.ambiguities:
        line(f"uncertain from {ambiguity.offset:#x} to {ambiguity.end:#x}: {ambiguity.reason}")


def _device_fields(devices: DeviceState) -> Iterator[dict[str, Any]]:
    for section in devices.sections:
        yield {
            "id": section.id,
            "idstr": section.idstr,
            "instance_id": section.instance_id,
            "version_id": section.version_id,
            "offset": section.offset,
            "length": section.length,
            "certain": section.certain,
        }


def _refused(trust: Trust | None, config: DomainConfig) -> dict[Resource, str]:
    """Return what of the config this host refuses, and why."""
    from xenqemu.host.allowed_resources import refusals  # noqa: PLC0415  a summary needs none
    from xenqemu.host.trust import DEFAULT_TRUST  # noqa: PLC0415

    return dict(refusals(trust or DEFAULT_TRUST, config))


def _doubts(devices: DeviceState) -> Iterator[dict[str, Any]]:
    for doubt in devices.ambiguities:
        yield {**vars(doubt), "headers": [vars(header) for header in doubt.headers]}


def _resource_fields(
    found: Contents, config: DomainConfig, trust: Trust | None
) -> Iterator[dict[str, str | None]]:
    """Yield what the config names, and why it is refused, None if it is not."""
    refused = _refused(trust, config)
    for resource in found.host_resources:
        yield {
            "kind": resource.kind.name.lower(),
            "key": resource.key,
            "value": resource.shown,
            "refused": refused.get(resource),
        }
