"""The sessions with xenstored that a host keeps, so that an operation needs but one connection.

xenstore is used in blocks, and each block has a session of its own: an idle one, or else a new one.
Blocks inside a block of the same thread share its session.  So there are as many connections as
threads that use xenstore at the same time, and no thread waits for another.

Only a session without anything outstanding is reused.  A block that failed, in whatever way, may
have left a request without its reply, a transaction or a watch; when the connection is closed,
xenstored drops all of these.  A connection may also have been lost meanwhile, as when xenstored was
restarted.  Either way the next block has a new one.

A program that is started meanwhile does not inherit the connection (PEP 446).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from xenqemu.host.xenstore.store import Store


class Sessions:
    """The sessions of one host with its xenstore, for any number of threads.

    `make` gives a store that is not connected yet; it raises where there is no xenstored to ask.
    """

    def __init__(self, make: Callable[[], Store]) -> None:
        self._make = make
        self._idle: list[Store] = []
        self._lock = threading.Lock()
        self._mine = threading.local()

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Yield a connected store for the block; raises what `make` and connecting raise."""
        outer: Store | None = getattr(self._mine, "store", None)
        if outer is not None:
            yield outer
            return
        store = self._reusable() or self._make().__enter__()
        try:
            self._mine.store = store
            yield store
        except BaseException:
            store.close()
            raise
        finally:
            self._mine.store = None
        with self._lock:
            self._idle.append(store)

    def close(self) -> None:
        """Close the idle connections; the next block opens a new one."""
        with self._lock:
            idle, self._idle = self._idle, []
        for store in idle:
            store.close()

    def _reusable(self) -> Store | None:
        """Take an idle store, None if there is none that can be reused."""
        with self._lock:
            store = self._idle.pop() if self._idle else None
        if store is None or store.reusable:
            return store
        store.close()
        return None
