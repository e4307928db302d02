"""What a command prints: lines for people, JSON for programs, errors.

Where nobody can read it (a full disk, a pipe that was closed, a terminal that hung up), the command
goes on: a guest is not rolled back for that, and its exit status speaks of the guest.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO, cast

from xenqemu.shown_text import printable

MIB = 1 << 20

VERSION = 1
"""The version of all JSON that we print: a field that is there keeps its meaning."""


class Screen:
    """A standard stream for the time of a command; `trouble` is why nothing goes to it any more.

    `quiet` is whether it is spared what nobody asked for, `stamped` whether each line begins with
    the time.
    """

    def __init__(self, name: str, stream: TextIO) -> None:
        self.name = name
        self.stream = stream
        self.trouble: OSError | None = None
        self.quiet = False
        self.stamped = False
        self._within_line = False
        if hasattr(stream, "reconfigure"):  # a name may be in any script, a terminal in one
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """Write some text, if that works."""
        shown = self._stamp(text) if self.stamped else text
        self._attempt(lambda: self.stream.write(shown))
        return len(text)

    def flush(self) -> None:
        """Write the rest, if that works."""
        self._attempt(self.stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def _stamp(self, text: str) -> str:
        """Return the text with the time before each line that begins in it."""
        now = f"{rfc3339(time.time())} "
        lines = text.splitlines(keepends=True)
        first, self._within_line = self._within_line, bool(lines) and not lines[-1].endswith("\n")
        return "".join(
            line if first and number == 0 else now + line for number, line in enumerate(lines)
        )

    def _attempt(self, act: Callable[[], object]) -> None:
        if self.trouble is not None:
            return
        try:
            act()
        except OSError as error:
            self.trouble = error
            self._drop_rest()

    def _drop_rest(self) -> None:
        """Let what is left in the buffer go nowhere: Python would try again when it exits."""
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.dup2(nowhere, self.stream.fileno())
        finally:
            os.close(nowhere)


@contextmanager
def screens() -> Iterator[tuple[Screen, Screen]]:
    """Have standard output and standard error be screens for the block."""
    out, err = Screen("standard output", sys.stdout), Screen("standard error", sys.stderr)
    sys.stdout, sys.stderr = cast(TextIO, out), cast(TextIO, err)
    try:
        yield out, err
    finally:
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = out.stream, err.stream


def answer_aside() -> None:
    """Have answers go to the standard error from now on: the output is something else's."""
    sys.stdout = sys.stderr


def choose(*, quiet: bool, stamped: bool) -> None:
    """Have the screens spare the user, and begin lines on the standard error with the time."""
    cast(Screen, sys.stdout).quiet = quiet
    cast(Screen, sys.stderr).quiet = quiet
    cast(Screen, sys.stderr).stamped = stamped


def line(text: str = "") -> None:
    """Print a line, without what would control the terminal: its text may be from files."""
    sys.stdout.write(f"{printable(text)}\n")


def tell(text: str) -> None:
    """Print what was done, unless the user wants to hear of errors alone."""
    if not getattr(sys.stdout, "quiet", False):
        line(text)


def reply(data: bytes) -> None:
    """Send to the program at the other end of our output, at once; raise `OSError`."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def complain(*lines: str) -> None:
    """Print an error on the standard error; a line has no line breaks, whoever wrote its text."""
    shown = "\n".join(map(printable, lines))
    print(f"xenqemu: {shown}", file=sys.stderr)  # noqa: T201  this is the program's voice


def aside(text: str) -> None:
    """Print for people on the standard error, at once: the output may be the wire."""
    print(printable(text), file=sys.stderr, flush=True)  # noqa: T201  not for the output


def as_json(answer: Mapping[str, object], indent: int | None = 2) -> None:
    """Print one JSON object with the version of its form, in one line without `indent`."""
    bare_json({"version": VERSION, **answer}, indent)


def bare_json(answer: object, indent: int | None = 2) -> None:
    """Print one JSON value whose form is not ours."""
    import json  # noqa: PLC0415  most answers are for people

    json.dump(answer, sys.stdout, indent=indent)
    line()


def rfc3339(moment: float) -> str:
    """Return a Unix time in seconds as RFC 3339 has it, to the millisecond, in our time zone."""
    when = time.localtime(moment)
    zone = time.strftime("%z", when)
    milliseconds = int(moment % 1 * 1000)
    day_and_time = time.strftime("%Y-%m-%dT%H:%M:%S", when)
    return f"{day_and_time}.{milliseconds:03}{zone[:3]}:{zone[3:]}"
