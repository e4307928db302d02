"""What scripts/package makes, and how it is run: without anything of this checkout."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from xenqemu.version import VERSION

ROOT = Path(__file__).parents[2]
PYTHON = "/usr/bin/python3"
BARE = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/nonexistent"}
EPOCH = "1700000000"
"""The time in all that is made."""
NEXT = f"{VERSION}.1"


def make(kind: str, dist: Path, checkout: Path = ROOT, umask: int = -1) -> None:
    """Have a checkout's scripts/package make something, in the folder `dist`."""
    dist.mkdir(exist_ok=True)
    subprocess.run(
        [checkout / "scripts" / "package", kind],
        check=True,
        env={**os.environ, "DIST": str(dist), "SOURCE_DATE_EPOCH": EPOCH},
        umask=umask,
    )


def need_packages(*names: str) -> None:
    """Have Debian packages that no other test needs."""
    words = ["sh", "-euc", '. scripts/setup.sh && need_packages "$@"', "scripts/test", *names]
    subprocess.run(words, check=True, cwd=ROOT)


def tracked(*places: str) -> list[str]:
    """Return the files of the checkout that are of its commit, or will be of the next."""
    command = ["git", "ls-files", "-co", "--exclude-standard", *places]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def run(
    *words: str | Path,
    code: int = 0,
    folder: Path = Path("/"),
    environment: Mapping[str, str] = BARE,
) -> str:
    """Run a program, in an environment without anything; return all that it says."""
    done = subprocess.run(
        list(words), env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    return said


def digest(file: Path) -> str:
    """Return what tells files apart; pytest would take minutes to show how their bytes differ."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def checkout(folder: Path, umask: int = 0o022) -> Path:
    """Return a copy of this checkout, made with a umask, that git knows nothing of."""
    for name in tracked():
        mode = (ROOT / name).stat().st_mode & 0o777 & ~umask
        subprocess.run(
            ["install", "-D", "-m", f"{mode:o}", ROOT / name, folder / name],
            check=True,
            umask=umask,
        )
    return folder


def newer(tree: Path, dist: Path, version: str = NEXT) -> Path:
    """Return the package of a later version, made of another checkout."""
    module = tree / "xenqemu/version.py"
    module.write_text(f'"""The version."""\n\nVERSION = "{version}"\n')
    make("deb", dist, tree)
    return dist / f"xenqemu_{version}_all.deb"
