"""Taps of lab guests, in a namespace with a bridge."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.doubles.qemu.lab_guest import UUID, config
from tests.doubles.system.network import bridge, ip, namespace, vif
from xenqemu.errors import HostError, InUse
from xenqemu.host.network.ports import QUIET_MAC
from xenqemu.lab import taps as network
from xenqemu.lab.command_line import mac_of
from xenqemu.system import links

CARDS = config('vif = ["bridge=br0,mtu=1300", "model=e1000", "bridge=br0,vifname=web"]')


@pytest.fixture(autouse=True)
def inside() -> Iterator[None]:
    with namespace():
        bridge("br0")
        yield


def test_cards_with_a_bridge_have_taps(place):
    with network.connected(CARDS, place, 7) as taps:
        assert set(taps) == {0, 2}
        ours = [name for name in ports() if name != "web"]
        assert len(ours) == 1
        assert ours[0].startswith("vif7.0-")
        found = links.find(ours[0])
        assert (found.mac, found.mtu, found.up, found.kind) == (QUIET_MAC, 1300, True, "tun")
        kept = os.dup(taps[2])  # as QEMU does
    assert ports() == ["web"]
    os.close(kept)
    assert ports() == []


def ports() -> list[str]:
    return [line.split()[0] for line in ip("-br link show master br0").splitlines()]


def test_two_hosts_in_one_network_have_taps_of_their_own(place):
    cards = config('vif = ["bridge=br0"]')
    with network.connected(cards, place / "one", 1), network.connected(cards, place / "two", 1):
        assert len(ports()) == 2


def test_nothing_is_left_when_a_later_card_fails(place):
    vif("web")
    with pytest.raises(InUse, match="an interface web exists already"):
        with network.connected(CARDS, place, 7):
            pytest.fail("connected")
    assert ports() == []
    assert links.find("web").kind == "veth"


def test_the_tap_of_another_guest_is_let_be(place):
    with network.connected(CARDS, place, 7):
        network.disconnect(CARDS, place, 8)
        assert "web" in ports()
    network.disconnect(CARDS, place, 7)
    network.disconnect(config('vif = ["bridge=br0,vifname=a/b"]'), place, 7)


@pytest.mark.parametrize(
    ("card", "why"),
    [
        ("bridge=br9", "there is no bridge 'br9'"),
        ("bridge=../br0", "there is no bridge '../br0'"),
        ("bridge=br0,vifname=a/b", "vifname 'a/b' is not a valid name"),
    ],
)
def test_cards_that_cannot_be_connected(place, card, why):
    cards = config(f'vif = ["{card}"]')
    with pytest.raises(HostError, match=why), network.connected(cards, place, 7):
        pytest.fail("connected")
    assert ports() == []


def test_what_is_known_before_anything_is_built():
    check(CARDS)
    check(config('vif = ["model=e1000"]'))
    with pytest.raises(HostError, match="there is no bridge 'br9'"):
        check(config('vif = ["bridge=br9"]'))


def check(cards):
    for nic in cards.nics:
        network.check(cards, nic)


def test_only_root_connects_guests_to_bridges():
    pid = os.fork()
    if pid == 0:
        os.setresuid(65534, 65534, 65534)
        check(config('vif = ["model=e1000"]'))
        try:
            check(CARDS)
        except HostError as error:
            os._exit(0 if str(error) == "cannot connect small to br0: that needs root" else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_addresses_of_cards():
    cards = config('vif = ["bridge=br0", "bridge=br0,mac=00:16:3e:00:00:01", "bridge=br0"]')
    found = [mac_of(cards, index) for index in range(3)]
    assert found[1] == "00:16:3e:00:00:01"
    assert len(set(found)) == 3
    assert all(mac.startswith("00:16:3e:") for mac in found)
    assert [mac_of(cards, index) for index in range(3)] == found
    other = config(f'vif = ["bridge=br0"]\nuuid = "{UUID[:-1]}0"')
    assert mac_of(other, 0) != found[0]
