"""QEMU as the device model of one domain, over QMP.

Facts that determine it (QEMU's qmp-spec, migration/savevm.c and monitor/fds.c; libxl_qmp.c):

* libxl's socket serves one client.  A second one waits in the listen queue without a greeting,
  and `xl` waits while we are in: connect under a deadline, leave quickly.
* QEMU answers nothing while it saves.
* A save truncates the descriptor it was handed but does not rewind it, and it takes only one
  whose access mode is exactly O_WRONLY; a pipe fails.
* Saving a device that cannot migrate crashes QEMU 7.2: ask for `blockers` before.
* `live=True` on a stopped guest gives its disk images away; once more without `cont` in between
  aborts QEMU.

A request that was not answered ends in `HostTimeout` if it may be repeated, else (a save above
all) in `ReplyLost`, as any hang-up does.  After either a new `DeviceModel` has to look.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from reprlib import Repr
from typing import Self

from xenqemu.errors import (
    DeviceModelError,
    HostTimeout,
    OpenFileFailed,
    ReplyLost,
    TooBig,
    UsageError,
    WriteFailed,
)
from xenqemu.formats.device_state import device_stream
from xenqemu.formats.stream.source import bounded
from xenqemu.host.party_deadlines import DEFAULT_DEADLINES, Deadlines
from xenqemu.host.qemu.qmp import QmpConnection, Refused
from xenqemu.shown_text import shown
from xenqemu.system.bounded_file import bounded_file
from xenqemu.system.cancellation import check_cancelled
from xenqemu.system.deadline import Deadline
from xenqemu.system.descriptors import memory_file, reopened, require_file

SAVE_COMMANDS = ("xen-save-devices-state", "save-devices-state", "save_devices")
"""The names of the save, newest first; the other two were posted but never released."""

LIVE_SINCE = (2, 11, 0)
"""The QEMU whose save first knew `live`."""

EXIT_ON_ERROR_SINCE = (9, 1, 0)
"""The first QEMU with exit-on-error, by which it survives a failed load and says why."""

STATE_LIMIT = device_stream.MAX_SIZE
"""Bytes of device state that are taken into memory."""

# Since 1.2 both failures are a GenericError, told apart by words; 9.1 changed the words.
_OPEN_FAILED = (
    "Unable to open",
    "Could not open",
    "Could not create",
    "Could not parse fdset",
    "Failed to find",
    "Failed to dup() given file descriptor",
)
_WRITE_FAILED = ("An IO error has occurred", "saving Xen device state failed")

_STATE = "device state"
_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxdict = _SHORT.maxlist = 100
_INCOMING = "xenqemu-state"
_AGAIN = 0.01


class DeviceModel:
    """A connection to the QMP socket of a device model, open inside its `with` block.

    Every method raises `DeviceModelError` where QEMU refuses, `HostTimeout` where it does not
    answer, `ReplyLost` where it is unknown whether it acted (see above).
    """

    def __init__(self, path: Path, deadlines: Deadlines = DEFAULT_DEADLINES) -> None:
        self._path = path
        self._deadlines = deadlines
        self._connection: QmpConnection | None = None

    def __enter__(self) -> Self:
        connection = QmpConnection(self._path)
        try:
            connection.open(self._deadlines.qemu_greeting)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return self

    def __exit__(self, *_error: object) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def execute(
        self, command: str, arguments: Mapping[str, object] | None = None, fd: int | None = None
    ) -> object:
        """Run any command and return its value; `fd` is handed over with it."""
        if self._connection is None:
            raise DeviceModelError(f"{self._path}: {command}: the connection is not open")
        seconds = _seconds(self._deadlines, command)
        try:
            return self._connection.ask(command, arguments, fd, seconds)
        except Refused as error:
            raise _refusal(command, error.kind, error.words) from error

    def version(self) -> tuple[int, int, int]:
        """Return QEMU's (major, minor, micro)."""
        answer = self.execute("query-version")
        match answer:
            case {"qemu": {"major": int(major), "minor": int(minor), "micro": int(micro)}}:
                return major, minor, micro
        raise _nonsense("query-version", answer)

    def status(self) -> str:
        """Return the run state in QEMU's own words ("running", "paused", "inmigrate" …)."""
        answer = self.execute("query-status")
        match answer:
            case {"status": str(status)}:
                return shown(status)
        raise _nonsense("query-status", answer)

    def blockers(self) -> list[str]:
        """Return what prevents a save now; nothing where QEMU (before 6.0) does not tell."""
        answer = self.execute("query-migrate")
        match answer:
            case {"blocked-reasons": [*reasons]}:
                return [_words(reason) for reason in reasons]
            case dict() if "blocked-reasons" not in answer:
                return []
        raise _nonsense("query-migrate", answer)

    def prepare_save(self) -> None:
        """Ask how this QEMU saves, before the guest is suspended; the next connections know it."""
        _ = self._save_command

    def stop(self) -> None:
        """Stop the vcpus and devices; may be repeated."""
        self.execute("stop")

    def cont(self) -> None:
        """Continue them, and take the disk images back; may be repeated."""
        self.execute("cont")

    def announce(self) -> None:
        """Announce the emulated cards to the network, repeatedly (QEMU 4.0 and later).

        Times are milliseconds; the values are those that QEMU takes after its own migrations.
        """
        self.execute("announce-self", {"initial": 50, "max": 550, "rounds": 5, "step": 100})

    def save_state(self, target: int | Path, *, live: bool) -> None:
        """Write the state of all devices to a descriptor, or to a path that QEMU opens itself.

        A descriptor must be O_WRONLY, on a regular file or a memfd (`UsageError` if not, before
        QEMU is asked); it is truncated and written from its start.  `live` says that another
        QEMU takes over the disk images while this one is there.  Raises `OpenFileFailed` and
        `WriteFailed`; never repeat a save that ended in `ReplyLost`.
        """
        if isinstance(target, Path):
            self._save(_utf8(target), live)
            return
        require_file(target, os.O_WRONLY)
        os.lseek(target, 0, os.SEEK_SET)
        with self._fdset(target) as filename:
            self._save(filename, live)

    def save_state_bytes(self, *, live: bool) -> bytes:
        """Return the state of all devices, by way of a file in memory.

        No more memory than the limit is taken, whatever QEMU writes: it is `TooBig`.
        """
        with bounded_file(STATE_LIMIT) as memory:
            with reopened(memory, os.O_WRONLY) as fd:
                try:
                    self.save_state(fd, live=live)
                except WriteFailed as error:
                    _refuse_if_full(memory, error)
                    raise
            size = bounded(os.fstat(memory).st_size, STATE_LIMIT, _STATE, 0, "a size")
            return os.pread(memory, size, 0)

    def load_state(self, fd: int) -> None:
        """Load a state, from where `fd` stands, into a QEMU that has `-S -incoming defer`.

        `fd` is readable, on a regular file or a memfd.  Returns when the load is complete and
        QEMU is paused; a QEMU before 9.1 ends if it cannot load.
        """
        require_file(fd, os.O_RDONLY)
        arguments: dict[str, object] = {"uri": f"fd:{_INCOMING}"}
        if self.version() >= EXIT_ON_ERROR_SINCE:
            arguments["exit-on-error"] = False
        self.execute("getfd", {"fdname": _INCOMING}, fd)
        self.execute("migrate-incoming", arguments)
        try:
            self._await_loaded()
        except ReplyLost as error:
            raise DeviceModelError(
                f"{self._path}: QEMU ended while it loaded the device state"
            ) from error

    def load_state_bytes(self, state: bytes) -> None:
        """Load a state held in memory: `load_state` by way of a memfd."""
        with memory_file(state) as memory, reopened(memory, os.O_RDONLY) as fd:
            self.load_state(fd)

    def quit(self) -> None:
        """Ask QEMU to end, and disconnect; its process shows when it has ended."""
        with suppress(ReplyLost):  # a closed connection is an answer here
            self.execute("quit")
        self.__exit__()

    def _save(self, filename: str, live: bool) -> None:
        command, knows_live = self._save_command
        arguments: dict[str, object] = {"filename": filename}
        if knows_live:
            arguments["live"] = live
        self.execute(command, arguments)

    @cached_property
    def _save_command(self) -> tuple[str, bool]:
        """The name of the save, and whether it knows `live`."""
        answer = self.execute("query-commands")
        if not isinstance(answer, list):
            raise _nonsense("query-commands", answer)
        for name in SAVE_COMMANDS:
            if {"name": name} in answer:
                return name, name == SAVE_COMMANDS[0] and self.version() >= LIVE_SINCE
        raise DeviceModelError(
            f"{self._path}: this QEMU cannot save its device state", "CommandNotFound"
        )

    @contextmanager
    def _fdset(self, fd: int) -> Iterator[str]:
        """Hand `fd` over for the block, and yield the path to open it by."""
        answer = self.execute("add-fd", fd=fd)
        match answer:
            case {"fdset-id": int(number)}:
                pass
            case _:
                raise _nonsense("add-fd", answer)
        try:
            yield f"/dev/fdset/{number}"
        except DeviceModelError as error:
            self._forget(number, error)
            raise
        self.execute("remove-fd", {"fdset-id": number})

    def _forget(self, number: int, error: DeviceModelError) -> None:
        try:
            self.execute("remove-fd", {"fdset-id": number})
        except (DeviceModelError, HostTimeout, ReplyLost) as second:
            error.add_note(str(second))

    def _await_loaded(self) -> None:
        end = Deadline.after(self._deadlines.qemu_load)
        while (status := self._loading()) == "inmigrate":
            if end.passed:
                raise HostTimeout(
                    f"{self._path}: device state not loaded within {self._deadlines.qemu_load:g} s"
                )
            check_cancelled()
            time.sleep(_AGAIN)
        if status != "paused":
            raise DeviceModelError(f"{self._path}: QEMU is {status} after loading, not paused")

    def _loading(self) -> str:
        match self.execute("query-migrate"):
            case {"status": "failed", **more}:
                why = _words(more.get("error-desc", "loading failed"))
                raise DeviceModelError(f"{self._path}: {why}")
        return self.status()


def _refuse_if_full(memory: int, error: WriteFailed) -> None:
    """Raise `TooBig` if QEMU failed because the file for its state is full."""
    size = os.fstat(memory).st_size
    if size >= STATE_LIMIT:
        raise TooBig(_STATE, 0, f"a size of at most {STATE_LIMIT}", "more") from error


def _seconds(deadlines: Deadlines, command: str) -> float:
    """Return how long QEMU has for `command`."""
    if command in SAVE_COMMANDS:
        return deadlines.qemu_save
    if command.startswith("query-") or command in {"add-fd", "getfd", "remove-fd", "quit"}:
        return deadlines.qemu_query
    return deadlines.qemu_act


def _refusal(command: str, kind: str, words: str) -> DeviceModelError:
    """Return the error for what QEMU answered."""
    message = f"{command}: {shown(words)}"
    if command in SAVE_COMMANDS:
        if kind == "OpenFileFailed" or words.startswith(_OPEN_FAILED):
            return OpenFileFailed(message, kind)
        if kind == "IOError" or words.startswith(_WRITE_FAILED):
            return WriteFailed(message, kind)
    return DeviceModelError(message, kind)


def _nonsense(command: str, answer: object) -> DeviceModelError:
    return DeviceModelError(f"unexpected answer to {command}: {_words(answer)}")


def _words(answer: object) -> str:
    """Return what QEMU answered, for people: it may be long, or deeper than Python can tell."""
    return shown(answer if isinstance(answer, str) else _SHORT.repr(answer))


def _utf8(path: Path) -> str:
    name = os.fspath(path.absolute())
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"QMP carries UTF-8 only, not the path {name!r}") from error
    return name
