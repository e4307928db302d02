"""Lab hosts with a real xenstored, and programs of ours in the place of QEMU."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from xenqemu.formats.domain_config import DomainConfig
from xenqemu.formats.xlcfg import GuestConfig
from xenqemu.lab.host import Lab
from xenqemu.lab.machine import Hardware

UUID = "9233e52c-49ca-454f-96be-f53e22f3994d"


def config(text: str = "", machine: str = "pc-i440fx-7.2") -> DomainConfig:
    """Return the configuration of a small lab guest, with `text` of xl.cfg added."""
    cfg = f'name = "small"\nuuid = "{UUID}"\ntype = "hvm"\nmemory = 8\nvga = "none"\n{text}\n'
    return Hardware(machine, "tcg").kept_in(DomainConfig.from_guest(GuestConfig.from_cfg(cfg)))


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
