"""The config of a clone: what distinguishes it from the guest whose memory it has.

A VM generation id is a new one where the guest has one: a guest that was made without has no device
to be told by.  Emulated cards have their address in their own state too: there the config's new one
is what PV drivers read, and what the host's bridge is told.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from secrets import token_bytes
from typing import Any

from xenqemu.errors import UsageError
from xenqemu.formats.config.domain_config import DomainConfig

GENID = "ms_vm_genid"
_GENID_SIZE = 16
_XEN_OUI = "00:16:3e"
"""Of the addresses that Xen's guests are given."""


def cloned(own: DomainConfig, name: str, disks: Mapping[str, str]) -> DomainConfig:
    """Return the config of a new clone of the guest `own`, of this name.

    It has a new uuid, asks for no domain id, has a new address for each card, and of each disk in
    `disks` (by its vdev) another file.  Raises `UsageError` for a vdev that the guest has not.
    """
    unknown = disks.keys() - {disk.vdev for disk in own.disks}
    if unknown:
        has = ", ".join(disk.vdev for disk in own.disks) or "none"
        raise UsageError(f"{own.name} has no disk {min(unknown)}: it has {has}")
    tree = {**own.with_name(name).with_domid(0).tree}
    tree["c_info"] = {**tree["c_info"], "uuid": str(uuid.uuid4())}
    if own.nics:
        tree["nics"] = [{**nic, "mac": _new_address()} for nic in tree["nics"]]
    if disks:
        tree["disks"] = [_other_file(disk, disks) for disk in tree["disks"]]
    if own.generation_id:
        new = {**tree["b_info"]["type.hvm"], GENID: list(token_bytes(_GENID_SIZE))}
        tree["b_info"] = {**tree["b_info"], "type.hvm": new}
    return DomainConfig(tree)


def _new_address() -> str:
    first, *rest = token_bytes(3)
    return ":".join([_XEN_OUI, f"{first & 0x7F:02x}", *(f"{byte:02x}" for byte in rest)])


def _other_file(disk: Mapping[str, Any], disks: Mapping[str, str]) -> Mapping[str, Any]:
    file = disks.get(disk["vdev"])
    return {**disk, "pdev_path": file} if file else disk
