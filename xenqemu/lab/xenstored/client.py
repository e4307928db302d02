"""What the daemon knows of one connection: its watches, transactions and unsent messages."""

from __future__ import annotations

from dataclasses import dataclass, field

from xenqemu.errors import StoreError
from xenqemu.formats.xenstore import Op
from xenqemu.lab.xenstored import paths, xs_wire
from xenqemu.lab.xenstored.transaction import TransactionTree
from xenqemu.lab.xenstored.tree import Change, Tree
from xenqemu.lab.xenstored.xs_wire import Packet

WATCHES_MAX = 128
TRANSACTIONS_MAX = 10
"""Of one connection: xenstored's quota_nb_watch_per_domain and quota_max_transaction."""

OUTBOX_PAUSE = 1 << 16
OUTBOX_MAX = 4 << 20
"""Unsent bytes of a client: from the first bound its requests wait, at the second it is
disconnected.  Events must not be lost silently, nor may they fill our memory."""


@dataclass(frozen=True)
class Watch:
    """A watch; `relative` if its path was relative, so that the paths of its events are too."""

    path: str
    token: bytes
    relative: bool

    def sees(self, change: Change) -> bool:
        """Return whether `change` is an event of this watch."""
        if change.exact:
            return change.path == self.path
        return paths.within(change.path, self.path)

    def event(self, path: str) -> Packet:
        """Return the WATCH_EVENT for a change of `path`."""
        shown = path[len(paths.HOME) + 1 :] if self.relative else path
        return Packet(Op.WATCH_EVENT, 0, 0, xs_wire.join(shown) + self.token + b"\0")


@dataclass(eq=False)
class Client:
    """One connection, without its socket; `outbox` has the bytes that are not sent yet."""

    outbox: bytearray = field(default_factory=bytearray)
    watches: list[Watch] = field(default_factory=list)
    transactions: dict[int, TransactionTree] = field(default_factory=dict)
    _last_transaction: int = 0

    def send(self, message: Packet) -> None:
        """Queue `message` for the peer, unless it is `lost`."""
        if not self.lost:
            self.outbox += message.pack()

    @property
    def paused(self) -> bool:
        """Whether so much is unsent that its next request has to wait."""
        return len(self.outbox) > OUTBOX_PAUSE

    @property
    def lost(self) -> bool:
        """Whether more is unsent than is kept for any client."""
        return len(self.outbox) > OUTBOX_MAX

    def notify(self, change: Change) -> None:
        """Send an event for each watch that sees `change`."""
        for watch in self.watches:
            if watch.sees(change):
                self.send(watch.event(change.path))

    def watch(self, path: str, token: bytes) -> Watch:
        """Add a watch; raise EEXIST if there is that one, E2BIG if there are too many."""
        watch = _watch(path, token)
        if watch in self.watches:
            raise StoreError(f"{path}: watched with that token already", "EEXIST")
        if len(self.watches) >= WATCHES_MAX:
            raise StoreError("too many watches", "E2BIG")
        self.watches.append(watch)
        return watch

    def unwatch(self, path: str, token: bytes) -> None:
        """Remove a watch; raise ENOENT if there is none such."""
        watch = _watch(path, token)
        if watch not in self.watches:
            raise StoreError(f"{path}: no such watch", "ENOENT")
        self.watches.remove(watch)

    def start_transaction(self, live: Tree) -> int:
        """Begin a transaction and return its id; raise ENOSPC if there are too many."""
        if len(self.transactions) >= TRANSACTIONS_MAX:
            raise StoreError("too many transactions", "ENOSPC")
        self._last_transaction = self._last_transaction % 0xFFFFFFFF + 1
        self.transactions[self._last_transaction] = TransactionTree(live)
        return self._last_transaction

    def transaction(self, tx_id: int) -> TransactionTree:
        """Return a transaction; raise ENOENT if there is none of that id."""
        try:
            return self.transactions[tx_id]
        except KeyError:
            raise StoreError(f"no transaction {tx_id}", "ENOENT") from None

    def reset(self) -> None:
        """Drop all watches and transactions."""
        self.watches.clear()
        self.transactions.clear()


def _watch(path: str, token: bytes) -> Watch:
    return Watch(paths.watchable(path), token, path[:1] not in {"/", "@"})
