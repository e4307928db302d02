"""The QMP server: one client at a time, the next one waits in the listen queue (chardev, qmp.c).

::

    greeting    {"QMP": {"version": …, "capabilities": []}}
    request     {"execute": name, "arguments": {…}, "id": any}
    reply       {"return": …, "id": any}    or    {"error": {"class", "desc"}, "id": any}
    event       {"event": name, "timestamp": …}     once capabilities are negotiated
"""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Self

from xenqemu.lab.reference_device_model import commands
from xenqemu.lab.reference_device_model.faults import Fault, Message, Turn, play
from xenqemu.lab.reference_device_model.model import Ended, Model, known
from xenqemu.lab.reference_device_model.qemu_versions import Refusal, Version
from xenqemu.lab.reference_device_model.qmp_wire import Gone, QmpClient
from xenqemu.lab.reference_device_model.registry import Registry, small_pc
from xenqemu.lab.reference_device_model.run_states import Died, ModelMachine, QemuRunState

END_TIMEOUT = 10.0
"""Seconds within which the thread must end."""


class ReferenceDeviceModel:
    """A device model that listens on `path`; call `serve`, or enter it to serve in a thread.

    `faults` may be changed while it serves; `seen` lists the requests, (command, arguments); `died`
    is whether it crashed: its socket then stays and refuses connections, as QEMU's does.
    """

    def __init__(
        self,
        path: Path,
        *,
        version: Version = (7, 2, 22),
        state: QemuRunState = QemuRunState.RUNNING,
        disks: bool = False,
        blockers: Sequence[str] = (),
        registry: Registry | None = None,
        faults: Mapping[str, Fault] | None = None,
    ) -> None:
        machine = ModelMachine(state, disks=disks, emit=self._emit)
        registry = registry or small_pc()
        self.model = Model(version, machine, registry, list(blockers), self._emit, self._take_fd)
        self.faults = dict(faults or {})
        self.seen: list[tuple[str, object]] = []
        self.died = False
        self._path = path
        self._client: QmpClient | None = None
        self._negotiated = False
        self._stopping = Event()
        self._wake, self._waker = socket.socketpair()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._thread = ThreadPoolExecutor(1, "reference-dm")
        self._served: Future[None] | None = None

    def __enter__(self) -> Self:
        self._served = self._thread.submit(self.serve)
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()
        if self._served is not None:
            self._served.result(END_TIMEOUT)
        self._thread.shutdown()

    def stop(self) -> None:
        """Make `serve` return; may be called from a signal handler."""
        self._stopping.set()
        with suppress(OSError):  # it has returned already
            self._waker.send(b".")

    def kill(self) -> None:
        """End as by SIGKILL: hang up, leave the socket."""
        self.died = True
        self.stop()

    def serve(self) -> None:
        """Serve until `stop`, `quit` or a crash."""
        try:
            while self._ready(self._listener):
                self._converse(QmpClient(self._listener.accept()[0]))
        except Ended:  # how `stop` and `quit` leave the loops
            pass
        except Died:
            self.died = True
        finally:
            self._close()

    def _converse(self, client: QmpClient) -> None:
        self._client = client
        self._negotiated = False
        try:
            self._turn("greeting", {}, self._greeting)
            while self._ready(client.socket):
                for request in client.receive():
                    self._handle(client, request)
        except Gone:  # the client hung up: wait for the next one
            pass
        finally:
            self._client = None
            client.close()
        self.model.fdsets.client_left(running=self.model.machine.running)

    def _ready(self, awaited: socket.socket) -> bool:
        """Wait for a socket to be readable; return False after `stop`."""
        select.select([awaited, self._wake], [], [])
        return not self._stopping.is_set()

    def _handle(self, client: QmpClient, text: bytes) -> None:
        echo: dict[str, object] = {}
        try:
            request = _parsed(text)
            if "id" in request:
                echo["id"] = request["id"]
            name = _name(request)
        except Refusal as refusal:
            client.send({**echo, **refusal.message()})
            return
        arguments = request.get("arguments", {})
        self.seen.append((name, arguments))
        try:
            self._turn(name, echo, lambda: {**echo, **self._reply(name, arguments)})
        finally:
            while self.model.later:
                self.model.later.pop(0)()

    def _turn(self, name: str, echo: Message, act: Callable[[], Message]) -> None:
        assert self._client is not None
        self.faults.get(name, play)(Turn(act, echo, self._client, self._stopping))

    def _greeting(self) -> Message:
        version = commands.query_version(self.model, {})
        return {"QMP": {"version": version, "capabilities": []}}

    def _reply(self, name: str, arguments: object) -> Message:
        try:
            return {"return": self._execute(name, arguments)}
        except Refusal as refusal:
            return refusal.message()

    def _execute(self, name: str, arguments: object) -> object:
        if name == "qmp_capabilities":
            return self._negotiate()
        if not self._negotiated:
            raise Refusal(
                "Expecting capabilities negotiation with 'qmp_capabilities'", "CommandNotFound"
            )
        command = known(self.model.version).get(name)
        if command is None:
            raise Refusal(f"The command {name} has not been found", "CommandNotFound")
        return command.run(self.model, command.checked(arguments))

    def _negotiate(self) -> object:
        if self._negotiated:
            raise Refusal(
                "Capabilities negotiation is already complete, command ignored", "CommandNotFound"
            )
        self._negotiated = True
        return {}

    def _emit(self, name: str) -> None:
        if self._client is not None and self._negotiated:
            seconds, rest = divmod(time.time(), 1)
            stamp = {"seconds": int(seconds), "microseconds": int(rest * 1_000_000)}
            with suppress(Gone):  # the command continues; the next read of the client raises
                self._client.send({"timestamp": stamp, "event": name})

    def _take_fd(self) -> int | None:
        return None if self._client is None else self._client.take_fd()

    def _close(self) -> None:
        if not self.died:
            self._path.unlink(missing_ok=True)
        self.model.close()
        for each in (self._listener, self._wake, self._waker):
            each.close()


def _parsed(text: bytes) -> dict[str, object]:
    try:
        request = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refusal(f"JSON parse error, {error}") from error
    if not isinstance(request, dict):
        raise Refusal("QMP input must be a JSON object")
    return request


def _name(request: Mapping[str, object]) -> str:
    for member in request:
        if member not in ("execute", "arguments", "id"):
            raise Refusal(f"QMP input member '{member}' is unexpected")
    name = request.get("execute")
    if not isinstance(name, str):
        raise Refusal("QMP input lacks member 'execute'")
    return name
