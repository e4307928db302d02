"""One connection to xenstored through pyxs, with a deadline for everything.

pyxs 0.4.1 waits for ever when xenstored goes away, stays silent or answers what was not asked; it
believes any length; it refuses values that are empty or not printable ASCII; it does not know
DIRECTORY_PART.  So of pyxs serve the transport, the `Router` with its thread, and its variables
for replies, while the packets, the waits and the end of the thread are handled here.

A link that failed once, in any way, is closed and stays so: a late reply cannot be mistaken for
the next one.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pyxs.client import Router
from pyxs.connection import UnixSocketConnection
from pyxs.exceptions import PyXSError

from xenqemu.errors import HostError, HostTimeout, ReplyLost, StoreError
from xenqemu.formats.xenstore import HEADER, PAYLOAD_MAX, Op
from xenqemu.system.timed_call import within


class _Packet(NamedTuple):
    """What pyxs's `Packet` is, without its list of operations."""

    op: int
    rq_id: int
    tx_id: int
    size: int
    payload: bytes


_LOST = _Packet(Op.ERROR, 0, 0, 0, b"")
"""Put in the place of a reply that will never come."""


class _Connection(UnixSocketConnection):
    """pyxs's socket; a length is checked before memory is taken for it, a close wakes readers."""

    transport: Any

    def send(self, packet: _Packet) -> None:
        transport = self.transport  # taken once: the other thread may close it at any time
        if transport is None:
            raise PyXSError("closed")
        header = HEADER.pack(packet.op, packet.rq_id, packet.tx_id, packet.size)
        transport.send(header + packet.payload)

    def recv(self) -> _Packet:
        op, rq_id, tx_id, size = HEADER.unpack(self.transport.recv(HEADER.size))
        if size > PAYLOAD_MAX:
            raise PyXSError(f"a message of {size} bytes")
        return _Packet(op, rq_id, tx_id, size, self.transport.recv(size))

    def close(self, *_silent: object) -> None:
        transport, self.transport = self.transport, None
        if transport is not None:
            with contextlib.suppress(OSError):  # the peer may have closed first
                transport.sock.shutdown(socket.SHUT_RDWR)
            transport.sock.close()


# pyxs has no types: seen through these two, it has the ones that are used here.
_connection: Callable[[str | None], Any] = _Connection
_router: Callable[[Any], Any] = Router

_FAULTS = (PyXSError, OSError, ValueError, TypeError, AttributeError, struct.error)
"""What ends pyxs's thread: the connection is lost or closed, or the bytes are invalid."""


class Watcher:
    """Where pyxs puts the events of one watch; None once there will be no more."""

    def __init__(self) -> None:
        self.events: queue.SimpleQueue[object] = queue.SimpleQueue()

    def next(self, seconds: float) -> bool:
        """Wait for an event, take all there are, and return False if none came in time.

        Raises `StoreError` once the connection is gone.
        """
        try:
            event = self.events.get(timeout=seconds)
            while event is not None and not self.events.empty():
                event = self.events.get()
        except queue.Empty:
            return False
        if event is None:
            raise StoreError("the connection to xenstored was lost while waiting for a change")
        return True


class StoreConnection:
    """A connection, opened when made, for one thread at a time; `name` is its socket's path.

    `seconds` is the deadline of each request.  Raises `StoreError` if nobody listens there,
    `HostTimeout` if it does not answer.
    """

    def __init__(self, path: Path | None, seconds: float) -> None:
        connection = _connection(None if path is None else str(path))
        self.name: str = connection.path
        self._seconds = seconds
        self._over = threading.Event()
        self._watchers: set[Watcher] = set()
        self._counter = itertools.count()
        self._router = _router(connection)
        self._router.thread = threading.Thread(target=self._route, name="pyxs", daemon=True)
        try:
            within(seconds, f"connecting to xenstored at {self.name}", self._router.start)
        except (PyXSError, OSError) as error:
            self.close()
            raise StoreError(f"cannot connect to xenstored at {self.name}: {error}") from error
        except HostTimeout:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """False once anything went wrong with this connection."""
        return not self._over.is_set()

    @property
    def reusable(self) -> bool:
        """Whether it works and nothing is outstanding: neither data nor its end can be read.

        pyxs's thread may not have noticed yet that xenstored closed the connection.
        """
        transport = self._router.connection.transport
        if transport is None:
            return False
        try:
            transport.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return self.alive
        except OSError:
            return False
        return False

    def request(self, op: Op, payload: bytes, what: str, tx_id: int = 0) -> bytes:
        """Return the payload of the reply; `what` names the act and its path in errors.

        Raises `StoreError` with the errno name that xenstored answered, or without one if the
        request could not be sent; `HostTimeout` if no answer came in time; `ReplyLost` if the
        connection ended before it, or if what came was no answer.
        """
        if len(payload) > PAYLOAD_MAX:
            raise StoreError(f"{what}: {len(payload)} bytes, at most {PAYLOAD_MAX}", "E2BIG")
        reply = self._reply(self._send(op, payload, what, tx_id), what)
        if reply.tx_id != tx_id or reply.op not in {op, Op.ERROR}:
            self.close()
            raise ReplyLost(f"{what}: xenstored at {self.name} answered something else")
        if reply.op == Op.ERROR:
            code = reply.payload.rstrip(b"\0").decode("ascii", "replace")
            raise StoreError(f"{what}: xenstored says {code}", code)
        return reply.payload

    def withdraw(self, op: Op, payload: bytes, what: str, tx_id: int = 0) -> None:
        """Undo a watch or a transaction; where that fails, the end of the connection does it."""
        try:
            if self.alive:
                self.request(op, payload, what, tx_id)
        except HostError:
            self.close()

    @contextlib.contextmanager
    def watching(self, path: bytes, what: str) -> Iterator[Watcher]:
        """Watch `path` meanwhile; the first event comes at once."""
        token = b"%d" % self._new_id()
        watcher = Watcher()
        self._watchers.add(watcher)
        self._router.subscribe(token, watcher)
        try:
            self.request(Op.WATCH, path + b"\0" + token + b"\0", what)
            yield watcher
        finally:
            self.withdraw(Op.UNWATCH, path + b"\0" + token + b"\0", what)
            self._router.unsubscribe(token, watcher)
            self._watchers.discard(watcher)

    def close(self) -> None:
        """End the connection and the thread that reads from it; may be repeated.

        A connect that nobody waits for any more may still come about: without its terminators
        the thread it starts ends at once, and closes the connection.
        """
        self._over.set()
        self._router.connection.close()
        if self._router.thread.is_alive():
            self._router.thread.join(self._seconds)
        self._router.r_terminator.close()
        self._router.w_terminator.close()

    def _new_id(self) -> int:
        """Return a 32-bit number other than 0 that no recent request had."""
        return next(self._counter) % 0xFFFFFFFF + 1

    def _send(self, op: Op, payload: bytes, what: str, tx_id: int) -> Any:
        """Send and return pyxs's variable for the reply."""
        packet = _Packet(op, self._new_id(), tx_id, len(payload), payload)
        try:
            if not self.alive:
                raise PyXSError("closed")
            return self._router.send(packet)
        except (PyXSError, OSError) as error:
            self.close()
            raise StoreError(f"{what}: no connection to xenstored at {self.name}") from error

    def _reply(self, variable: Any, what: str) -> _Packet:
        """Return the reply, unless the connection or the time ends before."""
        with variable.condition:
            ended = variable.condition.wait_for(
                lambda: variable.target is not None or not self.alive, self._seconds
            )
        reply: _Packet | None = variable.target
        if reply is not None and reply is not _LOST:
            return reply
        self.close()
        if ended:
            raise ReplyLost(
                f"{what}: xenstored at {self.name} closed the connection before its reply"
            )
        raise HostTimeout(
            f"{what}: xenstored at {self.name} did not answer within {self._seconds:g} s"
        )

    def _route(self) -> None:
        """Run pyxs's thread; when it ends, wake all who wait for it."""
        with contextlib.suppress(*_FAULTS):  # each means the same: there will be no more replies
            self._router()
        self._over.set()
        for variable in list(self._router.rvars.values()):
            variable.set(_LOST)
        for watcher in list(self._watchers):
            watcher.events.put(None)
