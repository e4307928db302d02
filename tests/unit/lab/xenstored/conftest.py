"""A socket with a server behind it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.xen.xenstored import Raw, running


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """The socket of a running xenstored."""
    socket = tmp_path / "xenstored" / "socket"
    with running(socket):
        yield socket


@pytest.fixture
def raw(path: Path) -> Iterator[Raw]:
    with Raw(path) as client:
        yield client
