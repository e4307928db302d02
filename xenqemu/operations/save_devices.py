"""The state of a domain's devices alone: what the original save_devices command gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from xenqemu.errors import HostError
from xenqemu.formats.stream.sink import Sink
from xenqemu.host.domain import Domain
from xenqemu.host.domain_state import require_running
from xenqemu.host.findings import findings, require
from xenqemu.host.protocol import Host
from xenqemu.operations.inspect import Contents
from xenqemu.operations.journal import steps
from xenqemu.operations.journal.log import About
from xenqemu.operations.journal.operation import Operation
from xenqemu.operations.verify import verify
from xenqemu.system.staged_file import draft_for

if TYPE_CHECKING:
    from xenqemu.host.qemu.device_model import DeviceModel


def save_devices(host: Host, domain: Domain, path: Path) -> Contents:
    """Write the device state of a running domain to `path`; QEMU stops it for just that long.

    Raises `HostError` or, where the file cannot be written, `OSError` as the system says it; the
    guest runs on, and `path` is whole or as it was.
    """
    domid = domain.domid
    require_running(host, domain)
    device_model = host.device_model(domid)
    if device_model is None:
        raise HostError(f"domain {domid} has no device model")
    about = About("device save", domid, domain.name, domain.uuid, str(path.absolute()))
    with Operation.begin(host, about) as job, draft_for(path, host.trust.owners) as draft:
        job.cleanup(steps.RemoveDraft(draft.traces))
        draft.create()
        with device_model:
            check = ("device-model", lambda: unsavable(device_model, domid))
            require(findings([check]), f"domain {domid} cannot be saved")
            Sink(draft.file).write(device_model.save_state_bytes(live=False))
        draft.sync()
        with draft.reopen() as state:
            found = verify(state)
        draft.publish()
    return found


def unsavable(device_model: DeviceModel, domid: int) -> Iterator[HostError]:
    """Yield each reason why a device cannot be saved: to try would crash QEMU 7.2."""
    for blocker in device_model.blockers():
        yield HostError(f"the device model of domain {domid} cannot be saved: {blocker}")
