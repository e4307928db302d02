"""The network cards of guests: the host's end of a paravirtual one, the tap of an emulated one.

::

    bridge       where it goes, in the words of `xenqemu.host.network.ports`
    gatewaydev   if there is one, it is routed, to the networks that `ip` lists
    ip           the guest's networks and addresses, separated by spaces
    mac          the guest's address; the host's end has one of its own
    mtu          if it is not to be that of the bridge
    vifname      a name in place of vifDOMID.DEVID; that of the tap has -emu after it

The addresses are announced when the card is connected, since the guest may have been elsewhere.
Not so if it is migrating here and may still run there: then its own driver announces them, or the
program that unpauses it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Interface, IPv6Interface, ip_interface

from xenqemu.errors import HostError, UsageError
from xenqemu.frozen import Frozen
from xenqemu.host.network import ports
from xenqemu.host.network.arp import Address
from xenqemu.host.network.ports import Port, Routed
from xenqemu.hotplug.contract import Act, Backend, Device, serve
from xenqemu.system import links
from xenqemu.system.undo import undo_on_failure

Interface = IPv4Interface | IPv6Interface

METRICS = {"vif": 2, "tap": 1}
"""Of routes: as long as the emulated card is there, the guest does not use the other."""

VARIABLES = {"vif": "vif", "tap": "INTERFACE"}
"""In what libxl names the interface."""

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII)
_MTU = re.compile(r"[0-9]{1,5}", re.ASCII)


def chosen(device: Device, environment: Mapping[str, str], words: Sequence[str]) -> Act:
    """Return the act that arguments and environment name.

    Calls for the other kind of interface are ignored, as by vif-common.sh.
    """
    verb, kind = _verb_and_kind(environment, words)
    card = Card(device, kind)
    named = environment.get(VARIABLES[kind], card.name)
    if named != card.name:
        raise UsageError(f"{VARIABLES[kind]}={named!r:.80}: expected {card.name}")
    acts: dict[tuple[str, str], Act] = {
        ("online", "vif"): card.connect,
        ("add", "tap"): card.connect,
        ("offline", "vif"): card.disconnect,
        ("remove", "tap"): card.disconnect,
    }
    return acts.get((verb, kind), lambda _backend: None)


class Card(Frozen):
    """One end of a card: `kind` is "vif", netback's interface, or "tap", QEMU's."""

    device: Device
    kind: str

    @property
    def name(self) -> str:
        """What the interface is called at first."""
        suffix = "-emu" if self.kind == "tap" else ""
        return f"vif{self.device.domid}.{self.device.devid}{suffix}"

    def connect(self, backend: Backend) -> None:
        """Connect the interface, wherever it belongs; nothing if that was done."""
        link = links.require(self.name, "interface")
        port, mtu = self._port(backend), _mtu(backend)
        with (
            links.renamed(link, self._wanted(backend) or link.name) as name,
            undo_on_failure(f"disconnect {name}", lambda: ports.leave(name)),
        ):
            mtu = port.join(links.require(name, "interface"), mtu)
            if self.kind == "vif":
                if not backend.incoming:
                    port.announce(_mac(backend), _addresses(backend))
                backend.connect({f"{self.device.frontend}/mtu": str(mtu)})

    def disconnect(self, backend: Backend) -> None:
        """Take the interface out again; nothing where it, or its bridge, is gone."""
        link = links.find(self.name)
        ports.leave(link.name if link else self._wanted(backend) or self.name)

    def _wanted(self, backend: Backend) -> str:
        """Return the name that the interface is to have, "" if it has no special one."""
        name = backend.text("vifname")
        if name and self.kind == "tap":
            name += "-emu"
        return links.checked_name(name, "vifname") if name else ""

    def _port(self, backend: Backend) -> Port:
        gateway = backend.text("gatewaydev")
        if gateway:
            networks = [str(interface.network) for interface in _interfaces(backend)]
            name = links.checked_name(gateway, "gatewaydev")
            return Routed(name, networks, METRICS[self.kind])
        if backend.text("vlan"):
            raise HostError("vlan= is not supported; with Open vSwitch, use bridge=BRIDGE.VLAN")
        about = {"attached-mac": _mac(backend), "xen-vm-uuid": backend.vm}
        return ports.bridge(backend.text("bridge"), about)


def _verb_and_kind(environment: Mapping[str, str], words: Sequence[str]) -> tuple[str, str]:
    kinds = {f"type_if={kind}": kind for kind in METRICS}
    given = [*words[1:], f"type_if={environment.get('type_if', 'vif')}"]
    if not words or words[0] not in ("online", "offline", "add", "remove"):
        raise UsageError(f"{' '.join(words)!r:.80}: expected online, offline, add or remove")
    for word in given:
        if word not in kinds:
            raise UsageError(f"{word!r:.80}: expected type_if=vif or type_if=tap")
    return words[0], kinds[given[0]]


def _mac(backend: Backend) -> str:
    mac = backend.text("mac")
    if not _MAC.fullmatch(mac):
        raise HostError(f"mac {mac!r:.80} is not a MAC address")
    return mac


def _mtu(backend: Backend) -> int | None:
    text = backend.text("mtu")
    if text and not (_MTU.fullmatch(text) and int(text) in links.MTUS):
        most = f"{links.MTUS[0]} to {links.MTUS[-1]}"
        raise HostError(f"mtu {text!r:.80} is not a number of bytes from {most}")
    return int(text) if text else None


def _interfaces(backend: Backend) -> list[Interface]:
    text = backend.text("ip")
    try:
        return [ip_interface(word) for word in text.split()]
    except ValueError as error:
        raise HostError(f"ip {text!r:.80}: {error}") from error


def _addresses(backend: Backend) -> list[Address]:
    """Return the addresses among what `ip` lists; the others are networks behind the guest."""
    found = _interfaces(backend)
    return [
        interface.ip
        for interface in found
        if interface.network.num_addresses == 1 or interface.ip != interface.network.network_address
    ]


if __name__ == "__main__":
    sys.exit(serve("vif", chosen))
