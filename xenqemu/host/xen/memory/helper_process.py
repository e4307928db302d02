"""The host's own libxl-save-helper: where it is, and one of them as a child process."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from xenqemu.errors import HostError, HostTimeout
from xenqemu.formats.helper.dialects import Version
from xenqemu.formats.helper.messages import ANSWER
from xenqemu.formats.stream.source import CHUNK
from xenqemu.system.descriptors import enlarge

VARIABLE = "LIBXL_SAVE_HELPER"
"""Where libxl looks for a save helper other than its own."""

NAME = "libxl-save-helper"
FOLDERS = (
    "/usr/lib/xen-{}/bin",
    "/usr/libexec/xen/bin",
    "/usr/lib/xen/bin",
    "/usr/lib64/xen/bin",
    "/usr/local/libexec/xen/bin",
    "/usr/local/lib/xen/bin",
)
"""Where Xen's own programs are ($LIBEXEC_BIN): Debian's by version, then those of the others."""

END_TIMEOUT = 5.0
"""Seconds that a helper has to end, once it is done or told to."""

COMPLAINTS = 5
"""A helper's last complaints that an error repeats."""


def own_helper(version: Version, folders: tuple[str, ...] = FOLDERS) -> Path:
    """Return the path of the host's own helper; raise `HostError` if there is none."""
    places = [Path(folder.format("{}.{}".format(*version))) for folder in folders]
    for place in places:
        if os.access(place / NAME, os.X_OK):
            return place / NAME
    raise HostError(f"there is no {NAME} in {', '.join(map(str, places))}")


def own_environment() -> dict[str, str]:
    """Return our environment without the word that another helper is to be used."""
    return {name: value for name, value in os.environ.items() if name != VARIABLE}


class Helper:
    """A helper that runs; `image` is the pipe that it writes to."""

    def __init__(self, process: subprocess.Popen[bytes], image: int, errors: IO[bytes]) -> None:
        assert process.stdin is not None  # both are pipes
        assert process.stdout is not None
        self._process = process
        self._answers = process.stdin
        self._errors = errors
        self.image = image
        self.output = process.stdout

    def answer(self, value: int) -> None:
        """Answer the message that it waits upon; if it is gone, its status will tell."""
        with contextlib.suppress(BrokenPipeError):
            self._answers.write(ANSWER.pack(value))

    def wait(self) -> int:
        """Return its exit status, now that it has closed its output."""
        try:
            return self._process.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired as error:
            raise HostTimeout(f"{NAME} has closed its output but does not end") from error

    def last_words(self) -> list[str]:
        """Return the last lines of its standard error."""
        self._errors.seek(0)
        text = self._errors.read(CHUNK).decode(errors="backslashreplace")
        return text.splitlines()[-COMPLAINTS:]

    def end(self) -> None:
        """End it for certain; first by SIGTERM, upon which it puts things in order.

        That makes its next write fail.  A pipe closed before would kill it instead, and leave the
        guest with a dirty log.
        """
        self._process.terminate()
        self._answers.close()
        try:
            self._process.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self.image)
        self.output.close()


@contextlib.contextmanager
def started(command: Callable[[int], list[str]]) -> Iterator[Helper]:
    """Run a helper for the block; `command` makes its argument list of its io_fd."""
    with tempfile.TemporaryFile() as errors:
        image, io_fd = os.pipe()
        enlarge(io_fd, CHUNK)
        try:
            process = subprocess.Popen(
                command(io_fd),
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                pass_fds=[io_fd],
                env=own_environment(),
            )
        except OSError as error:
            os.close(image)
            raise HostError(f"cannot start {NAME}: {error}") from error
        finally:
            os.close(io_fd)
        helper = Helper(process, image, errors)
        try:
            yield helper
        finally:
            helper.end()
