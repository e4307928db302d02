"""Verifying a save file that can be read once, while somebody else reads it.

::

    inlet ──► who builds the guest
       └────► queue ──► thread: verify

What is verified is what was built of: the very bytes.  Where they are unsound, the next reading
raises that, and so does `finish`.
"""

from __future__ import annotations

import threading
from contextvars import copy_context
from io import UnsupportedOperation
from queue import Full, Queue
from typing import BinaryIO, Self, cast

from xenqemu.errors import HostTimeout
from xenqemu.formats.stream.source import CHUNK, Inlet, Source
from xenqemu.operations.inspect import Contents
from xenqemu.operations.verify import checked_contents, verify
from xenqemu.system.cancellation import SLICE, check_cancelled, wait_cancellable

PIECES = 16
"""Pieces that may be read and not verified yet."""

VERIFY_TIMEOUT = 60.0
"""Seconds for these to be verified."""


class CheckedStream:
    """An inlet that reads from another; `finish` it, in a `with`.

    If it is `sealed`, it is compared with its seal, as `verify` does with a `key`.
    """

    def __init__(self, inlet: Inlet, key: bytes | None = None, *, sealed: bool = True) -> None:
        self._key = key
        self._sealed = sealed
        self._inlet = inlet
        self._queue: Queue[bytes] = Queue(PIECES)
        self._error: BaseException | None = None
        self._contents: Contents | None = None
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._verify,), daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        """End the thread, which finds the end of the stream, if it has not."""
        while self._thread.is_alive():
            try:
                self._queue.put(b"", timeout=SLICE)
            except Full:
                continue
            self._thread.join()

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, b"" at the end; raise what verifying raised."""
        piece = self._inlet.read(size)
        self._pass_on(piece)
        return piece

    def finish(self) -> Contents:
        """Read the rest, and return what the save file held; raise what verifying raised."""
        while self.read(CHUNK):
            pass

        def ended(part: float) -> bool:
            self._thread.join(part)
            return not self._thread.is_alive()

        if not wait_cancellable(ended, VERIFY_TIMEOUT):
            raise HostTimeout(f"what was read was not verified within {VERIFY_TIMEOUT:g} s")
        self._require_sound()
        assert self._contents is not None  # it is, without an error
        return self._contents

    def _pass_on(self, piece: bytes) -> None:
        while True:
            self._require_sound()
            if not self._thread.is_alive():
                return
            try:
                self._queue.put(piece, timeout=SLICE)
            except Full:
                check_cancelled()
            else:
                return

    def _require_sound(self) -> None:
        if self._error is not None:
            raise self._error

    def _verify(self) -> None:
        try:
            inlet = _Queued(self._queue)
            if self._sealed:
                self._contents = verify(cast(BinaryIO, inlet), self._key)
            else:
                self._contents = checked_contents(Source(inlet))
        except BaseException as error:  # noqa: BLE001  raised again where the next piece is read
            self._error = error


class _Queued:
    """An inlet of what is in a queue, until b"" is."""

    def __init__(self, queue: Queue[bytes]) -> None:
        self._queue = queue
        self._piece = b""
        self._at_end = False

    def fileno(self) -> int:
        """Raise: it has no descriptor."""
        raise UnsupportedOperation("fileno")

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, b"" at the end."""
        if not self._piece and not self._at_end:
            self._piece = self._queue.get()
            self._at_end = not self._piece
        piece, self._piece = self._piece[:size], self._piece[size:]
        return piece
