"""Programs that outlive the command that started them: xenstored, and a QEMU for each domain."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from xenqemu.errors import HostError, HostTimeout
from xenqemu.shown_text import printable
from xenqemu.system import child
from xenqemu.system.cancellation import check_cancelled
from xenqemu.system.child import Child
from xenqemu.system.deadline import Deadline
from xenqemu.system.program_output import tail

OUTPUT_END = 2000
"""Bytes of the end of a program's output that an error repeats."""

_AGAIN = 0.02


class Program:
    """A program that was just started; its output goes to `log`."""

    def __init__(self, process: Child, name: str, log: Path) -> None:
        self._process = process
        self._name = name
        self._log = log

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def output_end(self) -> str:
        """The end of its output, in one line."""
        text = tail(self._log)[-OUTPUT_END:].decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        said = printable("; ".join(lines))
        return f"{self._name} said: {said}" if lines else f"{self._name} said nothing"

    def wait(self, ready: Callable[[], bool], timeout: float) -> None:
        """Wait until it is ready.

        Raises `HostError` if it ends before that, `HostTimeout` after `timeout` seconds, both with
        the end of its output.
        """
        deadline = Deadline.after(timeout)
        while not ready():
            if self._process.wait(_AGAIN):
                status = self._process.status
                raise HostError(f"{self._name} ended with status {status}; {self.output_end}")
            if deadline.passed:
                raise HostTimeout(f"not ready after {timeout:g} s; {self.output_end}")
            check_cancelled()


@contextmanager
def started(
    command: Sequence[str | Path], log: Path, descriptors: Collection[int] = ()
) -> Iterator[Program]:
    """Start a program in a session of its own; it is killed if the block fails.

    It gets our `descriptors` under the same numbers.
    Raises `HostError` if it cannot be started.
    """
    name = Path(command[0]).name
    with (
        log.open("ab") as output,
        child.started(
            name,
            command,
            stdout=output.fileno(),
            stderr=output.fileno(),
            descriptors=descriptors,
            new_session=True,
            start_error=lambda error: f"cannot start {name}: {error.strerror}",
        ) as process,
    ):
        yield Program(process, name, log)
        process.leave()
