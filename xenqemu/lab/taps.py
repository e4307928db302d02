"""The taps of the lab's guests: `bridge=` in a `vif` puts one into a bridge, as under Xen.

Without `bridge=` a card is on QEMU's own network, which needs no privilege.  A tap lives as long as
its QEMU; all that can be left of it is its port in Open vSwitch's database.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path

from xenqemu.errors import HostError
from xenqemu.formats.config.domain_config import DomainConfig, Nic
from xenqemu.host.network import ports
from xenqemu.lab import tap_interface
from xenqemu.lab.command_line import mac_of
from xenqemu.system import links
from xenqemu.system.undo import undo_on_failure


def check(config: DomainConfig, nic: Nic) -> None:
    """Raise the reason why a card of the guest cannot be connected here."""
    if nic.bridge:
        if not tap_interface.is_allowed():
            raise HostError(f"cannot connect {config.name} to {nic.bridge}: that needs root")
        ports.bridge(nic.bridge, {})


@contextmanager
def connected(config: DomainConfig, folder: Path, domid: int) -> Iterator[Mapping[int, int]]:
    """Yield the descriptors of the guest's taps, each in its bridge, by the place of the card.

    They are closed after the block: then QEMU alone has them.  `folder` is the host's.
    """
    with ExitStack() as stack:
        found: dict[int, int] = {}
        for index, name in _taps(config, folder, domid).items():
            nic = config.nics[index]
            about = {"attached-mac": mac_of(config, index), "xen-vm-uuid": config.uuid}
            port = ports.bridge(nic.bridge or "", about)
            found[index] = stack.enter_context(
                tap_interface.opened(links.checked_name(name, "vifname"))
            )
            undo = partial(ports.leave, name)
            stack.enter_context(undo_on_failure(f"disconnect {name}", undo))
            port.join(links.require(name, "tap"), nic.mtu)
        yield found


def disconnect(config: DomainConfig, folder: Path, domid: int) -> None:
    """Remove the ports of the taps of a guest that has ended; may be repeated.

    A tap that exists is another guest's, since ours ended with QEMU.
    """
    for name in _taps(config, folder, domid).values():
        if links.is_name(name) and links.find(name) is None:
            ports.leave(name)


def _taps(config: DomainConfig, folder: Path, domid: int) -> dict[int, str]:
    """Return the names of the taps; ids are used by each host, names once in a network."""
    host = sha256(bytes(folder)).hexdigest()[:3]
    return {
        index: nic.ifname or f"vif{domid}.{index}-{host}"
        for index, nic in enumerate(config.nics)
        if nic.bridge
    }
