"""The host's own libxl-save-helper as a child: the memory of a guest, written by Xen's libxc.

It writes the image into a pipe, talks about it on its standard output and waits for answers on
its standard input.  It asks for the guest to be suspended in the middle of its work.  For a guest
that is suspended already the answer is whether that is still so; one that runs is suspended then.

That is how PV guests are saved: their page tables have to be translated, which libxc does well.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from xenqemu.errors import FormatError, HostTimeout, HypervisorError
from xenqemu.formats.helper import messages
from xenqemu.formats.helper.dialects import HVM, LIVE, SAVE, Dialect
from xenqemu.formats.helper.messages import MAX_ERRNO, HelperMessage
from xenqemu.formats.stream.libxc_records import PAGE_SIZE
from xenqemu.formats.stream.passed_image import PassedImage
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.source import CHUNK, Source
from xenqemu.host.guest_memory import Live, Progress
from xenqemu.host.memory.pages import image_space
from xenqemu.host.party_deadlines import DEFAULT_DEADLINES, Deadlines
from xenqemu.host.xen.memory.helper_iterations import HelperIterations
from xenqemu.host.xen.memory.helper_process import COMPLAINTS, Helper, started
from xenqemu.host.xen.memory.own_helper import NAME
from xenqemu.system.cancellation import wait_cancellable

Answers = Mapping[type[HelperMessage], Callable[[Any], int]]
"""How each message that is answered is answered."""


class HelperMemory:
    """The memory of a PV guest, or of any that is suspended, as `GuestMemory`.

    `suspended` tells whether the guest is so, `pages` how many it has, `logs` whether Xen can log
    which of them change.  No QEMU's dirty log is switched on: a PV guest has no such QEMU, and that
    of a suspended guest is stopped too.
    """

    def __init__(
        self,
        domid: int,
        path: Path,
        dialect: Dialect,
        suspended: Callable[[], bool],
        *,
        pages: Callable[[], int],
        logs: Callable[[], bool],
        hvm: bool = False,
        deadlines: Deadlines = DEFAULT_DEADLINES,
    ) -> None:
        self._domid = domid
        self._path = path
        self._dialect = dialect
        self._pages = pages
        self._logs = logs
        self._hvm = hvm
        self._stall = deadlines.helper_stall
        self._answers: Answers = {
            messages.Suspend: lambda _message: int(suspended()),
            messages.SwitchQemuLogdirty: lambda _message: 0,
        }

    def space(self, _file: int | None = None) -> int:
        """Return how many bytes the image has at most, from the pages that the guest has now."""
        return image_space(self._pages())

    def counted_space(self, progress: Progress) -> int:  # noqa: ARG002 - GuestMemory's
        """Return the same: libxc writes pages of zeros of PV guests like others."""
        return self.space()

    def size_before_pages(self) -> None:
        """Return None: how its pages lie is up to libxc."""

    def save(self, out: Sink, progress: Progress) -> None:
        """Write the image, passing it on from the helper's pipe.

        Raises `HypervisorError` with the helper's own words, `HostTimeout` if it stalled,
        `OSError` if `out` could not be written.
        """

        def on_progress(message: messages.Progress) -> None:
            if message.what.startswith("Frames"):
                progress(message.done * PAGE_SIZE, message.total * PAGE_SIZE)

        self._run(out, HelperDialogue(self._dialect, self._answers, on_progress), lambda: None)

    def can_log_dirty(self) -> bool:
        """Return whether Xen can log the guest."""
        return self._logs()

    def save_live(self, out: Sink, progress: Progress, live: Live) -> None:
        """Write the image of a PV guest that runs until `live.suspend`, in libxc's own iterations.

        Raises what `save` does, `NotConverged`, and what `live.suspend` raised.
        """
        iterations = HelperIterations(out, progress, live)
        answers = {**self._answers, messages.Suspend: iterations.suspend}
        talk = HelperDialogue(self._dialect, answers, iterations.on_progress)
        try:
            self._run(out, talk, iterations.keep, LIVE)
        except HypervisorError:
            if iterations.failure is None:
                raise
        if iterations.failure is not None:
            raise iterations.failure
        iterations.finish()

    def load(self, _source: Source, _progress: Progress) -> None:
        """Raise `HypervisorError`: on Xen, libxl builds domains, from whole save files."""
        raise HypervisorError(f"the memory of domain {self._domid} can only be restored by xl")

    def _run(
        self, out: Sink, talk: HelperDialogue, written: Callable[[], None], flags: int = 0
    ) -> None:
        """Have a helper write the image; `written` is called after each piece of it."""
        with started(partial(self._command, flags)) as helper:
            try:
                _carry(helper, talk, out, written, self._stall)
            except FormatError as error:
                raise HypervisorError(f"{self._path} sent an invalid message: {error}") from error
            status = helper.wait()
            if status or talk.result != 0:
                outcome = _outcome(status, talk.result)
                words = "; ".join([*talk.complaints, *helper.last_lines()]) or "no reason given"
                raise HypervisorError(
                    f"{NAME} could not save domain {self._domid} ({outcome}): {words}"
                )

    def _command(self, flags: int, io_fd: int) -> list[str]:
        hvm = HVM if self._hvm and "hvm" in self._dialect.save else 0
        values = {
            "io_fd": io_fd,
            "domid": self._domid,
            "flags": flags | hvm,
            "hvm": int(self._hvm),
            "cbflags": self._dialect.callbacks(*self._answers),
        }
        return [str(self._path), *self._dialect.arguments(SAVE, values)]


class HelperDialogue:
    """A helper's messages and their answers; `complaints` are its last errors, `result` its result.

    `on_progress` is called with each message of progress.
    """

    def __init__(
        self, dialect: Dialect, answers: Answers, on_progress: Callable[[messages.Progress], None]
    ) -> None:
        self._reader = dialect.reader()
        self._answers = answers
        self._on_progress = on_progress
        self.complaints: deque[str] = deque(maxlen=COMPLAINTS)
        self.result: int | None = None

    def feed(self, data: bytes) -> Iterator[int]:
        """Take some of the helper's output; yield the answers that it waits for.

        Raises `FormatError` for what is not a message, or not an expected one.
        """
        for message in self._reader.feed(data):
            if isinstance(message, messages.Log):
                self._note(message)
            elif isinstance(message, messages.Progress):
                self._on_progress(message)
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


def _carry(
    helper: Helper, talk: HelperDialogue, out: Sink, written: Callable[[], None], stall: float
) -> None:
    """Pass the image on and answer messages until the helper has closed both pipes."""
    image = PassedImage(out)
    pipes = [helper.image, helper.output]
    while pipes:
        ready = wait_cancellable(partial(helper.ready, pipes), stall)
        if not ready:
            raise HostTimeout(f"{NAME} has sent neither data nor messages for {stall:g} s")
        for pipe in ready:
            data = os.read(pipe, CHUNK)
            if not data:
                pipes.remove(pipe)
            elif pipe == helper.image:
                image.write(data)
                written()
            else:
                for answer in talk.feed(data):
                    helper.answer(answer)


def _outcome(status: int, result: int | None) -> str:
    """Say how a helper ended; `status` is negative for a signal."""
    if status == 0:
        return "ended without a result" if result is None else f"result {result}"
    return f"status {status}" if status > 0 else f"signal {-status}"
