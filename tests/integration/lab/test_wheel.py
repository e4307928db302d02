"""The wheel and the source archive: whole, and installed by pip and pipx in places of their own."""

from __future__ import annotations

import os
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.golden import save_files
from tests.integration.packages import PYTHON, ROOT, digest, make, need_packages, run, tracked
from xenqemu.version import VERSION

ARCHIVE = f"xenqemu-{VERSION}.tar.gz"
WHEEL = f"xenqemu-{VERSION}-py3-none-any.whl"
EXAMPLES = "share/doc/xenqemu/examples"

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    make("wheel", folder)
    return folder


@pytest.fixture(scope="module")
def unpacked(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source as whoever has only the archive has it."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(dist / ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder / f"xenqemu-{VERSION}"


def test_the_source_archive_has_all_that_the_repository_has(unpacked: Path) -> None:
    files = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    made = {name for name in files if name.startswith("xenqemu.egg-info/")} | {"PKG-INFO"}
    assert sorted(files - made) == sorted(tracked())
    for name in set(tracked()) - {"setup.cfg"}:  # to which setuptools adds lines of its own
        assert digest(unpacked / name) == digest(ROOT / name), name
        assert os.access(unpacked / name, os.X_OK) == os.access(ROOT / name, os.X_OK), name


def test_the_wheel_has_all_that_runs(dist: Path) -> None:
    with zipfile.ZipFile(dist / WHEEL) as wheel:
        names = set(wheel.namelist())
    about = f"xenqemu-{VERSION}.dist-info"
    assert {name for name in names if name.startswith("xenqemu/")} == set(tracked("xenqemu"))
    examples = {Path(name).name for name in names if EXAMPLES in name}
    assert examples == {"xenqemu.conf", *(path.name for path in (ROOT / "etc/examples").iterdir())}
    assert f"{about}/licenses/LICENSE" in names


def test_the_same_wheel_out_of_the_archive(dist: Path, unpacked: Path, tmp_path: Path) -> None:
    """There is no git, and another umask."""
    private = tmp_path / "private"
    subprocess.run(["cp", "-r", unpacked, private], check=True, umask=0o077)
    make("wheel", tmp_path / "dist", private, umask=0o077)
    assert digest(tmp_path / "dist" / WHEEL) == digest(dist / WHEEL)


def works(programs: Path, folder: Path) -> None:
    """All that pip has made programs of runs, where no module of the folder gets into it."""
    for name in ("json", "pyxs", "xenqemu"):
        (folder / f"{name}.py").write_text("raise SystemExit('a module of this folder')\n")
    (folder / "hvm.save").write_bytes(save_files.unpacked("hvm.save"))

    def ours(*words: str | Path) -> str:
        return run(programs / "xenqemu", *words, folder=folder)

    assert ours("--version") == f"xenqemu {VERSION}\n"
    assert "well-formed" in ours("verify", "hvm.save")
    ours("lab", "up", folder / "lab")
    try:
        assert "no domain" in run(
            *(programs / "xenqemu", "--host", f"lab:{folder}/lab", "status", "other"), code=3
        )
    finally:
        ours("lab", "down", folder / "lab")
    for name, code, said in (
        ("libxl-save-helper", 255, "this machine does not run under Xen"),
        ("xenqemu-block", 1, "xenqemu-vbd: XENBUS_PATH=''"),
        ("xenqemu-vif", 1, "xenqemu-vif: XENBUS_PATH=''"),
    ):
        assert said in run(programs / name, "--some", "words", code=code, folder=folder)


@pytest.mark.parametrize("name", [ARCHIVE, WHEEL])
def test_pip_installs_it(dist: Path, tmp_path: Path, name: str) -> None:
    subprocess.run([PYTHON, "-m", "venv", tmp_path / "venv"], check=True)
    pip = (tmp_path / "venv/bin/python", "-m", "pip", "install", "-q")
    subprocess.run([*pip, dist / name], check=True)
    works(tmp_path / "venv/bin", tmp_path)
    assert (tmp_path / "venv" / EXAMPLES / "xenqemu.conf").exists()
    typed = (
        "import xenqemu, importlib.resources as r; print((r.files(xenqemu) / 'py.typed').is_file())"
    )
    assert run(tmp_path / "venv/bin/python", "-I", "-c", typed) == "True\n"


@pytest.mark.long
def test_pipx_installs_it(dist: Path, tmp_path: Path) -> None:
    need_packages("pipx")
    homes = {"PIPX_HOME": str(tmp_path / "home"), "PIPX_BIN_DIR": str(tmp_path / "bin")}
    surroundings = {**os.environ, **homes, "PIPX_DEFAULT_PYTHON": PYTHON}
    said = run("pipx", "install", dist / WHEEL, environment=surroundings)
    assert "- libxl-save-helper\n    - xenqemu\n    - xenqemu-block\n    - xenqemu-vif\n" in said
    works(tmp_path / "bin", tmp_path)
    run("pipx", "uninstall", "xenqemu", environment=surroundings)
    assert list((tmp_path / "bin").iterdir()) == []
