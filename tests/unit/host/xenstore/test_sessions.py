"""The sessions of a host with xenstored: who has which, and when there is a new one."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.doubles.xen.xenstored import TIMEOUT, Connections, eventually, running
from xenqemu.errors import HostTimeout, StoreError
from xenqemu.formats.xenstore import HEADER
from xenqemu.host.xenstore.sessions import Sessions
from xenqemu.host.xenstore.store import Store, Transaction
from xenqemu.lab.xenstored.daemon import Daemon


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


@pytest.fixture
def connections(daemon: Daemon) -> Connections:
    """Those that xenstored has taken."""
    return Connections.of(daemon)


@pytest.fixture
def path(tmp_path: Path, daemon: Daemon, connections: Connections) -> Iterator[Path]:
    """The socket of a running xenstored."""
    with running(tmp_path / "socket", daemon=daemon):
        yield tmp_path / "socket"


@pytest.fixture
def sessions(path: Path) -> Iterator[Sessions]:
    opened = Sessions(lambda: Store(path))
    yield opened
    opened.close()


def use(sessions: Sessions) -> None:
    with sessions.store() as store:
        assert store.read("/") == ""


def test_one_connection_serves_one_block_after_the_other(
    sessions: Sessions, connections: Connections
) -> None:
    for _ in range(3):
        use(sessions)
    assert (connections.taken, len(connections)) == (1, 1)
    sessions.close()
    sessions.close()
    eventually(lambda: len(connections) == 0)
    use(sessions)
    assert connections.taken == 2


def test_nothing_is_opened_before_it_is_asked_for(
    sessions: Sessions, connections: Connections
) -> None:
    sessions.store()
    sessions.close()
    assert connections.taken == 0


def test_a_block_in_a_block_has_the_same_session(
    sessions: Sessions, connections: Connections
) -> None:
    with sessions.store() as outer:
        with sessions.store() as inner:
            assert inner is outer
        with pytest.raises(ZeroDivisionError), sessions.store():
            raise ZeroDivisionError
        assert outer.read("/") == ""
        assert (connections.taken, len(connections)) == (1, 1)


def test_threads_do_not_wait_for_each_other(sessions: Sessions, connections: Connections) -> None:
    def wait() -> None:
        with sessions.store() as store:
            store.wait("/go", lambda: store.read("/go"), TIMEOUT)

    waiting = [threading.Thread(target=wait) for _ in range(3)]
    for thread in waiting:
        thread.start()
    eventually(lambda: connections.taken == 3)
    with sessions.store() as store:
        store.write("/go", "now")
    for thread in waiting:
        thread.join(TIMEOUT)
        assert not thread.is_alive()
    assert connections.taken == 4
    for _ in range(5):
        use(sessions)
    assert connections.taken == 4


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, GeneratorExit])
def test_a_block_that_failed_leaves_no_session(
    sessions: Sessions, connections: Connections, error: type[BaseException]
) -> None:
    with pytest.raises(error), sessions.store():
        raise error
    use(sessions)
    assert connections.taken == 2
    eventually(lambda: len(connections) == 1)


def interrupted(store: Store) -> None:
    """Have Ctrl-C come in the middle of a transaction."""

    def change(nodes: Transaction) -> None:
        nodes.write("/a", "half")
        raise KeyboardInterrupt

    store.atomically(change)


def watched_in_vain(store: Store) -> None:
    store.wait("/a", lambda: None, 0.1)


@pytest.mark.parametrize(
    ("act", "error"), [(interrupted, KeyboardInterrupt), (watched_in_vain, HostTimeout)]
)
def test_what_is_done_after_an_error_sees_nothing_of_it(
    sessions: Sessions, act: Callable[[Store], None], error: type[BaseException]
) -> None:
    with pytest.raises(error), sessions.store() as store:
        act(store)
    with sessions.store() as store:
        assert store.read("/a") is None
        store.write("/a", "undone")
        assert store.reusable


def test_one_wait_sees_no_events_of_the_one_before(
    sessions: Sessions, connections: Connections
) -> None:
    looked: list[str] = []

    def looking(store: Store, path: str) -> Callable[[], bool | None]:
        return lambda: looked.append(path) or store.write("/a", "again")

    with sessions.store() as store:
        store.write("/a", "")
        assert store.wait("/a", lambda: store.write("/a", "now") or True, TIMEOUT)
        assert store.reusable
    with sessions.store() as store, pytest.raises(HostTimeout):
        store.wait("/b", looking(store, "/b"), 0.2)
    assert looked == ["/b"] * 2  # at first, and for the event by which a watch begins
    assert connections.taken == 1


def test_a_connection_that_was_lost_meanwhile_is_not_used_again(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    sessions = Sessions(lambda: Store(path))
    for _again in range(20):  # pyxs's thread may see the end before us, or after
        with running(path):
            use(sessions)
    with pytest.raises(StoreError, match=f"cannot connect to xenstored at {path}"):
        use(sessions)
    with running(path):
        use(sessions)
        sessions.close()


def test_a_connection_that_was_lost_in_a_block_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    sessions = Sessions(lambda: Store(path))
    with running(path), sessions.store() as outer:
        pass
    with running(path), sessions.store() as store:
        assert store is not outer
        store.close()
        assert not store.reusable
        use(sessions)  # a block inside this one
        assert store.reusable
    sessions.close()


def test_bytes_that_nobody_asked_for_end_a_session(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        with Store(tmp_path / "socket") as store, listener.accept()[0] as xenstored:
            assert store.reusable
            xenstored.sendall(bytes(HEADER.size))
            eventually(lambda: not store.reusable)


def sockets(listing: str) -> set[str]:
    """Return the sockets among the descriptors that ls lists."""
    return set(re.findall(r"socket:\[\d+\]", listing))


def test_a_program_that_is_started_does_not_inherit_it(sessions: Sessions) -> None:
    ours = ["ls", "-l", f"/proc/{os.getpid()}/fd"]
    its_own = ["ls", "-l", "/proc/self/fd"]
    before = sockets(subprocess.run(ours, capture_output=True, check=True, text=True).stdout)
    with sessions.store():
        now = sockets(subprocess.run(ours, capture_output=True, check=True, text=True).stdout)
        said = subprocess.run(its_own, close_fds=False, capture_output=True, check=True, text=True)
    assert now - before
    assert not sockets(said.stdout) & (now - before)
