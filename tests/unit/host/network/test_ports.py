"""Bridges, Open vSwitch and routes of a namespace; only their other ends are not guests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.system.network import (
    OVS_FOLDERS,
    bridge,
    ip,
    namespace,
    open_vswitch,
    vif,
    vsctl,
)
from xenqemu.errors import HostError
from xenqemu.host.network import ports
from xenqemu.host.network.ports import QUIET_MAC, Bridge, OpenVSwitch, Routed
from xenqemu.system import links

NAME = "vif5.0"
ABOUT = {"attached-mac": "00:16:3e:00:00:01"}


@pytest.fixture(autouse=True)
def inside() -> Iterator[None]:
    with namespace():
        vif(NAME)
        yield


def join(port: ports.Port, mtu: int | None = None) -> int:
    return port.join(links.require(NAME, "interface"), mtu)


def changes() -> str:
    """Return the interface as `ip` shows it, with what changes at each change of it."""
    return ip(f"-d -s link show dev {NAME}")


def test_a_port_of_a_bridge():
    bridge("br0", 1400)
    assert join(ports.bridge("br0", {})) == 1400
    assert links.find(NAME) == links.Interface(NAME, QUIET_MAC, 1400, True, "veth", "br0")
    before = changes()
    assert join(Bridge("br0")) == 1400
    assert changes() == before


def test_an_mtu_of_its_own():
    bridge("br0")
    assert join(Bridge("br0"), 9000) == 9000
    assert links.find(NAME).mtu == 9000


def test_a_bridge_with_a_dot_is_no_vlan():
    bridge("br0.7")
    assert ports.bridge("br0.7", {}) == Bridge("br0.7")


@pytest.mark.parametrize("words", ["br9", "", "lo", NAME, "a/b", "br0\n", "br0 br1", "$(id)"])
def test_there_is_no_such_bridge(words):
    bridge("br0")
    with pytest.raises(HostError, match=r"^there is no bridge '.*'$"):
        ports.bridge(words, {})


def test_a_bridge_that_has_gone_meanwhile():
    with pytest.raises(HostError, match="there is no bridge br9"):
        join(Bridge("br9"))


def test_leaving_a_bridge_may_be_repeated():
    bridge("br0")
    join(Bridge("br0"))
    for _ in range(2):
        ports.leave(NAME)
        found = links.find(NAME)
        assert (found.master, found.up) == ("", False)
    ip(f"link del {NAME}")
    ports.leave(NAME)
    ports.leave("vif6.0")


# Routes.


@pytest.fixture
def gateway() -> str:
    ip("link add eth0 mtu 1400 type veth peer name lan")
    ip("link set eth0 up")
    ip("address add 192.0.2.1/24 dev eth0")
    return "eth0"


def routes(*family: str) -> list[dict[str, object]]:
    listed = json.loads(ip(f"{' '.join(family)} -j route show dev {NAME}"))
    return [entry for entry in listed if entry.get("protocol") != "kernel"]


def test_routes_to_the_guest(gateway):
    ip(f"link set peer{NAME.removeprefix('vif')} up")
    port = Routed(gateway, ["192.0.2.7", "198.51.100.0/24", "2001:db8::7"], 2)
    for _ in range(2):
        assert join(port) == 1400
        found = routes("-4")
        assert [entry["dst"] for entry in found] == ["192.0.2.7", "198.51.100.0/24"]
        assert {(entry["metric"], entry["prefsrc"]) for entry in found} == {(2, "192.0.2.1")}
        assert [(entry["dst"], entry["metric"]) for entry in routes("-6")] == [("2001:db8::7", 2)]
        assert links.addresses(NAME) == ["192.0.2.1"]
        assert Path(f"/proc/sys/net/ipv4/conf/{NAME}/proxy_arp").read_text() == "1\n"
    for _ in range(2):
        ports.leave(NAME)
        assert (routes("-4"), routes("-6"), links.addresses(NAME)) == ([], [], [])


def test_two_interfaces_for_one_address(gateway):
    """The emulated card and the paravirtual one: which has the lower metric is asked first."""
    vif("vif5.1")
    for name in (NAME, "vif5.1"):
        ip(f"link set peer{name.removeprefix('vif')} up")
        Routed(gateway, ["192.0.2.7"], 1 if name == NAME else 2).join(links.find(name), None)
    assert f"dev {NAME} " in ip("route get 192.0.2.7")
    ports.leave(NAME)
    assert "dev vif5.1 " in ip("route get 192.0.2.7")


def test_a_gateway_that_is_none():
    with pytest.raises(HostError, match="there is no gateway eth9"):
        join(Routed("eth9", [], 2))
    ip("link add eth0 type veth peer name lan")
    with pytest.raises(HostError, match="the gateway eth0 has no IPv4 address"):
        join(Routed("eth0", ["192.0.2.7"], 2))


# Open vSwitch.


@pytest.fixture
def switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An Open vSwitch of the namespace, with the bridge ovs0."""
    for name in OVS_FOLDERS:
        monkeypatch.setenv(name, str(tmp_path))
    with open_vswitch(tmp_path, "ovs0"):
        yield "ovs0"


def test_a_port_of_open_vswitch(switch):
    port = ports.bridge(switch, ABOUT)
    assert port == OpenVSwitch("ovs0", None, None, ABOUT)
    for _ in range(2):
        assert join(port, 1400) == 1400
        assert vsctl("list-ports", switch) == NAME
    found = links.find(NAME)
    assert (found.up, found.mtu) == (True, 1400)
    assert vsctl("get", "interface", NAME, "external_ids", "error") == (
        '{attached-mac="00:16:3e:00:00:01"}\n[]'
    )
    assert vsctl("get", "port", NAME, "tag", "trunks") == "[]\n[]"
    for _ in range(2):
        ports.leave(NAME)
        assert vsctl("list-ports", switch) == ""
        assert not links.find(NAME).up


@pytest.mark.parametrize(
    ("words", "tag", "trunks"),
    [
        ("ovs0.7", "7", "[]"),
        ("ovs0:7:8", "[]", "[7, 8]"),
        ("ovs0.7:8", "7", "[8]"),
    ],
)
def test_vlans_of_open_vswitch(switch, words, tag, trunks):
    join(ports.bridge(words, {}))
    assert vsctl("get", "port", NAME, "tag", "trunks") == f"{tag}\n{trunks}"


@pytest.mark.parametrize("words", ["ovs9", "ovs0.x", "ovs0:", "ovs0.1.2"])
def test_there_is_no_such_switch(switch, words):
    with pytest.raises(HostError, match="there is no bridge"):
        ports.bridge(words, {})


def test_an_interface_that_is_gone_leaves_the_switch(switch):
    join(ports.bridge(switch, {}))
    ip(f"link del {NAME}")
    ports.leave(NAME)
    assert vsctl("list-ports", switch) == ""


def test_a_switch_that_is_not_up(tmp_path, monkeypatch):
    monkeypatch.setenv("OVS_RUNDIR", str(tmp_path))
    with pytest.raises(HostError, match="there is no bridge 'ovs0'"):
        ports.bridge("ovs0", {})
    with pytest.raises(HostError, match="ovs-vsctl failed .*database connection failed"):
        join(OpenVSwitch("ovs0"))
    bridge("br0")
    join(ports.bridge("br0", {}))
    ports.leave(NAME)
    assert links.find(NAME).master == ""
