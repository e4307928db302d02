"""The registry of what is saved: QEMU's SaveStateEntry list (`register_savevm`, savevm.c).

Entries that are live (`is_ram`: RAM, block devices) are saved by other means and are not part of
the device state, nor are those with nothing to save.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class SaveStateEntry:
    """One device: how its section is named, and how its content is made; None has no content."""

    section_id: int
    idstr: str
    instance_id: int
    version_id: int
    save: Callable[[], bytes] | None
    is_ram: bool = False

    @property
    def key(self) -> tuple[str, int]:
        """What a loader looks the device up by: section ids need not be the same there."""
        return self.idstr, self.instance_id


class Registry:
    """The entries, in the order in which they are saved."""

    def __init__(self) -> None:
        self._entries: list[SaveStateEntry] = []

    def register(
        self,
        idstr: str,
        save: Callable[[], bytes] | None,
        version_id: int = 1,
        is_ram: bool = False,
    ) -> SaveStateEntry:
        """Add a device; ids count up, instances among those of the same name."""
        instance = sum(entry.idstr == idstr for entry in self._entries)
        section = len(self._entries)
        entry = SaveStateEntry(section, idstr, instance, version_id, save, is_ram)
        self._entries.append(entry)
        return entry

    def saved(self) -> Iterator[tuple[SaveStateEntry, bytes]]:
        """Return what a save writes: the entries that are not live, each with its content."""
        for entry in self._entries:
            if entry.save is not None and not entry.is_ram:
                yield entry, entry.save()


def small_pc() -> Registry:
    """Return some devices of QEMU's `pc`: states of the right length and no meaning."""
    registry = Registry()
    registry.register("timer", lambda: bytes(24), version_id=2)
    registry.register("ram", lambda: bytes(4096), version_id=4, is_ram=True)
    registry.register("slirp", None)
    registry.register("PCIBUS", lambda: bytes(4))
    registry.register("dma", lambda: bytes(range(75)))
    registry.register("dma", lambda: bytes(range(75, 150)))
    registry.register("i8259", lambda: b"tick 10\n" * 2)
    registry.register("pckbd", lambda: bytes.fromhex("001c6100"), version_id=3)
    registry.register("port92", lambda: b"\x02")
    return registry
