"""The introduced domains, and the shutdown latch of each.

Xen's xenstored learns of a domain's end from the hypervisor (VIRQ_DOM_EXC).  There is no
hypervisor here, so the lab sends ``CONTROL shutdown|<domid>|``: control commands are what the
protocol leaves to each implementation.  As under Xen, @releaseDomain then fires once, and not
again before RESUME clears the latch.
"""

from __future__ import annotations

from xenqemu.errors import StoreError

FIRST_RESERVED = 0x7FF0
"""DOMID_FIRST_RESERVED: from here on an id means no real domain."""


class Domains:
    """Introduced domains; `latches` has True for those that have shut down."""

    def __init__(self) -> None:
        self.latches: dict[int, bool] = {}

    def introduce(self, domid: int) -> bool:
        """Add a domain and return whether it is new; raise EINVAL for 0 and reserved ids."""
        if not 0 < domid < FIRST_RESERVED:
            raise StoreError(f"{domid} is not the id of a guest", "EINVAL")
        new = domid not in self.latches
        self.latches.setdefault(domid, False)
        return new

    def introduced(self, domid: int) -> bool:
        """Return whether the domain was introduced; domain 0 always is."""
        return domid == 0 or domid in self.latches

    def release(self, domid: int) -> None:
        """Remove a domain; raise ENOENT if it is unknown."""
        self._require(domid)
        del self.latches[domid]

    def shut_down(self, domid: int) -> bool:
        """Set the latch and return whether it was not set before; ENOENT if it is unknown."""
        self._require(domid)
        before, self.latches[domid] = self.latches[domid], True
        return not before

    def resume(self, domid: int) -> None:
        """Clear the latch; raise ENOENT if the domain is unknown."""
        self._require(domid)
        self.latches[domid] = False

    def _require(self, domid: int) -> None:
        if domid == 0:
            raise StoreError("not for domain 0", "EINVAL")
        if domid not in self.latches:
            raise StoreError(f"domain {domid} was not introduced", "ENOENT")
