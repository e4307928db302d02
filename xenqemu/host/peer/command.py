"""The command that carries a migration to the other host: ssh, or whatever an admin names.

As xl has it: a child process, run by `sh -c`, whose standard input and output are the wire; words
in place of a line are run as they are.  Its standard error is passed on, as far as whoever gets it
keeps up, and its last lines are kept for errors.

The child keeps our terminal, so that ssh can ask for a password, but Ctrl-C and a hang-up of the
terminal do not reach it.  Once its input is closed it has `peer_end` to end, and again after
SIGTERM; then it is killed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from xenqemu.errors import HostTimeout, ProtocolError
from xenqemu.formats.stream.source import CHUNK
from xenqemu.host.party_deadlines import DEFAULT_DEADLINES, Deadlines
from xenqemu.host.peer.route import Rune, shown_rune
from xenqemu.host.peer.wire import Wire
from xenqemu.shown_text import printable, shown
from xenqemu.system import child
from xenqemu.system.child import PIPE, Child
from xenqemu.system.deadline import Deadline
from xenqemu.system.descriptors import enlarge
from xenqemu.system.program_output import OutputTail

LINE_MAX = 4096
"""Bytes of a line at most; a longer one is split."""

DETACHED = "trap '' HUP INT\n"
"""What the shell does before the command: these signals are sent to all of a terminal."""

AS_IT_IS = 'exec "$@"'
"""What the shell does where the command is words."""

PERIOD, PATIENCE = 1.0, 0.25
"""Seconds, and how many of them passing on lines may take: no flood outlasts a deadline so."""

NOT_FOUND = 127
"""The exit status of a shell, and so of ssh, that does not find the command."""

OnStderrLine = Callable[[str], None]
"""Called with each line of a command's standard error."""


def ignore_line(_line: str) -> None:
    """Do nothing."""


class StderrLines:
    """A command's standard error, passed on by the line; `words` keeps some of it for errors.

    Of lines that come faster than they are taken, some are left out, and that is said.
    """

    def __init__(self, on_stderr: OnStderrLine) -> None:
        self._on_stderr = on_stderr
        self._part = b""
        self._left_out = 0
        self._spent = self._period_end = 0.0
        self.words = OutputTail()

    def feed(self, piece: bytes) -> None:
        """Take the next piece, b"" at the end."""
        self.words.keep(piece)
        *lines, self._part = (self._part + piece).split(b"\n")
        while len(self._part) >= LINE_MAX or (self._part and not piece):
            lines.append(self._part[:LINE_MAX])
            self._part = self._part[LINE_MAX:]
        for line in lines:
            self._pass_on(line)
        if not piece:
            self._say_left_out()

    def _pass_on(self, line: bytes) -> None:
        now = time.monotonic()
        if now >= self._period_end:
            self._period_end = now + PERIOD
            self._spent = 0.0
            self._say_left_out()
        if self._spent < PATIENCE:
            words = line.decode(errors="backslashreplace").expandtabs().rstrip()
            self._on_stderr(printable(words))
            self._spent += time.monotonic() - now
        else:
            self._left_out += 1

    def _say_left_out(self) -> None:
        if self._left_out:
            count, self._left_out = self._left_out, 0
            self._on_stderr(f"({count} lines were left out)")


class Transport:
    """A command that runs; `wire` leads through it to the other host."""

    def __init__(self, rune: Rune, process: Child, words: OutputTail) -> None:
        self._rune = shown(repr(shown_rune(rune)))
        self._process = process
        self._words = words
        enlarge(process.input.fileno(), CHUNK)
        self.wire = Wire(process.output, process.input, process.ready)

    def finish(self, seconds: float) -> None:
        """Close its input, and wait so long for the command to end."""
        self.wire.hang_up()
        self._process.wait(seconds)

    def note(self, words: bytes) -> None:
        """Keep what else the command said, for `ending`."""
        self._words.keep(words)

    def end(self) -> int:
        """End the command and return its exit status, negative for a signal."""
        return self._process.end()

    def ending(self) -> str:
        """End the command and say how it ended, for an error."""
        status = self.end()
        how = f"status {status}" if status >= 0 else f"signal {-status}"
        return f"{self._rune} ended with {how}: {self._words}"


@contextmanager
def carried(
    rune: Rune, on_stderr: OnStderrLine = ignore_line, deadlines: Deadlines = DEFAULT_DEADLINES
) -> Iterator[Transport]:
    """Run a command for the block.

    After the block it has `deadlines.peer_end` to end, and again after SIGTERM.
    """
    lines = StderrLines(on_stderr)
    words = [rune] if isinstance(rune, str) else [AS_IT_IS, "sh", *rune]
    with child.started(
        shown(repr(shown_rune(rune))),
        ["sh", "-c", DETACHED + words[0], *words[1:]],
        stdin=PIPE,
        stdout=PIPE,
        stderr=lines.feed,
        eof_grace=deadlines.peer_end,
        term_grace=deadlines.peer_end,
    ) as process:
        yield Transport(rune, process, lines.words)


@dataclass(frozen=True)
class CommandResult:
    """What a command answered, its exit status, and how it ended, in words."""

    data: bytes
    status: int
    ending: str


def ask(
    rune: Rune,
    question: bytes,
    limit: int,
    on_stderr: OnStderrLine = ignore_line,
    deadlines: Deadlines = DEFAULT_DEADLINES,
) -> CommandResult:
    """Run a command with `question` as its input, and return what it prints.

    Raises `HostTimeout` if that takes too long, `ProtocolError` for more than `limit` bytes.
    """
    seconds = deadlines.peer_answer
    deadline = Deadline.after(seconds)
    with carried(rune, on_stderr, deadlines) as transport:
        try:
            _send(transport, question, deadline)
            data = transport.wire.read_all(limit, deadline)
        except HostTimeout as error:
            raise HostTimeout(f"no answer within {seconds:g} s; {transport.ending()}") from error
        except ProtocolError as error:
            raise ProtocolError(f"an answer of {error}; {transport.ending()}") from error
        if transport.end():  # nologin says why on its standard output
            transport.note(data)
        return CommandResult(data, transport.end(), transport.ending())


def _send(transport: Transport, question: bytes, deadline: Deadline) -> None:
    rest = memoryview(question)
    with suppress(BrokenPipeError):  # a command may answer without reading it all
        while rest:
            rest = rest[transport.wire.writev([rest], deadline) :]
    transport.wire.hang_up()
