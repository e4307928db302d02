"""A fake Xen, open."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.host.xen.fake_xen import FakeLibraries
from xenqemu.host.xen.library import Xen


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
