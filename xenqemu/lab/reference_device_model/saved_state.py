"""The state of all devices as a stream, written to and read from descriptors."""

from __future__ import annotations

import os

from xenqemu.errors import BadRecord, Truncated
from xenqemu.formats.device_state import device_stream
from xenqemu.formats.device_state.section_header import EOF, header_at
from xenqemu.formats.stream.source import bounded
from xenqemu.lab.reference_device_model.registry import Registry

_WHERE = "device state"


def write(fd: int, registry: Registry) -> None:
    """Write what is saved of `registry`; raise the system's `OSError`."""
    sections = (
        device_stream.Section(
            entry.section_id, entry.idstr, entry.instance_id, entry.version_id, content
        )
        for entry, content in registry.saved()
    )
    with open(fd, "wb", closefd=False) as file:
        file.write(device_stream.write(sections))


def check(fd: int, registry: Registry) -> None:
    """Check a stream for devices as in `registry`; raise `FormatError` if it is none.

    The stream does not say how long a content is: here it is as long as the registry writes it.
    """
    size = bounded(os.fstat(fd).st_size, device_stream.MAX_SIZE, _WHERE, 0, "a size")
    with open(fd, "rb", closefd=False) as file:
        state = file.read(size)
    start = device_stream.HEADER.pack(device_stream.MAGIC, device_stream.VERSION)
    if not state.startswith(start):
        raise BadRecord(_WHERE, 0, start.hex(), state[: len(start)].hex())
    _walk(state, len(start), {entry.key: len(content) for entry, content in registry.saved()})


def _walk(state: bytes, offset: int, sizes: dict[tuple[str, int], int]) -> None:
    while state[offset : offset + 1] != bytes([EOF]):
        if offset >= len(state):
            raise Truncated(_WHERE, offset, "a section or the end mark", "the end")
        header = header_at(state, offset)
        key = header and (header.idstr, header.instance_id)
        if header is None or key not in sizes:
            raise BadRecord(_WHERE, offset, "the section of a device here", str(key))
        offset = header.start + sizes[header.idstr, header.instance_id]
