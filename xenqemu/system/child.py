"""Other programs: started, fed, heard, waited for, and ended for certain.  This is the only door.

No wait here is without end: not on a program that ignores SIGTERM or sleeps in the kernel, not on
one that talks for ever or does not read, and not on what it leaves running with its pipes open.

A program has no descriptors but those that it is given, and finds SIGPIPE and SIGXFSZ as they were
before Python ignored them.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from xenqemu.errors import HostError, HostTimeout
from xenqemu.system.cancellation import patiently
from xenqemu.system.deadline import Deadline
from xenqemu.system.descriptors import memory_file, ready
from xenqemu.system.process import END_TIMEOUT
from xenqemu.system.program_words import Words, last_words
from xenqemu.system.signals import undisturbed

Hear = Callable[[bytes], None]
"""Takes each piece of what a program says, and b"" at its end."""

PIPE, NOWHERE = subprocess.PIPE, subprocess.DEVNULL

PIPE_SIZE = 16 * mmap.PAGESIZE
"""Bytes that a pipe holds (pipe(7)): what an ended program has left in one is one piece."""

MOST = 16 << 20
"""Bytes that a program may print where all of them are wanted."""


@dataclass(eq=False)
class Child:
    """A program that runs; `started` makes one."""

    _what: str
    _process: subprocess.Popen[bytes]
    _handle: int
    _ears: dict[int, Hear]
    _alone: float
    _told: float
    _group: bool

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def status(self) -> int:
        """Its exit status, negative for a signal, once `wait` or `end` has seen its end."""
        assert self._process.returncode is not None
        return self._process.returncode

    @property
    def input(self) -> IO[bytes]:
        """The pipe that it reads; we do not block on it."""
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def output(self) -> IO[bytes]:
        """The pipe that it prints to."""
        assert self._process.stdout is not None
        return self._process.stdout

    def ready(self, wanted: Mapping[int, int], seconds: float) -> list[int]:
        """Return which descriptors are ready, each for its events of poll(2).

        None are after `seconds`, or sooner if the program has said something, which is heard.
        """
        found = ready({**wanted, **dict.fromkeys(self._ears, select.POLLIN)}, seconds)
        for pipe in self._ears.keys() & set(found) - wanted.keys():
            ear = self._ears.pop(pipe)  # who cannot hear it is not asked again
            piece = os.read(pipe, PIPE_SIZE)
            ear(piece)
            if piece:
                self._ears[pipe] = ear
        return [descriptor for descriptor in found if descriptor in wanted]

    def feed(self, data: bytes | memoryview, seconds: float) -> None:
        """Have it read `data`; meanwhile the operation that this is part of is attended to.

        Raises `BrokenPipeError` if it reads no more, `HostTimeout` if it reads nothing for
        `seconds`.
        """
        rest, fd = memoryview(data), self.input.fileno()
        while rest:
            if not patiently(lambda part: self.ready({fd: select.POLLOUT}, part), seconds):
                raise HostTimeout(f"{self._what} read nothing for {seconds:g} s")
            rest = rest[os.write(fd, rest) :]

    def hang_up(self) -> None:
        """Let it find the end of its input; may be repeated."""
        if self._process.stdin:
            self._process.stdin.close()

    def wait(self, seconds: float) -> bool:
        """Wait so long for its end, and return whether it has ended.

        What it prints and nobody hears is passed over.
        """
        if self._process.returncode is not None:
            return True
        if self._process.stdout:
            self._ears.setdefault(self._process.stdout.fileno(), _pass_over)
        deadline = Deadline.after(seconds)
        while self._process.poll() is None:
            if deadline.passed:
                return False
            self.ready({self._handle: select.POLLIN}, deadline.left)
        self.ready({}, 0.0)  # its last words; whoever else has the pipe is not heard
        for ear in self._ears.values():
            ear(b"")
        self._ears.clear()
        return True

    def end(self) -> int:
        """End it for certain, as `started` was told to, and return its status; may be repeated.

        Raises `HostTimeout` if it is there even after it was killed.
        """
        try:
            for act, seconds in ((self.hang_up, self._alone), (self._tell, self._told)):
                if seconds and not self.wait(0.0):
                    act()
                    self.wait(seconds)
        finally:  # Ctrl-C may end the patience that we had
            self._kill()
        return self.status

    def leave(self) -> None:
        """Let it live on when we forget it."""
        self._process.returncode = 0  # Popen need not complain

    def _tell(self) -> None:
        signal.pidfd_send_signal(self._handle, signal.SIGTERM)
        self.hang_up()

    def _kill(self) -> None:
        if self.wait(0.0):
            return
        if self._group:
            os.killpg(self.pid, signal.SIGKILL)  # nobody else has the id before it is waited for
        else:
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        if not self.wait(END_TIMEOUT):
            stays = f"process {self.pid} is still there {END_TIMEOUT:g} s after SIGKILL"
            raise HostTimeout(f"{self._what}: {stays}")


@contextmanager
def started(
    what: str,
    words: Sequence[str | Path],
    *,
    given: int = NOWHERE,
    output: int | Hear = NOWHERE,
    errors: int | Hear = NOWHERE,
    descriptors: Collection[int] = (),
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    apart: bool = False,
    group: bool = False,
    alone: float = 0.0,
    told: float = 0.0,
    refusal: Callable[[OSError], str] | None = None,
) -> Iterator[Child]:
    """Run a program for the block; `what` names it in errors.

    It reads the descriptor `given` and prints to `output` and `errors`, which are descriptors too,
    or who hears it; the same for both makes them one.  `PIPE` is the caller's to write or read.
    It gets `descriptors` under their own numbers, our environment unless it has one, our folder,
    and, with `apart` or `group`, a session of its own, so that Ctrl-C is not for it.

    Behind the block it has `alone` seconds to end, finding the end of its input, then `told`
    seconds after SIGTERM, if these are not 0; then it is killed, with `group` together with all
    that it has started.  Raises `HostError`, in the words of `refusal`, if it cannot be started,
    and as `Child.end`.
    """
    with ExitStack() as ending:
        with undisturbed():  # Ctrl-C must not come between its start and our knowing of it
            try:
                process = subprocess.Popen(
                    words,
                    bufsize=0,
                    stdin=given,
                    stdout=_way(output),
                    stderr=subprocess.STDOUT if output == errors else _way(errors),
                    pass_fds=descriptors,
                    env=environment,
                    cwd=folder,
                    start_new_session=apart or group,
                )
                ending.callback(process.kill)  # to no effect once it has ended
                handle = os.pidfd_open(process.pid)
            except OSError as error:
                said = refusal(error) if refusal else f"cannot run {what}: {error}"
                raise HostError(said) from error
            ending.callback(os.close, handle)
            for pipe in filter(None, (process.stdin, process.stdout, process.stderr)):
                ending.enter_context(pipe)
            if process.stdin:
                os.set_blocking(process.stdin.fileno(), False)
            said_by = ((process.stdout, output), (process.stderr, errors))
            ears = {pipe.fileno(): hear for pipe, hear in said_by if pipe and callable(hear)}
            child = Child(what, process, handle, ears, alone, told, group)
            ending.callback(child.end)
        yield child


@dataclass(frozen=True)
class Done:
    """How a program ended, and what it said: of its errors, what `Words` keep."""

    status: int
    output: str
    errors: bytes


def finished(
    what: str,
    words: Sequence[str | Path],
    timeout: float,
    given: bytes = b"",
    refusal: Callable[[OSError], str] | None = None,
) -> Done:
    """Run a program that reads `given`, and return how it ended.

    Raises `HostTimeout` if it is not done within `timeout` seconds: then it is killed.  Raises
    `HostError` if it prints more than `MOST` bytes, and as `started`.
    """
    printed, said = bytearray(), Words()

    def hear(piece: bytes) -> None:
        printed.extend(piece)
        if len(printed) > MOST:
            raise HostError(f"{what} printed more than {MOST >> 20} MiB")

    with (
        memory_file(given) as file,  # it need not read it, and it may be long
        started(what, words, given=file, output=hear, errors=said.keep, refusal=refusal) as child,
    ):
        if not child.wait(timeout):
            raise HostTimeout(f"{what} did not end within {timeout:g} s")
        return Done(child.status, printed.decode(errors="backslashreplace"), said.text)


def run(what: str, words: Sequence[str | Path], timeout: float, given: str = "") -> str:
    """Run a program with `given` as its input, and return what it prints.

    Raises `HostError` with its last words if it fails, and as `finished`.
    """
    done = finished(what, words, timeout, given.encode())
    if done.status:
        raise HostError(f"{what} failed ({done.status}): {last_words(done.errors)}")
    return done.output


def _way(hearer: int | Hear) -> int:
    """Return by which descriptor it is said."""
    return PIPE if callable(hearer) else hearer


def _pass_over(_piece: bytes) -> None:
    """Hear, and not listen."""
