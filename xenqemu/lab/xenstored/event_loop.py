"""The loop that moves bytes between the sockets and the daemon, in one thread.

A client that breaks the framing is disconnected at once, as by Xen's xenstored.  One that does not
read is no longer read from, and is disconnected when too much is unsent.
"""

from __future__ import annotations

import logging
import selectors
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

from xenqemu.errors import TooBig
from xenqemu.lab.xenstored import kept_state, xs_wire
from xenqemu.lab.xenstored.client import Client
from xenqemu.lab.xenstored.daemon import Daemon

CLIENTS_MAX = 256
CHUNK = 1 << 16
"""Bytes received or sent in one call."""

SAVE_DELAY = 0.5
"""Seconds from a change until it is saved, with those that followed."""

_LOG = logging.getLogger(__name__)


@dataclass(eq=False)
class ConnectedSocket:
    """A connected socket, its client, and the bytes of requests that are not done yet."""

    socket: socket.socket
    client: Client = field(default_factory=Client)
    inbox: bytearray = field(default_factory=bytearray)

    @property
    def interest(self) -> int:
        """What to wait for: bytes to read, space to write, or both."""
        write = selectors.EVENT_WRITE if self.client.outbox else 0
        return write | (0 if self.client.paused else selectors.EVENT_READ)


class Server:
    """Serves `daemon`; its state goes to `state_file`, if there is one.  Close it."""

    def __init__(self, daemon: Daemon, state_file: Path | None = None) -> None:
        self._daemon = daemon
        self._state_file = state_file
        self._saved = self._current()
        self._save_at: float | None = None
        self._peers: list[ConnectedSocket] = []
        self._selector = selectors.DefaultSelector()
        self._woken, self.waker = socket.socketpair()
        for end in (self._woken, self.waker):
            end.setblocking(False)

    def stop(self) -> None:
        """Make `serve` return: from any thread; a signal may write to `waker` itself."""
        self.waker.send(b"\0")

    def serve(self, listener: socket.socket) -> None:
        """Serve a listening socket until `stop`, which may have been called before.

        The state is saved at the end; raises `OSError` if it cannot be.
        """
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        while self._turn(listener):
            pass
        self._save()

    def close(self) -> None:
        """Hang up on all clients."""
        for peer in list(self._peers):
            self._drop(peer)
        self._selector.close()
        self._woken.close()
        self.waker.close()

    def _turn(self, listener: socket.socket) -> bool:
        """Wait for events and handle them; return False after `stop`."""
        for key, events in self._selector.select(self._timeout()):
            if key.fileobj is self._woken:
                return False
            if key.fileobj is listener:
                self._accept(listener)
            else:
                self._transfer(key.data, events)
        self._update_peers()
        self._save_if_due()
        return True

    def _accept(self, listener: socket.socket) -> None:
        try:
            connected, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # the client has hung up already
        if len(self._peers) >= CLIENTS_MAX:
            connected.close()
            return
        connected.setblocking(False)
        peer = ConnectedSocket(connected)
        self._peers.append(peer)
        self._daemon.clients.append(peer.client)
        self._selector.register(connected, peer.interest, peer)

    def _transfer(self, peer: ConnectedSocket, events: int) -> None:
        """Receive and send what is possible, and do the requests that are whole."""
        try:
            alive = not events & selectors.EVENT_READ or _receive(peer)
            if events & selectors.EVENT_WRITE:
                del peer.client.outbox[: peer.socket.send(peer.client.outbox[:CHUNK])]
            self._work(peer)
        except (OSError, TooBig) as error:
            _LOG.debug("a client is disconnected: %s", error)
            alive = False
        if not alive:
            self._drop(peer)

    def _work(self, peer: ConnectedSocket) -> None:
        while not peer.client.paused:
            request = xs_wire.take(peer.inbox)
            if request is None:
                break
            self._daemon.handle(peer.client, request)

    def _update_peers(self) -> None:
        """Disconnect who is lost, and wait for what each of the others needs now."""
        for peer in list(self._peers):
            if peer.client.lost:
                _LOG.warning("a client does not read its events and is disconnected")
                self._drop(peer)
            elif self._selector.get_key(peer.socket).events != peer.interest:
                self._selector.modify(peer.socket, peer.interest, peer)

    def _drop(self, peer: ConnectedSocket) -> None:
        self._peers.remove(peer)
        self._daemon.clients.remove(peer.client)
        self._selector.unregister(peer.socket)
        peer.socket.close()

    # The state file.

    def _current(self) -> tuple[object, dict[int, bool]]:
        """Return what is different once there is something to save: nodes never change."""
        return self._daemon.tree.root, dict(self._daemon.domains.latches)

    def _timeout(self) -> float | None:
        """Return the seconds until the state is to be saved, None if it is saved."""
        return None if self._save_at is None else max(0.0, self._save_at - time.monotonic())

    def _save_if_due(self) -> None:
        if self._state_file is None or self._saved == self._current():
            return
        if self._save_at is None:
            self._save_at = time.monotonic() + SAVE_DELAY
        elif time.monotonic() >= self._save_at:
            try:
                self._save()
            except OSError as error:
                _LOG.warning("the state could not be saved: %s", error)
                self._save_at = time.monotonic() + SAVE_DELAY

    def _save(self) -> None:
        if self._state_file is not None:
            kept_state.save(self._daemon, self._state_file)
            self._saved = self._current()
            self._save_at = None


def _receive(peer: ConnectedSocket) -> bool:
    """Add what came to the inbox; return False at the end of the stream."""
    data = peer.socket.recv(CHUNK)
    peer.inbox += data
    return bool(data)
