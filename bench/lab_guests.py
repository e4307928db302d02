"""Guests of two lab hosts, and the commands that are timed on them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from xenqemu.lab.lab_host import Lab

ROOT = Path(__file__).resolve().parents[1]
GUEST = ROOT / ".cache" / "guest"
XENQEMU = [sys.executable, "-m", "xenqemu"]
NAME = "bench"
BOOT = 900.0
"""Seconds until a guest without hardware virtualisation has filled its memory."""

SETTLE = 3.0
"""Seconds until the guest has seen its RTC change twice."""

CFG = """\
name = "{name}"
type = "hvm"
memory = {memory}
kernel = "{guest}/vmlinuz"
ramdisk = "{guest}/initrd"
cmdline = "console=ttyS0 quiet panic=-1 random.trust_cpu=on mitigations=off fill={fill} {words}"
serial = "pty"
vga = "none"
{more}
"""

_LAG = re.compile(r"^lag (\d+)\r*$", re.MULTILINE)


class Guest:
    """A guest that is up: its host, and another one for it."""

    def __init__(self, one: Lab, two: Lab, folder: Path) -> None:
        self.one, self.two, self.folder = one, two, folder

    @property
    def domid(self) -> int:
        """Its id."""
        (domid,) = self.one.hypervisor.domids()
        return domid

    @property
    def console(self) -> str:
        """What it has said."""
        file = self.one.guests / str(self.domid) / "console.log"
        return file.read_text(errors="replace")

    @property
    def stopped(self) -> float:
        """For how many seconds it was stopped so far, by the clock of its machine (frozen.S)."""
        time.sleep(SETTLE)
        found = _LAG.findall(self.console)
        return int(found[-1]) / 1000 if found else 0.0

    def save(self, file: Path, *options: str) -> None:
        """Save it, and let it run on."""
        xenqemu(self.one, "save", "-c", *options, NAME, file)

    def restore(self, file: Path, *options: str) -> None:
        """Restore it on the other host."""
        xenqemu(self.two, "restore", *options, file)

    def forget(self) -> None:
        """Destroy all on the other host."""
        for domid in self.two.hypervisor.domids():
            xenqemu(self.two, "lab", "destroy", str(domid))


class LabGuests:
    """Boots guests; one that is wanted twice is booted once, and one is up at a time."""

    def __init__(self, memory: Path) -> None:
        self._memory = memory
        self._stack = ExitStack()
        self._want: tuple[object, ...] = ()
        self._guest: Guest | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """End the guest that is up, and its hosts."""
        self._guest = None
        self._stack.close()

    def get(
        self, fill: int, memory: int = 0, words: str = "", more: str = "", ram: Path | None = None
    ) -> Guest:
        """Return a guest with `fill` MiB of data in `memory`, its RAM file in `ram`.

        `words` are more of its kernel's command line, `more` lines of its xl.cfg.
        """
        want = (fill, memory, words, more, ram)
        if self._guest is None or self._want != want:
            self.end()
            self._guest, self._want = self._boot(fill, memory, words, more, ram), want
        return self._guest

    def _boot(self, fill: int, memory: int, words: str, more: str, ram: Path | None) -> Guest:
        folder = Path(tempfile.mkdtemp(prefix="bench.", dir=self._memory))
        self._stack.callback(shutil.rmtree, folder)
        one, two = Lab(folder / "1"), Lab(folder / "2")
        for lab in (one, two):
            where: list[str | Path] = ["--ram", ram] if ram else []
            command([*XENQEMU, "lab", "up", *where, lab.folder])
            self._stack.callback(lab.down)
        text = CFG.format(
            name=NAME, memory=memory or fill + 256, guest=GUEST, fill=fill, words=words, more=more
        )
        (folder / "bench.cfg").write_text(text)
        xenqemu(one, "lab", "create", folder / "bench.cfg")
        guest = Guest(one, two, folder)
        deadline = time.monotonic() + BOOT
        while "tick" not in guest.console:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the guest is not up after {BOOT:g} s")
            time.sleep(0.5)
        return guest


def without_guests() -> str:
    """Return why no guest can be booted."""
    if not (GUEST / "vmlinuz").exists():
        return f"{GUEST} is missing: scripts/setup.sh makes it"
    return "" if shutil.which("qemu-system-x86_64") else "there is no qemu-system-x86_64"


def command(words: list[str | Path]) -> None:
    """Run a program; raise `CalledProcessError` with its words if it fails."""
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def xenqemu(lab: Lab, *words: str | Path) -> None:
    """Run a command of xenqemu on a lab host."""
    command([*XENQEMU, "--host", f"lab:{lab.folder}", *words])
