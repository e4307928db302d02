"""A domain's name, changed as libxl_domain_rename changes it.

::

    /local/domain/DOMID/name      the name that every tool shows
    /vm/UUID/name                 the same; two domains of one uuid share it

Both change in one transaction, which first checks that the domain has the old name and no other
domain has the new one.  The configuration that libxl has stored of a domain keeps the old name:
libxl takes that from xenstore whenever it uses it.  Source: libxl_domain.c.
"""

from __future__ import annotations

from xenqemu.errors import HostError
from xenqemu.host.xenstore.store import Store, Transaction

AWAY = "--migratedaway"
"""Suffix of the name of a domain that has migrated away, as with xl."""

INCOMING = "--incoming"
"""Suffix of the name of a domain that is migrating here, as with xl."""


def rename(store: Store, domid: int, old: str, new: str) -> None:
    """Rename a domain from `old` to `new`; nothing if it has the new name already.

    Raises `HostError` if it has another name, or another domain has the new one.
    """

    def change(nodes: Transaction) -> None:
        home = f"/local/domain/{domid}"
        name = nodes.read(f"{home}/name")
        if name == new:
            return
        if name != old:
            named = f"is named {name!r}" if name else "has no name"
            raise HostError(f"cannot rename domain {domid} to {new!r}: it {named}, not {old!r}")
        _require_free(nodes, new)
        for place in (home, nodes.read(f"{home}/vm")):
            if place:
                nodes.write(f"{place}/name", new)

    store.atomically(change)


def _require_free(nodes: Transaction, name: str) -> None:
    for entry in nodes.list("/local/domain") or ():
        if nodes.read(f"/local/domain/{entry}/name") == name:
            raise HostError(f"domain {entry} is named {name!r} already")
