"""The command line, run within the tests or as a process of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.doubles.qemu.lab_guest import config
from tests.doubles.system.commands import Done
from tests.golden import save_files
from xenqemu.cli.main import main
from xenqemu.lab import xenstore_layout
from xenqemu.lab.lab_host import Lab
from xenqemu.lab.xenstore_layout import Running

Run = Callable[..., Done]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """A function that runs a command in this process; no host is chosen by the environment."""
    for name in ("XENQEMU_HOST", "XENQEMU_LAB", "XENQEMU_CONF"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: object) -> Done:
        capsys.readouterr()
        code = main([os.fspath(word) if isinstance(word, Path) else str(word) for word in words])
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A save file that stock xl wrote."""
    file = tmp_path_factory.mktemp("golden") / "vga.save"
    file.write_bytes(save_files.unpacked("vga.save"))
    return file


@pytest.fixture
def place() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="cli"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def folder(place, run) -> Iterator[Path]:
    """The folder of a host that is up."""
    lab = place / "lab"
    assert run("lab", "up", lab) == Done(0, f"the lab host is up: --host lab:{lab}\n", "")
    yield lab
    run("lab", "down", lab)


@pytest.fixture
def ended(folder) -> Path:
    """What domain 3, which ended, left behind."""
    left = folder / "guests" / "3"
    left.mkdir()
    (left / "config.json").write_bytes(config().dump())
    with Lab(folder).store() as store:
        xenstore_layout.introduce(store, config(), Running(3, 1, (), "0"))
    return left
