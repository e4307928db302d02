"""What scripts/package makes, and how it is run: without anything of this checkout."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[3]
PYTHON = "/usr/bin/python3"
BARE = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/nonexistent"}
EPOCH = "1700000000"
"""The time in all that is made."""


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
