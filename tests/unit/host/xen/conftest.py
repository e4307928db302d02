"""A fake Xen, open; a xenstored that knows one domain of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.xen.fake_xen import FakeLibraries, Guest
from tests.doubles.xen.guest_parts import DOMID, HOME, Host
from tests.doubles.xen.xenstored import running
from xenqemu.host.xen.library import Xen
from xenqemu.host.xenstore.store import Store


@pytest.fixture
def libraries() -> Iterator[FakeLibraries]:
    """The libraries of a Xen without guests; tests add some."""
    libraries = FakeLibraries()
    yield libraries
    libraries.close()


@pytest.fixture
def xen(libraries: FakeLibraries) -> Iterator[Xen]:
    """The interface of that Xen."""
    with Xen(libraries=libraries) as opened:
        yield opened


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """The socket of a xenstored that knows our domain."""
    with running(tmp_path / "socket"):
        with Store(tmp_path / "socket") as store:
            store.introduce(DOMID, 1, 1)
            store.mkdir(HOME)
        yield tmp_path / "socket"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store(path) as opened:
        yield opened


@pytest.fixture
def guest(libraries: FakeLibraries) -> Guest:
    """A running HVM guest whose PV drivers listen."""
    libraries.guests[DOMID] = Guest(params={0: 0x200000000000F3})
    return libraries.guests[DOMID]


@pytest.fixture
def host(xen: Xen, path: Path) -> Host:
    return Host(xen, path)
