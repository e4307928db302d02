"""Telling the network that addresses are here now."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

from xenqemu.errors import HostError
from xenqemu.formats.arp_frames import announcement

Address = IPv4Address | IPv6Address


def announce(mac: str, addresses: Iterable[Address], through: str) -> None:
    """Say on the interface `through` that `addresses` are at `mac`, once for each.

    Raises `HostError` if the frames cannot be sent there.
    """
    sender = bytes.fromhex(mac.replace(":", ""))
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
            wire.bind((through, 0))
            for address in addresses:
                wire.send(announcement(sender, address))
    except OSError as error:
        raise HostError(f"cannot send on {through}: {error.strerror}") from error
