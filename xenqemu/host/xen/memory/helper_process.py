"""The host's own libxl-save-helper as a child process."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from xenqemu.errors import HostTimeout
from xenqemu.formats.helper.messages import ANSWER
from xenqemu.formats.stream.source import CHUNK
from xenqemu.host.xen.memory.own_helper import NAME, own_environment
from xenqemu.shown_text import shown
from xenqemu.system import child
from xenqemu.system.child import PIPE, Child
from xenqemu.system.descriptors import enlarge
from xenqemu.system.program_output import OutputTail

END_TIMEOUT = 5.0
"""Seconds that a helper has to end, once it is done or got SIGTERM."""

COMPLAINTS = 5
"""A helper's last complaints that an error repeats."""


class Helper:
    """A helper that runs; `image` is the pipe that it writes to, `output` that it talks by."""

    def __init__(self, process: Child, image: int, said: OutputTail) -> None:
        self._process = process
        self._said = said
        self.image = image
        self.output = process.output.fileno()

    def ready(self, pipes: Iterable[int], seconds: float) -> list[int]:
        """Return which of its pipes are ready to be read; none after `seconds`, or sooner."""
        return self._process.ready(dict.fromkeys(pipes, select.POLLIN), seconds)

    def answer(self, value: int) -> None:
        """Answer the message that it waits upon; if it is gone, its status will tell."""
        with suppress(BrokenPipeError):
            self._process.feed(ANSWER.pack(value), END_TIMEOUT)

    def wait(self) -> int:
        """Return its exit status, now that it has closed its output."""
        if not self._process.wait(END_TIMEOUT):
            raise HostTimeout(f"{NAME} has closed its output but did not end")
        return self._process.status

    def last_lines(self) -> list[str]:
        """Return the last lines of its standard error."""
        lines = self._said.text.decode(errors="backslashreplace").splitlines()
        return [shown(line) for line in lines[-COMPLAINTS:]]


@contextmanager
def started(command: Callable[[int], list[str]]) -> Iterator[Helper]:
    """Run a helper for the block; `command` makes its argument list of its io_fd.

    It is ended by SIGTERM, after which its next write fails and it cleans up.  A pipe closed before
    that would kill it instead, and leave the guest's dirty log on.
    """
    said = OutputTail()
    with ExitStack() as ending:
        image, io_fd = os.pipe()
        ending.callback(os.close, image)
        enlarge(io_fd, CHUNK)
        try:
            process = ending.enter_context(
                child.started(
                    NAME,
                    command(io_fd),
                    stdin=PIPE,
                    stdout=PIPE,
                    stderr=said.keep,
                    descriptors=[io_fd],
                    environment=own_environment(),
                    term_grace=END_TIMEOUT,
                    start_error=lambda error: f"cannot start {NAME}: {error}",
                )
            )
        finally:
            os.close(io_fd)
        yield Helper(process, image, said)
