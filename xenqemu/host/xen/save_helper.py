"""The host's own libxl-save-helper as a child: the memory of a guest, written by Xen's libxc.

It writes the image into a pipe, talks about it on its standard output and waits for answers on
its standard input.  It asks for the guest to be suspended in the middle of its work; here it is
suspended already, so the answer is only whether that is still so.

That is how PV guests are saved: their page tables have to be translated, which libxc does well.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from xenqemu.errors import FormatError, HostError, HostTimeout, HypervisorError
from xenqemu.formats import helper_messages as messages
from xenqemu.formats.helper_dialects import HVM, SAVE, Dialect, Version
from xenqemu.formats.helper_messages import ANSWER, MAX_ERRNO, Message
from xenqemu.formats.libxc_records import PAGE_SIZE
from xenqemu.formats.sink import Sink
from xenqemu.formats.source import CHUNK, Source
from xenqemu.host.hypervisor import Progress
from xenqemu.host.pages import image_room
from xenqemu.host.policy import PATIENCE, Deadlines, patiently

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
"""The helper's last complaints that an error repeats."""

Answers = Mapping[type[Message], Callable[[Any], int]]
"""How each message that is answered is answered."""


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


class HelperMemory:
    """The memory of a suspended guest, of any type, behind the seam of `GuestMemory`.

    `suspended` tells whether the guest is so still, `pages` how many it has.  An HVM guest's QEMU
    is not told to note what it writes: it stands still as the guest does.
    """

    def __init__(
        self,
        domid: int,
        path: Path,
        dialect: Dialect,
        suspended: Callable[[], bool],
        *,
        pages: Callable[[], int],
        hvm: bool = False,
        deadlines: Deadlines = PATIENCE,
    ) -> None:
        self._domid = domid
        self._path = path
        self._dialect = dialect
        self._pages = pages
        self._hvm = hvm
        self._stall = deadlines.helper_stall
        self._answers: Answers = {
            messages.Suspend: lambda _message: int(suspended()),
            messages.SwitchQemuLogdirty: lambda _message: 0,
        }

    def room(self) -> int:
        """Return how many bytes the image has at most, from the pages that the guest has now."""
        return image_room(self._pages())

    def save(self, out: Sink, progress: Progress) -> None:
        """Write the image, passing it on from the helper's pipe.

        Raises `HypervisorError` with the helper's own words, `HostTimeout` if it stalled,
        `OSError` if `out` could not be written.
        """
        talk = Conversation(self._dialect, self._answers, progress)
        with _started(self._command) as helper:
            try:
                _carry(helper, talk, out, self._stall)
            except FormatError as error:
                raise HypervisorError(f"{self._path} talks no sense: {error}") from error
            status = helper.wait()
            if status or talk.result != 0:
                outcome = _outcome(status, talk.result)
                words = "; ".join([*talk.complaints, *helper.last_words()]) or "it gives no reason"
                raise HypervisorError(
                    f"{NAME} could not save domain {self._domid} ({outcome}): {words}"
                )

    def load(self, _source: Source, _progress: Progress) -> None:
        """Raise `HypervisorError`: on Xen it is libxl that makes domains, of whole records."""
        raise HypervisorError(f"the memory of domain {self._domid} can only be restored by xl")

    def _command(self, io_fd: int) -> list[str]:
        values = {
            "io_fd": io_fd,
            "domid": self._domid,
            "flags": HVM if self._hvm and "hvm" in self._dialect.save else 0,
            "hvm": int(self._hvm),
            "cbflags": self._dialect.callbacks(*self._answers),
        }
        return [str(self._path), *self._dialect.arguments(SAVE, values)]


class Conversation:
    """What a helper says and is answered; `complaints` are its last, `result` its outcome."""

    def __init__(self, dialect: Dialect, answers: Answers, progress: Progress) -> None:
        self._reader = dialect.reader()
        self._answers = answers
        self._progress = progress
        self.complaints: deque[str] = deque(maxlen=COMPLAINTS)
        self.result: int | None = None

    def hear(self, data: bytes) -> Iterator[int]:
        """Take some of the helper's output; yield the answers that it waits for.

        Raises `FormatError` for what is no message, or is one that was not to be expected.
        """
        for message in self._reader.feed(data):
            if isinstance(message, messages.Log):
                self._note(message)
            elif isinstance(message, messages.Progress):
                self._pass_on(message)
            elif isinstance(message, messages.Complete):
                self.result = message.retval
                yield 0
            elif type(message) in self._answers:
                yield self._answers[type(message)](message)
            else:
                raise self._reader.bad(message.NAME, "no such callback", "one")

    def _note(self, message: messages.Log) -> None:
        if message.level >= messages.ERROR:
            known = 0 < message.errnoval <= MAX_ERRNO
            cause = f": {os.strerror(message.errnoval)}" if known else ""
            self.complaints.append(f"{message.context}: {message.text}{cause}")

    def _pass_on(self, message: messages.Progress) -> None:
        if message.what.startswith("Frames"):
            self._progress(message.done * PAGE_SIZE, message.total * PAGE_SIZE)


class _Helper:
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
        """End it for certain; first by leaving it alone, so that it may put things in order."""
        os.close(self.image)
        self._answers.close()
        self._process.terminate()
        try:
            self._process.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.output.close()


@contextlib.contextmanager
def _started(command: Callable[[int], list[str]]) -> Iterator[_Helper]:
    """Run a helper for the block; `command` makes its argument list of its io_fd."""
    with tempfile.TemporaryFile() as errors:
        image, io_fd = os.pipe()
        with contextlib.suppress(PermissionError):  # beyond a user's share it stays as small
            fcntl.fcntl(io_fd, fcntl.F_SETPIPE_SZ, CHUNK)
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
        helper = _Helper(process, image, errors)
        try:
            yield helper
        finally:
            helper.end()


def _carry(helper: _Helper, talk: Conversation, out: Sink, stall: float) -> None:
    """Pass the image on and answer messages until the helper has closed both pipes."""
    with selectors.DefaultSelector() as selector:
        selector.register(helper.image, selectors.EVENT_READ)
        selector.register(helper.output, selectors.EVENT_READ)
        while selector.get_map():
            ready = patiently(selector.select, stall)
            if not ready:
                raise HostTimeout(f"{NAME} has neither written nor talked for {stall:g} s")
            for key, _events in ready:
                data = os.read(key.fd, CHUNK)
                if not data:
                    selector.unregister(key.fileobj)
                elif key.fd == helper.image:
                    out.write(data)
                else:
                    for answer in talk.hear(data):
                        helper.answer(answer)


def _outcome(status: int, result: int | None) -> str:
    """Say how a helper ended; `status` is negative for a signal."""
    if status == 0:
        return "ended without a result" if result is None else f"result {result}"
    return f"status {status}" if status > 0 else f"signal {-status}"
