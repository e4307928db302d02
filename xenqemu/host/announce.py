"""Telling the network that addresses are here now."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

from xenqemu.errors import HostError
from xenqemu.formats.announcement import announcement
from xenqemu.host import links


def announce(mac: str, addresses: Iterable[IPv4Address | IPv6Address], through: str) -> None:
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


def announce_moved(mac: str, addresses: Iterable[IPv4Address | IPv6Address], bridge: str) -> None:
    """Say on a bridge of the kernel that a guest is behind one of its ports now.

    The bridge itself forgets where it has seen the guest, and asks all its ports for it next.
    """
    links.forget(bridge, mac)
    announce(mac, addresses, bridge)
