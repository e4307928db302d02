"""The command that carries a migration to the other host: ssh, or whatever an admin names.

As xl has it: a child process, run by `sh -c`, whose standard input and output are the wire.  What
it says on standard error is passed on, and its last lines are kept for errors.

The child keeps our terminal, so that ssh can ask for a password, but Ctrl-C and a hang-up of the
terminal are ours alone to answer.  It is ended for certain: once nobody writes to it any more it
has a moment to end by itself, then it is told to, then it is made to.
"""

from __future__ import annotations

import os
import select
import subprocess
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

from xenqemu.errors import HostError, HostTimeout, ProtocolError
from xenqemu.formats.stream.source import CHUNK
from xenqemu.host.party_deadlines import PATIENCE, Deadlines
from xenqemu.host.peer.wire import Aside, Wire
from xenqemu.system.deadline import Deadline
from xenqemu.system.descriptors import enlarge

PAUSE = 0.01
"""Seconds between two looks whether the child has ended."""

LINES = 8
"""Last lines of what it said on standard error that an error repeats."""

LINE_MAX = 4096
"""Bytes of a line that are waited for; what is longer is taken in pieces."""

DETACHED = "trap '' HUP INT\n"
"""What the shell does before the command: these signals are sent to all of a terminal."""

NOT_FOUND = 127
"""The exit status of a shell, and so of ssh, that does not find the command."""

Listener = Callable[[str], None]
"""Called with each line that the child says on standard error."""


def unheard(_line: str) -> None:
    """Pass nothing on."""


class Said:
    """What comes by a descriptor: passed on by the line, the last lines kept."""

    def __init__(self, fd: int, listener: Listener) -> None:
        self._fd = fd
        self._listener = listener
        self._part = b""
        self._lines: deque[str] = deque(maxlen=LINES)

    def hear(self) -> bool:
        """Read what is there; return False at the end."""
        data = os.read(self._fd, LINE_MAX)
        *lines, self._part = (self._part + data).split(b"\n")
        if self._part and (not data or len(self._part) >= LINE_MAX):
            lines, self._part = [*lines, self._part], b""
        for line in lines:
            self._tell(line.decode(errors="backslashreplace").rstrip())
        return bool(data)

    def __str__(self) -> str:
        """The last lines in one."""
        return "; ".join(filter(None, self._lines)) or "it does not say why"

    def _tell(self, line: str) -> None:
        self._lines.append(line)
        self._listener(line)


class Transport:
    """A command that runs; `wire` leads through it to the other host.

    Once it has to end, it has `patience` seconds to do so, and again when it is told to.
    """

    def __init__(self, rune: str, listener: Listener, patience: float) -> None:
        self._rune = rune
        self._patience = patience
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(
                ["sh", "-c", DETACHED + rune], bufsize=0, stdin=pipe, stdout=pipe, stderr=pipe
            )
        except OSError as error:
            raise HostError(f"cannot run {rune!r}: {error}") from error
        stdin, self._stdout, self._stderr = _pipes(self._process)
        self._said = Said(self._stderr.fileno(), listener)
        self._open = {
            self._stdout.fileno(): self._pass_over,
            self._stderr.fileno(): self._said.hear,
        }
        os.set_blocking(stdin.fileno(), False)
        enlarge(stdin.fileno(), CHUNK)
        aside = Aside(self._stderr.fileno(), self._said.hear)
        self.wire = Wire(self._stdout, stdin, aside)

    def finish(self, seconds: float) -> None:
        """Say no more, and let the command come to its own end, for so long at most."""
        self.wire.hang_up()
        self._ends_within(seconds)

    def end(self) -> int:
        """End the command for certain and return its exit status, negative for a signal."""
        self.wire.hang_up()
        for act in (self._process.terminate, self._process.kill):
            if self._ends_within(self._patience):
                break
            act()
        status = self._process.wait()
        deadline = Deadline.after(self._patience)  # what it started may talk on
        while self._listen(0.0) and not deadline.passed:
            pass
        return status

    def close(self) -> None:
        """End the command and give its pipes back; may be repeated."""
        if not self._stdout.closed:
            self.end()
            self._stdout.close()
            self._stderr.close()

    def ending(self) -> str:
        """End the command and say how it ended, for an error."""
        status = self.end()
        how = f"status {status}" if status >= 0 else f"signal {-status}"
        return f"{self._rune!r} ended with {how}: {self._said}"

    def _ends_within(self, seconds: float) -> bool:
        deadline = Deadline.after(seconds)
        while self._process.poll() is None:
            if deadline.passed:
                return False
            self._listen(PAUSE)
        return True

    def _listen(self, seconds: float) -> bool:
        """Wait for something to be said, take it, and return whether there was anything."""
        poll = select.poll()
        for fd in self._open:
            poll.register(fd, select.POLLIN)
        heard = poll.poll(seconds * 1000)
        for fd, _event in heard:
            if not self._open[fd]():
                del self._open[fd]
        return bool(heard)

    def _pass_over(self) -> bool:
        """Read what is said too late to mean anything; return False at the end."""
        return bool(os.read(self._stdout.fileno(), CHUNK))


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
    assert process.stdin is not None  # all three are pipes
    assert process.stdout is not None
    assert process.stderr is not None
    return process.stdin, process.stdout, process.stderr


@contextmanager
def carried(
    rune: str, listener: Listener = unheard, deadlines: Deadlines = PATIENCE
) -> Iterator[Transport]:
    """Run a command for the block."""
    transport = Transport(rune, listener, deadlines.peer_end)
    try:
        yield transport
    finally:
        transport.close()


@dataclass(frozen=True)
class Answer:
    """What a command said to a question, its exit status, and how it ended, in words."""

    data: bytes
    status: int
    ending: str


def ask(
    rune: str,
    question: bytes,
    limit: int,
    listener: Listener = unheard,
    deadlines: Deadlines = PATIENCE,
) -> Answer:
    """Run a command, give it `question`, and return what it says until it ends.

    Raises `HostTimeout` if that takes too long, `ProtocolError` if it says more than `limit` bytes.
    """
    seconds = deadlines.peer_answer
    deadline = Deadline.after(seconds)
    with carried(rune, listener, deadlines) as transport:
        try:
            _tell(transport, question, deadline)
            data = _told(transport, limit, deadline)
        except HostTimeout as error:
            raise HostTimeout(f"no answer within {seconds:g} s; {transport.ending()}") from error
        return Answer(data, transport.end(), transport.ending())


def _tell(transport: Transport, question: bytes, deadline: Deadline) -> None:
    rest = memoryview(question)
    with suppress(BrokenPipeError):  # whoever does not want to hear it all may answer even so
        while rest:
            rest = rest[transport.wire.writev([rest], deadline) :]
    transport.wire.hang_up()


def _told(transport: Transport, limit: int, deadline: Deadline) -> bytes:
    data = b""
    while piece := transport.wire.read(CHUNK, deadline):
        data += piece
        if len(data) > limit:
            raise ProtocolError(f"an answer of more than {limit} bytes; {transport.ending()}")
    return data
