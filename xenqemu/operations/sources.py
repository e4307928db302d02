"""Where a save file comes from that is no file here: a command, a FIFO, the standard input.

It is read once.  A command has sent all of it when it has ended with status 0.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from xenqemu.errors import HostError, HostTimeout, UsageError
from xenqemu.host.party_deadlines import Deadlines
from xenqemu.host.peer.command import OnStderrLine, StderrLines, ignore_line
from xenqemu.host.peer.route import Rune, shown_rune
from xenqemu.host.trust import Trust
from xenqemu.operations.targets import ending, shell_words
from xenqemu.shown_text import shown
from xenqemu.system import child
from xenqemu.system.cancellation import wait_cancellable
from xenqemu.system.child import PIPE, Child
from xenqemu.system.descriptors import kind_of
from xenqemu.system.pipes import PipeIn
from xenqemu.system.writers import require_owned, require_sole_writers, trusted_ids


class SaveSource(Protocol):
    """An inlet of a save file, which ends it."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, b"" at the end."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill some of `buffer`; return how much, 0 at the end."""

    def finish(self) -> None:
        """After the end: raise `HostError` unless whoever sent it says that this was all."""


class From(Protocol):
    """A source that is opened for a block; `name` is for people."""

    @property
    def name(self) -> str:
        """What it is."""

    def opened(self, deadlines: Deadlines, trust: Trust) -> AbstractContextManager[SaveSource]:
        """Open it for a block."""


class FromCommand:
    """A command that prints the save file: a line for a shell, or words for none."""

    def __init__(self, rune: Rune, on_stderr: OnStderrLine = ignore_line) -> None:
        self._rune = rune
        self._on_stderr = on_stderr
        self.name = shown(repr(shown_rune(rune)))

    @contextmanager
    def opened(self, deadlines: Deadlines, _trust: Trust) -> Iterator[SaveSource]:
        """Run it for a block, after which it is asked to end, and killed if it does not."""
        lines = StderrLines(self._on_stderr)
        with child.started(
            self.name,
            shell_words(self._rune),
            stdout=PIPE,
            stderr=lines.feed,
            term_grace=deadlines.peer_end,
        ) as process:
            yield _Command(self.name, process, lines, deadlines)


class _Command(PipeIn):
    def __init__(self, name: str, process: Child, lines: StderrLines, deadlines: Deadlines) -> None:
        super().__init__(process.output.fileno(), name, deadlines.command_stall, process.ready)
        self._process = process
        self._lines = lines
        self._seconds = deadlines.command_end

    def finish(self) -> None:
        if not wait_cancellable(self._process.wait, self._seconds):
            why = f"did not end within {self._seconds:g} s after the last byte"
            raise HostTimeout(f"{self.name} {why}")
        if self._process.status:
            raise HostError(ending(self.name, self._process.status, self._lines))


class _Pipe(PipeIn):
    def finish(self) -> None:
        """Return: its end is all that there is to know."""


class FromFifo:
    """A FIFO that only root and the users whom we trust can write to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = str(path)

    @contextmanager
    def opened(self, deadlines: Deadlines, trust: Trust) -> Iterator[SaveSource]:
        """Open it for a block; who writes to it may come later."""
        users = trusted_ids(trust.owners)
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(self._path, flags)
        try:
            require_owned(self._path, os.fstat(fd), users)
            require_sole_writers(self._path, users)
            yield _Pipe(fd, self.name, deadlines.command_stall)
        finally:
            os.close(fd)


def way_from(
    file: Path, command: Rune | None = None, on_stderr: OnStderrLine = ignore_line
) -> From:
    """Return the way from a command, from the standard input ("-"), or else from a FIFO."""
    if command:
        return FromCommand(command, on_stderr)
    if str(file) == "-":
        return FromStandardInput()
    return FromFifo(file)


class FromStandardInput:
    """The standard input."""

    name = "standard input"

    @contextmanager
    def opened(self, deadlines: Deadlines, _trust: Trust) -> Iterator[SaveSource]:
        """Use it for a block."""
        if os.isatty(0):
            mode = os.fstat(0).st_mode
            raise UsageError(f"{self.name} is {kind_of(mode)}, expected a pipe or a file")
        yield _Pipe(0, self.name, deadlines.command_stall)
