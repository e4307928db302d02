"""Programs that outlive the command that started them: xenstored, and a QEMU for each domain."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from xenqemu.errors import HostError, HostTimeout
from xenqemu.system.cancellation import attend

WORDS = 2000
"""Bytes of a program's last words that an error repeats."""

_AGAIN = 0.02


class Program:
    """A program that was just started; what it says goes to `log`."""

    def __init__(self, process: subprocess.Popen[bytes], name: str, log: Path) -> None:
        self._process = process
        self._name = name
        self._log = log

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def last_words(self) -> str:
        """The end of what it said, in one line."""
        text = self._log.read_bytes()[-WORDS:].decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return f"{self._name} said: {'; '.join(lines)}" if lines else f"{self._name} said nothing"

    def wait(self, ready: Callable[[], bool], timeout: float) -> None:
        """Wait until it is ready.

        Raises `HostError` if it ends before that, `HostTimeout` after `timeout` seconds, with its
        last words.
        """
        deadline = time.monotonic() + timeout
        while not ready():
            code = self._process.poll()
            if code is not None:
                raise HostError(f"{self._name} ended with status {code}; {self.last_words}")
            if time.monotonic() > deadline:
                raise HostTimeout(f"not ready after {timeout:g} s; {self.last_words}")
            attend()
            time.sleep(_AGAIN)


@contextmanager
def started(
    command: Sequence[str | Path], log: Path, descriptors: Collection[int] = ()
) -> Iterator[Program]:
    """Start a program in a session of its own; it lives on unless the body fails.

    It gets our `descriptors` under the same numbers.
    Raises `HostError` if it cannot be started.
    """
    name = Path(command[0]).name
    with log.open("ab") as words:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                start_new_session=True,
                pass_fds=descriptors,
            )
        except OSError as error:
            raise HostError(f"cannot start {name}: {error.strerror}") from error
    try:
        yield Program(process, name, log)
    except BaseException:
        process.kill()
        process.wait()
        raise
    process.returncode = 0  # meant to live on: Popen need not complain when it is forgotten
