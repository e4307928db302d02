"""Announcements, as a kernel takes them that hears them through a bridge."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from tests.doubles.system.network import bridge, ip, namespace, see, seen, vif, wait_forwarding
from xenqemu.errors import HostError
from xenqemu.host.network import arp
from xenqemu.host.network.ports import Bridge

OLD = "00:16:3e:00:00:01"
MAC = "00:16:3e:00:00:07"
ADDRESSES = ("192.0.2.7", "2001:db8::7")


@pytest.fixture(autouse=True)
def inside() -> Iterator[None]:
    """A bridge with an uplink to one who thinks that the addresses are elsewhere."""
    with namespace():
        bridge("br0")
        vif("vif1.0")
        ip("link set vif1.0 master br0 up")
        ip("link set peer1.0 up")
        ip("address add 192.0.2.1/24 dev peer1.0")
        ip("address add 2001:db8::1/64 dev peer1.0 nodad")
        for address in ADDRESSES:
            ip(f"neigh add {address} lladdr {OLD} dev peer1.0 nud stale")
        wait_forwarding("vif1.0")
        yield


def known(address: str) -> str:
    """Return the MAC that the neighbour has for an address."""
    (entry,) = json.loads(ip(f"-j neigh show {address} dev peer1.0"))
    return str(entry["lladdr"])


def wait_known(address: str, mac: str) -> None:
    deadline = time.monotonic() + 20
    while known(address) != mac:
        assert time.monotonic() < deadline, known(address)
        time.sleep(0.02)


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_neighbour_learns_where_an_address_is(address):
    assert known(address) == OLD
    arp.announce(MAC, [ip_address(address)], "br0")
    wait_known(address, MAC)


def test_a_guest_that_moved_here():
    see(MAC, "vif1.0")
    Bridge("br0").announce(MAC, [ip_address(each) for each in ADDRESSES])
    for each in ADDRESSES:
        wait_known(each, MAC)
    assert MAC not in seen("br0")


def test_nothing_to_say_and_nowhere_to_say_it():
    arp.announce(MAC, [], "br0")
    with pytest.raises(HostError, match="cannot send on br9: No such device"):
        arp.announce(MAC, [], "br9")
    ip("link set br0 down")
    with pytest.raises(HostError, match="cannot send on br0: Network is down"):
        arp.announce(MAC, [ip_address("192.0.2.7")], "br0")
