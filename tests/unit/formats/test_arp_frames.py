"""Announcements: byte for byte, and as a kernel takes them (host/network/test_arp.py)."""

from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from xenqemu.formats import arp_frames

MAC = bytes.fromhex("00163e000001")


def words(data: bytes) -> list[int]:
    return [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]


def test_gratuitous_arp():
    frame = arp_frames.announcement(MAC, IPv4Address("192.0.2.7"))
    assert frame.hex(" ", 2) == (
        "ffff ffff ffff 0016 3e00 0001 0806"
        " 0001 0800 0604 0001 0016 3e00 0001 c000 0207 0000 0000 0000 c000 0207"
    )


def test_unsolicited_advertisement():
    frame = arp_frames.announcement(MAC, IPv6Address("2001:db8::7"))
    assert frame.hex(" ", 2) == (
        "3333 0000 0001 0016 3e00 0001 86dd"
        " 6000 0000 0020 3aff 2001 0db8 0000 0000 0000 0000 0000 0007"
        " ff02 0000 0000 0000 0000 0000 0000 0001"
        " 8800 bd08 2000 0000 2001 0db8 0000 0000 0000 0000 0000 0007 0201 0016 3e00 0001"
    )


@given(st.binary(min_size=6, max_size=6), st.ip_addresses(v=6))
def test_the_checksum_adds_up(mac, address):
    frame = arp_frames.unsolicited_advertisement(mac, address)
    assert len(frame) == 86
    total = sum(words(frame[22:])) + 32 + 58  # addresses and body; the pseudo-header's rest
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF
