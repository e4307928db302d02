"""Real guests on real lab hosts: commands as processes, consoles read, memory compared.

A guest counts on its console and names a nonce that lives nowhere but in its memory, so that
what it says tells whether it was truly brought back.  Booting takes long; so guests are booted
once and saved (`Seed`), and each test restores the one it needs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tests.doubles.system.commands import answer
from tests.integration import moments
from xenqemu.formats.stream.detect import Walk
from xenqemu.formats.stream.page_data import XALLOC, PageData
from xenqemu.formats.stream.source import Source
from xenqemu.lab.lab_host import Lab
from xenqemu.lab.plain_qemu import Machine

TIMEOUT = 180.0
"""Seconds to wait for what takes a few on a machine that has nothing else to do."""

PROGRAM = [sys.executable, "-m", "xenqemu"]
KERNEL = Path(__file__).parents[3] / ".cache" / "guest"
REWRITTEN = re.compile(rb"^rewritten (\d+)\r*\n", re.MULTILINE)
TICK = re.compile(rb"tick (\d+) nonce ([0-9a-f]{16})\r*\n")
PAGE = 4096
BELOW = 3 << 30
ABOVE = 4 << 30

CFG = """\
name = "{name}"
type = "hvm"
memory = {memory}
serial = "pty"
vga = "none"
"""
LINUX = f"""\
kernel = "{KERNEL}/vmlinuz"
ramdisk = "{KERNEL}/initrd"
cmdline = "console=ttyS0 quiet panic=-1 random.trust_cpu=on mitigations=off every=0.1 fill=%d"
"""

FILL = 128
"""MiB of data that is not zero in the big guest."""


class Done(NamedTuple):
    """What became of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return answer(self.out)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What a command told, a line each; not the error that ended it."""
        told = [answer(line) for line in self.out.splitlines()]
        return told[:-1] if told and "error" in told[-1] else told

    def good(self) -> Done:
        assert (self.code, self.err) == (0, ""), f"exit status {self.code}\n{self.out}{self.err}"
        return self


class Host:
    """A lab host and the commands on it, in the network namespace of a name if it has one."""

    def __init__(self, folder: Path, network: str = "") -> None:
        self.lab = Lab(folder)
        self.option = f"lab:{folder}"
        self._inside = ["ip", "netns", "exec", network] if network else []

    def command(self, *words: object, program: Sequence[str] = PROGRAM) -> list[str]:
        return [*self._inside, *program, "--host", self.option, *map(str, words)]

    def run(self, *words: object, program: Sequence[str] = PROGRAM, **options: Any) -> Done:
        """Run `xenqemu --host lab:… WORDS` to its end."""
        done = subprocess.run(
            self.command(*words, program=program),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
            stdin=subprocess.DEVNULL,
            **options,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def must(self, *words: object) -> str:
        return self.run(*words).good().out

    def list(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = answer(self.must("lab", "list", "--json"))["domains"]
        return found

    def status(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = answer(self.must("status", "--json", name))
        return found

    def guest(self, name: str) -> Guest:
        return Guest(self, name, int(self.status(name)["domid"]))

    def create(self, text: str, *options: str) -> Guest:
        """Start a guest from the text of an xl.cfg."""
        cfg = self.lab.folder / "guest.cfg"
        cfg.write_text(text)
        made = self.run("lab", "create", "--json", *options, cfg).good().json
        return Guest(self, made["name"], made["domid"])

    def restore(self, record: Path, *options: str) -> Guest:
        """Bring a guest back."""
        lines = self.must("restore", "--json", *options, record).splitlines()
        done = json.loads(lines[-1])
        return Guest(self, done["name"], done["domid"])

    def empty(self) -> bool:
        """Return whether there is nothing of any domain: no folder, no socket, no node."""
        with self.lab.store() as store:
            nodes = [
                *(name for name in store.list("/local/domain") or () if name != "0"),
                *(store.list("/vm") or ()),
                *(store.list("/libxl") or ()),
                *(store.list("/local/domain/0/device-model") or ()),
            ]
        return [*self.lab.guests.iterdir(), *self.lab.run.iterdir(), *nodes] == []

    def clean(self) -> None:
        """End all domains and what was begun with them, whatever a test left."""
        self.lab.up()
        for domid in self.lab.hypervisor.domids():
            self.lab.destroy(domid)
        shutil.rmtree(self.lab.folder / "operations", ignore_errors=True)


@dataclass
class Guest:
    """A domain; `earlier` is what the same guest said on the console of former ones."""

    host: Host
    name: str
    domid: int
    earlier: bytes = b""

    @property
    def folder(self) -> Path:
        return self.host.lab.guests / str(self.domid)

    @property
    def ram(self) -> Path:
        return self.folder / "ram"

    @property
    def said(self) -> bytes:
        """All that it said, since it booted."""
        return self.earlier + (self.folder / "console.log").read_bytes()

    @property
    def machine(self) -> Machine:
        found = Machine.load(self.folder)
        assert found is not None
        return found

    def wait_tick(self, more: int = 2) -> None:
        """Wait until it has said some more whole lines."""
        wanted = len(TICK.findall(self.said)) + more
        wait(
            lambda: len(TICK.findall(self.said)) >= wanted, lambda: f"it said {self.said[-500:]!r}"
        )

    def wait_rewritten(self, more: int = 2) -> None:
        """Wait until it has looked after its memory for some more seconds, and found it right."""
        wanted = len(REWRITTEN.findall(self.said)) + more
        wait(
            lambda: len(REWRITTEN.findall(self.said)) >= wanted or b"WRONG" in self.said,
            lambda: f"it said {self.said[-500:]!r}",
        )
        assert b"WRONG" not in self.said

    def save(self, record: Path, *options: str) -> bytes:
        """Save it and return all that it has said until then."""
        console = (self.folder / "console.log").open("rb")  # the file's name goes away
        with console:
            self.host.must("save", *options, self.name, record)
            return self.earlier + console.read()

    def moved(self, to: Host, record: Path) -> Guest:
        """Save it, restore it on another host, and return it there."""
        earlier = self.save(record)
        guest = to.restore(record)
        guest.earlier = earlier
        return guest


@dataclass(frozen=True)
class Seed:
    """A guest that was booted and saved: its save file, and what it had said."""

    record: Path
    said: bytes

    def on(self, host: Host, *options: str) -> Guest:
        """Bring it back."""
        guest = host.restore(self.record, *options)
        guest.earlier = self.said
        return guest

    @classmethod
    def boot(cls, host: Host, text: str, record: Path) -> Seed:
        """Start a guest, wait until it counts, save it."""
        assert (KERNEL / "initrd").exists(), f"no guest in {KERNEL}: scripts/test brings it"
        guest = host.create(text)
        guest.wait_tick(2)
        return cls(record, guest.save(record))


def at(host: Host, moment: str, act: str, *words: object, room: int = 1) -> Done:
    """Run `xenqemu --host … WORDS`, and execute `act` in it at a moment.

    Without `room`, it runs as on a file system that sets none aside.
    """
    text = moments.PROGRAM if room else NO_RESERVING + moments.PROGRAM
    return host.run(*words, program=[sys.executable, "-c", text, moment, act])


NO_RESERVING = "import xenqemu.system.staged_file as staging; staging.reserve = lambda *_: None\n"
"""As on a file system whose room goes to somebody else meanwhile."""


def wait(ready: Callable[[], bool], words: Callable[[], str], seconds: float = TIMEOUT) -> None:
    """Wait until something is true; fail with `words` if it never is."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, words()
        time.sleep(0.02)


def ticks(said: bytes) -> int:
    """Return how far a guest has counted; check that it is one guest that never stumbled."""
    begin = said.index(b"tick 1 nonce")
    lines = said[begin:].splitlines(keepends=True)
    if not lines[-1].endswith(b"\n"):
        lines.pop()
    found = [TICK.fullmatch(line) for line in lines]
    counted = [(int(each[1]), each[2]) if each else None for each in found]
    nonce = lines[0].split()[-1]
    assert counted == [(number, nonce) for number in range(1, len(lines) + 1)]
    return len(lines)


def pages(record: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (pfn, contents) of all pages that a save file has, in its order; XALLOC gives zeros."""
    found: list[tuple[int, bytes]] = []

    def take(table: PageData, source: Source) -> None:
        for run in table.runs():
            for pfn in range(run.pfn, run.pfn + run.pages):
                if run.has_data:
                    found.append((pfn, source.exact(PAGE, "page")))
                elif run.type == XALLOC:
                    found.append((pfn, bytes(PAGE)))

    with record.open("rb") as file:
        for _ in Walk(Source(file), take):
            yield from found
            found.clear()


def assert_same_memory(ram: Path, record: Path) -> tuple[int, int]:
    """Compare a guest's RAM with a save file, page by page; return how many pages lie where.

    What the record does not have must be zeros, which holes of the file are.
    """
    below = above = 0
    known = set()
    last = dict(pages(record))  # of a live record, the later ones count
    with ram.open("rb") as file:
        for pfn, contents in last.items():
            address = pfn * PAGE
            offset = address if address < BELOW else address - ABOVE + BELOW
            assert address < BELOW or address >= ABOVE
            assert os.pread(file.fileno(), PAGE, offset) == contents, f"page {pfn:#x}"
            known.add(offset)
            below, above = below + (address < BELOW), above + (address >= ABOVE)
        for offset in _data(file.fileno()):
            if offset not in known:
                assert os.pread(file.fileno(), PAGE, offset) == bytes(PAGE), f"at {offset:#x}"
    return below, above


def _data(fd: int) -> Iterator[int]:
    """Yield the offsets of all pages of a file that are no hole."""
    end = 0
    size = os.fstat(fd).st_size
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError:  # only a hole is left
            return
        end = os.lseek(fd, start, os.SEEK_HOLE)
        yield from range(start, end, PAGE)
