"""Interfaces of a namespace, by iproute2."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.doubles.system.network import bridge, ip, namespace, see, seen, vif
from xenqemu.errors import HostError
from xenqemu.system import links


@pytest.fixture(autouse=True)
def inside() -> Iterator[None]:
    with namespace():
        yield


@pytest.mark.parametrize("name", ["vif5.0", "vif5.0-emu", "br-lan", "_x", "0", "a" * 15, "eth0+1"])
def test_names(name):
    assert links.checked_name(name, "bridge") == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a/b",
        "../br0",
        "a b",
        "a\nb",
        "br0\n",
        "-x",
        "a" * 16,
        "é",
        "a:b",
        "$x",
        "a;b",
    ],
)
def test_what_is_no_name(name):
    with pytest.raises(HostError, match="^bridge '.*' is not a valid name of a network interface$"):
        links.checked_name(name, "bridge")


def test_what_is_known_of_an_interface():
    bridge("br0", 1400)
    vif("vif5.0")
    ip("link set vif5.0 master br0 address 00:16:3e:00:00:01 mtu 1300 up")
    found = links.find("vif5.0")
    assert found == links.Interface("vif5.0", "00:16:3e:00:00:01", 1300, True, "veth", "br0")
    here = links.require("br0", "bridge")
    assert (here.kind, here.mtu, here.up, here.master) == ("bridge", 1400, True, "")
    assert links.find("none") is None
    with pytest.raises(HostError, match="^there is no bridge none$"):
        links.require("none", "bridge")


def test_addresses():
    vif("vif5.0")
    assert links.addresses("vif5.0") == []
    ip("address add 192.0.2.1/24 dev vif5.0")
    ip("address add 192.0.2.2/24 dev vif5.0")
    assert links.addresses("vif5.0") == ["192.0.2.1", "192.0.2.2"]


def test_a_renamed_interface_is_found_by_both_names():
    vif("vif5.0")
    with links.renamed(links.find("vif5.0"), "web") as name:
        assert name == "web"
    with links.renamed(links.find("vif5.0"), "web") as name:
        assert name == "web"
    assert links.find("vif5.0") == links.find("web")
    assert links.find("vif5.0").name == "web"
    links.change("link set dev vif5.0 mtu 1300")
    assert links.find("web").mtu == 1300


def test_a_name_that_is_taken():
    vif("vif5.0")
    vif("web")
    with pytest.raises(HostError, match=r"cannot rename vif5\.0: an interface web exists already"):
        with links.renamed(links.find("vif5.0"), "web"):
            pytest.fail("renamed")
    assert links.find("vif5.0").name == "vif5.0"


def test_a_name_is_released_if_the_block_fails():
    vif("vif5.0")
    with pytest.raises(ZeroDivisionError), links.renamed(links.find("vif5.0"), "web"):
        ip("link set dev web up")
        raise ZeroDivisionError
    assert links.find("web") is None
    assert links.find("vif5.0").name == "vif5.0"
    with pytest.raises(ZeroDivisionError), links.renamed(links.find("vif5.0"), "web"):
        ip("link del dev web")
        raise ZeroDivisionError


def test_what_cannot_be_changed():
    with pytest.raises(HostError, match="ip -batch failed .*nowhere"):
        links.change("link set dev nowhere up")
    links.change_if_there("link set dev nowhere up")
    vif("vif5.0")
    with pytest.raises(HostError, match="ip -batch failed"):
        links.change_if_there("link set dev vif5.0 mtu 1")


def test_a_bridge_forgets_where_it_saw_an_address():
    bridge("br0")
    for name in ("vif5.0", "vif6.0"):
        vif(name)
        ip(f"link set {name} master br0 up")
        ip(f"link set peer{name.removeprefix('vif')} up")
    mac = "00:16:3e:00:00:01"
    see(mac, "vif5.0")
    assert mac in seen("br0")
    links.forget("br0", mac)
    assert mac not in seen("br0")
    links.forget("br0", mac)
    permanent = links.find("vif5.0").mac
    links.forget("br0", permanent)
    assert permanent in seen("br0")
