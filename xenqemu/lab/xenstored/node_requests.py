"""The requests about nodes: each takes the tree it is about, live or a transaction's."""

from __future__ import annotations

from collections.abc import Callable

from xenqemu.errors import StoreError
from xenqemu.formats.xenstore import PAYLOAD_MAX, Op
from xenqemu.lab.xenstored import paths, xs_wire
from xenqemu.lab.xenstored.answer import Reply
from xenqemu.lab.xenstored.tree import Node, Tree


def read(tree: Tree, payload: bytes) -> Reply:
    """READ path| -> value."""
    return Reply(_node(tree, payload).value)


def directory(tree: Tree, payload: bytes) -> Reply:
    """DIRECTORY path| -> name|*."""
    return Reply(xs_wire.join(*_node(tree, payload).children))


def directory_part(tree: Tree, payload: bytes) -> Reply:
    """DIRECTORY_PART path|offset| -> generation|name|*; an empty name ends the list."""
    path, offset = xs_wire.words(payload, 2, 2)
    start = xs_wire.number(offset)
    node = tree.node(paths.canonical(path))
    generation = xs_wire.join(str(node.generation))
    names = xs_wire.join(*node.children)
    part = names[start : start + PAYLOAD_MAX - len(generation) - 1]
    if start + len(part) >= len(names):
        return Reply(generation + part + b"\0")
    return Reply(generation + part[: part.rfind(b"\0") + 1])


def get_permissions(tree: Tree, payload: bytes) -> Reply:
    """GET_PERMS path| -> permission|+."""
    return Reply(xs_wire.join(*_node(tree, payload).permissions))


def write(tree: Tree, payload: bytes) -> Reply:
    """WRITE path|value."""
    path, end, value = payload.partition(b"\0")
    if not end:
        raise StoreError("a path without its end", "EINVAL")
    return Reply(changes=tree.edit(Tree.write, paths.canonical(xs_wire.text(path)), value))


def mkdir(tree: Tree, payload: bytes) -> Reply:
    """MKDIR path|."""
    return Reply(changes=tree.edit(Tree.mkdir, _path(payload)))


def remove(tree: Tree, payload: bytes) -> Reply:
    """RM path|."""
    return Reply(changes=tree.edit(Tree.remove, _path(payload)))


def set_permissions(tree: Tree, payload: bytes) -> Reply:
    """SET_PERMS path|permission|+."""
    path, *permissions = xs_wire.words(payload, 2)
    return Reply(changes=tree.edit(Tree.set_permissions, paths.canonical(path), permissions))


HANDLERS: dict[int, Callable[[Tree, bytes], Reply]] = {
    Op.READ: read,
    Op.DIRECTORY: directory,
    Op.DIRECTORY_PART: directory_part,
    Op.GET_PERMS: get_permissions,
    Op.WRITE: write,
    Op.MKDIR: mkdir,
    Op.RM: remove,
    Op.SET_PERMS: set_permissions,
}


def _path(payload: bytes) -> str:
    (path,) = xs_wire.words(payload, 1, 1)
    return paths.canonical(path)


def _node(tree: Tree, payload: bytes) -> Node:
    return tree.node(_path(payload))
