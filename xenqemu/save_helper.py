"""The save helper that libxl runs in place of its own: LIBXL_SAVE_HELPER=…/libxl-save-helper.

It writes the memory of HVM and PVH guests that `xl save` suspends and `xl migrate` sends while they
run.  For everything else (PV guests, Remus and COLO, every restore, versions of Xen that our writer
does not know) it executes the host's own helper in its place.

To libxl it behaves as libxl_save_helper.c does: an error is a log message and a result that
is not 0; SIGTERM makes the next write to the image fail, so that the cleanup is done; the exit
status is 254 if libxl is gone and 255 for invalid arguments.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from xenqemu.errors import HostTimeout, HypervisorError, ReplyLost, XenqemuError, in_words
from xenqemu.formats.helper import messages
from xenqemu.formats.helper.dialects import DEBUG, LIVE, SAVE, Call, Dialect, parse_arguments
from xenqemu.formats.helper.messages import ANSWER, ERROR, INFO, NO_ERRNO, HelperMessage
from xenqemu.formats.stream.libxc_records import PAGE_SIZE
from xenqemu.formats.stream.sink import Sink
from xenqemu.host.guest_memory import GuestMemory, Live, Progress
from xenqemu.host.precopy_options import PrecopyOptions
from xenqemu.host.xen.control import Control
from xenqemu.host.xen.library import Xen, running_version
from xenqemu.host.xen.memory.hvm_memory import HvmMemory
from xenqemu.host.xen.memory.own_helper import own_environment, own_helper
from xenqemu.host.xen.releases import RELEASES, Version
from xenqemu.shown_text import printable
from xenqemu.system.standard_streams import open_standard_streams

CONTEXT = "xenqemu"
LONGEST_TEXT = 4096
"""Characters of an error message to libxl at most."""

STEP = 5
"""Per cent between two progress messages: xl shows no smaller ones unless it is asked to."""

ANSWER_TIMEOUT = 900.0
"""Seconds that libxl may take to answer; suspending alone may take it three times 60."""

BAD_CALL = 255
PARENT_GONE = 254


class Parent:
    """libxl, which started us: it reads `output` and answers on `answers`."""

    def __init__(self, dialect: Dialect, answers: int = 0, output: int = 1) -> None:
        self._dialect = dialect
        self._answers = answers
        self._output = output

    def send(self, message: HelperMessage) -> None:
        """Send a message; raise `ReplyLost` if libxl is gone."""
        data = self._dialect.pack(message)
        try:
            while data:
                data = data[os.write(self._output, data) :]
        except OSError as error:
            raise ReplyLost("libxl is gone") from error

    def ask(self, message: HelperMessage) -> int:
        """Send a message and return the answer; raise `ReplyLost` or `HostTimeout` for none."""
        self.send(message)
        answer = b""
        while len(answer) < ANSWER.size:
            if not select.select([self._answers], [], [], ANSWER_TIMEOUT)[0]:
                raise HostTimeout(f"libxl has not answered {message.NAME}")
            answer += self._piece(ANSWER.size - len(answer), message)
        return int(ANSWER.unpack(answer)[0])

    def _piece(self, size: int, asked: HelperMessage) -> bytes:
        gone = f"libxl is gone before it answered {asked.NAME}"
        try:
            piece = os.read(self._answers, size)
        except OSError as error:  # we were started without it
            raise ReplyLost(gone) from error
        if not piece:
            raise ReplyLost(gone)
        return piece

    def log(self, level: int, text: str) -> None:
        """Have libxl log a message, at its own log level."""
        self.send(messages.Log(level, NO_ERRNO, CONTEXT, text[:LONGEST_TEXT].replace("\0", "")))

    def progress(self) -> Progress:
        """Return what reports progress to libxl, in steps that xl shows."""
        shown = 0

        def report(done: int, total: int) -> None:
            nonlocal shown
            percent = done * 100 // total if total else 100
            if shown + STEP <= percent <= 100 - STEP or percent == 100 > shown:
                shown = percent
                frames = done // PAGE_SIZE, total // PAGE_SIZE
                self.send(messages.Progress(CONTEXT, "Frames", *frames))

        return report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the call in `arguments` and return the exit status."""
    open_standard_streams()
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        version = running_version()
        call = parse_arguments(words, version)
    except XenqemuError as error:
        why = printable(str(error))
        with contextlib.suppress(OSError):  # nobody reads it
            print(f"{CONTEXT}: {why}", file=sys.stderr)  # noqa: T201  no dialect is known yet
        return BAD_CALL
    parent = Parent(call.dialect)
    return reported(parent, lambda: _serve(call, version, words, parent))


def reported(parent: Parent, work: Callable[[], None]) -> int:
    """Do `work`, report its result to libxl, and return the exit status."""
    try:
        parent.ask(_outcome(parent, work))
    except (ReplyLost, HostTimeout):
        return PARENT_GONE
    return 0


def save(call: Call, parent: Parent, memory: GuestMemory) -> None:
    """Write a guest's memory to the call's `io_fd`; libxl suspends it when asked."""
    io_fd = call.values["io_fd"]
    with open(io_fd, "wb", buffering=0, closefd=False) as image, stoppable(io_fd):
        domid = call.values["domid"]
        parent.log(INFO, f"Saving domain {domid} by xenqemu's own writer")
        if call.values["flags"] & LIVE:
            live = Live(PrecopyOptions(), lambda: _suspend(parent, domid), lambda _done: None)
            memory.save_live(Sink(image), parent.progress(), live)
        else:
            _suspend(parent, domid)
            memory.save(Sink(image), parent.progress())


@contextlib.contextmanager
def stoppable(io_fd: int) -> Iterator[None]:
    """Let SIGTERM make the next write to `io_fd` fail; a failed one raises `HypervisorError`."""
    unwritable = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    stopped = False

    def stop(*_signal: object) -> None:
        nonlocal stopped
        stopped = True
        os.dup2(unwritable, io_fd)

    before = signal.signal(signal.SIGTERM, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    try:
        yield
    except OSError as error:
        why = "terminated by SIGTERM" if stopped else error.strerror
        raise HypervisorError(f"the image could not be written: {why}") from error
    finally:
        signal.signal(signal.SIGTERM, before)
        os.close(unwritable)


def _serve(call: Call, version: Version, words: Sequence[str], parent: Parent) -> None:
    if _is_plain(call) and version >= RELEASES[0].since:
        domid = call.values["domid"]
        with Xen(version) as xen:
            if Control(xen).existing(domid).hvm:
                memory = HvmMemory(xen, domid, lambda on: _switch_qemu_logdirty(parent, domid, on))
                save(call, parent, memory)
                return
    hand_over(own_helper(version), words)


def _is_plain(call: Call) -> bool:
    """Return whether the call writes one image, without debugging."""
    return call.mode == SAVE and not call.checkpointed and not call.values["flags"] & DEBUG


def _suspend(parent: Parent, domid: int) -> None:
    if not parent.ask(messages.Suspend()):
        raise HypervisorError(f"libxl could not suspend domain {domid}")


def _switch_qemu_logdirty(parent: Parent, domid: int, on: bool) -> None:
    if parent.ask(messages.SwitchQemuLogdirty(domid, int(on))):
        raise HypervisorError(f"libxl could not switch the dirty log of domain {domid}'s QEMU")


def hand_over(helper: Path, words: Sequence[str]) -> NoReturn:
    """Execute the host's own helper in place of this program."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and that is inherited
        signal.signal(number, signal.SIG_DFL)
    os.execve(helper, [str(helper), *words], own_environment())


def _outcome(parent: Parent, work: Callable[[], None]) -> messages.Complete:
    try:
        work()
    except ReplyLost:
        raise
    except (XenqemuError, OSError) as error:
        parent.log(ERROR, in_words(error))
        return messages.Complete(-1, _errno(error))
    return messages.Complete(0, 0)


def _errno(error: BaseException | None) -> int:
    """Return the errno that is behind an error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno:
            return error.errno
        error = error.__cause__
    return errno.EIO


if __name__ == "__main__":
    sys.exit(main())
