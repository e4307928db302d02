"""The QMP wire of the server's side: JSON objects without separators, descriptors beside them."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping

LIMIT = 1 << 20
"""Bytes of one request at most."""

SEND_TIMEOUT = 5.0
"""Seconds until a client that does not read is taken for gone."""

_QUOTE, _ESCAPE, _NEWLINE = b'"\\\n'


class Gone(Exception):
    """The client closed the connection, or does not read."""


class Framer:
    """Cuts a stream into objects by counting brackets outside strings, as QEMU's own lexer does."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._depth = 0
        self._quoted = False
        self._escaped = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take some bytes and return the texts that they complete; raise `Gone` over the limit.

        A line that never opens a bracket is a text too, and bad JSON.
        """
        for byte in data:
            self._buffer.append(byte)
            if self._completes(byte):
                text = bytes(self._buffer).strip()
                self._buffer.clear()
                self._depth = 0
                if text:
                    yield text
        if len(self._buffer) > LIMIT:
            raise Gone("a request without an end")

    def _completes(self, byte: int) -> bool:
        if self._quoted:
            self._quoted = self._escaped or byte != _QUOTE
            self._escaped = byte == _ESCAPE and not self._escaped
            return False
        if byte == _QUOTE:
            self._quoted = True
        elif byte in b"{[":
            self._depth += 1
        elif byte in b"}]":
            self._depth -= 1
            return self._depth <= 0
        return byte == _NEWLINE and self._depth == 0


class QmpClient:
    """A connected client, and the last descriptor that it sent and no command took yet."""

    def __init__(self, connected: socket.socket) -> None:
        self._framer = Framer()
        self._fd: int | None = None
        self.socket = connected
        connected.settimeout(SEND_TIMEOUT)

    def receive(self) -> list[bytes]:
        """Return the requests that the next bytes complete; raise `Gone` at the end."""
        try:
            data, fds, _flags, _address = socket.recv_fds(self.socket, 4096, 16)
        except OSError as error:
            raise Gone(str(error)) from error
        for fd in fds:
            self._keep(fd)
        if not data:
            raise Gone("the client closed the connection")
        return list(self._framer.feed(data))

    def send(self, message: Mapping[str, object]) -> None:
        """Send one message as a line; raise `Gone` if nobody takes it."""
        self.send_raw(json.dumps(message).encode() + b"\r\n")

    def send_raw(self, data: bytes) -> None:
        """Send any bytes."""
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Gone(str(error)) from error

    def take_fd(self) -> int | None:
        """Return the descriptor that came last, which is the caller's from now on."""
        fd, self._fd = self._fd, None
        return fd

    def close(self) -> None:
        """Hang up."""
        self._keep(None)
        self.socket.close()

    def _keep(self, fd: int | None) -> None:
        if self._fd is not None:
            os.close(self._fd)
        self._fd = fd
