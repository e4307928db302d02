"""The requests about a connection's own watches and transactions."""

from __future__ import annotations

from collections.abc import Callable

from xenqemu.errors import StoreError
from xenqemu.formats.xenstore import Op
from xenqemu.lab.xenstored import xs_wire
from xenqemu.lab.xenstored.answer import Reply
from xenqemu.lab.xenstored.client import Client
from xenqemu.lab.xenstored.tree import Tree
from xenqemu.lab.xenstored.xs_wire import Packet


def watch(client: Client, _live: Tree, request: Packet) -> Reply:
    """WATCH wpath|token|; the first event comes at once."""
    added = client.watch(*_path_and_token(request.payload))
    return Reply(event=added.event(added.path))


def unwatch(client: Client, _live: Tree, request: Packet) -> Reply:
    """UNWATCH wpath|token|."""
    client.unwatch(*_path_and_token(request.payload))
    return Reply()


def reset_watches(client: Client, _live: Tree, _request: Packet) -> Reply:
    """RESET_WATCHES |: transactions go too."""
    client.reset()
    return Reply()


def start_transaction(client: Client, live: Tree, request: Packet) -> Reply:
    """TRANSACTION_START | -> id|."""
    if request.tx_id:
        raise StoreError("transactions do not nest", "EBUSY")
    return Reply(xs_wire.join(str(client.start_transaction(live))))


def end_transaction(client: Client, live: Tree, request: Packet) -> Reply:
    """TRANSACTION_END T| or F|."""
    if request.payload not in {b"T\0", b"F\0"}:
        raise StoreError(f"{request.payload!r:.20}: neither T nor F", "EINVAL")
    transaction = client.transaction(request.tx_id)
    del client.transactions[request.tx_id]
    return Reply(changes=transaction.commit(live) if request.payload == b"T\0" else [])


HANDLERS: dict[int, Callable[[Client, Tree, Packet], Reply]] = {
    Op.WATCH: watch,
    Op.UNWATCH: unwatch,
    Op.RESET_WATCHES: reset_watches,
    Op.TRANSACTION_START: start_transaction,
    Op.TRANSACTION_END: end_transaction,
}


def _path_and_token(payload: bytes) -> tuple[str, bytes]:
    pieces = xs_wire.split(payload)
    if len(pieces) < 2:
        raise StoreError("a watch needs a path and a token", "EINVAL")
    return xs_wire.text(pieces[0]), pieces[1]
