"""Where a save file goes that is no file here: a command, a FIFO, the standard output.

What is written there passes once, and nobody here can read it back.  A command has taken the save
file when it has read all of it and has ended with status 0.  Of a pipe no more can be known than
that its reader has read all.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from xenqemu.errors import HostError, HostTimeout
from xenqemu.formats.stream.buffers import Buffer
from xenqemu.host.party_deadlines import Deadlines
from xenqemu.host.peer.command import (
    AS_IT_IS,
    DETACHED,
    OnStderrLine,
    StderrLines,
    ignore_line,
)
from xenqemu.host.peer.route import Rune, shown_rune
from xenqemu.shown_text import shown
from xenqemu.system import child
from xenqemu.system.cancellation import wait_cancellable
from xenqemu.system.child import PIPE, Child
from xenqemu.system.pipes import PipeOut, open_fifo_to_write, reopened_to_write

OUTPUT = "standard output"

T = TypeVar("T")


class Target(Protocol):
    """An outlet that takes a save file."""

    def writev(self, buffers: Sequence[Buffer]) -> int:
        """Write some of `buffers`, in order, and return how many bytes that was."""

    def complete(self) -> None:
        """Wait until it is known that it has taken all; raise `HostError` if it has not."""

    def taken(self) -> bool:
        """After an error: end it, and return whether it has taken all."""


class Way(Protocol):
    """A target that is opened when the guest may be saved; `name` is for people."""

    @property
    def name(self) -> str:
        """What it is."""

    def opened(self, deadlines: Deadlines) -> AbstractContextManager[Target]:
        """Open it for a block."""


class ToCommand:
    """A command that reads the save file: a line for a shell, or words for none."""

    def __init__(self, rune: Rune, on_stderr: OnStderrLine = ignore_line) -> None:
        self._rune = rune
        self._on_stderr = on_stderr
        self.name = shown(repr(shown_rune(rune)))

    @contextmanager
    def opened(self, deadlines: Deadlines) -> Iterator[Target]:
        """Run it for a block, after which it is asked to end, and killed if it does not."""
        lines = StderrLines(self._on_stderr)
        with child.started(
            self.name,
            shell_words(self._rune),
            stdin=PIPE,
            stdout=lines.feed,
            stderr=lines.feed,
            term_grace=deadlines.peer_end,
        ) as process:
            yield _Command(self.name, process, lines, deadlines)


def shell_words(rune: Rune) -> list[str]:
    """Return the words that run a command which signals of the terminal do not reach."""
    words = [rune] if isinstance(rune, str) else [AS_IT_IS, "sh", *rune]
    return ["sh", "-c", DETACHED + words[0], *words[1:]]


class _Command:
    def __init__(self, name: str, process: Child, lines: StderrLines, deadlines: Deadlines) -> None:
        self._name = name
        self._process = process
        self._lines = lines
        self._deadlines = deadlines
        self._complete = False
        stall = deadlines.command_stall
        self._pipe = PipeOut(process.input.fileno(), name, stall, process.ready)

    def writev(self, buffers: Sequence[Buffer]) -> int:
        return self._explained(lambda: self._pipe.writev(buffers))

    def complete(self) -> None:
        self._explained(self._pipe.drain)
        self._complete = True
        self._process.hang_up()
        seconds = self._deadlines.command_end
        if not wait_cancellable(self._process.wait, seconds):
            raise HostTimeout(f"{self._name} did not end within {seconds:g} s after the last byte")
        if self._process.status:
            raise HostError(ending(self._name, self._process.status, self._lines))

    def taken(self) -> bool:
        return self._process.end() == 0 and self._complete

    def _explained(self, act: Callable[[], T]) -> T:
        """Return what `act` returns; where nobody reads any more, say how the command ended."""
        try:
            return act()
        except HostTimeout:
            raise
        except HostError as error:
            self._process.wait(self._deadlines.peer_end)
            how = ending(self._name, self._process.end(), self._lines)
            raise HostError(f"{error}: {how}") from error


def ending(name: str, status: int, lines: StderrLines) -> str:
    """Say how a command ended, and its last words, for an error."""
    how = f"status {status}" if status >= 0 else f"signal {-status}"
    return f"{name} ended with {how}: {lines.words}"


class ToFifo:
    """A FIFO, which somebody reads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = str(path)

    @contextmanager
    def opened(self, deadlines: Deadlines) -> Iterator[Target]:
        """Open it for a block, once it has a reader."""
        fd = open_fifo_to_write(self._path, deadlines.command_stall)
        try:
            yield _Pipe(fd, f"the reader of {self.name}", deadlines)
        finally:
            os.close(fd)


class ToStandardOutput:
    """The standard output, if it is a pipe or a file; what else is printed goes to stderr."""

    name = OUTPUT

    @contextmanager
    def opened(self, deadlines: Deadlines) -> Iterator[Target]:
        """Use it for a block."""
        with ExitStack() as stack:
            fd = reopened_to_write(1, OUTPUT)
            stack.callback(os.close, fd)
            yield _Pipe(fd, "the reader of the standard output", deadlines)


def way_to(file: Path, command: Rune | None = None, on_stderr: OnStderrLine = ignore_line) -> Way:
    """Return the way to a command, to the standard output ("-"), or else to a FIFO."""
    if command:
        return ToCommand(command, on_stderr)
    if str(file) == "-":
        return ToStandardOutput()
    return ToFifo(file)


class _Pipe:
    """A pipe, or a file of somebody else's that is only written here."""

    def __init__(self, fd: int, reader: str, deadlines: Deadlines) -> None:
        self._fd = fd
        self._pipe = None
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            self._pipe = PipeOut(fd, reader, deadlines.command_stall)
        self._complete = False

    def writev(self, buffers: Sequence[Buffer]) -> int:
        return self._pipe.writev(buffers) if self._pipe else os.writev(self._fd, buffers)

    def complete(self) -> None:
        if self._pipe:
            self._pipe.drain()
        else:
            os.fsync(self._fd)
        self._complete = True

    def taken(self) -> bool:
        return self._complete
