"""A Xen host: its parties as libxl finds them, put together for operations.

What only some guests need is imported late: importing QEMU's client, which needs asyncio, takes
longer than suspending a guest.  Where it will be needed, it is imported while xl is waited for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from xenqemu.errors import HostError
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.stream import hvm_context as hvm
from xenqemu.formats.stream.libxc_records import PAGE_SIZE
from xenqemu.formats.stream.source import Source
from xenqemu.host.disk.lease import Owner
from xenqemu.host.domain import Domain, DomainInfo, RunState
from xenqemu.host.ended_operation import Records, unrecorded
from xenqemu.host.findings import Check, Finding, findings
from xenqemu.host.guest_memory import GuestMemory, Progress
from xenqemu.host.party_deadlines import DEFAULT_DEADLINES, Deadlines
from xenqemu.host.protocol import BuildOptions, Needs, Template
from xenqemu.host.trust import DEFAULT_TRUST, Trust
from xenqemu.host.xen import requirements
from xenqemu.host.xen.concurrent_toolstacks import concurrent_toolstacks
from xenqemu.host.xen.hypervisor import XenHypervisor
from xenqemu.host.xen.library import Xen
from xenqemu.host.xen.memory.dirty_log import DirtyLog
from xenqemu.host.xen.memory.guest_state import (
    cpuid,
    hvm_context,
    largest_policies,
    policies,
)
from xenqemu.host.xen.xen_paths import XEN_PATHS, XenPaths
from xenqemu.host.xen.xl import domid_history, toolstack
from xenqemu.host.xenstore import names
from xenqemu.host.xenstore.sessions import Sessions
from xenqemu.host.xenstore.store import Store
from xenqemu.system.process import boot_id

if TYPE_CHECKING:
    from xenqemu.host.qemu.device_model import DeviceModel

FIRST_RESERVED = 0x7FF0
"""DOMID_FIRST_RESERVED: no guest has this id or a higher one."""


class XenHost:
    """The Xen host that this machine is the control domain of.

    The state of domains is always read anew; only the open interface of Xen and the sessions with
    xenstored are kept.
    """

    kind = "xen"

    def __init__(
        self,
        *,
        deadlines: Deadlines = DEFAULT_DEADLINES,
        paths: XenPaths = XEN_PATHS,
        trust: Trust = DEFAULT_TRUST,
        elide_zeros: bool = True,
        records: Records = unrecorded,
    ) -> None:
        self.deadlines = deadlines
        self.trust = trust
        self.records = records
        self._paths = paths
        self._elide_zeros = elide_zeros
        self._sessions = Sessions(lambda: Store(paths.xenstored, deadlines))

    @property
    def identity(self) -> str:
        """An identity that no other host has."""
        return f"xen:{boot_id()}"

    @property
    def own_folder(self) -> None:
        """None: this host is the machine's own."""

    @cached_property
    def _xen(self) -> Xen:
        return Xen()

    @cached_property
    def hypervisor(self) -> XenHypervisor:
        """Xen itself; raises `HostError` where there is none that we may control."""
        return XenHypervisor(
            self._xen,
            self.store,
            self.device_model,
            self._pv_memory,
            deadlines=self.deadlines,
            elide_zeros=self._elide_zeros,
        )

    @property
    def journals(self) -> Path:
        """The folder of the journals of running operations."""
        return self._paths.journals

    def domids(self) -> list[int]:
        """Return the ids of all guests, ended ones too."""
        return [domid for domid, *_ in self._names() if domid]

    def domids_of(self, name: str, uuid: str) -> list[int]:
        """Return the ids of the domains of that name and uuid, half-made ones too."""
        return [domid for domid, *found in self._names() if found == [name, f"/vm/{uuid}"]]

    def concurrent_toolstacks(self, domain: Domain) -> list[str]:
        """Return the concurrent toolstacks that work on a domain."""
        return concurrent_toolstacks(domain, self._xen.version)

    def owner(self, uuid: str) -> Owner:
        """Return the owner that a lease names for a guest of this host, as in our block script."""
        return Owner.here(uuid)

    def store(self) -> AbstractContextManager[Store]:
        """Return a session with xenstore for a block."""
        return self._sessions.store()

    def device_model(self, domid: int) -> DeviceModel | None:
        """Return the device model of an HVM domain, None for PVH and PV.

        A QEMU that only serves disks of a PVH or PV guest holds no state of it.
        """
        if not self._has_device_model(domid):
            return None
        from xenqemu.host.xen.xl.qmp_socket import LockedDeviceModel  # noqa: PLC0415  see above

        who = (domid, self._existing(domid).uuid)
        path = self._paths.run / f"qmp-libxl-{domid}"
        return LockedDeviceModel(path, who, self.deadlines)

    def config(self, domid: int) -> DomainConfig:
        """Return the domain's present configuration, as `xl save` would store it."""
        self._existing(domid)
        if self._has_device_model(domid):
            _load_qmp_socket()
        return toolstack.listed_config(domid, self.deadlines)

    def needs(self, domid: int, config: DomainConfig) -> Needs:
        """Return what a save file of a running domain will require of its host."""
        sizes: dict[int, int] = {}
        if config.type != "pv":
            sizes = hvm.parse(hvm_context(self._xen, domid).data).longest
        told = cpuid(policies(self._xen, domid))
        return Needs(config, self._xen.release.image, sizes, told)

    def findings(self, needs: Needs, *, quick: bool = False) -> Iterator[Finding]:
        """Return every reason why this host cannot take such a guest."""
        config, version = needs.config, self._xen.version
        checks: tuple[Check, ...] = (
            ("name", lambda: requirements.check_name(config.name)),
            ("xen", lambda: requirements.check(needs, version)),
            ("disks", lambda: requirements.check_disks(config)),
            ("bridges", lambda: requirements.check_bridges(config)),
            ("name", lambda: self._others(needs)),
            ("domid", lambda: self._require_domid(config)),
        )
        slow: tuple[Check, ...] = (
            ("cpu", lambda: self._lacking(needs)),
            ("memory", lambda: requirements.check_memory(config, *self._memory())),
            ("devices", lambda: requirements.check_devices(needs, version)),
        )
        return findings(checks if quick else (*checks, *slow))

    def findings_elsewhere(self, needs: Needs, info: str, domains: str) -> Iterator[Finding]:
        """Return the reasons why another host cannot, as far as xl's words there tell."""
        return requirements.findings_elsewhere(needs, info, domains)

    def build(self, save_file: Source, progress: Progress, options: BuildOptions) -> int:
        """Build a paused domain from a checked save file and return its id, or leave nothing."""
        if options.config is None or options.config.type == "hvm":
            _load_qmp_socket()
        from xenqemu.host.xen.xl.xl_restore import XlRestore  # noqa: PLC0415  see above

        builder = XlRestore(self.store, monitor=options.monitor, deadlines=self.deadlines)
        return builder.build(save_file, progress, options.config, options.size)

    @contextmanager
    def template(
        self, opened: Callable[[], Source], progress: Progress, options: BuildOptions
    ) -> Iterator[Template]:
        """Yield what builds domains of one save file: each by an xl of its own."""

        def build(config: DomainConfig) -> int:
            return self.build(opened(), progress, replace(options, config=config))

        yield _Template(build)

    def check_name(self, name: str) -> None:
        """Raise `HostError` if libxl could not restore a guest of this name."""
        requirements.check_name(name)

    def rename(self, domid: int, old: str, new: str) -> None:
        """Rename a domain from `old` to `new`; nothing if it has the new name already."""
        with self.store() as store:
            names.rename(store, domid, old, new)

    def shut_down(self, domid: int) -> None:
        """Ask a guest to shut down by itself, and do not wait for it."""
        toolstack.shut_down(domid, self.deadlines)

    def destroy(self, domid: int) -> None:
        """End a domain and remove all that is its on this host; may be repeated."""
        toolstack.destroy(domid, self.deadlines)

    def close(self) -> None:
        """Close the interface of Xen and the sessions with xenstored, if open."""
        self._sessions.close()
        self.__dict__.pop("hypervisor", None)
        xen = self.__dict__.pop("_xen", None)
        if xen is not None:
            xen.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _existing(self, domid: int) -> DomainInfo:
        info = self.hypervisor.info(domid)
        if info is None:
            raise HostError(f"there is no domain {domid}")
        return info

    def _has_device_model(self, domid: int) -> bool:
        with self.store() as store:
            return store.read(f"/libxl/{domid}/type") == "hvm"

    def _pv_memory(self, domid: int) -> GuestMemory:
        from xenqemu.formats.helper.dialects import dialect_of  # noqa: PLC0415  see above
        from xenqemu.host.xen.memory.helper_memory import HelperMemory  # noqa: PLC0415
        from xenqemu.host.xen.memory.own_helper import own_helper  # noqa: PLC0415

        def suspended() -> bool:
            return self._existing(domid).run_state is RunState.SUSPENDED

        def pages() -> int:
            return self._existing(domid).memory // PAGE_SIZE

        version = self._xen.version
        helper = own_helper(version), dialect_of(version)
        return HelperMemory(
            domid,
            *helper,
            suspended,
            pages=pages,
            logs=DirtyLog(self._xen, domid).possible,
            deadlines=self.deadlines,
        )

    def _others(self, needs: Needs) -> Iterator[HostError]:
        """Yield each domain that has the guest's name or uuid, but for itself."""
        config = needs.config
        for domid, name, vm in self._names():
            same = (name == config.name, vm == f"/vm/{config.uuid}")
            if all(same) and needs.moving:
                continue
            if same[0]:
                yield HostError(f"domain {domid} is named {name} already")
            elif same[1]:
                yield HostError(f"domain {domid} ({name}) has the uuid {config.uuid}")

    def _lacking(self, needs: Needs) -> Iterator[HostError]:
        """Yield the CPU features that the guest uses and Xen does not have here, if it tells."""
        most = cpuid(largest_policies(self._xen, hvm=needs.config.type != "pv"))
        return requirements.check_cpu(needs, most) if most else iter(())

    def _require_domid(self, config: DomainConfig) -> None:
        """Raise `HostError` if the id that a config asks for cannot be had."""
        domid = config.domid
        if not 0 < domid < FIRST_RESERVED:  # it asks for any
            return
        if self.hypervisor.info(domid) is not None:
            raise HostError(f"{config.name} is to have the id {domid}, which another domain has")
        seconds = domid_history.seconds_kept(self._paths.run, domid)
        if seconds:
            raise HostError(
                f"{config.name} is to have the id {domid}, whose domain ended a moment ago: "
                f"libxl gives it to another one in {seconds} s"
            )

    def _memory(self) -> tuple[int, int]:
        """Return how many bytes are free, and how many dom0 has."""
        return toolstack.free_memory(self.deadlines), self._existing(0).memory

    def _names(self) -> list[tuple[int, str, str]]:
        """Return id, name and /vm path of each domain in xenstore."""
        with self.store() as store:
            return [
                (
                    int(entry),
                    store.read(f"/local/domain/{entry}/name") or "",
                    store.read(f"/local/domain/{entry}/vm") or "",
                )
                for entry in store.list("/local/domain") or ()
            ]


class _Template(NamedTuple):
    """A save file of which domains are built: it is read for each, so one after the other."""

    build: Callable[[DomainConfig], int]
    parallel: int = 1


def _load_qmp_socket() -> None:
    """Import QEMU's client in another thread."""
    threading.Thread(target=import_module, args=("xenqemu.host.xen.xl.qmp_socket",)).start()
