"""What xenqemu requires of a host and its hypervisor.

Two implementations are real: Xen, and plain QEMU with its RAM in a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from xenqemu.errors import HostTimeout

if TYPE_CHECKING:
    from xenqemu.formats.config.domain_config import DomainConfig
    from xenqemu.formats.stream.libxc_records import CpuidLeaf
    from xenqemu.formats.stream.source import Source
    from xenqemu.host.disk.lease import Owner
    from xenqemu.host.domain import Domain, DomainInfo
    from xenqemu.host.ended_operation import Records
    from xenqemu.host.findings import Finding
    from xenqemu.host.guest_memory import GuestMemory, MomentMemory, Progress
    from xenqemu.host.party_deadlines import Deadlines
    from xenqemu.host.qemu.device_model import DeviceModel
    from xenqemu.host.trust import Trust
    from xenqemu.host.xenstore.store import Store


class SuspendPending(HostTimeout):
    """A suspend request is pending: the guest has not suspended, and may still do so.

    `Hypervisor.withdraw_suspend` deals with that.  `withdrawn` says that the request was withdrawn
    before the guest acknowledged it: then it hardly suspends any more.
    """

    def __init__(self, message: str, *, withdrawn: bool = False) -> None:
        super().__init__(message)
        self.withdrawn = withdrawn


class Hypervisor(Protocol):
    """The acts on a domain; `resume`, `unpause` and `destroy` may be repeated."""

    def info(self, domid: int) -> DomainInfo | None:
        """Return what is known of the domain, None if there is none of that id."""

    def require_suspendable(self, domid: int) -> None:
        """Raise `HostError` with the reason why the guest cannot be suspended as it is now.

        Nothing is touched.  A paused guest cannot if it would have to answer a suspend request.
        """

    def suspend(self, domid: int) -> None:
        """Suspend the guest, so that its memory and registers do not change any more.

        Raises `SuspendPending` if the guest was asked, and may still suspend.
        """

    def suspend_requested(self, domid: int) -> bool:
        """Return whether a suspend request waits for the guest to acknowledge it."""

    def withdraw_suspend(self, domid: int) -> None:
        """Withdraw a suspend request that was left, and wait a while for a guest that is late.

        Returns once the guest has suspended, or where no guest can be late; raises
        `SuspendPending` if it has not suspended and still may.
        """

    def resume(self, domid: int) -> None:
        """Resume a suspended guest; nothing if it is not suspended."""

    def pause(self, domid: int) -> None:
        """Pause the vcpus whatever else happens, until `unpause`."""

    def unpause(self, domid: int) -> None:
        """Unpause the vcpus."""

    def destroy(self, domid: int) -> None:
        """End the domain at once; nothing if it is gone already."""

    def memory(self, domid: int) -> GuestMemory:
        """Return the domain's memory."""

    def stop_dirty_log(self, domid: int) -> None:
        """Switch off every dirty log of a domain; may be repeated.

        A live save does so by itself; this is for one that was killed.
        """

    def moment_memory(self, domid: int) -> MomentMemory | None:
        """Return the domain's memory as of one moment, None where no host of this kind has it."""

    def read_rest(self, domid: int, uuid: str, pipe: int) -> None:
        """Read what is left in the pipe of a `MomentMemory`; may be repeated.

        The device model is not asked for anything: it may wait for this.  Nothing if the domain is
        not the guest of this uuid any more.
        """

    def stop_moment(self, domid: int, bandwidth: int) -> None:
        """Undo `MomentMemory.enable`, once nothing of it is running; may be repeated."""


@dataclass(frozen=True)
class Needs:
    """What a save file requires of the host that restores it.

    `context` is, of Xen's state of an HVM guest, the longest record of each typecode in bytes;
    `cpuid` is what the guest was told of its CPU, empty where that is not known, and `devices` has
    the highest version of the state of each device, by the name of the state.  `data` is how many
    bytes of its memory are not zeros, None where nobody has counted them.  `xen` is the release
    that it was saved under, as far as that is known.  `moving` says that the guest may still be
    here under the same name, migrating from this host to itself.
    """

    config: DomainConfig
    image_version: int
    context: Mapping[int, int] = field(default_factory=dict)
    cpuid: tuple[CpuidLeaf, ...] = ()
    moving: bool = False
    devices: Mapping[str, int] = field(default_factory=dict)
    data: int | None = None
    xen: tuple[int, int] | None = None

    @property
    def lab(self) -> bool:
        """Whether the guest is one of the lab, whose CPU is in the state of QEMU."""
        return self.config.extra.get("host") == "lab"


@dataclass(frozen=True)
class BuildOptions:
    """How a domain is built from a save file of `size` bytes.

    `config` takes the place of the file's own; `monitor` leaves a process behind that restarts a
    guest which reboots, where the host has such.
    """

    size: int = 0
    config: DomainConfig | None = None
    monitor: bool = True


class Template(Protocol):
    """A checked save file, of which several domains are built, `parallel` at once at most."""

    @property
    def parallel(self) -> int:
        """How many threads may build at once."""

    def build(self, config: DomainConfig) -> int:
        """Build a paused domain of another config and return its id, or leave nothing."""


class Host(Protocol):
    """What a host offers to operations: its parties, and the toolstack that builds domains."""

    @property
    def kind(self) -> str:
        """What sort of host this is: "lab" or "xen"."""

    @property
    def deadlines(self) -> Deadlines:
        """How long each party has."""

    @property
    def trust(self) -> Trust:
        """What the configs of save files may have this host use."""

    @property
    def records(self) -> Records:
        """What keeps each operation that has ended."""

    @property
    def identity(self) -> str:
        """An identity that no other host has, from its start to its end."""

    @property
    def own_folder(self) -> Path | None:
        """The folder that all of this host is in, None for the host that is the machine's own."""

    @property
    def hypervisor(self) -> Hypervisor:
        """The hypervisor."""

    @property
    def journals(self) -> Path:
        """The folder of the journals of running operations."""

    def domids(self) -> list[int]:
        """Return the ids of all guests, ended ones too."""

    def domids_of(self, name: str, uuid: str) -> list[int]:
        """Return the ids of the domains of that name and uuid, half-made ones too."""

    def concurrent_toolstacks(self, domain: Domain) -> list[str]:
        """Return the concurrent toolstacks that work on a domain, for people."""

    def owner(self, uuid: str) -> Owner:
        """Return the owner that a lease names for a guest of this host."""

    def store(self) -> AbstractContextManager[Store]:
        """Return a session with xenstore for a `with` block; it is not closed by the end of that.

        Blocks inside the block, in the same thread, have the same one; other threads have others.
        """

    def device_model(self, domid: int) -> DeviceModel | None:
        """Return the device model of a domain, not yet connected; None if it has none."""

    def config(self, domid: int) -> DomainConfig:
        """Return what the domain was made from."""

    def needs(self, domid: int, config: DomainConfig) -> Needs:
        """Return what a save file of a running domain will require of its host, by `config`."""

    def findings(self, needs: Needs, *, quick: bool = False) -> Iterator[Finding]:
        """Yield every reason why this host cannot take such a guest, the cheapest checks first.

        Nothing is built or touched.  `quick` leaves out what takes longer to find.
        """

    def findings_elsewhere(self, needs: Needs, info: str, domains: str) -> Iterator[Finding]:
        """Return the reasons why another host cannot, as far as xl's words there tell.

        They are what `xl info` and `xl list -v` print, "" where that failed.
        """

    def build(self, save_file: Source, progress: Progress, options: BuildOptions) -> int:
        """Build a paused domain from a checked xl save file and return its id, or leave nothing."""

    def template(
        self, opened: Callable[[], Source], progress: Progress, options: BuildOptions
    ) -> AbstractContextManager[Template]:
        """Return what builds domains of one checked save file, for a block.

        `opened` returns the save file from its start, each time that it is called.  Where the host
        can, it is read once, and the domains share its memory as long as they do not change it.
        """

    def check_name(self, name: str) -> None:
        """Raise `HostError` if a guest of this name could not be restored on such a host."""

    def rename(self, domid: int, old: str, new: str) -> None:
        """Rename a domain from `old` to `new`; nothing if it has the new name already.

        Raises `HostError` if it has another name, or another domain has the new one.
        """

    def shut_down(self, domid: int) -> None:
        """Ask a guest to shut down by itself, and do not wait for it."""

    def destroy(self, domid: int) -> None:
        """End a domain and remove all that is its on this host; may be repeated."""

    def close(self) -> None:
        """Close what the host holds open; it may be used again."""

    def __enter__(self) -> Self:
        """Return the host, which is closed after the block."""

    def __exit__(self, *error: object) -> None:
        """Close it."""
