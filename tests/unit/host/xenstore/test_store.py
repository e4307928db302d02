"""Store over pyxs: against our xenstored, and against peers that do what pyxs cannot bear."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyxs.connection import UnixSocketConnection

from tests.doubles.xen.xenstored import TIMEOUT, Raw, eventually, running
from xenqemu.errors import HostTimeout, ReplyLost, StoreError
from xenqemu.formats.xenstore import HEADER, Op
from xenqemu.host.party_deadlines import Deadlines
from xenqemu.host.xenstore import store as store_module
from xenqemu.host.xenstore.connection import StoreConnection
from xenqemu.host.xenstore.store import Nodes, Store, Transaction

SOON = Deadlines(store_request=0.2)


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """The socket of a running xenstored."""
    with running(tmp_path / "socket"):
        yield tmp_path / "socket"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store(path) as opened:
        yield opened


def refused(code: str, match: str | None = None) -> object:
    return pytest.raises(StoreError, match=match, check=lambda error: error.code == code)


# What it does.


def test_nodes_are_read_written_listed_and_removed(store: Store) -> None:
    assert store.read("/a") is None
    assert store.list("/a") is None
    store.write("/a/b", "value")
    store.mkdir("/a/c")
    assert store.read("/a/b") == "value"
    assert store.read("/a/c") == ""
    assert store.list("/a") == ["b", "c"]
    assert store.list("/a/c") == []
    store.remove("/a/b")
    store.remove("/a/b")
    store.remove("/not/even/near")
    assert store.list("/a") == ["c"]


@pytest.mark.parametrize("value", ["", "\n", "a\0b\0", "größe €", "\udcff\udc80", "x" * 4000, "OK"])
def test_any_value(store: Store, value: str) -> None:
    store.write("/v", value)
    assert store.read("/v") == value


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=50))
def test_any_text(store: Store, value: str) -> None:
    store.write("/v", value)
    assert store.read("/v") == value


def test_permissions(store: Store) -> None:
    store.mkdir("/a")
    assert store.permissions("/a") == ["n0"]
    store.set_permissions("/a", ("n5", "r0"))
    assert store.permissions("/a") == ["n5", "r0"]
    with refused("ENOENT", "GET_PERMS of /b: xenstored says ENOENT"):
        store.permissions("/b")


def test_a_tree_has_the_values_of_all_nodes_below(store: Store) -> None:
    for path, value in {"/a/b/c": "1", "/a/b": "2", "/a/d": "", "/e": "3"}.items():
        store.write(path, value)
    expected = {"b": "2", "b/c": "1", "d": ""}
    assert store.tree("/a") == expected
    assert store.atomically(lambda t: t.tree("/a")) == expected
    assert store.tree("/nothing") == {}
    everything = store.tree("/")
    assert everything["a/b/c"] == "1"
    assert next(iter(everything)) == "@introduceDomain"


@contextmanager
def seen(path: Path, before: Callable[[Op, str, tuple[bytes, ...]], None]) -> Iterator[Nodes]:
    """Nodes of which each request is told to `before`, and sent then."""
    link = StoreConnection(path, TIMEOUT)

    def ask(op: Op, at: str, *words: bytes) -> bytes:
        before(op, at, words)
        return link.request(op, at.encode() + b"\0" + b"".join(words), op.name)

    yield Nodes(ask)
    link.close()


def test_a_tree_whose_nodes_vanish(store: Store, path: Path) -> None:
    store.write("/a/b", "1")
    store.write("/a/c", "2")

    def vanish(op: Op, at: str, words: tuple[bytes, ...]) -> None:
        if (op, at) == (Op.READ, "/a/b"):
            store.remove("/a/b")

    with seen(path, vanish) as nodes:
        assert nodes.tree("/a") == {"c": "2"}


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (lambda store: store.read("/a b"), "EINVAL"),
        (lambda store: store.read("/a\0b"), "EINVAL"),
        (lambda store: store.read("/a\ud800"), "EINVAL"),
        (lambda store: store.write("/a", "\ud800"), "EINVAL"),
        (lambda store: store.write("/a", "x" * 4094), "E2BIG"),
        (lambda store: store.write("/a/", "x"), "EINVAL"),
        (lambda store: store.remove("/"), "EINVAL"),
        (lambda store: store.list("//"), "EINVAL"),
        (lambda store: store.mkdir("x" * 5000), "E2BIG"),
        (lambda store: store.set_permissions("/a", ["n0"]), "ENOENT"),
        (lambda store: store.set_permissions("/", ["n0\0r1"]), "EINVAL"),
        (lambda store: store.set_permissions("/", []), "EINVAL"),
        (lambda store: store.introduce(0, 1, 1), "EINVAL"),
        (lambda store: store.resume(77), "ENOENT"),
        (lambda store: store.control("no", "such"), "EINVAL"),
    ],
)
def test_refusals_name_their_errno(store: Store, act: Callable[[Store], None], code: str) -> None:
    with refused(code):
        act(store)
    store.write("/still", "alive")
    assert store.read("/still") == "alive"


def test_domains_are_introduced_resumed_and_released(store: Store, path: Path) -> None:
    assert store.domain_path(7) == "/local/domain/7"
    store.introduce(7, 1044476, 1)
    store.resume(7)
    assert store.control("help").startswith("help")
    store.release(7)
    store.release(7)
    with Raw(path) as raw:
        assert raw.ask(17, b"7\0") == b"F\0"


def test_a_directory_longer_than_a_message(store: Store) -> None:
    names = [f"{n:030}" for n in range(500)]
    store.atomically(lambda t: [t.mkdir(f"/d/{name}") for name in names])
    assert store.list("/d") == names
    assert store.atomically(lambda t: t.list("/d")) == names


def test_a_directory_that_changes_while_it_is_listed(store: Store, path: Path) -> None:
    for n in range(200):
        store.mkdir(f"/d/{n:030}")
    changes = iter(["one", "two"])

    def change(op: Op, at: str, words: tuple[bytes, ...]) -> None:
        if op == Op.DIRECTORY_PART and words != (b"0\0",) and (name := next(changes, None)):
            store.mkdir(f"/d/{name}")

    with seen(path, change) as nodes:
        assert nodes.list("/d") == [*(f"{n:030}" for n in range(200)), "one", "two"]


# Transactions.


def test_a_transaction_is_repeated_until_nobody_interferes(store: Store, path: Path) -> None:
    store.write("/n", "0")
    seen = []

    def increment(change: Transaction) -> str:
        value = change.read("/n")
        assert value is not None
        seen.append(value)
        if len(seen) < 3:
            with Store(path) as other:
                other.write("/n", str(int(value) + 10))
        change.write("/n", str(int(value) + 1))
        return f"was {value}"

    assert store.atomically(increment) == "was 20"
    assert seen == ["0", "10", "20"]
    assert store.read("/n") == "21"


def test_many_at_once_lose_nothing(path: Path) -> None:
    def add(change: Transaction) -> None:
        change.write("/n", str(int(change.read("/n") or "0") + 1))

    def work() -> None:
        with Store(path) as store:
            for _ in range(10):
                store.atomically(add)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    with Store(path) as store:
        assert store.read("/n") == "40"


def test_a_change_that_raises_changes_nothing(store: Store, path: Path) -> None:
    def change(transaction: Transaction) -> None:
        transaction.write("/a", "1")
        raise KeyboardInterrupt

    for _ in range(20):  # more than a connection may have open at once
        with pytest.raises(KeyboardInterrupt):
            store.atomically(change)
    assert store.read("/a") is None


def test_a_conflict_without_end(store: Store, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "CONFLICT", lambda act: act())

    def change(transaction: Transaction) -> None:
        transaction.read("/n")
        store.write("/n", "x")

    with refused("EAGAIN", "committing a transaction: xenstored says EAGAIN"):
        store.atomically(change)


# Waiting.


def test_waiting_for_what_is_there_already(store: Store) -> None:
    store.write("/a", "1")
    assert store.wait("/a", lambda: store.read("/a"), 5) == "1"


def test_waiting_for_a_value(store: Store, path: Path) -> None:
    checks = []

    def ready() -> str | None:
        checks.append(store.read("/a/b"))
        return checks[-1] if checks[-1] == "3" else None

    def write() -> None:
        with Store(path) as other:
            for value in ("1", "2", "3"):
                other.write("/a/b", value)

    writer = threading.Timer(0.1, write)
    writer.start()
    assert store.wait("/a", ready, TIMEOUT) == "3"
    writer.join()
    assert checks[0] is None
    assert len(checks) <= 6


def test_a_change_between_the_watch_and_the_check_is_not_missed(store: Store, path: Path) -> None:
    def ready() -> str | None:
        value = store.read("/a")
        if value is None:
            with Store(path) as other:
                other.write("/a", "now")
        return value

    start = time.monotonic()
    assert store.wait("/a", ready, TIMEOUT) == "now"
    assert time.monotonic() - start < 5


def test_waiting_for_a_domain_to_go(store: Store, path: Path) -> None:
    store.introduce(5, 1, 1)
    gone = threading.Event()

    def shut_down() -> None:
        with Store(path) as other:
            gone.set()
            other.control("shutdown", "5")

    threading.Timer(0.1, shut_down).start()
    assert store.wait("@releaseDomain", lambda: gone.is_set() or None, TIMEOUT) is True


@pytest.mark.parametrize(
    ("watched", "value", "words"),
    [
        (
            "/a",
            "suspend",
            r"^/a: did not change as expected within 0\.1 s; its last value is 'suspend'$",
        ),
        ("/a", None, r"^/a: did not change as expected within 0\.1 s; it does not exist$"),
        ("@releaseDomain", None, r"^@releaseDomain: did not change as expected within 0\.1 s$"),
    ],
)
def test_waiting_in_vain(store: Store, watched: str, value: str | None, words: str) -> None:
    if value is not None:
        store.write(watched, value)
    with pytest.raises(HostTimeout, match=words):
        store.wait(watched, lambda: None, 0.1)
    store.write("/a", "goes on")


def test_events_without_end_do_not_lengthen_the_wait(store: Store) -> None:
    start = time.monotonic()
    with pytest.raises(HostTimeout):
        store.wait("/a", lambda: store.write("/a", "again"), 0.2)
    assert time.monotonic() - start < 5


def test_watches_are_taken_down(store: Store, path: Path) -> None:
    for _ in range(200):  # more than a connection may have at once
        assert store.wait("/a", lambda: True, 1)


def test_an_error_of_the_check_is_the_one_that_is_raised(store: Store) -> None:
    with refused("EINVAL", "READ of //"):
        store.wait("/a", lambda: store.read("//"), 1)
    with refused("EINVAL", "watching /a b"):
        store.wait("/a b", lambda: True, 1)


# No xenstored, or one that goes away.


def test_no_socket(tmp_path: Path) -> None:
    missing = tmp_path / "none"
    with pytest.raises(StoreError, match=f"cannot connect to xenstored at {missing}: .*No such"):
        Store(missing).__enter__()


def test_the_socket_of_a_dead_server(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "socket"))
    with pytest.raises(StoreError, match="refused"):
        Store(tmp_path / "socket").read("/a")


def test_the_socket_that_libxenstore_takes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XENSTORED_PATH", raising=False)
    monkeypatch.setenv("XENSTORED_RUNDIR", str(path.parent))
    with Store() as store:
        assert store.read("/@releaseDomain") == ""


def test_reconnecting_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    store = Store(path)
    with running(path):
        store.write("/a", "1")
    with pytest.raises(StoreError):
        store.read("/a")
    with running(path):
        assert store.read("/a") is None
    store.close()
    store.close()


def test_a_store_closed_and_opened_again(path: Path) -> None:
    before = set(threading.enumerate())
    store = Store(path)
    for _ in range(3):
        with store:
            store.write("/a", "1")
            assert {thread.name for thread in set(threading.enumerate()) - before} == {"pyxs"}
        assert set(threading.enumerate()) <= before


def test_xenstored_killed_during_a_wait(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with program(path) as process, Store(path) as store:
        threading.Timer(0.2, process.kill).start()
        with pytest.raises(StoreError, match="lost while waiting"):
            store.wait("/a", lambda: None, TIMEOUT)


def test_a_transaction_does_not_move_to_another_connection(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with program(path) as process, Store(path) as store:

        def change(transaction: Transaction) -> None:
            transaction.write("/a", "1")
            process.kill()
            process.wait()
            with running(path), pytest.raises(StoreError, match="no connection"):
                transaction.write("/b", "2")

        with pytest.raises(StoreError, match="committing a transaction: no connection"):
            store.atomically(change)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda store, stop: stop() or store.read("/a"), "READ of /a"),
        (lambda store, stop: stop() or store.write("/a", "late"), "WRITE of /a"),
        (lambda store, stop: stop() or store.wait("/a", lambda: True, 9), "watching /a"),
        (lambda store, stop: store.wait("/a", lambda: stop() or store.read("/b"), 9), "READ of /b"),
        (lambda store, stop: store.atomically(lambda t: stop() or t.mkdir("/a")), "MKDIR of /a"),
        (lambda store, stop: store.atomically(lambda t: stop()), "committing a transaction"),
    ],
)
def test_an_act_on_a_stopped_xenstored_ends_by_its_deadline(
    tmp_path: Path, act: Callable[[Store, Callable[[], None]], None], words: str
) -> None:
    """It neither answers nor hangs up; once it goes on, a new connection serves."""
    path = tmp_path / "socket"
    with program(path) as process, Store(path, Deadlines(store_request=1.0)) as store:
        with pytest.raises(HostTimeout, match=rf"^{words}.*: .* did not answer within 1 s$"):
            act(store, lambda: process.send_signal(signal.SIGSTOP))
        process.send_signal(signal.SIGCONT)
        assert store.read("/b") is None


def test_a_connection_that_nobody_accepts_ends_by_its_deadline(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(path))
        listener.listen(0)
        first.connect(str(path))
        with pytest.raises(HostTimeout, match=f"connecting to xenstored at {path}: not done"):
            Store(path, SOON).__enter__()
        for _ in range(2):  # who gave up must not stay connected
            accepted, _ = listener.accept()
            accepted.settimeout(TIMEOUT)
            first.close()
            assert accepted.recv(1) == b""
            accepted.close()


@contextmanager
def program(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run our xenstored as a process of its own."""
    command = [sys.executable, "-m", "xenqemu.lab.xenstored", str(path)]
    with subprocess.Popen(command) as process:
        eventually(path.exists)
        try:
            yield process
        finally:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGCONT)
                process.kill()


# Peers that say what they should not.


@contextmanager
def peer(path: Path, answer: Callable[[socket.socket, bytes], None]) -> Iterator[None]:
    """Answer each request of each connection by `answer(connection, its 16 bytes of header)`."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        connections = []

        def serve(connection: socket.socket) -> None:
            with connection, suppress(OSError):  # the other side may hang up at any time
                while header := connection.recv(HEADER.size, socket.MSG_WAITALL):
                    connection.recv(HEADER.unpack(header)[3], socket.MSG_WAITALL)
                    answer(connection, header)

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connections.append(threading.Thread(target=serve, args=[connection]))
                connections[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join(TIMEOUT)
            for thread in connections:
                thread.join(TIMEOUT)
                assert not thread.is_alive()


def reply(header: bytes, payload: bytes, **changed: int) -> bytes:
    """Return a reply to a request, with a wrong `op`, `req_id`, `tx_id` or `size` if given."""
    op, req_id, tx_id, _ = HEADER.unpack(header)
    return (
        HEADER.pack(
            changed.get("op", op),
            changed.get("req_id", req_id),
            changed.get("tx_id", tx_id),
            changed.get("size", len(payload)),
        )
        + payload
    )


@pytest.mark.parametrize(
    ("answer", "errors"),
    [
        (lambda header: reply(header, b"value")[:5], (HostTimeout, ReplyLost)),
        (lambda header: reply(header, b"value")[:-1], (HostTimeout, ReplyLost)),
        (lambda header: b"", (HostTimeout, ReplyLost)),
        (lambda header: b"\xff" * 16, (ReplyLost, ReplyLost)),
        (lambda header: b"HTTP/1.1 400 Bad Request\r\n\r\n", (ReplyLost, ReplyLost)),
        (lambda header: reply(header, b"", size=0xFFFFFFFF), (ReplyLost, ReplyLost)),
        (lambda header: reply(header, b"x" * 4097), (ReplyLost, ReplyLost)),
        (lambda header: reply(header, b"value", req_id=0xDEAD), (ReplyLost, ReplyLost)),
        (lambda header: reply(header, b"value", tx_id=9), (ReplyLost, ReplyLost)),
        (lambda header: reply(header, b"value", op=Op.MKDIR), (ReplyLost, ReplyLost)),
        (lambda header: reply(header, b"no strings", op=15), (ReplyLost, ReplyLost)),
        (lambda header: reply(header, b"a\0b\0c\0", op=15), (ReplyLost, ReplyLost)),
        (lambda header: reply(header, b"EFOO\xff\0", op=Op.ERROR), (StoreError, StoreError)),
        (lambda header: reply(header, b"", op=Op.ERROR), (StoreError, StoreError)),
    ],
)
@pytest.mark.parametrize("hang_up", [False, True])
def test_a_peer_that_answers_nonsense(
    tmp_path: Path,
    answer: Callable[[bytes], bytes],
    errors: tuple[type[Exception], type[Exception]],
    hang_up: bool,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def say(connection: socket.socket, header: bytes) -> None:
        connection.sendall(answer(header))
        if hang_up:
            connection.shutdown(socket.SHUT_RDWR)

    with peer(tmp_path / "socket", say):
        error = errors[hang_up]
        store = Store(tmp_path / "socket", SOON if error is HostTimeout else Deadlines())
        with pytest.raises(error, match="READ of /a"):
            store.read("/a")
        store.close()
    assert capfd.readouterr().err == ""


def test_a_late_reply_is_never_taken_for_the_next_one(tmp_path: Path) -> None:
    first = threading.Event()

    def slowly(connection: socket.socket, header: bytes) -> None:
        if not first.is_set():
            first.set()
            time.sleep(1.2)
            connection.sendall(reply(header, b"late"))
        else:
            connection.sendall(reply(header, b"in time"))

    soon = Deadlines(store_request=1.0)
    with peer(tmp_path / "socket", slowly), Store(tmp_path / "socket", soon) as store:
        with pytest.raises(HostTimeout):
            store.read("/a")
        time.sleep(0.3)
        assert store.read("/a") == "in time"


@pytest.mark.parametrize(
    "number", [b"x", b"", b"-1", b"1_0", b" 1", b"0", b"4294967296", b"9" * 4000]
)
def test_a_transaction_without_a_number(tmp_path: Path, number: bytes) -> None:
    with (
        peer(tmp_path / "socket", lambda c, header: c.sendall(reply(header, number + b"\0"))),
        Store(tmp_path / "socket") as store,
        pytest.raises(StoreError, match="not the id of a transaction"),
    ):
        store.atomically(lambda change: None)


@pytest.mark.parametrize("part", [b"name\0", b""])
def test_a_directory_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: bytes
) -> None:
    monkeypatch.setattr(store_module, "DIRECTORY_MAX", 100)

    def answer(connection: socket.socket, header: bytes) -> None:
        if HEADER.unpack(header)[0] == Op.DIRECTORY:
            connection.sendall(reply(header, b"E2BIG\0", op=Op.ERROR))
        else:
            connection.sendall(reply(header, b"1\0" + part))

    with (
        peer(tmp_path / "socket", answer),
        Store(tmp_path / "socket") as store,
        pytest.raises(StoreError, match="/d: xenstored's list of it does not end"),
    ):
        store.list("/d")


def test_giving_up_where_even_that_is_refused(tmp_path: Path) -> None:
    """The first error is the one that is raised; the connection is dropped instead."""
    asked: dict[socket.socket, list[int]] = {}

    def answer(connection: socket.socket, header: bytes) -> None:
        asked.setdefault(connection, []).append(HEADER.unpack(header)[0])
        ended = HEADER.unpack(header)[0] == Op.TRANSACTION_END
        connection.sendall(reply(header, b"EIO\0", op=Op.ERROR) if ended else reply(header, b"1\0"))

    with peer(tmp_path / "socket", answer):
        store = Store(tmp_path / "socket")
        with pytest.raises(ZeroDivisionError):
            store.atomically(lambda change: 1 // 0)
        store.read("/a")  # over a new one
        store.close()
    assert list(asked.values()) == [[Op.TRANSACTION_START, Op.TRANSACTION_END], [Op.READ]]


def test_what_cannot_be_read_at_the_end_of_a_wait(tmp_path: Path) -> None:
    def answer(connection: socket.socket, header: bytes) -> None:
        read = HEADER.unpack(header)[0] == Op.READ
        connection.sendall(
            reply(header, b"EACCES\0", op=Op.ERROR) if read else reply(header, b"OK\0")
        )

    with (
        peer(tmp_path / "socket", answer),
        Store(tmp_path / "socket") as store,
        pytest.raises(HostTimeout, match="its value cannot be read: READ of /a: .*EACCES"),
    ):
        store.wait("/a", lambda: None, 0.1)


def losing(connection: UnixSocketConnection) -> SimpleNamespace:
    """Return a transport that is closed when something is sent, and loses it."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(connection.path)
    close = partial(sock.shutdown, socket.SHUT_RDWR)
    return SimpleNamespace(
        sock=sock, fileno=sock.fileno, recv=sock.recv, send=lambda _data: close()
    )


def test_a_link_that_closes_while_a_request_is_sent(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request is lost too: an answer to it might come before the end."""
    monkeypatch.setattr(UnixSocketConnection, "create_transport", losing)
    link = StoreConnection(path, TIMEOUT)
    with pytest.raises(
        ReplyLost, match="READ: xenstored at .* closed the connection before its reply"
    ):
        link.request(Op.READ, b"/a\0", "READ")
    link.close()


def test_a_request_on_a_closed_link(path: Path) -> None:
    link = StoreConnection(path, 5)
    link.close()
    with pytest.raises(StoreError, match=f"READ: no connection to xenstored at {path}"):
        link.request(Op.READ, b"/a\0", "READ")
