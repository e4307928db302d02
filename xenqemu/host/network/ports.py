"""What a guest's network card is connected to: a bridge, an Open vSwitch, or a route.

::

    bridge=BR                  a port of the bridge BR, or of the Open vSwitch BR
    bridge=BR.TAG              Open vSwitch: an access port of VLAN TAG
    bridge=BR:VLAN:VLAN…       Open vSwitch: a trunk of these VLANs; BR.TAG:VLAN… is both
    gatewaydev=IF ip=NET…      the networks are routed to the guest, IF answers ARP for them

as Xen's vif-bridge, vif-openvswitch and vif-route have it.  A `Port` only describes
it; `join` makes the connection and may be repeated, `leave` undoes any, and may be repeated too.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from xenqemu.errors import HostError
from xenqemu.host.network.arp import Address, announce
from xenqemu.system import child, links
from xenqemu.system.links import Interface

QUIET_MAC = "fe:ff:ff:ff:ff:ff"
"""For the host's ends: a bridge takes the lowest address of its ports for its own."""

OVS_TIMEOUT = 10
"""Seconds for one act of Open vSwitch."""

_OVS = re.compile(r"(?P<bridge>[^.:]+)(?:\.(?P<tag>\d+))?(?::(?P<trunks>\d+(?::\d+)*))?", re.ASCII)


class Port(Protocol):
    """A place for an interface."""

    def join(self, link: Interface, mtu: int | None) -> int:
        """Put the interface there and let it run; return its MTU, that of the place if not given.

        Raises `HostError` if the place is not there.
        """

    def announce(self, mac: str, addresses: Sequence[Address]) -> None:
        """Tell the network that the guest is here now, behind the interface that was put there.

        `mac` and `addresses` are the guest's.  The interface's own driver may do it again.
        """


@dataclass(frozen=True)
class Bridge:
    """A bridge of the kernel."""

    name: str

    def join(self, link: Interface, mtu: int | None) -> int:
        """See `Port`."""
        mtu = mtu or links.require(self.name, "bridge").mtu
        if (link.master, link.mac, link.mtu, link.up) != (self.name, QUIET_MAC, mtu, True):
            links.change(
                f"link set dev {link.name} down",
                f"link set dev {link.name} address {QUIET_MAC} mtu {mtu}",
                f"link set dev {link.name} master {self.name} up",
            )
        return mtu

    def announce(self, mac: str, addresses: Sequence[Address]) -> None:
        """See `Port`; the bridge also forgets at which port it has seen the guest."""
        links.forget(self.name, mac)
        if links.require(self.name, "bridge").up:
            announce(mac, addresses, self.name)


@dataclass(frozen=True)
class OpenVSwitch:
    """A bridge of Open vSwitch; `about` is what its database is told of the port (external_ids)."""

    name: str
    tag: str | None = None
    trunks: str | None = None
    about: Mapping[str, str] = field(default_factory=dict)

    def join(self, link: Interface, mtu: int | None) -> int:
        """See `Port`; an older port of that name is replaced."""
        mtu = mtu or link.mtu
        words = ["--", "--if-exists", "del-port", link.name, "--", "add-port", self.name, link.name]
        words += [f"tag={self.tag}"] if self.tag else []
        words += [f"trunks={self.trunks.replace(':', ',')}"] if self.trunks else []
        words += ["--", "set", "interface", link.name, f"mtu_request={mtu}"]
        words += [f'external_ids:{key}="{value}"' for key, value in self.about.items()]
        _ovs(*words)
        links.change(f"link set dev {link.name} mtu {mtu} up")
        return mtu

    def announce(self, mac: str, addresses: Sequence[Address]) -> None:
        """Do nothing: the switch would take our frames for the host's own."""


@dataclass(frozen=True)
class Routed:
    """Routes to networks of the guest; of two interfaces the one with the lower metric has them."""

    gateway: str
    networks: Sequence[str]
    metric: int

    def join(self, link: Interface, mtu: int | None) -> int:
        """See `Port`."""
        mtu = mtu or links.require(self.gateway, "gateway").mtu
        ours = links.addresses(self.gateway)
        if not ours:
            raise HostError(f"the gateway {self.gateway} has no IPv4 address")
        source = f"src {ours[0]} metric {self.metric}"
        links.change(
            f"link set dev {link.name} mtu {mtu} up",
            f"address replace {ours[0]}/32 dev {link.name}",
            *(
                f"route replace {network} dev {link.name} "
                + (f"metric {self.metric}" if ":" in network else source)
                for network in self.networks
            ),
        )
        Path(f"/proc/sys/net/ipv4/conf/{link.name}/proxy_arp").write_text("1")
        return mtu

    def announce(self, mac: str, addresses: Sequence[Address]) -> None:  # noqa: ARG002
        """See `Port`; neighbours have to send to the gateway what is for the guest."""
        gateway = links.require(self.gateway, "gateway")
        announce(gateway.mac, addresses, gateway.name)


def bridge(words: str, about: Mapping[str, str]) -> Port:
    """Return the port that a `bridge=` names; raise `HostError` if there is no such bridge."""
    found = links.find(words) if links.is_name(words) else None
    if found is not None and found.kind == "bridge":
        return Bridge(found.name)
    named = _OVS.fullmatch(words)
    if named and named["bridge"] in (_ovs_if_up("list-br") or "").split():
        return OpenVSwitch(named["bridge"], named["tag"], named["trunks"], about)
    raise HostError(f"there is no bridge {words!r:.80}")


def leave(name: str) -> None:
    """Take an interface out of whatever it was put into, and stop it; nothing if it is gone."""
    _ovs_if_up("--if-exists", "del-port", name)
    links.change_if_there(f"address flush dev {name}", f"link set dev {name} nomaster down")


def _ovs_if_up(*words: str) -> str | None:
    """Run ovs-vsctl; None if this host has no Open vSwitch, or it is not up.

    Then it has no ports; what its database lists is replaced when the name is used again.
    """
    if shutil.which("ovs-vsctl") is None:
        return None
    try:
        return _ovs(*words)
    except HostError as error:
        if "database connection failed" in str(error):
            return None
        raise


def _ovs(*words: str) -> str:
    timeout = f"--timeout={OVS_TIMEOUT}"
    return child.run("ovs-vsctl", ["ovs-vsctl", timeout, *words], 2 * OVS_TIMEOUT)
