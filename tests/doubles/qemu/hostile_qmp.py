"""A QEMU that its guest has taken over: it greets as QMP wants it, and then answers anything."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

GREETING = {
    "QMP": {
        "version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""},
        "capabilities": [],
    }
}

Answer = Callable[[socket.socket, str], None]
"""Sends what it likes to a client, in place of the answer to the request of this id."""


def once(text: str) -> Answer:
    """Return what sends one message; ID in it is the request's."""

    def answer(client: socket.socket, number: str) -> None:
        client.sendall(text.replace("ID", json.dumps(number)).encode("latin-1") + b"\r\n")

    return answer


def for_ever(piece: bytes) -> Answer:
    """Return what sends the same bytes until nobody takes them."""

    def answer(client: socket.socket, _number: str) -> None:
        while True:
            client.sendall(piece)

    return answer


@contextmanager
def hostile_qemu(path: Path, answer: Answer, greeting: bytes | None = None) -> Iterator[None]:
    """Serve one client at `path` for the block."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=_serve, args=(listener, answer, greeting))
        thread.start()
        try:
            yield
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(listener: socket.socket, answer: Answer, greeting: bytes | None) -> None:
    with suppress(OSError):
        client, _ = listener.accept()
        with client:
            client.sendall(greeting or json.dumps(GREETING).encode() + b"\r\n")
            while request := _request(client):
                if request["execute"] == "qmp_capabilities":
                    done = {"return": {}, **({"id": request["id"]} if "id" in request else {})}
                    client.sendall(json.dumps(done).encode() + b"\r\n")
                else:
                    answer(client, request["id"])


def _request(client: socket.socket) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(client.recv(1 << 16) or b"{}")
    return said
