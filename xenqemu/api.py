"""xenqemu for toolstacks: its operations as functions.

::

    import xenqemu

    xenqemu.suspend("guest", "/var/lib/xen/save/guest", observe=print)
    xenqemu.restore("/var/lib/xen/save/guest")

Every function works on the host it is given, by default this machine's.  Nothing is kept between
calls and nothing is shared by two of them, so that threads may save several domains at once.  The
administrator's hooks are the commands' alone: none is run here, as a toolstack has its own.
Errors are those of `xenqemu.errors`; an async caller uses `asyncio.to_thread`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xenqemu.choose_host import open_host
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.host import domain_state
from xenqemu.host.domain_state import DomainState
from xenqemu.host.precopy import PrecopyOptions
from xenqemu.host.protocol import Host
from xenqemu.operations import cancel as cancelling
from xenqemu.operations import recover as recovering
from xenqemu.operations import restore as restoring
from xenqemu.operations import save as suspending
from xenqemu.operations import verify as verifying
from xenqemu.operations.events import Observer, unobserved
from xenqemu.operations.inspect import Outline
from xenqemu.operations.recover import Recovered
from xenqemu.operations.restore import Restored
from xenqemu.operations.save import After


def suspend(
    who: str | int,
    file: str | Path,
    *,
    after: After = After.DESTROY,
    config: DomainConfig | None = None,
    keep_domid: bool = False,
    precopy: PrecopyOptions | None = None,
    compacted: bool = False,
    check: bool = True,
    timeout: float = math.inf,
    host: Host | None = None,
    observe: Observer = unobserved,
) -> Outline:
    """Save a domain, named or by id, to `file` and return what the record holds.

    `config` is put in place of the domain's own; the record asks for the same id at its restore
    if `keep_domid`, and is read back if `check`.  With `precopy` the domain runs while it is saved,
    and the record is freed of what it holds twice if it is to be `compacted`.  All of it may take
    `timeout` seconds.  Raises as `xenqemu.operations.save.suspend`.
    """
    with _host(host) as here:
        domain = domain_state.find(here, str(who))
        return suspending.save(
            here,
            domain,
            Path(file),
            after=after,
            config=config,
            keep_domid=keep_domid,
            precopy=precopy,
            compacted=compacted,
            check=check,
            timeout=timeout,
            observe=observe,
        )


def restore(
    file: str | Path,
    *,
    paused: bool = False,
    config: DomainConfig | None = None,
    monitor: bool = True,
    timeout: float = math.inf,
    host: Host | None = None,
    observe: Observer = unobserved,
) -> Restored:
    """Bring a domain back from `file` and return its id and what the record holds.

    `config` takes the place of the record's own; `monitor` leaves a process behind that sees to
    the guest's reboots, where the host has such.  All of it may take `timeout` seconds.  Raises as
    `xenqemu.operations.restore.restore`.
    """
    with _host(host) as here:
        return restoring.restore(
            here,
            Path(file),
            paused=paused,
            config=config,
            monitor=monitor,
            timeout=timeout,
            observe=observe,
        )


def migrate(
    who: str | int,
    to: str,
    *,
    command: str = "ssh",
    paused: bool = False,
    config: DomainConfig | None = None,
    keep_domid: bool = False,
    compress: bool = False,
    streams: int = 1,
    timeout: float = math.inf,
    host: Host | None = None,
    observe: Observer = unobserved,
) -> None:
    """Have a domain go on on the host that `command` leads to, where it is paused if `paused`.

    With `command` "", `to` is the whole command, as with `xl migrate -s`, and has to say itself how
    the guest is received.  Raises as `xenqemu.operations.migrate.migrate`, whose arguments the
    others are.
    """
    from xenqemu.host.peer.route import Route  # noqa: PLC0415  only who migrates needs all that
    from xenqemu.operations.migrate import migrate as migrate_domain  # noqa: PLC0415

    with _host(host) as here:
        migrate_domain(
            here,
            domain_state.find(here, str(who)),
            Route(to, command),
            options=("-p",) if paused else (),
            config=config,
            keep_domid=keep_domid,
            compress=compress,
            streams=streams,
            timeout=timeout,
            observe=observe,
        )


def recover(who: str | int = "", *, host: Host | None = None) -> list[Recovered]:
    """End what killed operations left, on all domains or on one, and return how.

    Raises as `xenqemu.operations.recover.recover`.
    """
    with _host(host) as here:
        return recovering.recover(here, str(who))


def cancel(who: str | int, *, timeout: float = 60.0, host: Host | None = None) -> None:
    """Have the operation on a domain end, in this process or another, within `timeout` seconds.

    Raises as `xenqemu.operations.cancel.cancel`.
    """
    with _host(host) as here:
        cancelling.cancel(here, str(who), timeout)


def verify(file: str | Path) -> Outline:
    """Return what a record holds; raise `FormatError` if it is not whole and sound."""
    with Path(file).open("rb") as record:
        return verifying.verify(record)


def status(who: str | int, *, host: Host | None = None) -> DomainState:
    """Return what all parties say of a domain, named or by id; `HostError` if there is none."""
    with _host(host) as here:
        return domain_state.state(here, domain_state.find(here, str(who)).domid)


@contextmanager
def _host(given: Host | None) -> Iterator[Host]:
    """Give the host to work on; one that was opened for this call alone is closed after it."""
    host = given or open_host()
    try:
        yield host
    finally:
        if given is None:
            host.close()
