"""A real Xen host under QEMU, booted once and driven command by command from the tests.

The machine is `scripts/xenbed boot`; its dom0 runs `scripts/xenbed.d/agent.py`, which obeys one
JSON object a line over a virtio-serial port.  Everything bulky goes through a folder that both
sides see, here `Bed.folder` and in dom0 /job: what commands print (run/), files, and /var/log/xen
(log/), so that the logs can be read even when dom0 is dead.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Self

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "scripts/xenbed"
GUESTS = ROOT / ".cache/xenbed/guests"

BOOT = 600.0
"""Seconds until dom0 must obey (it takes 10 to 30)."""
USUAL = 20.0
"""Seconds of a boot from which on a machine is slow: all else has that many times longer, too."""
MOST = 10.0
"""How many times longer at most."""
GRACE = 30.0
"""Seconds for which dom0 may be silent after a command's own deadline; then it is given up."""

_TICK = re.compile(r"^tick (\d+) nonce ([0-9a-f]+)\r+\n", re.MULTILINE)
_CLOCK = re.compile(r"^clock (\d+)\r+\n", re.MULTILINE)

_CLEAN = """
pkill -x xl # or it would restart guests that died
xl list | awk 'NR > 1 && $2 > 0 { print $2 }' | while read -r domid; do xl destroy $domid; done
tries=0
until [ "$(xl list | wc -l)" = 2 ]; do
    tries=$((tries + 1)); [ $tries -lt 40 ] || { xl list; exit 1; }
    sleep 0.25
done
cd /var/log/xen && rm -f guest-* qemu-dm-* xl-* *.serial
rm -rf /tmp/* /run/xenqemu
"""


class BedError(Exception):
    """The machine or its dom0 is lost; the text ends with its console."""


class Result(NamedTuple):
    """How a command ended; rc is 124 when it ran into its timeout and was killed."""

    rc: int
    out: str
    err: str


class Tick(NamedTuple):
    """A line of a guest: its counter and its nonce."""

    number: int
    nonce: str


@dataclass
class Process:
    """A command that runs in dom0, alone in a process group of the number `pid`."""

    bed: Bed
    number: int
    command: str
    deadline: float
    pid: int = 0
    rc: int | None = None

    @property
    def out(self) -> str:
        """What it has printed so far."""
        return self._text("out")

    @property
    def err(self) -> str:
        """What it has complained of so far."""
        return self._text("err")

    def poll(self) -> int | None:
        """Its status, or None while it runs."""
        self.bed.listen(lambda: self.rc is not None, 0)
        return self.rc

    def wait(self, timeout: float | None = None) -> Result:
        """Wait for its end; TimeoutError if `timeout` is over before."""
        patience = self.bed.patience
        last = self.deadline + GRACE * patience - time.monotonic()
        timeout = timeout and timeout * patience
        if not self.bed.listen(lambda: self.rc is not None, min(last, timeout or last)):
            if timeout is None or timeout >= last:
                raise self.bed.give_up(f"dom0 is silent, last about: {self.command}")
            raise TimeoutError(f"still running after {timeout} s: {self.command}")
        assert self.rc is not None
        return Result(self.rc, self.out, self.err)

    def kill(self, signal: str = "KILL") -> None:
        """Send a signal to all of its process group."""
        self.bed.must(f"kill -{signal} -- -{self.pid}")

    def _text(self, suffix: str) -> str:
        return _text(self.bed.folder / f"run/{self.number}.{suffix}")


class Bed:
    """The host; its methods raise BedError once it is lost.

    `disk` is an image that it has as /dev/vdb, and that, other than its own, forgets nothing.
    `patience` is by how much every deadline is longer than told, on a machine that boots slowly.
    `clocks` has by how many seconds, at least and at most, each guest's clock was ahead of dom0's
    when it was first looked at.
    """

    def __init__(
        self, version: str, xenstored: str = "oxenstored", disk: Path | None = None
    ) -> None:
        self.version = version
        self.lost = ""
        self.boot_seconds = 0.0
        self.patience = 1.0
        self._processes: dict[int, Process] = {}
        self._uptime: float | None = None
        self.clocks: dict[str, tuple[int, int]] = {}
        self._rest = b""
        self._temporary = tempfile.TemporaryDirectory(prefix="xenbed.")
        self.folder = Path(self._temporary.name)
        self._wire, theirs = socket.socketpair()
        self._machine = self._start_machine(theirs, xenstored, disk)
        theirs.close()

    def __enter__(self) -> Self:
        began = time.monotonic()
        try:
            if not self.listen(lambda: self._uptime is not None, BOOT):
                raise self.give_up(f"dom0 was not up after {BOOT} s")
        except BedError:
            self._temporary.cleanup()
            raise
        self.boot_seconds = time.monotonic() - began
        self.patience = min(MOST, max(1.0, self.boot_seconds / USUAL))
        return self

    def __exit__(self, *_: object) -> None:
        self.switch_off()
        self._temporary.cleanup()

    # Commands

    def run(self, command: str, timeout: float = 60) -> Result:
        """Run a bash command in dom0 to its end, or kill it at its timeout (rc 124)."""
        return self.start(command, timeout).wait()

    def must(self, command: str, timeout: float = 60) -> str:
        """Run a command that has to end with status 0; what it printed."""
        result = self.run(command, timeout)
        assert result.rc == 0, f"{command}: status {result.rc}\n{result.out}{result.err}"
        return result.out

    def start(self, command: str, timeout: float = 600) -> Process:
        """Start a command beside all others; after `timeout` it is killed."""
        if self.lost:
            raise BedError(self.lost)
        timeout *= self.patience
        process = Process(self, len(self._processes) + 1, command, time.monotonic() + timeout)
        self._processes[process.number] = process
        order = {"id": process.number, "command": command, "timeout": timeout}
        try:
            self._wire.settimeout(GRACE * self.patience)
            self._wire.sendall(json.dumps(order).encode() + b"\n")
        except OSError as error:
            raise self.give_up(f"cannot reach dom0: {error}") from error
        if not self.listen(lambda: process.pid > 0, GRACE * self.patience):
            raise self.give_up(f"dom0 does not start commands: {command}")
        return process

    # Files

    def put(self, name: str, content: bytes | str | Path) -> str:
        """Return dom0 a file; its path there."""
        if isinstance(content, Path):
            content = content.read_bytes()
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return f"/job/{name}"

    def get(self, path: str) -> bytes:
        """The content of a file of dom0."""
        self.must(f"cp -- {shlex.quote(path)} /job/got", timeout=120)
        got = self.folder / "got"
        try:
            return got.read_bytes()
        finally:
            got.unlink()

    # Guests

    def restore(self, name: str, options: Sequence[str] = (), timeout: float = 120) -> int:
        """Bring back by stock `xl restore` what `scripts/xenbed build` has saved; its domid."""
        self.must(f"xl restore {shlex.join(options)} {record(name)}", timeout)
        return self.domid(name)

    def domid(self, name: str) -> int:
        """The number of the domain of this name."""
        return int(self.must(f"xl domid {shlex.quote(name)}"))

    def tell(self, name: str, words: str) -> None:
        """Say a line to the guest on its PV console (scripts/xenbed.d/guest-init)."""
        console = f"/local/domain/{self.domid(name)}/console/tty"
        self.must(f'echo {shlex.quote(words)} >"$(xenstore-read {console})"')

    def clock(self, name: str, timeout: float = 60) -> int:
        """Ask the guest for its time of day, in seconds since 1970."""
        before = len(_CLOCK.findall(self.said(name)))
        self.tell(name, "clock")
        deadline = time.monotonic() + timeout * self.patience
        while len(said := _CLOCK.findall(self.said(name))) == before:
            self.listen(lambda: False, 0.1)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} did not say the time within {timeout} s")
        return int(said[-1])

    def ticks(self, name: str) -> list[Tick]:
        """All ticks of the guest since the test began.

        Read from its PV console, or from its serial port (then: since it was last built).
        """
        return _ticks(self.said(name)) or _ticks(_text(self.folder / f"log/{name}.serial"))

    def said(self, name: str) -> str:
        """What the guest has written to its PV consoles: first, and where it has moved to."""
        consoles = (self.folder / f"log/guest-{name}{came}.log" for came in ("", "--incoming"))
        return "".join(map(_text, consoles))

    def wait_ticks(
        self, name: str, more: int = 2, timeout: float = 60, beyond: list[Tick] | None = None
    ) -> list[Tick]:
        """Wait until the guest has said `more` ticks from now on; all its ticks `beyond` those.

        One that was restored from an older save file says the same again.
        """
        said = self.ticks(name)
        old = said if beyond is None else beyond
        deadline = time.monotonic() + timeout * self.patience
        while (count := len(_without(self.ticks(name), said))) < more:
            self.listen(lambda: False, 0.1)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} said {count} of {more} ticks in {timeout} s")
        return _without(self.ticks(name), old)

    def console(self) -> str:
        """All that Xen and dom0 have said."""
        return _text(self.folder / "console.log")

    def clean(self) -> None:
        """Back to a host without guests, other commands, guests' logs and files in /tmp."""
        self.clocks.clear()
        for process in [each for each in self._processes.values() if each.poll() is None]:
            self.run(f"kill -KILL -- -{process.pid}")
            process.wait()
        self.must(_CLEAN, timeout=120)

    # The machine

    def switch_off(self) -> None:
        """End it at once; its root disk forgets anyway, its logs stay for a while."""
        self._machine.kill()
        self._machine.wait(30)
        self._wire.close()

    def listen(self, heard: Callable[[], bool], timeout: float) -> bool:
        """Take in what dom0 says until `heard`, at most `timeout` seconds; whether it was heard."""
        deadline = time.monotonic() + timeout
        while not heard():
            if self.lost:
                raise BedError(self.lost)
            self._wire.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                piece = self._wire.recv(65536)
            except TimeoutError:
                return False
            except OSError:
                piece = b""
            if not piece:
                raise self.give_up("the machine has ended by itself")
            *lines, self._rest = (self._rest + piece).split(b"\n")
            for line in lines:
                self._take(json.loads(line))
        return True

    def give_up(self, reason: str) -> BedError:
        """End the machine for good; the error that says why, with the end of its console."""
        self.switch_off()
        logs = self.logs()
        shown = "\n".join(f"--- {name}\n{logs.get(name, '')}" for name in ("qemu", "console"))
        self.lost = f"the Xen {self.version} host is lost: {reason}\n{shown}"
        return BedError(self.lost)

    def logs(self, lines: int = 40) -> dict[str, str]:
        """The last lines of the machine's console (Xen and dom0) and of dom0's logs, by name."""
        paths = [self.folder / "qemu.log", self.folder / "console.log"]
        paths += sorted(set((self.folder / "log").iterdir()) - {self.folder / "log/hypervisor.log"})
        texts = {path.stem: path.read_text(errors="replace").splitlines() for path in paths}
        return {name: "\n".join(text[-lines:]) for name, text in texts.items() if text}

    def _take(self, word: dict[str, float]) -> None:
        if "ready" in word:
            self._uptime = word["ready"]
            return
        process = self._processes[int(word["id"])]
        process.pid = int(word.get("pid", process.pid))
        if "rc" in word:
            process.rc = int(word["rc"])

    def _start_machine(
        self, wire: socket.socket, xenstored: str, disk: Path | None
    ) -> subprocess.Popen[bytes]:
        command = ["setpriv", "--pdeathsig", "KILL"]  # QEMU dies with the tests
        command += [str(SCRIPT), "boot", self.version, str(self.folder)]
        command += ["-chardev", f"socket,id=agent,fd={wire.fileno()}", "-device", "virtio-serial"]
        command += ["-device", "virtserialport,chardev=agent,name=agent"]
        if disk:
            command += ["-drive", f"file={disk},format=raw,if=virtio"]
        with (self.folder / "qemu.log").open("wb") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[wire.fileno()],
                env=os.environ | {"XENSTORED": xenstored},
            )


def record(name: str) -> str:
    """The path in dom0 of a guest's save file."""
    return f"/guests/{name}.save"


def saved_ticks(name: str) -> list[Tick]:
    """What the guest of a save file had said when it was saved."""
    return _ticks(_text(GUESTS / f"{name}.console"))


def assert_goes_on(before: list[Tick], after: list[Tick]) -> None:
    """That the guest went on from where it was: the same memory, no tick lost.

    One tick may be lost or doubled, where the guest was suspended in the middle of a line.
    """
    assert {tick.nonce for tick in before} == {tick.nonce for tick in after}
    numbers = [before[-1].number, *(tick.number for tick in after)]
    steps = [later - earlier for earlier, later in pairwise(numbers)]
    assert sum(step != 1 for step in steps) <= 1, numbers
    assert all(0 <= step <= 2 for step in steps), numbers


def _text(path: Path) -> str:
    return path.read_bytes().decode(errors="replace") if path.exists() else ""


def _without(ticks: list[Tick], said: list[Tick]) -> list[Tick]:
    """Return the ticks but those that were `said`, as often as they were."""
    left = Counter(said)
    new = []
    for tick in ticks:
        if left[tick]:
            left[tick] -= 1
        else:
            new.append(tick)
    return new


def _ticks(said: str) -> list[Tick]:
    found = _TICK.findall(said)
    return [Tick(int(number), nonce) for number, nonce in found]
