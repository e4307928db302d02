"""Processes on this machine, distinguished from later ones with the same id."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from xenqemu.errors import HostTimeout
from xenqemu.frozen import Frozen
from xenqemu.system.descriptors import ready

END_TIMEOUT = 10.0
"""Seconds that a process has to end when asked, and again when killed."""

_CREDENTIALS = Struct("iii")
"""Of the other end of a Unix socket: process, user, group (unix(7), SO_PEERCRED)."""

PROC = Path("/proc")

_DELETED = " (deleted)"
"""What Linux adds to the path of a program that was replaced meanwhile."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Return the id of this boot of this machine."""
    return BOOT_ID.read_text().strip()


def peer_credentials(connection: socket.socket) -> tuple[int, int, int]:
    """Return process, user and group at the other end of a Unix socket, as it was connected."""
    size = _CREDENTIALS.size
    pid, uid, gid = _CREDENTIALS.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    return pid, uid, gid


class Process(Frozen):
    """A process id and when it started, in clock ticks since boot (proc(5), field 22)."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """Return the process that has this id now, None if none runs."""
        started = _started(pid)
        return None if started is None else cls(pid, started)

    @property
    def cpu_seconds(self) -> float:
        """For how many seconds its threads have run, all together; 0 once it has ended."""
        fields = _stat(self.pid)
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0

    @property
    def stopped(self) -> bool:
        """Whether a signal or a debugger has stopped it (SIGSTOP, ptrace)."""
        return _stat(self.pid)[:1] in (["T"], ["t"])

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return _started(self.pid) == self.started

    def ends_within(self, seconds: float) -> bool:
        """Wait so long for its end, and return whether it has ended."""
        with self._handle() as handle:
            return handle is None or bool(ready({handle: select.POLLIN}, seconds))

    def end(self) -> None:
        """End it, by SIGTERM and then SIGKILL; nothing if it has ended.

        Raises `HostTimeout` if it is still there after both.
        """
        with self._handle() as handle:
            if handle is not None and not _killed(handle):
                raise HostTimeout(
                    f"process {self.pid} is still there {END_TIMEOUT:g} s after SIGKILL"
                )
        with contextlib.suppress(ChildProcessError):  # it is only our child if we started it
            os.waitpid(self.pid, os.WNOHANG)

    @contextlib.contextmanager
    def _handle(self) -> Iterator[int | None]:
        """Yield a descriptor that is ready to be read once it ends, None if it has ended."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            yield None
            return
        try:
            yield handle if self.alive else None
        finally:
            os.close(handle)


class Command(NamedTuple):
    """A process: its command line, which it may have made up, and the file that it executes.

    `program` is "" where we may not see it.
    """

    pid: int
    words: list[str]
    program: str


def commands(proc: Path = PROC) -> Iterator[Command]:
    """Yield each process of root's or of our own user; one may end while we look.

    Those of other users may call themselves what they like.
    """
    trusted = {0, os.geteuid()}
    for folder in proc.iterdir():
        if not folder.name.isdecimal():
            continue
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if _user(folder) not in trusted:
                continue
            line = (folder / "cmdline").read_bytes()
            if line:  # a thread of the kernel has none
                words = line.decode(errors="surrogateescape").rstrip("\0").split("\0")
                yield Command(int(folder.name), words, _program(folder))


def _user(folder: Path) -> int | None:
    """Return the effective user of the process with this folder in /proc, None if it ends."""
    for line in (folder / "status").read_bytes().splitlines():
        if line.startswith(b"Uid:"):  # real, effective, saved, of the file system
            return int(line.split()[2])
    return None


def _program(folder: Path) -> str:
    """Return the path of the file that a process executes; "" if we may not see it."""
    try:
        return str((folder / "exe").readlink()).removesuffix(_DELETED)
    except PermissionError:
        return ""


def _started(pid: int) -> int | None:
    """Return when a process started, None if it runs no more."""
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def _stat(pid: int) -> list[str]:
    """Return what proc(5) says of a process from field 3 on, nothing if it runs no more.

    A zombie has ended, whether or not its parent has asked yet.
    """
    try:
        text = (PROC / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return []
    # Linux cuts the name after 15 bytes, maybe within a character.
    fields = text.rpartition(b")")[2].decode("ascii").split()
    return [] if fields[0] in "ZX" else fields


def _killed(handle: int) -> bool:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):  # it ended by itself meanwhile
            signal.pidfd_send_signal(handle, number)
        if ready({handle: select.POLLIN}, END_TIMEOUT):
            return True
    return False
