"""One QMP connection with deadlines; the only file that uses asyncio.

::

    open    connect, greeting, qmp_capabilities
    ask     {"execute": command, "arguments": …} -> {"return": …} or {"error": {class, desc}}
    close   close the connection

Whether an unanswered request was carried out is unknown.  One that may be repeated ends in
`HostTimeout`; any other, and any lost connection, ends in `ReplyLost`.  After either the connection
is closed: a late answer must not be taken for the next one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from qemu.qmp import ExecuteError, Message, QMPClient, QMPError, Runstate

from xenqemu.errors import DeviceModelError, HostTimeout, ReplyLost
from xenqemu.shown_text import shown
from xenqemu.system.cancellation import capped
from xenqemu.system.signals import signals_deferred

LINE_LIMIT = 1 << 20
"""Bytes of one QMP message at most, the limit of libxl's own client."""

_REPEATABLE = frozenset({"add-fd", "cont", "getfd", "quit", "remove-fd", "stop"})
_AGAIN = 0.05
_HANG_UP = 5.0

T = TypeVar("T")

# What qemu.qmp logs as errors, we raise: keep it off stderr where nobody set up logging.
logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())


class Refused(Exception):
    """An error that the peer answered: its class `kind` and its words."""

    def __init__(self, kind: str, words: str) -> None:
        super().__init__(words)
        self.kind = kind
        self.words = words


class _Client(QMPClient):
    """Formats no messages for the debug log: that takes longer than the exchange itself."""

    def _cb_inbound(self, msg: Message) -> Message:
        return msg

    def _cb_outbound(self, msg: Message) -> Message:
        return msg


class QmpConnection:
    """One connection and the event loop that drives it, both gone for good after a failure."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._runner = asyncio.Runner()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._client = _Client(readbuflen=LINE_LIMIT)
        self._client.events.event_filter = lambda _event: False  # nobody reads them
        self._closed = False

    def open(self, seconds: float) -> None:
        """Connect and negotiate."""
        try:
            self._run(self._connect(capped(seconds)))
        except TimeoutError as error:
            raise HostTimeout(
                f"{self._path}: no QMP greeting within {seconds:g} s: "
                "it serves one client at a time, and another one is connected, or QEMU hangs"
            ) from error
        except (QMPError, OSError, ValueError) as error:
            raise DeviceModelError(f"{self._path}: {shown(str(error))}") from error

    def ask(
        self, command: str, arguments: Mapping[str, object] | None, fd: int | None, seconds: float
    ) -> object:
        """Run one command, after handing `fd` over; close the connection if no answer comes."""
        if self._closed:
            raise DeviceModelError(
                f"{self._path}: {command}: the connection was closed after an earlier failure"
            )
        try:
            return self._run(self._exchange(command, arguments, fd, capped(seconds)))
        except ExecuteError as error:
            raise Refused(error.error_class, str(error)) from error
        except TimeoutError as error:
            self.close()
            raise _silence(f"{self._path}: {command}", command, seconds) from error
        except (QMPError, OSError) as error:
            cause = type(self.close() or error).__name__
            raise ReplyLost(
                f"{self._path}: {command}: the connection was lost before the answer ({cause})"
            ) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> BaseException | None:
        """Close at once, whatever the peer does; return why it was broken before, if it was."""
        if self._closed:
            return None
        self._closed = True
        with suppress(OSError):  # not connected, or no longer
            self._socket.shutdown(socket.SHUT_RDWR)
        try:
            return self._run(self._hang_up())
        finally:
            _beside_loops(self._runner.close)
            self._socket.close()

    def _run(self, exchange: Coroutine[Any, Any, T]) -> T:
        return _beside_loops(lambda: self._interruptibly(exchange))

    def _interruptibly(self, exchange: Coroutine[Any, Any, T]) -> T:
        """Run an exchange; Ctrl-C cancels it first: raised amid the loop, it would break that."""
        task: asyncio.Task[Any] | None = None

        async def noted() -> T:
            nonlocal task
            task = asyncio.current_task()
            return await exchange

        def cancel() -> None:
            if task is not None:
                task.cancel()
                task.get_loop().call_soon_threadsafe(lambda: None)  # wakes it

        with signals_deferred(cancel):
            return self._runner.run(noted())

    async def _connect(self, seconds: float) -> None:
        async with asyncio.timeout(seconds):
            while not self._queued():
                await asyncio.sleep(_AGAIN)
            await self._client.connect(self._socket)

    def _queued(self) -> bool:
        """Enter the listen queue; False if it is full, which epoll could not wait for."""
        try:
            self._socket.connect(os.fspath(self._path))
        except BlockingIOError:
            return False
        return True

    async def _exchange(
        self, command: str, arguments: Mapping[str, object] | None, fd: int | None, seconds: float
    ) -> object:
        async with asyncio.timeout(seconds):
            if fd is not None:  # by our own socket: qemu.qmp's send_fd_scm digs in asyncio's
                socket.send_fds(self._socket, [b" "], [fd])
            return await self._client.execute(command, arguments)

    async def _hang_up(self) -> BaseException | None:
        if self._client.runstate is Runstate.IDLE:
            return None
        ending = asyncio.ensure_future(self._client.disconnect())
        await asyncio.wait((ending,), timeout=_HANG_UP)
        return ending.exception() if ending.done() else None


def _beside_loops(act: Callable[[], T]) -> T:
    """Do what runs an event loop; in a thread of its own if ours runs one: asyncio nests none."""
    if not _loop_runs():
        return act()
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(act).result()


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _silence(where: str, command: str, seconds: float) -> HostTimeout | ReplyLost:
    if command in _REPEATABLE or command.startswith("query-"):
        return HostTimeout(f"{where}: no answer within {seconds:g} s")
    return ReplyLost(f"{where}: no answer within {seconds:g} s: whether it was executed is unknown")
