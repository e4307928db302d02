"""xenqemu.pyz: one file, on a machine that has nothing of ours; and made twice, the same."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.integration.packages import BARE, EPOCH, PYTHON, ROOT, digest, make, run, tracked

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    make("pyz", folder)
    return folder / "xenqemu.pyz"


def test_the_same_bytes_wherever_it_is_made(pyz: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    left = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "xenqemu", other / "xenqemu", ignore=left)
    shutil.copytree(ROOT / "scripts" / "package.d", other / "package.d", ignore=left)
    shutil.copy(ROOT / "LICENSE", other)
    made = other / "made.pyz"
    words = (other / "package.d" / "pyz.py", other, ROOT / ".cache/bundled", made, EPOCH)
    subprocess.run(
        [PYTHON, "-I", *words],
        check=True,
        umask=0o077,
        cwd=other,
    )
    assert digest(made) == digest(pyz)
    assert made.stat().st_mode & 0o777 == pyz.stat().st_mode & 0o777 == 0o755


def test_each_module_is_there_as_bytecode(pyz: Path) -> None:
    with zipfile.ZipFile(pyz) as archive:
        names = set(archive.namelist())
    modules = {name for name in names if name.endswith(".py")}
    assert {f"{name}c" for name in modules} == {name for name in names if name.endswith(".pyc")}
    assert modules > {name for name in tracked("xenqemu") if name.endswith(".py")}


def test_a_guest_by_one_file(pyz: Path, folder: Path, firmware_record: Path) -> None:
    """There is no other program of ours, no module of ours, and no folder but its own."""
    shutil.copy(pyz, folder / "xenqemu.pyz")
    conf, here = folder / "conf", f"lab:{folder}/lab"
    conf.write_text(f'hooks.folder = "{folder}/hooks.d"\n')
    hook = folder / "hooks.d" / "post-save.d" / "10-note"
    hook.parent.mkdir(parents=True)
    hook.write_text(f"#!/bin/sh\ncat >{folder}/told\n")
    hook.chmod(0o755)

    def ours(*words: str | Path, code: int = 0) -> str:
        return run("./xenqemu.pyz", *words, code=code, folder=folder)

    assert ours("--version").startswith("xenqemu ")
    ours("lab", "up", folder / "lab")
    try:
        ours("--host", here, "restore", firmware_record)
        said = ours("--conf", conf, "--host", here, "save", "--compress=1", "tiny", "tiny.save")
        assert "saved tiny to tiny.save: xl, " in said
        assert '"name": "tiny"' in (folder / "told").read_text()
        assert "sound and sealed" in ours("verify", "tiny.save")
        assert "acpi_build" in ours("inspect", "tiny.save")
        assert ", running" in ours("--host", here, "restore", "tiny.save")
        assert "no domain 'other'" in ours("--host", here, "status", "other", code=3)
    finally:
        ours("lab", "down", folder / "lab")


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("libxl-save-helper", 255, "this machine does not run under Xen"),
        ("xenqemu-block", 1, "xenqemu-vbd: XENBUS_PATH=''"),
        ("xenqemu-vif", 1, "xenqemu-vif: XENBUS_PATH=''"),
    ],
)
def test_it_is_what_it_is_called(
    pyz: Path, tmp_path: Path, name: str, code: int, said: str
) -> None:
    (tmp_path / name).symlink_to(pyz)
    assert said in run(tmp_path / name, "--some", "words", code=code)


def test_nothing_of_the_environment_gets_in(pyz: Path, tmp_path: Path) -> None:
    (tmp_path / "pyxs.py").write_text("raise SystemExit('another module')\n")
    done = subprocess.run(
        [pyz, "--host", "lab:/nonexistent", "status", "1"],
        env={**BARE, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "another module" not in done.stderr
    assert done.returncode == 3
