"""xenstore, with str paths and values, deadlines, transactions and waiting.

Values are any text: bytes that are not UTF-8 come and go as surrogates, as file names do in
Python.  Paths are absolute, or relative to /local/domain/0.  Names and facts are those of
docs/misc/xenstore.txt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol, Self, TypeVar

from xenqemu.errors import HostError, HostTimeout, StoreError
from xenqemu.formats.xenstore import Op
from xenqemu.host.party_deadlines import DEFAULT_DEADLINES, Deadlines
from xenqemu.host.xenstore.connection import StoreConnection
from xenqemu.system.cancellation import wait_cancellable
from xenqemu.system.deadline import Deadline
from xenqemu.system.retry import Retry

DIRECTORY_MAX = 16 << 20
"""Bytes of names in one directory; more is an error of xenstored."""

ID_DIGITS = 10
"""Of the highest id of a transaction, which is a u32."""

T = TypeVar("T")
Strings = list[str]


def _is_conflict(error: BaseException) -> bool:
    return isinstance(error, StoreError) and error.code == "EAGAIN"


CONFLICT = Retry(_is_conflict, attempts=64, seconds=20.0, pause=0.25)
"""For a conflict: xenstored did nothing, because something changed meanwhile."""


class _Ask(Protocol):
    """Sends a request about `path` and returns the payload of its reply."""

    def __call__(self, op: Op, path: str, *words: bytes) -> bytes: ...


class Nodes:
    """Operations on nodes, on the store itself or inside a transaction.

    All raise `StoreError` with the errno name that xenstored gave as `code`, or one of the
    errors of a lost connection: see `StoreConnection.request`.
    """

    def __init__(self, ask: _Ask) -> None:
        self._ask = ask

    def read(self, path: str) -> str | None:
        """Return the value of a node, None if there is no such node."""
        value = _if_there(lambda: self._ask(Op.READ, path))
        return None if value is None else _text(value)

    def write(self, path: str, value: str) -> None:
        """Set the value of a node, creating it and its parents if need be."""
        self._ask(Op.WRITE, path, _bytes(value))

    def mkdir(self, path: str) -> None:
        """Make sure that a node exists."""
        self._ask(Op.MKDIR, path)

    def remove(self, path: str) -> None:
        """Make sure that a node and all below it are gone."""
        _if_there(lambda: self._ask(Op.RM, path))

    def list(self, path: str) -> Strings | None:
        """Return the names of a node's children, None if there is no such node."""
        return _if_there(lambda: self._list(path))

    def permissions(self, path: str) -> Strings:
        """Return a node's permissions, as "n0" or "r12"; the first one names the owner."""
        return [_text(word) for word in self._ask(Op.GET_PERMS, path).split(b"\0")[:-1]]

    def set_permissions(self, path: str, permissions: Iterable[str]) -> None:
        """Replace a node's permissions."""
        self._ask(Op.SET_PERMS, path, *(_word(permission) for permission in permissions))

    def tree(self, path: str) -> dict[str, str]:
        """Return the values of all nodes below `path`, by their paths relative to it.

        What is removed meanwhile may be missing; inside a transaction nothing is.
        """
        found: dict[str, str] = {}
        waiting = [""]
        while waiting:
            at = waiting.pop()
            for name in self.list(_below(path, at)) or ():
                child = _below(at, name)
                value = self.read(_below(path, child))
                if value is not None:
                    found[child] = value
                    waiting.append(child)
        return found

    def _list(self, path: str) -> Strings:
        try:
            return _names(self._ask(Op.DIRECTORY, path))
        except StoreError as error:
            if error.code != "E2BIG":
                raise
        return CONFLICT(lambda: self._list_in_parts(path))

    def _list_in_parts(self, path: str) -> Strings:
        """List by DIRECTORY_PART; raise EAGAIN if the directory changes meanwhile."""
        generations: set[bytes] = set()
        names = b"\0"
        while not names.endswith(b"\0\0"):
            reply = self._ask(Op.DIRECTORY_PART, path, b"%d\0" % (len(names) - 1))
            generation, _, part = reply.partition(b"\0")
            generations.add(generation)
            if len(generations) > 1:
                raise StoreError(f"{path}: changed while being listed", "EAGAIN")
            if not part or len(names) > DIRECTORY_MAX:
                raise StoreError(f"{path}: xenstored's list of it does not end")
            names += part
        return _names(names[1:-1])


class Transaction(Nodes):
    """A transaction in progress; handed to the change that `Store.atomically` makes."""


class Store(Nodes):
    """xenstore, asked through xenstored's socket: by default the one that libxenstore takes.

    Connects in `with`, and again at the next request after a connection was lost.  Each request
    has the `store_request` of `deadlines`.  For one thread at a time.  A host keeps its stores
    connected (module `sessions`).
    """

    def __init__(
        self, socket: Path | None = None, deadlines: Deadlines = DEFAULT_DEADLINES
    ) -> None:
        super().__init__(self._ask_live)
        self._socket = socket
        self._seconds = deadlines.store_request
        self._link: StoreConnection | None = None

    def __enter__(self) -> Self:
        self._connected()
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection, if there is one."""
        if self._link is not None:
            self._link.close()
            self._link = None

    @property
    def reusable(self) -> bool:
        """Whether there is a connection that works, with nothing outstanding."""
        return self._link is not None and self._link.reusable

    def atomically(self, change: Callable[[Transaction], T]) -> T:
        """Do `change` in a transaction and return what it returned, once it is committed.

        `change` is repeated from its start on a conflict, and may raise to abort: then nothing was
        changed.  Raises `StoreError` EAGAIN if the conflicts do not end.
        """
        return CONFLICT(lambda: self._try(change))

    def wait(self, path: str, ready: Callable[[], T | None], timeout: float) -> T:
        """Return what `ready` returns once that is not None; it is asked at each change of `path`.

        The watch is set before the first check.  `path` may be @releaseDomain or
        @introduceDomain.  Raises `HostTimeout` after `timeout` seconds.
        """
        deadline = Deadline.after(timeout)
        with self._connected().watching(_bytes(path), f"watching {path}") as watcher:
            while (result := ready()) is None:
                if deadline.passed or not wait_cancellable(watcher.next, deadline.left):
                    raise HostTimeout(
                        f"{path}: did not change as expected within {timeout:g} s{self._last(path)}"
                    )
            return result

    def introduce(self, domid: int, mfn: int, port: int) -> None:
        """Tell xenstored of a new domain, its ring's frame and its event channel (not 0)."""
        self._ask_about(Op.INTRODUCE, domid, b"%d\0%d\0" % (mfn, port))

    def release(self, domid: int) -> None:
        """Tell xenstored that a domain is gone; nothing if it knows none of that id."""
        _if_there(lambda: self._ask_about(Op.RELEASE, domid))

    def resume(self, domid: int) -> None:
        """Have xenstored report the next shutdown of a domain that was suspended and resumed."""
        self._ask_about(Op.RESUME, domid)

    def domain_path(self, domid: int) -> str:
        """Return the path that a domain's relative paths start from."""
        return _text(self._ask_about(Op.GET_DOMAIN_PATH, domid).rstrip(b"\0"))

    def control(self, *command: str) -> str:
        """Run a command of this xenstored's own (`help` lists them) and return its answer."""
        words = b"".join(map(_word, command))
        what = f"control command {' '.join(command)}"
        return _text(self._connected().request(Op.CONTROL, words, what).rstrip(b"\0"))

    def _connected(self) -> StoreConnection:
        if self._link is None or not self._link.alive:
            self.close()
            self._link = StoreConnection(self._socket, self._seconds)
        return self._link

    def _ask_live(self, op: Op, path: str, *words: bytes) -> bytes:
        return _ask_through(self._connected(), 0, op, path, *words)

    def _ask_about(self, op: Op, domid: int, words: bytes = b"") -> bytes:
        return self._connected().request(op, b"%d\0" % domid + words, f"{op.name} of {domid}")

    def _try(self, change: Callable[[Transaction], T]) -> T:
        """Do and commit `change` once, all over the same connection."""
        link = self._connected()
        tx_id = _number(link.request(Op.TRANSACTION_START, b"\0", "starting a transaction"))

        def ask(op: Op, path: str, *words: bytes) -> bytes:
            return _ask_through(link, tx_id, op, path, *words)

        try:
            result = change(Transaction(ask))
        except BaseException:
            link.withdraw(Op.TRANSACTION_END, b"F\0", "giving up a transaction", tx_id)
            raise
        link.request(Op.TRANSACTION_END, b"T\0", "committing a transaction", tx_id)
        return result

    def _last(self, path: str) -> str:
        """Return words for the value of `path`, for an error."""
        if path.startswith("@"):
            return ""
        try:
            value = self.read(path)
        except HostError as error:
            return f"; its value cannot be read: {error}"
        return "; it does not exist" if value is None else f"; its last value is {value!r:.200}"


def _ask_through(link: StoreConnection, tx_id: int, op: Op, path: str, *words: bytes) -> bytes:
    return link.request(op, _word(path) + b"".join(words), f"{op.name} of {path}", tx_id)


def _bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise StoreError(f"{text!r:.80}: not encodable", "EINVAL") from error


def _word(text: str) -> bytes:
    """Return a string of a payload; raise `StoreError` EINVAL if its end would be inside it."""
    if "\0" in text:
        raise StoreError(f"{text!r:.80}: holds a NUL", "EINVAL")
    return _bytes(text) + b"\0"


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _names(payload: bytes) -> Strings:
    return [_text(name) for name in payload.split(b"\0")[:-1]]


def _number(payload: bytes) -> int:
    """Return the id of a transaction; 0 would be none at all, and each change in it live."""
    text = payload.rstrip(b"\0")
    value = int(text) if text.isdigit() and len(text) <= ID_DIGITS else 0
    if not 0 < value < 1 << 32:
        raise StoreError(f"{payload!r:.80}: not the id of a transaction")
    return value


def _below(path: str, name: str) -> str:
    return f"{path.rstrip('/')}/{name}" if path and name else path or name


def _if_there(ask: Callable[[], T]) -> T | None:
    """Return what `ask` returns, None if xenstored says ENOENT."""
    try:
        return ask()
    except StoreError as error:
        if error.code != "ENOENT":
            raise
    return None
