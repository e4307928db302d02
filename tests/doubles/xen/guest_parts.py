"""A host with a fake Xen and a real xenstored, and threads that play the guest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.doubles.xen.fake_xen import Guest
from xenqemu.host.party_deadlines import Deadlines
from xenqemu.host.xen.hypervisor import XenHypervisor
from xenqemu.host.xen.library import Xen
from xenqemu.host.xen.memory.hvm_memory import HvmMemory
from xenqemu.host.xenstore.store import Store

DOMID = 7
HOME = f"/local/domain/{DOMID}"
NODE = f"{HOME}/control/shutdown"
LONG = Deadlines(acknowledge=20.0, suspend=20.0)


class Host:
    """A hypervisor with its fake Xen.

    `memories` are the PV guests whose memory was asked for, `asked` those whose device model was.
    """

    def __init__(self, xen: Xen, path: Path) -> None:
        self.xen = xen
        self.path = path
        self.memories: list[int] = []
        self.asked: list[int] = []

    def hypervisor(
        self, deadlines: Deadlines = LONG, store: type[Store] = Store, **options: bool
    ) -> XenHypervisor:
        return XenHypervisor(
            self.xen,
            lambda: store(self.path),
            self._device_model,
            self._pv,
            deadlines=deadlines,
            **options,
        )

    def _device_model(self, domid: int) -> None:
        self.asked.append(domid)

    def _pv(self, domid: int) -> HvmMemory:
        self.memories.append(domid)
        return HvmMemory(self.xen, domid, lambda _on: None)


@contextmanager
def playing(path: Path, play: Callable[[Store], None]) -> Iterator[None]:
    """Run `play`, the guest's part, in a thread with a connection of its own."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            with Store(path) as store:
                play(store)
        except BaseException as error:  # noqa: BLE001 - is raised in the test
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join(20)
        assert not thread.is_alive()
    if failures:
        raise failures[0]


def requested(store: Store) -> None:
    """Wait until the guest is asked to suspend."""
    store.wait(NODE, lambda: True if store.read(NODE) == "suspend" else None, 10)


def suspends(store: Store, guest: Guest) -> None:
    """Play a guest that does what it is asked for."""
    requested(store)
    store.write(NODE, "")
    ends(store, guest)


def ends(store: Store, guest: Guest, reason: int = 2) -> None:
    """Have the guest end, and Xen tell xenstored."""
    guest.shut_down(reason)
    store.control("shutdown", str(DOMID))
