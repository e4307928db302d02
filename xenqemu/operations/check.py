"""Whether something could be done with a domain or a save file: the checks for what is named."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from xenqemu.errors import HostError, UsageError
from xenqemu.host import domain_state
from xenqemu.host.domain import Domain
from xenqemu.host.findings import Finding
from xenqemu.host.peer.command import OnStderrLine
from xenqemu.host.peer.route import Route
from xenqemu.host.protocol import Host
from xenqemu.operations.check_elsewhere import movable, restorable_there
from xenqemu.operations.check_guest import savable
from xenqemu.operations.check_restore import restorable


class Checked(NamedTuple):
    """What was checked, for people, and all that was found."""

    what: str
    found: list[Finding]


def check(
    host: Host,
    named: str,
    *,
    to: Path | None,
    route: Route | None,
    key: bytes | None,
    on_stderr: OnStderrLine,
) -> Checked:
    """Check a domain, or the save file of that name, here or for the other host of `route`.

    What has a slash in it, or names no domain, is a save file.  `to` is the folder for a domain's
    save file, `key` that of a save file's seal.  Raises `HostError` if there is neither,
    `UsageError` for what does not go together, and what `restorable` raises.
    """
    subject = _subject(host, named)
    if isinstance(subject, Path):
        if to is not None:
            raise UsageError("--to goes with a domain")
        if route is None:
            return Checked(f"a restore of {subject}", list(restorable(host, subject, key)))
        there = restorable_there(host, subject, key, route, on_stderr)
        return Checked(f"a restore of {subject} on {route.name}", list(there))
    if key is not None:
        raise UsageError("--key-file goes with a save file")
    if route is None:
        return Checked(f"a save of {subject.name}", list(savable(host, subject, to)))
    if to is not None:
        raise UsageError("--to goes without --on")
    there = movable(host, subject, route, on_stderr)
    return Checked(f"a migration of {subject.name} to {route.name}", list(there))


def _subject(host: Host, named: str) -> Domain | Path:
    path = Path(named)
    if "/" in named:
        return path
    try:
        return domain_state.find(host, named)
    except HostError:
        if path.exists():
            return path
        raise
