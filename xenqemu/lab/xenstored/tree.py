"""The tree of nodes: values, permissions, children, and when each was last changed.

Nodes never change: an edit makes new ones from the edited node up to the root, and what did not
change is shared.  So a copy of the whole tree is one reference, which is what a transaction needs.

A node's `generation` is new whenever its value, its permissions or its set of children changed,
not when something deeper did; two nodes of the same generation are the same.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Concatenate, ParamSpec

from xenqemu.errors import StoreError
from xenqemu.lab.xenstored import paths

NODES_MAX = 1 << 17
"""Nodes in the store.  Xen's bound is 1000 a guest and none for domain 0, which all of us are."""

PERMISSIONS_MAX = 5
"""Permissions a node, as Xen's quota_nb_perms_per_node."""

DOMID_MAX = 0xFFFF

_PERMISSION = re.compile(r"[rwbn]([0-9]{1,5})")

P = ParamSpec("P")


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A node; `permissions` are strings as n0 or r12, the first one names the owner."""

    value: bytes
    permissions: tuple[str, ...]
    children: dict[str, Node]
    generation: int

    @property
    def owner(self) -> int:
        """The domain that the first permission names."""
        return int(self.permissions[0][1:])


@dataclass(frozen=True)
class Change:
    """A changed path, for watches; `exact` if only watches on that very path fire."""

    path: str
    exact: bool = False


class Tree:
    """A tree of nodes and the edits on it; each edit returns what it changed.

    Errors are `StoreError` with the errno name that xenstored answers.
    """

    def __init__(self, root: Node | None = None, count: int = 1) -> None:
        self.root = root or Node(b"", ("n0",), {}, next(_CLOCK))
        self.count = count

    def find(self, path: str) -> Node | None:
        """Return the node at the canonical `path`, None if there is none."""
        node: Node | None = self.root
        for name in paths.names(path):
            if node is None:
                break
            node = node.children.get(name)
        return node

    def node(self, path: str) -> Node:
        """Return the node at `path`; raise ENOENT if there is none."""
        node = self.find(path)
        if node is None:
            raise StoreError(f"{path}: no such node", "ENOENT")
        return node

    def edit(
        self, act: Callable[Concatenate[Tree, P], list[Change]], *args: P.args, **kwargs: P.kwargs
    ) -> list[Change]:
        """Do `act`, one of the edits below, and return its changes, for watches."""
        return act(self, *args, **kwargs)

    def write(self, path: str, value: bytes) -> list[Change]:
        """Set the value at `path`, creating it and its missing parents."""
        node = self.find(path)
        if node is None:
            self._create(path, value)
        else:
            self._put(path, Node(value, node.permissions, node.children, next(_CLOCK)))
        return [Change(path)]

    def mkdir(self, path: str) -> list[Change]:
        """Create `path` and its missing parents; nothing if it is there."""
        if self.find(path) is not None:
            return []
        self._create(path, b"")
        return [Change(path)]

    def remove(self, path: str) -> list[Change]:
        """Remove `path` and all below it; nothing if it is missing but its parent is not."""
        if path == "/":
            raise StoreError("the root cannot be removed", "EINVAL")
        parent = self.node(paths.parent(path))
        if self.find(path) is None:
            return []
        below = [below for below, _ in self.walk(path)][1:]
        self._put(paths.parent(path), _without_child(parent, path.rpartition("/")[2]))
        self.count -= len(below) + 1
        return [*(Change(below, exact=True) for below in reversed(below)), Change(path)]

    def set_permissions(self, path: str, permissions: Sequence[str]) -> list[Change]:
        """Set all permissions of `path`; raise EINVAL at an illegal one, ENOSPC at too many."""
        checked = _checked(permissions)
        node = self.node(path)
        self._put(path, Node(node.value, checked, node.children, next(_CLOCK)))
        return [Change(path)]

    def forget(self, domid: int) -> list[Change]:
        """Remove the nodes that a domain owns, with what is below them."""
        owned = [path for path, node in self.walk("/") if node.owner == domid and path != "/"]
        return [
            change for path in owned if self.find(path) is not None for change in self.remove(path)
        ]

    def walk(self, top: str) -> Iterator[tuple[str, Node]]:
        """Yield (path, node) for `top` and all below it, parents before their children."""
        waiting = [top]
        while waiting:
            path = waiting.pop()
            node = self.node(path)
            waiting.extend(paths.child(path, name) for name in reversed(node.children))
            yield path, node

    def _create(self, path: str, value: bytes) -> None:
        """Create the missing `path` and parents, with the permissions of the nearest parent."""
        missing = list(itertools.takewhile(lambda p: self.find(p) is None, paths.upwards(path)))
        if self.count + len(missing) > NODES_MAX:
            raise StoreError(f"{path}: the store is full", "ENOSPC")
        self.count += len(missing)
        inherited = self.node(paths.parent(missing[-1])).permissions
        node = Node(value, inherited, {}, next(_CLOCK))
        for below in missing[:-1]:
            node = Node(b"", inherited, {below.rpartition("/")[2]: node}, next(_CLOCK))
        self._put(missing[-1], node)

    def _put(self, path: str, node: Node) -> None:
        """Put `node` at `path`, whose parent exists."""
        names = paths.names(path)
        above = [self.root]
        for name in names[:-1]:
            above.append(above[-1].children[name])
        for name, parent in zip(reversed(names), reversed(above), strict=False):
            node = _with_child(parent, name, node)
        self.root = node


_CLOCK = itertools.count()
"""Shared by all trees, so that a generation seen in one never means something else in another."""


def _with_child(parent: Node, name: str, child: Node) -> Node:
    generation = parent.generation if name in parent.children else next(_CLOCK)
    return Node(parent.value, parent.permissions, {**parent.children, name: child}, generation)


def _without_child(parent: Node, name: str) -> Node:
    children = dict(parent.children)
    del children[name]
    return Node(parent.value, parent.permissions, children, next(_CLOCK))


def _checked(permissions: Sequence[str]) -> tuple[str, ...]:
    if len(permissions) > PERMISSIONS_MAX:
        raise StoreError(f"{len(permissions)} permissions are too many", "ENOSPC")
    return tuple(_permission(permission) for permission in permissions)


def _permission(text: str) -> str:
    match = _PERMISSION.fullmatch(text)
    if match is None or int(match[1]) > DOMID_MAX:
        raise StoreError(f"{text!r:.20}: not a permission", "EINVAL")
    return f"{text[0]}{int(match[1])}"
