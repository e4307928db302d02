"""Each request as bytes: the reply as bytes, and every refusal by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.doubles.xen.xenstored import Raw
from xenqemu.formats.xenstore import Op
from xenqemu.lab.xenstored.client import TRANSACTIONS_MAX, WATCHES_MAX
from xenqemu.lab.xenstored.xs_wire import Packet

OK = b"OK\0"


@pytest.mark.parametrize(
    ("op", "payload", "reply"),
    [
        (Op.READ, b"/a/b\0", b"v\0x"),
        (Op.READ, b"/a\0", b""),
        (Op.READ, b"/a/b", b"EINVAL\0"),
        (Op.READ, b"", b"EINVAL\0"),
        (Op.READ, b"/a\0/b\0", b"EINVAL\0"),
        (Op.READ, b"/x\0", b"ENOENT\0"),
        (Op.READ, b"/\xc3\xa4\0", b"EINVAL\0"),
        (Op.READ, b"/a/\0", b"EINVAL\0"),
        (Op.DIRECTORY, b"/a\0", b"b\0c\0"),
        (Op.DIRECTORY, b"/a/b\0", b""),
        (Op.DIRECTORY, b"/x\0", b"ENOENT\0"),
        (Op.DIRECTORY_PART, b"/x\x000\0", b"ENOENT\0"),
        (Op.DIRECTORY_PART, b"/a\0", b"EINVAL\0"),
        (Op.DIRECTORY_PART, b"/a\0-1\0", b"EINVAL\0"),
        (Op.DIRECTORY_PART, b"/a\0" + b"9" * 21 + b"\0", b"EINVAL\0"),
        (Op.GET_PERMS, b"/a\0", b"n0\0"),
        (Op.GET_PERMS, b"@releaseDomain\0", b"n0\0"),
        (Op.GET_PERMS, b"/x\0", b"ENOENT\0"),
        (Op.SET_PERMS, b"/a\0n0\0r5\0", OK),
        (Op.SET_PERMS, b"@releaseDomain\0n0\0r5\0", OK),
        (Op.SET_PERMS, b"/a\0", b"EINVAL\0"),
        (Op.SET_PERMS, b"/a\0q0\0", b"EINVAL\0"),
        (Op.SET_PERMS, b"/a\0" + b"n0\0" * 6, b"ENOSPC\0"),
        (Op.SET_PERMS, b"/x\0n0\0", b"ENOENT\0"),
        (Op.WRITE, b"/new\0", OK),
        (Op.WRITE, b"/new", b"EINVAL\0"),
        (Op.WRITE, b"new one\0v", b"EINVAL\0"),
        (Op.MKDIR, b"/new/er\0", OK),
        (Op.MKDIR, b"\0", b"EINVAL\0"),
        (Op.RM, b"/a\0", OK),
        (Op.RM, b"/x\0", OK),
        (Op.RM, b"/x/y\0", b"ENOENT\0"),
        (Op.RM, b"/\0", b"EINVAL\0"),
        (Op.WATCH, b"/a\0", b"EINVAL\0"),
        (Op.WATCH, b"/a/\0t\0", b"EINVAL\0"),
        (Op.WATCH, b"@any-thing\0t\0", OK),
        (Op.UNWATCH, b"/a\0t\0", b"ENOENT\0"),
        (Op.RESET_WATCHES, b"\0", OK),
        (Op.TRANSACTION_START, b"\0", b"1\0"),
        (Op.TRANSACTION_END, b"T\0", b"ENOENT\0"),
        (Op.TRANSACTION_END, b"X\0", b"EINVAL\0"),
        (Op.TRANSACTION_END, b"T", b"EINVAL\0"),
        (Op.GET_DOMAIN_PATH, b"007\0", b"/local/domain/7\0"),
        (Op.GET_DOMAIN_PATH, b"x\0", b"EINVAL\0"),
        (Op.INTRODUCE, b"5\x001\x002\0", OK),
        (Op.INTRODUCE, b"5\x00-1\x002\0?\0", OK),
        (Op.INTRODUCE, b"5\x001\x000\0", b"EINVAL\0"),
        (Op.INTRODUCE, b"5\x001\0", b"EINVAL\0"),
        (Op.INTRODUCE, b"0\x001\x002\0", b"EINVAL\0"),
        (Op.INTRODUCE, b"32752\x001\x002\0", b"EINVAL\0"),
        (Op.RELEASE, b"5\0", b"ENOENT\0"),
        (Op.RELEASE, b"0\0", b"EINVAL\0"),
        (Op.RESUME, b"5\0", b"ENOENT\0"),
        (Op.IS_DOMAIN_INTRODUCED, b"0\0", b"T\0"),
        (Op.IS_DOMAIN_INTRODUCED, b"5\0", b"F\0"),
        (Op.SET_TARGET, b"5\x006\0", b"ENOENT\0"),
        (Op.SET_TARGET, b"5\0", b"EINVAL\0"),
        (Op.CONTROL, b"help\0", b"help\t\nshutdown\t<domid>\n\0"),
        (Op.CONTROL, b"help\0me\0", b"EINVAL\0"),
        (Op.CONTROL, b"check\0", b"EINVAL\0"),
        (Op.CONTROL, b"shutdown\x005\0", b"ENOENT\0"),
        (Op.CONTROL, b"", b"EINVAL\0"),
        (Op.WATCH_EVENT, b"/a\0t\0", b"ENOSYS\0"),
        (Op.ERROR, b"EINVAL\0", b"ENOSYS\0"),
        (20, b"5\0", b"ENOSYS\0"),
        (23, b"", b"ENOSYS\0"),
        (0xFFFFFFFF, b"", b"ENOSYS\0"),
    ],
)
def test_one_request(raw: Raw, op: int, payload: bytes, reply: bytes) -> None:
    raw.ask(Op.WRITE, b"/a/b\0v\0x")
    raw.ask(Op.MKDIR, b"/a/c\0")
    assert raw.ask(op, payload) == reply
    assert raw.ask(Op.GET_DOMAIN_PATH, b"1\0") == b"/local/domain/1\0"


def test_permissions_of_special_paths_are_kept(raw: Raw) -> None:
    raw.ask(Op.SET_PERMS, b"@releaseDomain\0n0\0r5\0")
    assert raw.ask(Op.GET_PERMS, b"@releaseDomain\0") == b"n0\0r5\0"
    assert raw.ask(Op.GET_PERMS, b"/@releaseDomain\0") == b"n0\0r5\0"


def parts(raw: Raw, path: bytes) -> bytes:
    names, generation = b"", None
    while True:
        reply = raw.ask(Op.DIRECTORY_PART, path + b"\0%d\0" % len(names))
        assert len(reply) <= 4096
        now, _, part = reply.partition(b"\0")
        assert generation in {None, now}
        generation = now
        names += part
        if names.endswith(b"\0\0") or names == b"\0":
            return names[:-1]


def test_a_directory_in_parts(raw: Raw) -> None:
    raw.ask(Op.MKDIR, b"/d\0")
    assert parts(raw, b"/d") == b""
    names = [b"%d" % n * 20 for n in range(300)]
    for name in names:
        raw.ask(Op.MKDIR, b"/d/" + name + b"\0")
    assert raw.ask(Op.DIRECTORY, b"/d\0") == b"E2BIG\0"
    assert parts(raw, b"/d") == b"".join(name + b"\0" for name in names)
    beyond = raw.ask(Op.DIRECTORY_PART, b"/d\x00999999\0")
    assert beyond.partition(b"\0")[2] == b"\0"


def test_watches_fire_at_registration_and_once_a_change(raw: Raw, path: Path) -> None:
    raw.send(Op.WATCH, b"/a\0tok en\0")
    assert raw.receive() == Packet(Op.WATCH, 7, 0, OK)
    assert raw.receive() == Packet(Op.WATCH_EVENT, 0, 0, b"/a\0tok en\0")
    with Raw(path) as other:
        other.ask(Op.WRITE, b"/a/b\0v")
        other.ask(Op.WRITE, b"/ab\0v")
        other.ask(Op.SET_PERMS, b"/a/b\0n1\0")
        other.ask(Op.MKDIR, b"/a/b\0")
        other.ask(Op.RM, b"/a/none\0")
        other.ask(Op.RM, b"/a/b\0")
    assert [raw.receive().payload for _ in range(3)] == [b"/a/b\0tok en\0"] * 3
    assert raw.ask(Op.WATCH, b"/a\0tok en\0") == b"EEXIST\0"
    assert raw.ask(Op.UNWATCH, b"/a\0tok en\0") == OK
    raw.send(Op.WRITE, b"/a\0v")
    assert raw.receive() == Packet(Op.WRITE, 7, 0, OK)


def test_a_watch_below_what_is_removed_sees_its_own_path(raw: Raw) -> None:
    raw.ask(Op.MKDIR, b"/a/b/c\0")
    for wpath in (b"/a/b", b"/a/b/c", b"/a/b/other", b"/"):
        raw.ask(Op.WATCH, wpath + b"\0t\0")
        raw.receive()
    raw.send(Op.RM, b"/a\0")
    assert [raw.receive().payload for _ in range(4)] == [
        OK,
        b"/a/b/c\0t\0",
        b"/a/b\0t\0",
        b"/a\0t\0",
    ]
    assert raw.ask(Op.RESET_WATCHES, b"\0") == OK
    raw.send(Op.MKDIR, b"/a/b\0")
    assert raw.receive() == Packet(Op.MKDIR, 7, 0, OK)


def test_a_relative_watch_has_relative_events(raw: Raw) -> None:
    raw.send(Op.WATCH, b"backend\0t\0")
    assert [raw.receive().payload for _ in range(2)] == [OK, b"backend\0t\0"]
    raw.send(Op.WRITE, b"/local/domain/0/backend/x\0v")
    assert [raw.receive().payload for _ in range(2)] == [OK, b"backend/x\0t\0"]


def test_special_watches(raw: Raw) -> None:
    for wpath in (b"@introduceDomain", b"@releaseDomain"):
        raw.ask(Op.WATCH, wpath + b"\0t\0")
        raw.receive()
    raw.ask(Op.WRITE, b"/x\0owned")
    raw.ask(Op.SET_PERMS, b"/x\0n5\0")
    expected = [
        (Op.INTRODUCE, b"5\x001\x002\0", b"@introduceDomain\0t\0"),
        (Op.INTRODUCE, b"5\x001\x003\0", None),
        (Op.SET_TARGET, b"5\x000\0", None),
        (Op.CONTROL, b"shutdown\x005\0", b"@releaseDomain\0t\0"),
        (Op.CONTROL, b"shutdown\x005\0", None),
        (Op.RESUME, b"5\0", None),
        (Op.CONTROL, b"shutdown\x005\0", b"@releaseDomain\0t\0"),
        (Op.RELEASE, b"5\0", b"@releaseDomain\0t\0"),
    ]
    for op, payload, event in expected:
        raw.send(op, payload)
        assert raw.receive() == Packet(op, 7, 0, OK)
        if event is not None:
            assert raw.receive() == Packet(Op.WATCH_EVENT, 0, 0, event)
    raw.send(Op.READ, b"/x\0")
    assert raw.receive() == Packet(Op.ERROR, 7, 0, b"ENOENT\0")


def test_transactions(raw: Raw, path: Path) -> None:
    raw.ask(Op.WATCH, b"/a\0t\0")
    raw.receive()
    assert raw.ask(Op.TRANSACTION_START, b"\0") == b"1\0"
    assert raw.ask(Op.TRANSACTION_START, b"\0", tx_id=1) == b"EBUSY\0"
    raw.send(Op.WRITE, b"/a/b\0v", tx_id=1)
    assert raw.receive() == Packet(Op.WRITE, 7, 1, OK)
    assert raw.ask(Op.READ, b"/a/b\0") == b"ENOENT\0"
    assert raw.ask(Op.READ, b"/a/b\0", tx_id=1) == b"v"
    with Raw(path) as other:
        assert other.ask(Op.READ, b"/a/b\0", tx_id=1) == b"ENOENT\0"
    raw.send(Op.TRANSACTION_END, b"T\0", tx_id=1)
    assert raw.receive() == Packet(Op.TRANSACTION_END, 7, 1, OK)
    assert raw.receive() == Packet(Op.WATCH_EVENT, 0, 0, b"/a/b\0t\0")
    assert raw.ask(Op.TRANSACTION_END, b"T\0", tx_id=1) == b"ENOENT\0"


def test_a_conflict_and_an_abort(raw: Raw) -> None:
    raw.ask(Op.WRITE, b"/a\x000")
    assert raw.ask(Op.TRANSACTION_START, b"\0") == b"1\0"
    assert raw.ask(Op.READ, b"/a\0", tx_id=1) == b"0"
    raw.ask(Op.WRITE, b"/a\x001")
    raw.ask(Op.WRITE, b"/b\x001", tx_id=1)
    assert raw.ask(Op.TRANSACTION_END, b"T\0", tx_id=1) == b"EAGAIN\0"
    assert raw.ask(Op.TRANSACTION_START, b"\0") == b"2\0"
    raw.ask(Op.WRITE, b"/b\x002", tx_id=2)
    assert raw.ask(Op.TRANSACTION_END, b"F\0", tx_id=2) == OK
    assert raw.ask(Op.READ, b"/b\0") == b"ENOENT\0"


def test_limits_of_a_connection(raw: Raw, path: Path) -> None:
    for n in range(WATCHES_MAX):
        assert raw.ask(Op.WATCH, b"/a\0%d\0" % n) == OK
    assert raw.ask(Op.WATCH, b"/a\0more\0") == b"E2BIG\0"
    for n in range(TRANSACTIONS_MAX):
        assert raw.ask(Op.TRANSACTION_START, b"\0") == b"%d\0" % (n + 1)
    assert raw.ask(Op.TRANSACTION_START, b"\0") == b"ENOSPC\0"
    with Raw(path) as other:
        assert other.ask(Op.TRANSACTION_START, b"\0") == b"1\0"
    assert raw.ask(Op.RESET_WATCHES, b"\0") == OK
    assert raw.ask(Op.WATCH, b"/a\0more\0") == OK
    assert raw.ask(Op.TRANSACTION_START, b"\0") == b"11\0"
