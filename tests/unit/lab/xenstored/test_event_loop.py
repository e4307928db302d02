"""The server's loop: framing, garbage, slow readers, hang-ups, its socket, its state."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.doubles.xen.xenstored import TIMEOUT, Raw, eventually, running, tool
from xenqemu.errors import StoreError, TooBig
from xenqemu.formats.xenstore import HEADER, Op
from xenqemu.lab.xenstored import __main__ as program
from xenqemu.lab.xenstored import client as client_module
from xenqemu.lab.xenstored import event_loop as server_module
from xenqemu.lab.xenstored import kept_state as state_module
from xenqemu.lab.xenstored import xs_wire
from xenqemu.lab.xenstored.client import Client
from xenqemu.lab.xenstored.daemon import Daemon
from xenqemu.lab.xenstored.event_loop import Server
from xenqemu.lab.xenstored.listener import listening
from xenqemu.lab.xenstored.xs_wire import Packet

OK = b"OK\0"

# Framing.

MESSAGES = [
    (Packet(Op.READ, 1, 0, b"/a\0"), bytes.fromhex("02000000 01000000 00000000 03000000 2f6100")),
    (Packet(Op.RM, 0xFFFFFFFF, 9, b""), bytes.fromhex("0d000000 ffffffff 09000000 00000000")),
    (Packet(77, 2, 3, b"x" * 4096), HEADER.pack(77, 2, 3, 4096) + b"x" * 4096),
]


@pytest.mark.parametrize(("message", "data"), MESSAGES)
def test_a_message_and_its_bytes(message: Packet, data: bytes) -> None:
    assert message.pack() == data
    inbox = bytearray(data + b"tail")
    assert xs_wire.take(inbox) == message
    assert inbox == b"tail"


@pytest.mark.parametrize(("message", "data"), MESSAGES[:2])
def test_a_message_cut_short_is_waited_for(message: Packet, data: bytes) -> None:
    for end in range(len(data)):
        inbox = bytearray(data[:end])
        assert xs_wire.take(inbox) is None
        assert inbox == data[:end]


def test_a_length_too_great() -> None:
    with pytest.raises(TooBig, match="at most 4096, got 4097"):
        xs_wire.take(bytearray(HEADER.pack(Op.READ, 0, 0, 4097)))


@given(st.lists(st.tuples(st.integers(0, 24), st.integers(0, 3), st.binary(max_size=40))))
def test_any_request_gets_one_reply(requests: list[tuple[int, int, bytes]]) -> None:
    daemon, client = Daemon(), Client()
    daemon.clients.append(client)
    for op, tx_id, payload in requests:
        client.outbox.clear()
        daemon.handle(client, Packet(op, 5, tx_id, payload))
        reply = xs_wire.take(client.outbox)
        assert reply is not None
        assert reply.op in {op, Op.ERROR}
        assert (reply.req_id, reply.tx_id) == (5, tx_id)
        while event := xs_wire.take(client.outbox):
            assert event.op == Op.WATCH_EVENT


# The socket.


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.binary(max_size=200))
def test_garbage_hurts_only_its_sender(path: Path, data: bytes) -> None:
    with Raw(path) as bad, Raw(path) as good:
        try:
            bad.socket.sendall(data)
        except BrokenPipeError:
            assert bad.ended()
        assert good.ask(Op.GET_DOMAIN_PATH, b"1\0") == b"/local/domain/1\0"


def test_too_long_a_payload_cuts_the_connection(path: Path) -> None:
    with Raw(path) as bad, Raw(path) as good:
        bad.socket.sendall(HEADER.pack(Op.WRITE, 0, 0, 0xFFFFFFFF))
        assert bad.ended()
        assert good.ask(Op.MKDIR, b"/a\0") == OK


def test_a_dribbled_request_and_two_at_once(raw: Raw) -> None:
    for byte in Packet(Op.WRITE, 1, 0, b"/a\0value").pack():
        raw.socket.sendall(bytes([byte]))
    assert raw.receive() == Packet(Op.WRITE, 1, 0, OK)
    raw.socket.sendall(Packet(Op.READ, 2, 0, b"/a\0").pack() * 2)
    assert [raw.receive() for _ in range(2)] == [Packet(Op.READ, 2, 0, b"value")] * 2


def test_a_client_that_leaves_takes_its_watches_and_transactions_along(tmp_path: Path) -> None:
    daemon = Daemon()
    with running(tmp_path / "socket", daemon=daemon):
        with Raw(tmp_path / "socket") as leaving:
            leaving.ask(Op.WATCH, b"/a\0t\0")
            leaving.ask(Op.TRANSACTION_START, b"\0")
            leaving.socket.sendall(b"half a mess")
            assert len(daemon.clients) == 1
        eventually(lambda: not daemon.clients)
        with Raw(tmp_path / "socket") as other:
            assert other.ask(Op.WRITE, b"/a\0v") == OK


def test_requests_of_a_slow_reader_wait_for_it(path: Path) -> None:
    value = b"x" * 4000
    with Raw(path) as slow, Raw(path) as good:
        slow.ask(Op.WRITE, b"/a\0" + value)
        slow.socket.sendall(Packet(Op.READ, 3, 0, b"/a\0").pack() * 500)
        assert good.ask(Op.MKDIR, b"/b\0") == OK
        for _ in range(500):
            assert slow.receive().payload == value


def test_who_never_reads_its_events_is_cut_off(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(client_module, "OUTBOX_MAX", 1 << 17)
    with Raw(path) as slow, Raw(path) as good:
        name = b"/" + b"n" * 3000
        for n in range(8):
            slow.ask(Op.WATCH, name + b"\0%d\0" % n)
            slow.receive()
        for _ in range(100):
            assert good.ask(Op.WRITE, name + b"\0v") == OK
        with pytest.raises((EOFError, ConnectionResetError)):
            while True:
                slow.receive()
        assert good.ask(Op.READ, name + b"\0") == b"v"
    assert "is disconnected" in caplog.text


def test_a_client_beyond_the_most_is_hung_up_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "CLIENTS_MAX", 2)
    with Raw(path) as one, Raw(path) as two, Raw(path) as three:
        assert one.ask(Op.MKDIR, b"/a\0") == OK
        assert two.ask(Op.MKDIR, b"/b\0") == OK
        assert three.ended()


class Fickle:
    """A listener whose first client is gone when it is to be accepted."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._first = True

    def fileno(self) -> int:
        return self._listener.fileno()

    def accept(self) -> tuple[socket.socket, object]:
        accepted = self._listener.accept()
        if self._first:
            self._first = False
            accepted[0].close()
            raise BlockingIOError
        return accepted


def test_a_client_that_is_gone_before_it_is_accepted_is_passed_over(tmp_path: Path) -> None:
    """The connection may be gone between the loop's being told of it and its accepting it."""
    with listening(tmp_path / "socket") as listener, closing(Server(Daemon())) as server:
        thread = threading.Thread(target=server.serve, args=[Fickle(listener)])
        thread.start()
        with Raw(tmp_path / "socket") as gone, Raw(tmp_path / "socket") as there:
            assert gone.ended()
            assert there.ask(Op.MKDIR, b"/a\0") == OK
        server.stop()
        thread.join(TIMEOUT)
        assert not thread.is_alive()


def test_folder_and_socket_are_for_their_owner(path: Path) -> None:
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.with_name("socket.new").exists()


def test_a_second_server_is_refused(path: Path) -> None:
    with pytest.raises(StoreError, match=r"socket: a xenstored serves this socket already"):
        listening(path).__enter__()
    with Raw(path) as client:
        assert client.ask(Op.MKDIR, b"/a\0") == OK


@pytest.mark.parametrize("full", [False, True])
def test_a_socket_of_another_program_is_left_alone(tmp_path: Path, full: bool) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as waiting:
        other.bind(str(path))
        other.listen(0)
        if full:
            waiting.connect(str(path))
        with pytest.raises(StoreError, match="already"):
            listening(path).__enter__()
        assert path.exists()


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with running(path), Raw(path) as client:
        assert client.ask(Op.MKDIR, b"/a\0") == OK
    assert not path.exists()


def test_a_path_that_no_socket_can_have(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot listen: AF_UNIX path too long"):
        listening(tmp_path / ("x" * 108)).__enter__()


# The state.


def test_the_state_outlives_the_server(tmp_path: Path) -> None:
    path, state = tmp_path / "socket", tmp_path / "state"
    with running(path, state), Raw(path) as client:
        client.ask(Op.WRITE, b"/a/b\0\0\xff\n")
        client.ask(Op.SET_PERMS, b"/a/b\0n3\0r4\0")
        client.ask(Op.INTRODUCE, b"3\x001\x001\0")
        client.ask(Op.INTRODUCE, b"4\x001\x001\0")
        client.ask(Op.CONTROL, b"shutdown\x004\0")
    before = saved(state)
    daemon = Daemon()
    state_module.load(daemon, state)
    assert daemon.domains.latches == {3: False, 4: True}
    with running(path, state, daemon), Raw(path) as client:
        assert client.ask(Op.READ, b"/a/b\0") == b"\0\xff\n"
        assert client.ask(Op.GET_PERMS, b"/a/b\0") == b"n3\0r4\0"
        assert client.ask(Op.IS_DOMAIN_INTRODUCED, b"3\0") == b"T\0"
    assert saved(state) == before
    assert stat.S_IMODE(state.stat().st_mode) == 0o600


def saved(state: Path) -> object:
    return json.loads(state.read_text())


def test_the_state_is_saved_soon_after_a_change(tmp_path: Path) -> None:
    path, state = tmp_path / "socket", tmp_path / "state"
    with running(path, state), Raw(path) as client:
        assert not state.exists()
        client.ask(Op.MKDIR, b"/a\0")
        eventually(state.exists, 5)
        assert ["/a", "", ["n0"]] in json.loads(state.read_text())["nodes"]
        first = state.stat().st_mtime_ns
        client.ask(Op.READ, b"/a\0")
        time.sleep(server_module.SAVE_DELAY * 1.5)
        assert state.stat().st_mtime_ns == first


def test_a_state_that_cannot_be_saved_is_no_reason_to_stop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, folder = tmp_path / "socket", tmp_path / "folder"
    with running(path, folder / "state"), Raw(path) as client:
        client.ask(Op.MKDIR, b"/a\0")
        eventually(lambda: "could not be saved" in caplog.text, 5)
        assert client.ask(Op.DIRECTORY, b"/a\0") == b""
        folder.mkdir()
        eventually((folder / "state").exists, 5)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"nodes": [["a b", "", ["n0"]]], "domains": {}}',
        '{"nodes": [["/a", "", ["x"]]], "domains": {}}',
        '{"nodes": [["/a", 5, ["n0"]]], "domains": {}}',
        '{"nodes": [[5, "", ["n0"]]], "domains": {}}',
        '{"nodes": [["/a", "\u0100", ["n0"]]], "domains": {}}',
        '{"nodes": [], "domains": {"x": true}}',
        '{"nodes": [], "domains": {"0": true}}',
        '{"nodes": [], "domains": []}',
        "[" * 100_000,
    ],
)
def test_a_bad_state_is_refused_whole(tmp_path: Path, text: str) -> None:
    state = tmp_path / "state"
    state.write_text(text)
    daemon = Daemon()
    tree = daemon.tree
    with pytest.raises(StoreError, match="state: not a state of xenstored"):
        state_module.load(daemon, state)
    assert daemon.tree is tree


def test_a_state_out_of_bounds_or_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match="Is a directory"):
        state_module.load(Daemon(), tmp_path)
    monkeypatch.setattr(state_module, "STATE_MAX", 3)
    (tmp_path / "state").write_text("[[]]")
    with pytest.raises(StoreError, match="more than 3 bytes"):
        state_module.load(Daemon(), tmp_path / "state")


# The program.


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "xenqemu.lab.xenstored", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_program_from_start_to_end(tmp_path: Path, number: signal.Signals) -> None:
    path, pid, state = tmp_path / "run" / "socket", tmp_path / "pid", tmp_path / "state"
    with start(path, "--pid-file", pid, "--state", state) as process:
        eventually(pid.exists)
        assert int(pid.read_text()) == process.pid
        assert tool(path, "write", "/a", "kept").returncode == 0
        with start(path) as second:
            assert second.wait(TIMEOUT) == 3
            assert second.stderr is not None
            assert "serves this socket already" in second.stderr.read()
        process.send_signal(number)
        assert process.wait(TIMEOUT) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert not path.exists()
    assert not pid.exists()
    with start(path, "--state", state) as process:
        eventually(path.exists)
        assert tool(path, "read", "/a").stdout == "kept\n"
        process.kill()
        process.wait(TIMEOUT)
    assert path.exists()
    with start(path, "--pid-file", pid) as process:
        eventually(pid.exists)
        assert tool(path, "ls", "-f").stdout == ('/@introduceDomain = ""\n/@releaseDomain = ""\n')
        process.terminate()
        assert process.wait(TIMEOUT) == 0


def run_until_there(path: Path, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run the program in this process; it gets its SIGTERM when it begins to serve."""
    serve = Server.serve

    def end_and_serve(server: Server, listener: socket.socket) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        serve(server, listener)

    monkeypatch.setattr(Server, "serve", end_and_serve)
    return program.main([str(path), *map(str, arguments)])


def test_the_program_puts_signals_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    state, pid = tmp_path / "state", tmp_path / "pid"
    code = run_until_there(tmp_path / "socket", monkeypatch, "--state", state, "--pid-file", pid)
    assert code == 0
    assert signal.getsignal(signal.SIGTERM) is before
    assert state.exists()
    assert not pid.exists()
    assert not (tmp_path / "socket").exists()


def test_the_program_says_what_it_cannot_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "missing" / "file"
    assert run_until_there(tmp_path / "socket", monkeypatch) == 0
    assert program.main([str(tmp_path / "socket"), "--pid-file", str(missing)]) == 3
    assert capsys.readouterr().err == (
        f"xenstored: {missing}: cannot be written: No such file or directory\n"
    )
    assert run_until_there(tmp_path / "socket", monkeypatch, "--state", missing) == 3
    assert "the state could not be saved" in capsys.readouterr().err


def test_logging_is_the_only_output(caplog: pytest.LogCaptureFixture, path: Path) -> None:
    with caplog.at_level(logging.DEBUG), Raw(path) as bad:
        bad.socket.sendall(HEADER.pack(0, 0, 0, 5000))
        assert bad.ended()
    assert "a client is disconnected: xenstore message at offset 0xc" in caplog.text
