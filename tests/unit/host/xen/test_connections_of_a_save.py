"""How often one save connects to xenstored and to the device model, counted on their side."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.xen.fake_xen import PAGE, UUID_OF_ALL, FakeLibraries, Guest
from tests.doubles.xen.guest_parts import DOMID, HOME, playing, suspends
from tests.doubles.xen.xenstored import Connections, running
from tests.doubles.xen.xl_peer import write_xl
from tests.property.strategies import CONTEXT
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.host.domain_state import find, require_running, state
from xenqemu.host.precopy_options import PrecopyOptions
from xenqemu.host.xen import xen_host as host_module
from xenqemu.host.xen.library import Xen
from xenqemu.host.xen.xen_host import XenHost
from xenqemu.host.xen.xen_paths import XenPaths
from xenqemu.host.xen.xl import qmp_socket
from xenqemu.host.xen.xl.libxl_locks import locked
from xenqemu.host.xenstore.store import Store
from xenqemu.lab.reference_device_model import QemuRunState, ReferenceDeviceModel, faults
from xenqemu.lab.xenstored.daemon import Daemon
from xenqemu.operations.options import After, SaveOptions
from xenqemu.operations.save import save as save_domain

CONFIG = DomainConfig(
    {
        "c_info": {"type": "hvm", "name": "web", "uuid": str(UUID_OF_ALL)},
        "b_info": {"max_vcpus": 2, "max_memkb": 64, "type.hvm": {}},
    }
)
PARAMS = {0: 0x200000000000F3, 1: 0xFEFFC, 17: 0xFEFFF}
PAGES = {pfn: bytes([pfn & 0xFF]) * PAGE for pfn in (*range(8), 0xFEFFC, 0xFEFFF)}


class Greetings:
    """Counts the clients of a device model, the sessions one after the other."""

    count = 0

    def __call__(self, turn: faults.Turn) -> None:
        self.count += 1
        faults.play(turn)


@pytest.fixture
def guest(libraries: FakeLibraries) -> Guest:
    """A running HVM guest that can be saved, with PV drivers that listen."""
    libraries.guests[DOMID] = Guest(pages=dict(PAGES), params=PARAMS, context=CONTEXT.pack())
    return libraries.guests[DOMID]


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


@pytest.fixture
def connections(daemon: Daemon) -> Connections:
    return Connections.of(daemon)


@pytest.fixture
def path(tmp_path: Path, daemon: Daemon, connections: Connections) -> Iterator[Path]:
    """The socket of a xenstored that knows the guest."""
    with running(tmp_path / "socket", daemon=daemon):
        with Store(tmp_path / "socket") as store:
            store.introduce(DOMID, 1, 1)
            store.write(f"{HOME}/name", CONFIG.name)
            store.write(f"/libxl/{DOMID}/type", "hvm")
        connections.taken = 0
        yield tmp_path / "socket"


@pytest.fixture
def greetings(tmp_path: Path) -> Iterator[Greetings]:
    """Those of the guest's device model, which runs."""
    greetings = Greetings()
    socket = tmp_path / f"qmp-libxl-{DOMID}"
    with ReferenceDeviceModel(socket, state=QemuRunState.RUNNING, faults={"greeting": greetings}):
        yield greetings


@pytest.fixture
def host(
    libraries: FakeLibraries, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[XenHost]:
    """The host of the guest, with an xl that says what it is made of, and does no more."""
    (tmp_path / "bin").mkdir()
    listed = [{"domid": DOMID, "config": CONFIG.tree}]
    write_xl(tmp_path / "bin" / "xl", f"if words[0] == 'list': print(json.dumps({listed!r}))")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(qmp_socket, "locked", partial(locked, folder=tmp_path))
    monkeypatch.setattr(host_module, "Xen", lambda: Xen(libraries=libraries))
    opened = XenHost(paths=XenPaths(tmp_path, path, tmp_path / "operations"))
    yield opened
    opened.close()


@pytest.fixture
def save(host: XenHost, path: Path, guest: Guest, tmp_path: Path) -> Callable[..., None]:
    """A function that saves the guest, as named by its user."""

    def act(**options: Any) -> None:
        with playing(path, partial(suspends, guest=guest)):
            domain = find(host, CONFIG.name)
            save_domain(host, domain, tmp_path / "record", SaveOptions(**options))

    return act


GUESTS_OWN = 1
"""The connection to xenstored by which the guest answers."""


@pytest.mark.parametrize(
    ("options", "sessions"),
    [
        ({}, ["check", "stop and save"]),
        ({"after": After.CONTINUE}, ["check", "stop and save", "cont"]),
        ({"precopy": PrecopyOptions()}, ["check", "log", "stop and save", "no log"]),
    ],
    ids=["save", "save -c", "save --live"],
)
def test_a_save_connects_once_to_xenstored_and_for_short_to_the_device_model(
    save: Callable[..., None],
    connections: Connections,
    greetings: Greetings,
    options: dict[str, Any],
    sessions: list[str],
) -> None:
    save(**options)
    assert connections.taken - GUESTS_OWN == 1
    assert greetings.count == len(sessions)


def test_a_host_that_is_closed_has_no_connection(
    host: XenHost, guest: Guest, connections: Connections, greetings: Greetings
) -> None:
    for _again in range(3):
        assert require_running(host, find(host, CONFIG.name)).device_model == "running"
    assert (connections.taken, greetings.count) == (1, 3)
    host.close()
    assert state(host, DOMID).running
    assert (connections.taken, greetings.count) == (2, 4)
