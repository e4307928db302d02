"""Ethernet frames that announce the present port of a host or a guest.

::

    gratuitous ARP (RFC 826, RFC 5227)        unsolicited neighbour advertisement (RFC 4861, 4.4)
      0  ff:ff:ff:ff:ff:ff                      0  33:33:00:00:00:01
      6  MAC                                    6  MAC
     12  u16 0x0806                            12  u16 0x86dd
     14  u16 1       Ethernet                  14  u32 6 << 28   IPv6
     16  u16 0x0800  IPv4                      18  u16 32   u8 58  ICMPv6   u8 255
     18  u8 6   u8 4                           22  ADDRESS
     20  u16 1       request                   38  ff02::1       all nodes
     22  MAC   ADDRESS     sender              54  u8 136   u8 0   u16 checksum
     32  six zeros         target              58  u32 1 << 29   override
     38  ADDRESS                               62  ADDRESS       target
     42                                        78  u8 2   u8 1   MAC
                                               86
All big-endian.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

_ARP = struct.Struct(">6s6sH HHBBH 6s4s 6s4s")
_IPV6 = struct.Struct(">6s6sH IHBB 16s16s")
_ADVERTISEMENT = struct.Struct(">BBH I 16s BB6s")

_ALL_NODES = IPv6Address("ff02::1").packed
_OVERRIDE = 1 << 29


def announcement(mac: bytes, address: IPv4Address | IPv6Address) -> bytes:
    """Return the frame that announces to all neighbours that `address` is at `mac` (6 bytes)."""
    if isinstance(address, IPv4Address):
        return gratuitous_arp(mac, address)
    return unsolicited_advertisement(mac, address)


def gratuitous_arp(mac: bytes, address: IPv4Address) -> bytes:
    """Return an ARP request for one's own address, which should not be answered."""
    ours = address.packed
    everyone = b"\xff" * 6
    return _ARP.pack(everyone, mac, 0x0806, 1, 0x0800, 6, 4, 1, mac, ours, bytes(6), ours)


def unsolicited_advertisement(mac: bytes, address: IPv6Address) -> bytes:
    """Return an unsolicited neighbour advertisement, to all nodes."""
    ours = address.packed
    size = _ADVERTISEMENT.size
    pseudo = struct.pack(">16s16sII", ours, _ALL_NODES, size, 58)
    body = _ADVERTISEMENT.pack(136, 0, 0, _OVERRIDE, ours, 2, 1, mac)
    body = _ADVERTISEMENT.pack(136, 0, _checksum(pseudo + body), _OVERRIDE, ours, 2, 1, mac)
    everyone = b"\x33\x33\x00\x00\x00\x01"
    return _IPV6.pack(everyone, mac, 0x86DD, 6 << 28, size, 58, 255, ours, _ALL_NODES) + body


def _checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
