"""Other programs: started, fed, read from, waited for and ended.  All are started here.

What such a program has started itself is left alone; `contained` has that end too.

Every wait here has a deadline: for a program that ignores SIGTERM or sleeps in the kernel, for one
that prints for ever or does not read, and for what it leaves running with its pipes open.

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
from xenqemu.formats.stream.buffers import Buffer
from xenqemu.system.cancellation import wait_cancellable
from xenqemu.system.deadline import Deadline
from xenqemu.system.descriptors import memory_file, ready
from xenqemu.system.process import END_TIMEOUT
from xenqemu.system.program_output import OutputTail, last_lines
from xenqemu.system.signals import signals_deferred

OnOutput = Callable[[bytes], None]
"""Called with each piece of a program's output, and with b"" at its end."""

PIPE, NOWHERE = subprocess.PIPE, subprocess.DEVNULL

PIPE_SIZE = 16 * mmap.PAGESIZE
"""Bytes that a pipe holds (pipe(7)): what an ended program has left in one is read at once."""

MAX_OUTPUT = 16 << 20
"""Bytes that a program may print where all of them are wanted."""


@dataclass(eq=False)
class Child:
    """A program that runs; `started` makes one."""

    _what: str
    _process: subprocess.Popen[bytes]
    _handle: int
    _callbacks: dict[int, OnOutput]
    _eof_grace: float
    _term_grace: float

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

        None are after `seconds`, or sooner if the program printed something for a callback.
        """
        found = ready({**wanted, **dict.fromkeys(self._callbacks, select.POLLIN)}, seconds)
        for pipe in self._callbacks.keys() & set(found) - wanted.keys():
            callback = self._callbacks.pop(pipe)  # one that raises is not called again
            piece = os.read(pipe, PIPE_SIZE)
            callback(piece)
            if piece:
                self._callbacks[pipe] = callback
        return [descriptor for descriptor in found if descriptor in wanted]

    def feed(self, data: bytes | memoryview, seconds: float) -> None:
        """Have it read `data`; the wait is cancellable.

        Raises `BrokenPipeError` if it reads no more, `HostTimeout` if it reads nothing for
        `seconds`.
        """
        rest, fd = memoryview(data), self.input.fileno()
        while rest:
            if not wait_cancellable(lambda part: self.ready({fd: select.POLLOUT}, part), seconds):
                raise HostTimeout(f"{self._what} read nothing for {seconds:g} s")
            rest = rest[os.write(fd, rest) :]

    def hang_up(self) -> None:
        """Close its input; may be repeated."""
        if self._process.stdin:
            self._process.stdin.close()

    def wait(self, seconds: float) -> bool:
        """Wait so long for its end, and return whether it has ended.

        What it prints to a pipe without a callback is discarded.
        """
        if self._process.returncode is not None:
            return True
        if self._process.stdout:
            self._callbacks.setdefault(self._process.stdout.fileno(), _discard)
        deadline = Deadline.after(seconds)
        while self._process.poll() is None:
            if deadline.passed:
                return False
            self.ready({self._handle: select.POLLIN}, deadline.left)
        self.ready({}, 0.0)  # what is left in the pipes, whoever else has them open
        for callback in self._callbacks.values():
            callback(b"")
        self._callbacks.clear()
        return True

    def end(self) -> int:
        """End it, within the times given to `started`, and return its status; may be repeated.

        Raises `HostTimeout` if it is still there after SIGKILL.
        """
        try:
            for act, seconds in ((self.hang_up, self._eof_grace), (self._tell, self._term_grace)):
                if seconds and not self.wait(0.0):
                    act()
                    self.wait(seconds)
        finally:  # Ctrl-C may have ended the waits
            self._kill()
        return self.status

    def leave(self) -> None:
        """Leave it running."""
        self._process.returncode = 0  # keeps Popen from warning

    def _tell(self) -> None:
        signal.pidfd_send_signal(self._handle, signal.SIGTERM)
        self.hang_up()

    def _kill(self) -> None:
        if self.wait(0.0):
            return
        signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        if not self.wait(END_TIMEOUT):
            stays = f"process {self.pid} is still there {END_TIMEOUT:g} s after SIGKILL"
            raise HostTimeout(f"{self._what}: {stays}")


@contextmanager
def started(
    what: str,
    words: Sequence[str | Path],
    *,
    stdin: int = NOWHERE,
    stdout: int | OnOutput = NOWHERE,
    stderr: int | OnOutput = NOWHERE,
    descriptors: Collection[int] = (),
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    new_session: bool = False,
    eof_grace: float = 0.0,
    term_grace: float = 0.0,
    start_error: Callable[[OSError], str] | None = None,
) -> Iterator[Child]:
    """Run a program for the block; `what` names it in errors.

    It reads the descriptor `stdin` and prints to `stdout` and `stderr`, each a descriptor too, or a
    callback; the same callback for both gets both in one pipe.  `PIPE` is for the caller to write
    or read.  The program inherits `descriptors` under their numbers, our environment and our folder
    unless others are given.  With `new_session` it has its own session, so that Ctrl-C does not
    reach it.

    After the block its input is closed, and it has `eof_grace` seconds to end, then `term_grace`
    seconds after SIGTERM (each step is left out if 0); then it is killed.  Raises `HostError`, with
    the text of `start_error`, if it cannot be started, and what `Child.end` raises.
    """
    with ExitStack() as ending:
        with signals_deferred():  # Ctrl-C must not come between its start and our knowing of it
            try:
                process = subprocess.Popen(
                    words,
                    bufsize=0,
                    stdin=stdin,
                    stdout=_stream(stdout),
                    stderr=subprocess.STDOUT if stdout == stderr else _stream(stderr),
                    pass_fds=descriptors,
                    env=environment,
                    cwd=folder,
                    start_new_session=new_session,
                )
                ending.callback(process.kill)  # no effect once it has ended
                handle = os.pidfd_open(process.pid)
            except OSError as error:
                said = start_error(error) if start_error else f"cannot run {what}: {error}"
                raise HostError(said) from error
            ending.callback(os.close, handle)
            for pipe in filter(None, (process.stdin, process.stdout, process.stderr)):
                ending.enter_context(pipe)
            if process.stdin:
                os.set_blocking(process.stdin.fileno(), False)
            pipes = ((process.stdout, stdout), (process.stderr, stderr))
            callbacks = {pipe.fileno(): call for pipe, call in pipes if pipe and callable(call)}
            child = Child(what, process, handle, callbacks, eof_grace, term_grace)
            ending.callback(child.end)
        yield child


@dataclass(frozen=True)
class Done:
    """How a program ended, and what it printed; of stderr only what `OutputTail` keeps."""

    status: int
    printed: bytes
    stderr: bytes

    @property
    def stdout(self) -> str:
        """What it printed, as text."""
        return self.printed.decode(errors="backslashreplace")


def finished(
    what: str,
    words: Sequence[str | Path],
    timeout: float,
    given: Buffer = b"",
    start_error: Callable[[OSError], str] | None = None,
) -> Done:
    """Run a program that reads `given`, and return how it ended.

    Raises `HostTimeout` if it did not end within `timeout` seconds: then it is killed.  Raises
    `HostError` if it prints more than `MAX_OUTPUT` bytes, and as `started`.
    """
    printed, said = bytearray(), OutputTail()

    def keep(piece: bytes) -> None:
        printed.extend(piece)
        if len(printed) > MAX_OUTPUT:
            raise HostError(f"{what} printed more than {MAX_OUTPUT >> 20} MiB")

    with (
        memory_file(given) as file,  # it may be long, and the program need not read it
        started(
            what,
            words,
            stdin=file,
            stdout=keep,
            stderr=said.keep,
            new_session=True,  # Ctrl-C is ours to obey: this may be part of an undo
            start_error=start_error,
        ) as child,
    ):
        if not child.wait(timeout):
            raise HostTimeout(f"{what} did not end within {timeout:g} s")
        return Done(child.status, bytes(printed), said.text)


def run(what: str, words: Sequence[str | Path], timeout: float, given: str = "") -> str:
    """Run a program with `given` as its input, and return what it prints.

    Raises `HostError` with its last words if it fails, and as `finished`.
    """
    done = finished(what, words, timeout, given.encode())
    if done.status:
        raise HostError(f"{what} failed ({done.status}): {last_lines(done.stderr)}")
    return done.stdout


def _stream(target: int | OnOutput) -> int:
    """Return the descriptor that Popen is given."""
    return PIPE if callable(target) else target


def _discard(_piece: bytes) -> None:
    """Ignore output."""
