"""xenqemu-vif as libxl runs it, in a network namespace whose veth are netback's interfaces."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.system.network import (
    OVS_FOLDERS,
    bridge,
    ip,
    namespace,
    open_vswitch,
    see,
    seen,
    vif,
    vsctl,
)
from tests.doubles.xen.libxl_scripts import UUIDS, Libxl
from xenqemu.host.network.ports import QUIET_MAC
from xenqemu.lab import tap_interface
from xenqemu.system import links

MAC = "00:16:3e:00:00:05"
ARP = 0x0806


@pytest.fixture(autouse=True)
def inside() -> Iterator[None]:
    """A namespace with two bridges, of which one is up, and the interface of guest 5."""
    with namespace():
        bridge("br0", 1400)
        bridge("down")
        ip("link set dev down down")
        vif("vif5.0")
        yield


def card(libxl: Libxl, domid: int = 5, **nodes: str) -> str:
    """Lay out a network card that waits for its script; return XENBUS_PATH."""
    given = {"bridge": "br0", "mac": MAC, "handle": "0", "hotplug_status": "", **nodes}
    return libxl.device("vif", domid, 0, **given)


def names(path: str) -> dict[str, str]:
    """Return what libxl says in the environment of the interfaces."""
    domid = path.split("/")[2]
    return {"vif": f"vif{domid}.0", "INTERFACE": f"vif{domid}.0-emu", "netdev": ""}


def online(libxl: Libxl, path: str) -> None:
    libxl.good(path, "online", "type_if=vif", **names(path))


def offline(libxl: Libxl, path: str) -> None:
    libxl.good(path, "offline", "type_if=vif", **names(path))


def refused(libxl: Libxl, path: str) -> str:
    return libxl.refused(path, "online", "type_if=vif", **names(path))


def untouched(name: str = "vif5.0") -> bool:
    """Return whether an interface is as netback made it, but for its address."""
    found = links.find(name)
    assert found is not None
    return (found.name, found.master, found.up) == (name, "", False)


def test_a_card_is_connected_to_its_bridge(libxl: Libxl) -> None:
    path = card(libxl)
    online(libxl, path)
    found = links.find("vif5.0")
    assert found == links.Interface("vif5.0", QUIET_MAC, 1400, True, "veth", "br0")
    assert libxl.nodes(path)["hotplug-status"] == "connected"
    assert libxl.store.read("/local/domain/5/device/vif/0/mtu") == "1400"
    online(libxl, path)
    assert links.find("vif5.0") == found
    for _ in range(2):
        offline(libxl, path)
        assert untouched()


def test_an_mtu_of_its_own(libxl: Libxl) -> None:
    online(libxl, card(libxl, mtu="1300"))
    assert links.find("vif5.0").mtu == 1300
    assert libxl.store.read("/local/domain/5/device/vif/0/mtu") == "1300"


def test_the_tap_of_an_emulated_card(libxl: Libxl) -> None:
    path = card(libxl)
    with tap_interface.opened("vif5.0-emu"):
        libxl.good(path, "add", "type_if=tap", **names(path))
        found = links.find("vif5.0-emu")
        assert (found.master, found.mac, found.mtu, found.up) == ("br0", QUIET_MAC, 1400, True)
        assert libxl.nodes(path)["hotplug-status"] == ""  # netback waits for its own interface
        libxl.good(path, "remove", "type_if=tap", **names(path))
        assert untouched("vif5.0-emu")
    libxl.good(path, "remove", "type_if=tap", **names(path))  # QEMU is gone, and its tap with it


def test_the_kind_of_interface_may_stand_in_the_environment(libxl: Libxl) -> None:
    path = card(libxl)
    with tap_interface.opened("vif5.0-emu"):
        libxl.good(path, "add", type_if="tap")
        assert links.find("vif5.0-emu").master == "br0"
    libxl.good(path, "online")
    assert links.find("vif5.0").master == "br0"


@pytest.mark.parametrize(
    ("verb", "kind"), [("add", "vif"), ("remove", "vif"), ("online", "tap"), ("offline", "tap")]
)
def test_what_is_meant_for_the_other_kind(libxl: Libxl, verb: str, kind: str) -> None:
    path = card(libxl)
    libxl.good(path, verb, f"type_if={kind}")
    assert untouched()
    assert libxl.nodes(path)["hotplug-status"] == ""


# Names.


def test_a_name_of_its_own(libxl: Libxl) -> None:
    path = card(libxl, vifname="web")
    with tap_interface.opened("vif5.0-emu"):
        for _ in range(2):  # the second time, both are found by their former names
            online(libxl, path)
            libxl.good(path, "add", "type_if=tap", **names(path))
            assert links.find("vif5.0").name == "web"
            assert links.find("vif5.0-emu").name == "web-emu"
            assert links.find("web").master == links.find("web-emu").master == "br0"
        for _ in range(2):
            offline(libxl, path)
            assert links.find("web").master == ""
            assert links.find("web-emu").master == "br0"
        online(libxl, path)
        assert links.find("web").master == "br0"


def test_a_name_that_is_taken(libxl: Libxl) -> None:
    vif("web")
    path = card(libxl, vifname="web")
    assert refused(libxl, path) == "cannot rename vif5.0: an interface web exists already"
    assert libxl.nodes(path)["hotplug-status"] == "error"
    assert untouched()
    assert untouched("web")


def test_the_name_is_released_when_something_fails(libxl: Libxl) -> None:
    path = card(libxl, vifname="web", state="6")
    assert refused(libxl, path) == f"{path} is not there, or is being removed"
    assert links.find("web") is None
    assert untouched()


# Bad input.


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ({"bridge": "br9"}, "there is no bridge 'br9'"),
        ({"bridge": ""}, "there is no bridge ''"),
        ({"bridge": "vif5.0"}, "there is no bridge 'vif5.0'"),
        ({"bridge": "../br0"}, "there is no bridge '../br0'"),
        ({"bridge": "br0;id"}, "there is no bridge 'br0;id'"),
        ({"bridge": "br0\nvif5.0"}, r"bridge 'br0\nvif5.0' has control characters, or is too long"),
        ({"vifname": "a/b"}, "vifname 'a/b' is not a valid name of a network interface"),
        (
            {"vifname": "much-too-long-a-name"},
            "vifname 'much-too-long-a-name' is not a valid name of",
        ),
        ({"vifname": "web\n"}, r"vifname 'web\n' has control characters, or is too long"),
        ({"mac": "00:16:3e:00:00"}, "mac '00:16:3e:00:00' is not a MAC address"),
        ({"mac": ""}, "mac '' is not a MAC address"),
        ({"mtu": "67"}, "mtu '67' is not a number of bytes from 68 to 65535"),
        ({"mtu": "65536"}, "mtu '65536' is not a number of bytes from 68 to 65535"),
        ({"mtu": "1500 up"}, "mtu '1500 up' is not a number of bytes from 68 to 65535"),
        ({"mtu": "9" * 20}, f"mtu '{'9' * 20}' is not a number of bytes from 68 to 65535"),
        ({"ip": "192.0.2.300"}, "ip '192.0.2.300': '192.0.2.300' does not appear to be an IPv4"),
        ({"gatewaydev": "a/b"}, "gatewaydev 'a/b' is not a valid name of a network interface"),
        ({"gatewaydev": "eth9"}, "there is no gateway eth9"),
        ({"vlan": "7"}, "vlan= is not supported; with Open vSwitch, use bridge=BRIDGE.VLAN"),
    ],
)
def test_bad_values(libxl: Libxl, nodes: dict[str, str], why: str) -> None:
    path = card(libxl, **nodes)
    assert refused(libxl, path).startswith(why)
    assert libxl.nodes(path)["hotplug-status"] == "error"
    assert untouched()
    libxl.run(path, "offline", "type_if=vif")  # what became of it, libxl does not ask
    assert untouched()


@pytest.mark.parametrize(
    ("words", "more", "why"),
    [
        ([], {}, "'': expected online, offline, add or remove"),
        (["up"], {}, "'up': expected online"),
        (["online", "type_if=tun"], {}, "'type_if=tun': expected type_if=vif or type_if=tap"),
        (["online", "type_if=vif", "netdev=eth1"], {}, "'netdev=eth1': expected type_if="),
        (["online"], {"type_if": "x"}, "'type_if=x': expected type_if="),
        (["online"], {"vif": "vif6.0"}, "vif='vif6.0': expected vif5.0"),
        (["online"], {"vif": "eth0"}, "vif='eth0': expected vif5.0"),
        (["add", "type_if=tap"], {"INTERFACE": "$(id)"}, "INTERFACE='$(id)': expected vif5.0-emu"),
    ],
)
def test_calls_that_make_no_sense(libxl, words, more, why):
    path = card(libxl)
    done = libxl.run(path, *words, **more)
    assert done.code == 1
    assert done.err.startswith(f"xenqemu-vif: {why}")
    assert libxl.nodes(path)["hotplug-status"] == ""
    assert untouched()


def test_an_interface_that_is_not_there(libxl: Libxl) -> None:
    path = card(libxl, domid=6)
    assert refused(libxl, path) == "there is no interface vif6.0"
    offline(libxl, path)


def test_a_domain_that_is_not_there(libxl: Libxl) -> None:
    vif("vif9.0")
    assert refused(libxl, card(libxl, domid=9)) == "there is no domain 9"
    assert untouched("vif9.0")


def test_a_removal_after_all_is_gone(libxl: Libxl) -> None:
    path = card(libxl)
    online(libxl, path)
    ip("link del vif5.0")
    ip("link del br0")
    offline(libxl, path)
    libxl.store.remove("backend/vif/5")
    offline(libxl, path)


# Routes and Open vSwitch.


def test_a_routed_card_reaches_the_network_of_its_gateway(libxl: Libxl) -> None:
    ip("link add eth0 mtu 1450 type veth peer name lan")
    ip("link set eth0 up")
    ip("address add 192.0.2.1/24 dev eth0")
    for name in ("peer5.0", "lan"):
        ip(f"link set {name} up")
    path = card(libxl, gatewaydev="eth0", ip="192.0.2.7 10.0.0.5/8")
    with tap_interface.opened("vif5.0-emu"), listening("lan") as wire:
        libxl.good(path, "add", "type_if=tap", **names(path))
        online(libxl, path)
        routes = json.loads(ip("-j route show"))
        found = {(e["dst"], e["dev"], e["metric"]) for e in routes if "metric" in e}
        assert found == {
            *(("192.0.2.7", "vif5.0-emu", 1), ("10.0.0.0/8", "vif5.0-emu", 1)),
            *(("192.0.2.7", "vif5.0", 2), ("10.0.0.0/8", "vif5.0", 2)),
        }
        gateway = links.find("eth0").mac
        assert heard(wire, 2) == {(gateway, "192.0.2.7"), (gateway, "10.0.0.5")}
        assert libxl.store.read("/local/domain/5/device/vif/0/mtu") == "1450"
        offline(libxl, path)
        libxl.good(path, "remove", "type_if=tap", **names(path))
        assert "vif5.0" not in ip("-j route show")


def test_open_vswitch(libxl: Libxl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OVS_FOLDERS:
        monkeypatch.setenv(name, str(tmp_path))
    path = card(libxl, bridge="ovs0.7", vifname="web")
    with open_vswitch(tmp_path, "ovs0"):
        online(libxl, path)
        assert vsctl("list-ports", "ovs0") == "web"
        assert vsctl("get", "port", "web", "tag") == "7"
        about = vsctl("get", "interface", "web", "external_ids")
        assert about == f'{{attached-mac="{MAC}", xen-vm-uuid="{UUIDS[5]}"}}'
        ip("link del web")
        for _ in range(2):
            offline(libxl, path)
            assert vsctl("list-ports", "ovs0") == ""


# Announcements.


def listening(name: str) -> socket.socket:
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ARP))
    wire.bind((name, ARP))
    wire.settimeout(20)
    return wire


def heard(wire: socket.socket, count: int) -> set[tuple[str, str]]:
    """Return who was said to be where, by so many gratuitous ARPs."""
    said: set[tuple[str, str]] = set()
    while len(said) < count:
        frame = wire.recv(2000)
        sender, address = frame[22:28], frame[28:32]
        if frame[38:42] == address:
            said.add((sender.hex(":"), socket.inet_ntoa(address)))
    return said


@pytest.fixture
def uplink() -> str:
    """The other end of a cable from br0, which has seen the guest there."""
    ip("link add up0 type veth peer name far0")
    ip("link set up0 master br0 up")
    ip("link set far0 up")
    see(MAC, "up0")
    return "far0"


def test_a_guest_that_came_here_is_announced(libxl: Libxl, uplink: str) -> None:
    path = card(libxl, ip="192.0.2.7 192.0.2.8/24 10.0.0.0/8")
    with listening(uplink) as wire:
        online(libxl, path)
        assert heard(wire, 2) == {(MAC, "192.0.2.7"), (MAC, "192.0.2.8")}
    assert MAC not in seen("br0")


def test_a_guest_that_is_still_elsewhere_is_not(libxl: Libxl, uplink: str) -> None:
    libxl.domain(5, "web--incoming", UUIDS[5])
    path = card(libxl, ip="192.0.2.7")
    with listening(uplink) as wire:
        online(libxl, path)
        wire.settimeout(0.5)
        with pytest.raises(TimeoutError):
            heard(wire, 1)
    assert MAC in seen("br0")


def test_a_bridge_that_is_down_says_nothing(libxl: Libxl) -> None:
    path = card(libxl, bridge="down", ip="192.0.2.7")
    online(libxl, path)
    assert links.find("vif5.0").master == "down"


# Twenty at once.


def test_twenty_at_once(libxl: Libxl) -> None:
    domids = range(20, 40)
    for domid in domids:
        vif(f"vif{domid}.0")
        libxl.domain(domid, f"guest-{domid}", UUIDS[domid])
    paths = [card(libxl, domid) for domid in domids]
    for verb, master in (("online", "br0"), ("offline", "")):
        scripts = [libxl.start(path, verb, "type_if=vif", **names(path)) for path in paths]
        ended = [(script.communicate(timeout=100)[1], script.returncode) for script in scripts]
        assert ended == [("", 0)] * len(paths)
        assert {links.find(f"vif{domid}.0").master for domid in domids} == {master}
    locks = Path("/run/xenqemu/hotplug")
    deadline = time.monotonic() + 20
    while list(locks.glob("vif-[23]*-0.lock")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
