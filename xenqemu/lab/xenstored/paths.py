"""Paths of xenstore: what is legal, what is relative to what.

A connection over the socket belongs to domain 0, so its relative paths start at
/local/domain/0, as in Xen's own xenstored.  A path that starts with @ is a special one: a watch
on it fires when domains are introduced and released; as a node it is a child of the root.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from xenqemu.errors import StoreError

HOME = "/local/domain/0"
ABSOLUTE_MAX = 3072
RELATIVE_MAX = 2048
"""XENSTORE_ABS_PATH_MAX and XENSTORE_REL_PATH_MAX, in bytes."""

INTRODUCE = "@introduceDomain"
RELEASE = "@releaseDomain"

_LEGAL = re.compile(r"/|(?:/[A-Za-z0-9_@-]+)+")


def canonical(path: str) -> str:
    """Return the absolute path of a node; raise `StoreError` EINVAL if `path` is not legal."""
    if path.startswith("/"):
        limit, whole = ABSOLUTE_MAX, path
    elif path.startswith("@"):
        limit, whole = RELATIVE_MAX, f"/{path}"
    else:
        limit, whole = RELATIVE_MAX, f"{HOME}/{path}"
    if len(path) > limit or not _LEGAL.fullmatch(whole):
        raise StoreError(f"{path!r:.80}: not a legal path", "EINVAL")
    return whole


def watchable(path: str) -> str:
    """Return what a watch on `path` is compared with: as `canonical`, but @… stays as it is."""
    whole = canonical(path)
    return path if path.startswith("@") else whole


def names(path: str) -> list[str]:
    """Return the names from the root to `path`, none for the root itself."""
    return path.split("/")[1:] if path != "/" else []


def parent(path: str) -> str:
    """Return the path one level up; the root's is the root."""
    return path.rpartition("/")[0] or "/"


def child(path: str, name: str) -> str:
    """Return the path of `name` under `path`."""
    return f"/{name}" if path == "/" else f"{path}/{name}"


def upwards(path: str) -> Iterator[str]:
    """Yield `path`, its parent, and so on to the root."""
    while path != "/":
        yield path
        path = parent(path)
    yield path


def within(path: str, top: str) -> bool:
    """Return whether `path` is `top` or lies under it."""
    return top in {"/", path} or path.startswith(f"{top}/")
