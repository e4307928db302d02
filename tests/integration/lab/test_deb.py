"""The Debian package: made twice, the same; and in a bare Debian from its first day to its last."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden import save_files
from tests.integration.lab.bare_debian import BareDebian
from tests.integration.packages import NEXT, checkout, digest, make, need_packages, newer, run
from xenqemu.version import VERSION

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(900)]

CONF = "etc/xenqemu/xenqemu.conf"
ENABLED = "etc/systemd/system/multi-user.target.wants/xenqemu-save.service"
MADE = ("var/log/xenqemu/domains.log", "run/xenqemu/lock", ENABLED)
"""By others, for this package."""
SAVED = "var/lib/xen/save/web"
"""A guest: nobody else's to remove."""
MINE = "# as its owner has it\n"
CONFFILES = (CONF, "etc/xenqemu/hooks.d/README", "etc/logrotate.d/xenqemu")
OTHERS = (
    *("etc/xenqemu/hooks.d/pre-save.d", "usr/lib/tmpfiles.d/xenqemu.conf"),
    *("usr/lib/systemd/system/xenqemu-save.service", "usr/share/man/man1/xenqemu.1.gz"),
    "usr/lib/systemd/system/xenqemu-restore.service",
    "usr/share/bash-completion/completions/xenqemu",
)
NAMES = {
    "usr/bin/xenqemu": (0, f"xenqemu {VERSION}", "--version"),
    "usr/libexec/xenqemu/libxl-save-helper": (255, "does not run under Xen", "--some", "words"),
    "etc/xen/scripts/xenqemu-block": (1, "xenqemu-vbd: XENBUS_PATH=''"),
    "etc/xen/scripts/xenqemu-vif": (1, "xenqemu-vif: XENBUS_PATH=''"),
}
"""Each name of the program, its exit code, what it says, and to which words."""


@pytest.fixture(scope="module")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    make("deb", folder, umask=0o022)
    return folder / f"xenqemu_{VERSION}_all.deb"


def test_the_same_bytes_wherever_it_is_made(deb: Path, tmp_path: Path) -> None:
    """Also by somebody whose files nobody else may read, and without git."""
    private = checkout(tmp_path / "private", 0o077)
    make("deb", tmp_path / "dist", private, umask=0o077)
    assert digest(tmp_path / "dist" / deb.name) == digest(deb)


def test_lintian_has_nothing_to_say_that_is_not_answered(deb: Path) -> None:
    need_packages("lintian")
    said = run("lintian", "--allow-root", "-EI", "--pedantic", "--fail-on=warning", deb)
    assert said == ""


def test_from_its_installation_to_its_end(deb: Path, tmp_path: Path) -> None:
    system = BareDebian(tmp_path / "debian", "bookworm")
    root, install = system.folder, system.install
    install("python3-pyxs", "python3-tenacity", "python3-xxhash", "python3")
    before = system.files()
    install(deb)
    assert all((root / name).exists() for name in (*CONFFILES, *OTHERS))
    works(system)

    (root / CONF).write_text(MINE)
    for name in (*MADE, SAVED):
        (root / name).parent.mkdir(exist_ok=True, parents=True)
        (root / name).touch()
    later = checkout(tmp_path / "later")
    gone = "xenqemu/formats/gone.py"
    (later / gone).write_text('"""Only in this version."""\n')
    install(newer(later, tmp_path / "next"))
    assert (root / "usr/lib/xenqemu" / gone).exists()
    assert (root / CONF).read_text() == MINE
    assert system.run("xenqemu", "--version") == f"xenqemu {NEXT}\n"
    (later / gone).unlink()
    install(newer(later, tmp_path / "newest", f"{NEXT}.1"))
    assert not list((root / "usr/lib/xenqemu").rglob("gone.*"))

    system.run("apt-get", "remove", "-qq", "xenqemu")
    left = system.files().keys() - before.keys()
    assert {name for name in left if (root / name).is_file()} == {*(*CONFFILES, *MADE, SAVED)}
    system.run("apt-get", "purge", "-qq", "xenqemu")
    folders = {str(folder) for name in (ENABLED, SAVED) for folder in Path(name).parents}
    left = changed(before, system.files())
    assert {name: what for name, what in left.items() if name not in folders} == {SAVED: "left"}


def test_on_a_newer_debian(deb: Path, tmp_path: Path) -> None:
    """Its Python is another; xenqemu.pyz has no bytecode for that."""
    system = BareDebian(tmp_path / "debian", "trixie")
    system.install("python3")
    make("pyz", system.folder / "opt")
    has_all(system, "/opt/xenqemu.pyz")
    system.install(deb)
    works(system)


def has_all(system: BareDebian, program: str) -> None:
    """What needs no guest works: reading a save file, and the lab's own daemon."""
    (system.folder / "tmp/hvm.save").write_bytes(save_files.unpacked("hvm.save"))
    assert "well-formed" in system.run(program, "verify", "/tmp/hvm.save")
    assert "piix4_pm" in system.run(program, "inspect", "/tmp/hvm.save")
    system.run(program, "lab", "up", "/tmp/lab")


def works(system: BareDebian) -> None:
    """All that the package has made programs of runs, with Python's own bytecode beside it."""
    start = system.folder / "usr/lib/xenqemu/start"
    assert start.read_text().startswith("#!/usr/bin/python3 -I\n")
    for name, (code, said, *words) in NAMES.items():
        assert (system.folder / name).is_symlink()
        assert said in system.run(f"/{name}", *words, code=code)
    has_all(system, "xenqemu")
    assert system.run("python3", "-c", "import xenqemu; print(xenqemu.__file__)") == (
        "/usr/lib/xenqemu/xenqemu/__init__.py\n"
    )
    assert list((system.folder / "usr/lib/xenqemu/xenqemu/__pycache__").iterdir())


def changed(before: dict[str, bytes], after: dict[str, bytes]) -> dict[str, str]:
    """Return what has become of the files that are not as they were, but for apt's own."""
    names = {
        name
        for name in before.keys() | after.keys()
        if before.get(name) != after.get(name)
        and not name.startswith(("var/log/apt", "var/lib/apt"))
    }
    return {name: "left" if name in after else "gone" for name in names - {"var/log/dpkg.log"}}
