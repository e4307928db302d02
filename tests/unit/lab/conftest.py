"""Lab hosts with a real xenstored, and programs of ours in the place of QEMU."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from xenqemu.lab.lab_host import Lab


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder of a short name: sockets go into it."""
    folder = Path(tempfile.mkdtemp(prefix="lab"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def lab(place: Path) -> Iterator[Lab]:
    """A host that is up."""
    host = Lab(place / "host")
    host.up()
    yield host
    host.down()
