"""Lab hosts with a real xenstored, and programs of ours in the place of QEMU."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
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


@pytest.fixture
def fake_qemu(place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A function that puts a shell script where QEMU is looked for."""
    folder = place / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def put(script: str) -> None:
        program = folder / "qemu-system-x86_64"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    return put
