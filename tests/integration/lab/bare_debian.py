"""A Debian in a folder: apt, dpkg, and what these need."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.integration.packages import ROOT, run

MAKE = """
. scripts/setup.sh
need_packages mmdebstrap
apt_sources "$1.apt" "$2"
mmdebstrap --mode=root --variant=minbase --quiet --aptopt="$1.apt.conf" \
    --dpkgopt=path-exclude='/usr/share/locale/*' "$2" "$1" "$1".apt/*
cp /etc/resolv.conf "$1/etc/"
cp -r /etc/ssl/certs "$1/etc/ssl/"
"""
"""What apt needs to reach its sources from within: names, and whom it trusts."""

INSIDE = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/nonexistent",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}


class BareDebian:
    """It, in `folder`; only root can make and use it."""

    def __init__(self, folder: Path, suite: str) -> None:
        self.folder = folder
        subprocess.run(["sh", "-euc", MAKE, "scripts/test", folder, suite], check=True, cwd=ROOT)
        self.run("apt-get", "update", "-qq")

    def run(self, *words: str, code: int = 0) -> str:
        """Run a program in it, in processes of its own; return all that it says."""
        inside = ("unshare", "--pid", "--fork", "--kill-child", f"--root={self.folder}")
        return run(*inside, "--mount-proc", *words, code=code, environment=INSIDE)

    def install(self, *packages: str | Path) -> None:
        """Have apt install packages, by their names and as files, with what they depend on."""
        for package in packages:
            if isinstance(package, Path):
                shutil.copy(package, self.folder / "tmp")
        words = [f"/tmp/{each.name}" if isinstance(each, Path) else each for each in packages]
        self.run("apt-get", "install", "-qq", "--no-install-recommends", *words)

    def files(self) -> dict[str, bytes]:
        """Return what each file that is neither a device nor the system's own has in it."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            name = str(path.relative_to(self.folder))
            if name.startswith(("dev/", "proc/", "sys/", "tmp/", "var/lib/dpkg/", "var/cache/")):
                continue
            if path.is_symlink():
                found[name] = str(path.readlink()).encode()
            elif path.is_file():
                found[name] = path.read_bytes()
            elif path.is_dir():
                found[name] = b"a folder"
        return found
