"""Who compresses and decompresses: the module zstandard, or the program `zstd` where it is absent.

The program is started for each frame; that takes some milliseconds each time.
"""

from __future__ import annotations

import select
import shutil
import threading
from contextlib import ExitStack
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from xenqemu.errors import BadRecord, HostError, HostTimeout
from xenqemu.formats.stream.buffers import Buffer
from xenqemu.formats.stream.source import Inlet
from xenqemu.system import child
from xenqemu.system.cancellation import wait_cancellable
from xenqemu.system.child import PIPE, Child
from xenqemu.system.program_output import OutputTail, last_lines

WHERE = "zstd frame"

MODULE, PROGRAM = "zstandard", "zstd"

WINDOW_LOG = 27
"""A frame refers to 128 MiB before it at most, as for zstd itself."""

FRAME_TIMEOUT = 60.0
"""Seconds that the program has for one frame."""

STALL = 60.0
"""Seconds within which the program takes or gives some of what it decompresses."""

PIECE = 1 << 17
"""Bytes that are read and decompressed at a time."""


class Codec(Protocol):
    """Compresses and decompresses; for several threads at once."""

    def pack(self, data: Buffer, level: int) -> bytes:
        """Return a frame of `data` that says its size and ends in a checksum."""

    def unpack(self, frame: Buffer, size: int) -> bytes:
        """Return the `size` bytes packed in a frame; raise `BadRecord` where it has others."""

    def unpacked(self, inlet: Inlet) -> Inlet:
        """Return what is packed in all frames of `inlet`, in order; `close` ends it."""


class _Module:
    """The module zstandard, which leaves other threads running."""

    def __init__(self) -> None:
        self._zstandard = import_module(MODULE)
        self._of_thread = threading.local()

    def pack(self, data: Buffer, level: int) -> bytes:
        made: dict[str, Any] = self._of_thread.__dict__
        name = f"level {level}"
        if name not in made:
            made[name] = self._zstandard.ZstdCompressor(level=level, write_checksum=True)
        packed: bytes = made[name].compress(data)
        return packed

    def unpack(self, frame: Buffer, size: int) -> bytes:
        if "decompressor" not in self._of_thread.__dict__:
            self._of_thread.decompressor = self._zstandard.ZstdDecompressor()
        try:
            found = self._zstandard.get_frame_parameters(frame).content_size
            if found not in (size, self._zstandard.CONTENTSIZE_UNKNOWN):  # before it is unpacked
                raise BadRecord(WHERE, 0, f"{size} bytes in it", str(found))
            data: bytes = self._of_thread.decompressor.decompress(frame, max_output_size=size)
        except self._zstandard.ZstdError as error:
            raise BadRecord(WHERE, 0, "a whole frame", str(error)) from error
        return _whole(data, size)

    def unpacked(self, inlet: Inlet) -> Inlet:
        unpacking = self._zstandard.ZstdDecompressor(max_window_size=1 << WINDOW_LOG)
        reader = unpacking.stream_reader(inlet, read_size=PIECE, read_across_frames=True)
        return _Reading(reader, self._zstandard.ZstdError)


class _Reading:
    """An inlet of a reader of the module."""

    def __init__(self, reader: Any, error: type[Exception]) -> None:
        self._reader = reader
        self._error = error

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes."""
        try:
            piece: bytes = self._reader.read(size)
        except self._error as error:
            raise BadRecord(WHERE, 0, "a whole frame", str(error)) from error
        return piece


class _Program:
    """The program `zstd`."""

    def pack(self, data: Buffer, level: int) -> bytes:
        return _filtered((f"-{level}", "--check", f"--stream-size={len(data)}"), data)

    def unpack(self, frame: Buffer, size: int) -> bytes:
        try:
            return _whole(_filtered(("-d",), frame), size)
        except HostTimeout:
            raise
        except HostError as error:
            raise BadRecord(WHERE, 0, f"a frame of {size} bytes", str(error)) from error

    def unpacked(self, inlet: Inlet) -> Inlet:
        return _Piped(inlet)


class _Piped:
    """An inlet of what the program decompresses of another one."""

    def __init__(self, inlet: Inlet) -> None:
        self._inlet = inlet
        self._said = OutputTail()
        self._stack = ExitStack()
        words = (PROGRAM, "-q", "-d", "-c", f"--long={WINDOW_LOG}")
        self._child: Child = self._stack.enter_context(
            child.started(
                PROGRAM, words, stdin=PIPE, stdout=PIPE, stderr=self._said.keep, new_session=True
            )
        )
        self._pending = memoryview(b"")
        self._fed = False

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes; feed the program until it has some."""
        while True:
            ready = self._await()
            if self._child.output.fileno() in ready:
                piece = self._child.output.read(size)
                if not piece:
                    self._ended()
                return piece
            self._feed()

    def close(self) -> None:
        """End the program."""
        self._stack.close()

    def _await(self) -> list[int]:
        wanted = {self._child.output.fileno(): select.POLLIN}
        if not self._fed:
            wanted[self._child.input.fileno()] = select.POLLOUT
        ready = wait_cancellable(lambda part: self._child.ready(wanted, part), STALL)
        if not ready:
            raise HostTimeout(f"{PROGRAM} did nothing for {STALL:g} s")
        return ready

    def _feed(self) -> None:
        self._pending = self._pending or memoryview(self._inlet.read(PIECE))
        try:
            if self._pending:
                done = self._child.input.write(self._pending) or 0
                self._pending = self._pending[done:]
                return
        except BrokenPipeError:  # its status will tell
            pass
        self._fed = True
        self._child.hang_up()

    def _ended(self) -> None:
        if not self._child.wait(STALL):
            raise HostTimeout(f"{PROGRAM} did not end within {STALL:g} s")
        if self._child.status:
            raise BadRecord(WHERE, 0, "whole frames", str(self._said))


@cache
def codec() -> Codec:
    """Return who compresses here; raise `HostError` if there is neither module nor program."""
    if find_spec(MODULE):
        return _Module()
    if shutil.which(PROGRAM):
        return _Program()
    raise HostError(
        "compressed files need python3-zstandard, or the program zstd: install one of them"
    )


def is_program() -> bool:
    """Return whether it is the program that compresses here."""
    return isinstance(codec(), _Program)


def _filtered(options: tuple[str, ...], data: Buffer) -> bytes:
    done = child.finished(PROGRAM, (PROGRAM, "-q", "-c", *options), FRAME_TIMEOUT, data)
    if done.status:
        raise HostError(f"{PROGRAM} failed ({done.status}): {last_lines(done.stderr)}")
    return done.printed


def _whole(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise BadRecord(WHERE, 0, f"{size} bytes in it", str(len(data)))
    return data
