"""pyxs as it is, against our xenstored."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyxs import Client, PyXSError


@pytest.fixture
def client(path: Path) -> Iterator[Client]:
    with Client(unix_socket_path=str(path)) as opened:
        yield opened


def test_nodes(client: Client) -> None:
    client.write(b"/a/b", b"v")
    client.mkdir(b"/a/c")
    assert client.read(b"/a/b") == b"v"
    assert client.list(b"/a") == [b"b", b"c"]
    client.set_perms(b"/a/b", [b"n1", b"r0"])
    assert client.get_perms(b"/a/b") == [b"n1", b"r0"]
    client.delete(b"/a/b")
    assert client.exists(b"/a")
    assert not client.exists(b"/a/b")
    with pytest.raises(PyXSError) as raised:
        client.read(b"/a/b")
    assert raised.value.args[0] == errno.ENOENT


def test_walking(client: Client) -> None:
    client.write(b"/a/b/c", b"v")
    assert list(client.walk(b"/a")) == [
        (b"/a", b"", [b"b"]),
        (b"/a/b", b"", [b"c"]),
        (b"/a/b/c", b"v", []),
    ]


def test_domains(client: Client) -> None:
    assert client.get_domain_path(3) == b"/local/domain/3"
    assert client.is_domain_introduced(3) is False
    client.introduce_domain(3, 1044476, 1)
    assert client.is_domain_introduced(3) is True


def test_transactions(client: Client, path: Path) -> None:
    client.write(b"/a", b"1")
    client.transaction()
    client.write(b"/a", b"2")
    client.rollback()
    assert client.read(b"/a") == b"1"
    with Client(unix_socket_path=str(path)) as other:
        for disturbed in (True, False):
            client.transaction()
            client.write(b"/a", client.read(b"/a") + b"3")
            if disturbed:
                other.write(b"/a", b"x")
            assert client.commit() is not disturbed
    assert client.read(b"/a") == b"x3"


def test_watches(client: Client, path: Path) -> None:
    with client.monitor() as monitor, Client(unix_socket_path=str(path)) as other:
        monitor.watch(b"/a", b"token")
        monitor.watch(b"@introduceDomain", b"new")
        events = monitor.wait()
        assert {next(events), next(events)} == {
            (b"/a", b"token"),
            (b"@introduceDomain", b"new"),
        }
        other.transaction()
        other.write(b"/a/b", b"1")
        other.write(b"/a/c", b"1")
        other.commit()
        assert [next(events), next(events)] == [(b"/a/b", b"token"), (b"/a/c", b"token")]
        other.introduce_domain(3, 1, 1)
        assert next(events) == (b"@introduceDomain", b"new")
