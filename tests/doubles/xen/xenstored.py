"""A xenstored that runs while a test does, and Debian's tools and a raw socket to talk to it."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Self

from xenqemu.formats.xenstore import HEADER
from xenqemu.lab.xenstored import xs_wire
from xenqemu.lab.xenstored.client import Client
from xenqemu.lab.xenstored.daemon import Daemon
from xenqemu.lab.xenstored.event_loop import Server
from xenqemu.lab.xenstored.listener import listening
from xenqemu.lab.xenstored.xs_wire import Packet

TIMEOUT = 20.0


@contextmanager
def running(
    path: Path, state: Path | None = None, daemon: Daemon | None = None
) -> Iterator[Server]:
    """Serve on `path` from a thread of this process."""
    with listening(path) as listener, closing(Server(daemon or Daemon(), state)) as server:
        thread = threading.Thread(target=server.serve, args=[listener])
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join(TIMEOUT)
            assert not thread.is_alive()


def environment(path: Path) -> dict[str, str]:
    """Return what makes libxenstore of 4.17 take our socket.

    XENSTORED_PATH is all it needs: no root, no /dev/xen/xenbus, no -s.
    """
    return os.environ | {"XENSTORED_PATH": str(path)}


def tool(path: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Debian's xenstore-`name` against our socket."""
    return subprocess.run(
        [f"xenstore-{name}", *arguments],
        env=environment(path),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


class Connections(list[Client]):
    """The clients that a xenstored has just now; `taken` is how many it has ever had."""

    taken = 0

    @classmethod
    def of(cls, daemon: Daemon) -> Self:
        """Return those of a daemon that has had none yet."""
        daemon.clients = found = cls()
        return found

    def append(self, client: Client) -> None:
        self.taken += 1
        super().append(client)


class Raw:
    """A client that sends and receives messages as they are."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect(str(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.socket.close()

    def send(self, op: int, payload: bytes, tx_id: int = 0, req_id: int = 7) -> None:
        self.socket.sendall(Packet(op, req_id, tx_id, payload).pack())

    def receive(self) -> Packet:
        op, req_id, tx_id, length = HEADER.unpack(self._exact(HEADER.size))
        return Packet(op, req_id, tx_id, self._exact(length))

    def ask(self, op: int, payload: bytes, tx_id: int = 0) -> bytes:
        """Send and return the payload of the reply: of an error, its name."""
        self.send(op, payload, tx_id)
        while (reply := self.receive()).op == xs_wire.Op.WATCH_EVENT:
            pass
        assert (reply.op, reply.req_id, reply.tx_id) in {
            (op, 7, tx_id),
            (xs_wire.Op.ERROR, 7, tx_id),
        }
        return reply.payload

    def ended(self) -> bool:
        """Return whether the server hung up (having sent nothing more)."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def _exact(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data


def eventually(condition: object, seconds: float = TIMEOUT) -> None:
    """Wait until `condition()` is true."""
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
