"""Whom and what this host trusts, beyond root and what stock Xen writes for ordinary guests."""

from __future__ import annotations

from xenqemu.frozen import Frozen


class Trust(Frozen):
    """What the config of a save file, or of a guest from another host, may have root use.

    `allow` has patterns of KEY=VALUE, as `xenqemu inspect` lists them, with * for any characters.
    `owners` are users other than root who may own save files and their folders: where a storage
    takes root for another user, that one.
    """

    allow: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()


DEFAULT_TRUST = Trust()
"""Nothing beyond what stock Xen writes for ordinary guests, and nobody but root."""
