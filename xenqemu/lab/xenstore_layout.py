"""A domain in xenstore, as libxl lays one out (libxl_create.c, libxl_dom.c, libxl_dm.c).

What has no meaning without Xen is left out: grant references, event channels, PV backends.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.host.xenstore.store import Store, Transaction

NO_PORT = 1
"""The event channel in INTRODUCE; a lab guest has none, and zero is refused."""


@dataclass(frozen=True)
class Running:
    """What is known of a domain only once its process is there; `ttys` are its serial ports."""

    domid: int
    pid: int
    ttys: tuple[str, ...]
    start_time: str


def introduce_host(store: Store) -> None:
    """Write the nodes of a host without guests."""
    for path, value in (
        ("/local/domain/0/name", "Domain-0"),
        ("/local/domain/0/domid", "0"),
        ("/tool/xenstored", ""),
    ):
        store.write(path, value)


def introduce(store: Store, config: DomainConfig, running: Running) -> None:
    """Write all nodes of a new domain at once, then announce it."""
    domid = running.domid

    def write(change: Transaction) -> None:
        for path, value, permissions in _nodes(config, running):
            change.write(path, value)
            change.set_permissions(path, permissions)

    store.atomically(write)
    store.introduce(domid, 0, NO_PORT)


def remove(store: Store, domid: int) -> None:
    """Remove all nodes of a domain, then announce that it is gone; may be repeated."""

    def clear(change: Transaction) -> None:
        vm = change.read(f"/local/domain/{domid}/vm")
        if vm and change.read(f"{vm}/uuid"):
            change.remove(vm)
        for path in (
            f"/local/domain/{domid}",
            f"/local/domain/0/device-model/{domid}",
            f"/libxl/{domid}",
        ):
            change.remove(path)

    store.atomically(clear)
    store.release(domid)


_HOST_ONLY = ("n0",)


def _nodes(config: DomainConfig, running: Running) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield (path, value, permissions) of every node, parents first."""
    domid = running.domid
    home, vm = f"/local/domain/{domid}", f"/vm/{config.uuid}"
    readable, writable = ("n0", f"r{domid}"), (f"n{domid}",)
    for path, value in _readable(config, running):
        yield f"{home}/{path}".rstrip("/"), value, readable
    for path in _WRITABLE:
        yield f"{home}/{path}", "", writable
    for path, value in (
        ("", ""),
        ("/name", config.name),
        ("/uuid", config.uuid),
        ("/start_time", running.start_time),
        ("/image", ""),
        ("/image/ostype", "hvm"),
    ):
        yield vm + path, value, readable
    for path, value in (
        (f"/libxl/{domid}", ""),
        (f"/libxl/{domid}/type", "hvm"),
        (f"/libxl/{domid}/dm-version", "qemu_xen"),
        (f"/local/domain/0/device-model/{domid}", ""),
        (f"/local/domain/0/device-model/{domid}/state", "running"),
    ):
        yield path, value, _HOST_ONLY


_WRITABLE = (
    "control/shutdown",
    "control/feature-poweroff",
    "control/feature-reboot",
    "control/feature-suspend",
    "control/feature-s3",
    "control/feature-s4",
    "control/sysrq",
    "device/suspend/event-channel",
    "data",
    "drivers",
    "feature",
    "attr",
    "error",
)
"""Nodes that belong to the guest."""


def _readable(config: DomainConfig, running: Running) -> Iterator[tuple[str, str]]:
    """Yield the nodes of the domain's home that the guest may read."""
    yield from (
        ("", ""),
        ("name", config.name),
        ("domid", str(running.domid)),
        ("vm", f"/vm/{config.uuid}"),
        ("memory", ""),
        ("memory/static-max", str(config.max_memkb)),
        ("memory/target", str(config.target_memkb)),
        ("memory/videoram", "0"),
        ("image", ""),
        ("image/device-model-pid", str(running.pid)),
        ("image/device-model-domid", "0"),
        ("control", ""),
        ("control/platform-feature-multiprocessor-suspend", "1"),
        ("control/platform-feature-xs_reset_watches", "1"),
        ("device", ""),
        ("device/suspend", ""),
        ("cpu", ""),
    )
    for cpu in range(config.max_vcpus):
        yield f"cpu/{cpu}", ""
        yield f"cpu/{cpu}/availability", "online" if cpu < config.vcpus else "offline"
    yield from (("console", ""), ("console/limit", "1048576"), ("console/type", "ioemu"))
    if running.ttys:
        yield "console/output", "pty"
        yield "console/tty", running.ttys[0]
        yield "serial", ""
    for port, tty in enumerate(running.ttys):
        yield f"serial/{port}", ""
        yield f"serial/{port}/tty", tty
