"""Whether another host can take a guest, running here or saved in a file: a migration's questions.

The other host answers as before a migration (`preflight`); nothing is sent but what the guest is
and needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.host.domain import Domain
from xenqemu.host.findings import Finding, findings
from xenqemu.host.peer.command import OnStderrLine
from xenqemu.host.peer.route import Route
from xenqemu.host.protocol import Host
from xenqemu.operations.check_guest import Outgoing, look
from xenqemu.operations.check_restore import saved_needs, unclaimed
from xenqemu.operations.journal.log import About
from xenqemu.operations.outgoing_guest import written_config
from xenqemu.operations.preflight import ELSEWHERE, found_there


def movable(
    host: Host,
    domain: Domain,
    route: Route,
    on_stderr: OnStderrLine,
    given: DomainConfig | None = None,
) -> Iterator[Finding]:
    """Yield what a migration of a guest by `route` would refuse now, or warn of.

    A config may be `given` in place of its own.
    """
    own = host.config(domain.domid)
    config = written_config(domain, own, given, keep_domid=False)
    about = About("migration", domain.domid, domain.name, domain.uuid, route.name)
    yield from unclaimed(host, about)
    yield from look(host, domain, Outgoing(own, config, given, to_file=False)).found

    def asked() -> Iterator[Finding]:
        return found_there(host, host.needs(domain.domid, config), route, on_stderr)

    yield from findings([(ELSEWHERE, asked)])


def restorable_there(
    host: Host, path: Path, key: bytes | None, route: Route, on_stderr: OnStderrLine
) -> Iterator[Finding]:
    """Yield what the other host would refuse of the guest of a save file, or warn of.

    Raises as `restorable`; what of the save file is this host's is not looked at.
    """
    needs, found = saved_needs(path, key)
    yield from found
    yield from found_there(host, needs, route, on_stderr)
