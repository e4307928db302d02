"""A transaction: edits on a copy of the tree, which are committed together or not at all.

Each node that is read or changed is remembered.  A commit compares the generations of those nodes
in the tree at the start with the present tree: any difference is EAGAIN.  If there is none,
repeating the edits on the present tree has the result that they had on the copy.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Concatenate

from xenqemu.errors import StoreError
from xenqemu.lab.xenstored.tree import Change, Node, P, Tree

REQUESTS_MAX = 1 << 16
"""Requests in a transaction, so that its log is bounded (oxenstored: 1024 for a guest)."""


class TransactionTree(Tree):
    """A tree of its own that began as a copy of the live one."""

    def __init__(self, live: Tree) -> None:
        super().__init__(live.root, live.count)
        self._base = Tree(live.root)
        self._touched: set[str] = set()
        self._edits: list[Callable[[Tree], list[Change]]] = []
        self._requests = 0

    def find(self, path: str) -> Node | None:
        """Return the node as this transaction sees it, and remember that it was read."""
        self._touched.add(path)
        return super().find(path)

    def edit(
        self, act: Callable[Concatenate[Tree, P], list[Change]], *args: P.args, **kwargs: P.kwargs
    ) -> list[Change]:
        """Do `act` on the copy; watches fire at the commit."""
        super().edit(act, *args, **kwargs)
        self._edits.append(lambda tree: act(tree, *args, **kwargs))
        return []

    def count_request(self) -> None:
        """Count one more request; raise ENOSPC above `REQUESTS_MAX`."""
        self._requests += 1
        if self._requests > REQUESTS_MAX:
            raise StoreError("too many requests in one transaction", "ENOSPC")

    def commit(self, live: Tree) -> list[Change]:
        """Make the edits in `live` and return what changed, each once.

        Raises EAGAIN, and changes nothing, if a node of this transaction changed meanwhile.
        """
        if any(map(partial(_differs, self._base, live), self._touched)):
            raise StoreError("the transaction conflicts with another change", "EAGAIN")
        draft = Tree(live.root, live.count)
        changes = [change for edit in self._edits for change in edit(draft)]
        live.root, live.count = draft.root, draft.count
        return list(dict.fromkeys(changes))


def _differs(base: Tree, live: Tree, path: str) -> bool:
    then, now = base.find(path), live.find(path)
    return (then and then.generation) != (now and now.generation)
