"""xenqemu for toolstacks: its operations as functions.

::

    import xenqemu

    with xenqemu.open_host("lab") as host:
        xenqemu.save("guest", "/var/lib/xen/save/guest", host=host, observe=print)
        done = xenqemu.restore("/var/lib/xen/save/guest", host=host)

Every function works on the host it is given, by default this machine's, which is opened for that
call alone.  The options of an operation are one value (`SaveOptions`, `RestoreOptions`,
`MigrateOptions`, `ReceiveOptions`), the same as on the command line.  Nothing is kept between calls
and nothing is shared by two of them, so that threads may save several domains at once.  The
administrator's hooks are run by the commands only, since a toolstack has its own.  A call lasts as
long as its operation; an async caller uses `asyncio.to_thread`.

Errors are those of `xenqemu.errors`: a `UsageError` where a request makes no sense, a `FormatError`
for bytes that are not what their format allows, a `HostError` where a party on this host failed
before anything was touched, a `ProtocolError` where another host said something illegal, an
`OperationError` where something was touched: `RolledBack`, `Stranded`, `PastReturn` and
`OutcomeUnknown` say where the guest is.  What the system says of files is an `OSError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from xenqemu.all_guests import restore_all, save_all, saved
from xenqemu.choose_host import open_host
from xenqemu.errors import UsageError
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.stream.detect import Layer
from xenqemu.host import domain_state
from xenqemu.host.domain_state import DomainState
from xenqemu.host.findings import Finding
from xenqemu.host.peer.command import ignore_line
from xenqemu.host.peer.peer_messages import sender_at_standard_streams
from xenqemu.host.peer.route import Route
from xenqemu.host.precopy import Iteration
from xenqemu.host.precopy_options import PrecopyOptions
from xenqemu.host.protocol import Host
from xenqemu.operations import cancel as canceling
from xenqemu.operations import check as checking
from xenqemu.operations import clone as cloning
from xenqemu.operations import job as looking
from xenqemu.operations import migrate as migrating
from xenqemu.operations import receive as receiving
from xenqemu.operations import recover as recovering
from xenqemu.operations import restore as restoring
from xenqemu.operations import restore_through as restoring_through
from xenqemu.operations import save as saving
from xenqemu.operations import save_devices as saving_devices
from xenqemu.operations import save_through as saving_through
from xenqemu.operations.clone import Clone
from xenqemu.operations.events import Event, Kind, Observer, Phase, Way, unobserved
from xenqemu.operations.inspect import Contents
from xenqemu.operations.job import Job
from xenqemu.operations.journal.log import About
from xenqemu.operations.left_suspended import LeftSuspended
from xenqemu.operations.options import (
    After,
    CloneOptions,
    MigrateOptions,
    ReceiveOptions,
    RestoreOptions,
    SaveOptions,
)
from xenqemu.operations.outcome import Outcome
from xenqemu.operations.recover import Recovered
from xenqemu.operations.restore import Restored
from xenqemu.operations.sources import FromCommand, FromFifo
from xenqemu.operations.targets import ToCommand, ToFifo
from xenqemu.save_files import compress, decompress, inspect, seal, verify
from xenqemu.settings.guest_config import read_config
from xenqemu.settings.xenqemu_conf import Settings, read_settings
from xenqemu.system.key_file import read_key
from xenqemu.system.writers import trusted_ids

__all__ = [
    "After",
    "Clone",
    "CloneOptions",
    "Command",
    "Contents",
    "DomainConfig",
    "DomainState",
    "Event",
    "Finding",
    "Host",
    "Iteration",
    "Job",
    "Kind",
    "MigrateOptions",
    "Observer",
    "Outcome",
    "Phase",
    "PrecopyOptions",
    "ReceiveOptions",
    "Recovered",
    "RestoreOptions",
    "Restored",
    "SaveOptions",
    "Settings",
    "Way",
    "cancel",
    "check",
    "clone",
    "compress",
    "decompress",
    "domains",
    "inspect",
    "job",
    "migrate",
    "open_host",
    "read_config",
    "read_settings",
    "receive",
    "recover",
    "restore",
    "restore_all",
    "save",
    "save_all",
    "save_devices",
    "saved",
    "seal",
    "status",
    "verify",
]


@dataclass(frozen=True)
class Command:
    """A program and its arguments, in place of a file: it reads the save file, or prints it.

    No shell sees them.  It has to end with status 0.
    """

    words: tuple[str, ...]


def save(
    domain: str | int,
    file: str | Path | Command,
    options: SaveOptions = SaveOptions(),
    *,
    host: Host | None = None,
    observe: Observer = unobserved,
) -> Contents:
    """Save a domain, named or by id, to `file` and return what the save file holds.

    Of what went to a FIFO or a `Command` only its size is returned: it is not read back.

    Raises `HostError` if it does not run or cannot be saved, `NotConverged` if it changes too
    fast and is to be left alone, `Cancelled` or `HostTimeout` before anything was touched;
    `RolledBack` if the guest is as it was, `Stranded` if it could not be put back, `PastReturn` if
    the save file is the guest already; `OSError` where `file` cannot be written.
    """
    with _host(host) as here:
        found = domain_state.find(here, str(domain))
        if not isinstance(file, Command) and not Path(file).is_fifo():
            return saving.save(here, found, Path(file), options, observe=observe)
        way = ToCommand(file.words) if isinstance(file, Command) else ToFifo(Path(file))
        size = saving_through.save_through(here, found, way, options, observe=observe)
        return Contents(Layer.XL, size=size)


def restore(
    file: str | Path | Command,
    options: RestoreOptions = RestoreOptions(),
    *,
    host: Host | None = None,
    observe: Observer = unobserved,
) -> Restored:
    """Restore a domain from `file` and return its id and what the save file holds.

    From a FIFO or a `Command` it is verified while it is read, and runs if all of it was sound.

    Raises `FormatError` if that is no sound save file, `UsageError` if it cannot be read twice,
    `HostError` if this host cannot take the guest; `RolledBack` if nothing is left of the attempt,
    `Stranded` if something is, `PastReturn` if the guest may have run already; `OSError` where
    `file` cannot be read.  Clones are made by `clone`.
    """
    if options.clone:
        raise UsageError("clones are made by xenqemu.clone")
    with _host(host) as here:
        if not isinstance(file, Command) and not Path(file).is_fifo():
            return restoring.restore(here, Path(file), options, observe=observe)
        way = FromCommand(file.words) if isinstance(file, Command) else FromFifo(Path(file))
        return restoring_through.restore_through(here, way, options, observe=observe)


def clone(
    file: str | Path,
    options: RestoreOptions = RestoreOptions(clone=CloneOptions()),
    *,
    host: Host | None = None,
    observe: Observer = unobserved,
) -> list[Clone]:
    """Make clones of the save file `file`, and return what became of each.

    Each has another name, uuid and addresses; what only one guest can have is never shared.

    Raises, before anything is built, `FormatError` if that is no sound save file, `UsageError` if
    it cannot be read twice, `HostError` if this host cannot take the guest or clones would share
    what they may not, `OSError` where `file` cannot be read.  What fails of one clone is in its
    `Clone`, and rolled back.
    """
    with _host(host) as here:
        return cloning.clone(here, Path(file), options, observe=observe)


def migrate(
    domain: str | int,
    to: str | Sequence[str],
    options: MigrateOptions = MigrateOptions(),
    *,
    host: Host | None = None,
    observe: Observer = unobserved,
    on_stderr: Callable[[str], None] = lambda _line: None,
) -> None:
    """Migrate a domain, named or by id, to the host `to`.

    No shell sees any of it.  The option `command` is a program, or a tuple of its first arguments:
    `("ssh", "-p", "22")`.  If it is "" or (), `to` is the whole command as a list of arguments, and
    has to say itself how the guest is received: `["ssh", "web2", "xl", "migrate-receive"]`.
    `on_stderr` is called with each line that the other host says for people.

    Raises what `save` does, and `HostError` with all reasons why the other host cannot take the
    guest, `ProtocolError` where it says something illegal, `UsageError` for options that cannot be
    told to it, `OutcomeUnknown` if nobody here can tell which copy lives.
    """
    with _host(host) as here:
        found = domain_state.find(here, str(domain))
        by = replace(options, command=_words(options.command))
        host_or_words = to if by.command and isinstance(to, str) else _words(to)
        migrating.migrate(here, found, host_or_words, by, observe=observe, on_stderr=on_stderr)


def receive(
    options: ReceiveOptions = ReceiveOptions(),
    *,
    host: Host | None = None,
    observe: Observer = unobserved,
) -> int:
    """Receive a domain from the standard input, and return its id.

    The sender gets the answers on the standard output, which nobody else may write to: this is
    `xl migrate-receive`, to be run by the command of a sender.

    Raises `FormatError` for what is no sound save file, `HostError` if this host cannot take the
    guest, or if the sender hangs up, `ProtocolError` where that says something illegal;
    `RolledBack` if nothing is left of the attempt, `Stranded` if something is, `PastReturn` if the
    guest is here.
    """
    with _host(host) as here, sender_at_standard_streams(here.deadlines) as peer:
        return receiving.receive(here, peer, options, observe=observe)


def save_devices(domain: str | int, file: str | Path, *, host: Host | None = None) -> Contents:
    """Save the state of a domain's devices alone to `file`; it is stopped for just that long.

    Raises `HostError` if the domain does not run or has no device model that can be saved,
    `OSError` where `file` cannot be written; the guest runs on.
    """
    with _host(host) as here:
        return saving_devices.save_devices(here, domain_state.find(here, str(domain)), Path(file))


def recover(
    domain: str | int = "",
    *,
    moved: bool | None = None,
    forget: bool = False,
    host: Host | None = None,
) -> list[Recovered | LeftSuspended]:
    """Recover what killed operations left, on all domains or on one, and return how.

    A guest that another program left suspended is resumed if it is named here, else only returned.
    `moved` says of a guest in doubt whether it runs on the other host: look at both first.
    `forget` leaves drafts of save files that cannot be removed where they are.  Raises `HostError`
    if a party fails, or if what it says contradicts `moved`.
    """
    with _host(host) as here:
        return recovering.recover(here, str(domain), moved=moved, forget=forget)


def cancel(
    domain: str | int, *, timeout: float = canceling.CANCEL_TIMEOUT, host: Host | None = None
) -> list[About]:
    """Cancel the operations on a domain, in any process, and return what they were.

    Raises `HostError` if none is running there, `HostTimeout` if it has not ended after `timeout`
    seconds.
    """
    with _host(host) as here:
        return [each.about for each in canceling.cancel(here, str(domain), timeout)]


def check(
    subject: str | int | Path,
    *,
    to: str | Path | None = None,
    on: str = "",
    command: str | Sequence[str] = ("ssh",),
    key_file: str | Path | None = None,
    host: Host | None = None,
) -> list[Finding]:
    """Return all that is against a save of a domain, or a restore of a file; nothing is touched.

    A `subject` with a slash in it, or that names no domain, is a save file; `key_file` has the key
    of its seal.  `to` is the folder for a domain's save file, `on` another host, by `command`,
    that is to take the guest.  Raises `HostError` if there is no such domain, `FormatError` for
    what is no save file, `UsageError` for what does not go together.
    """
    route = Route(on, _words(command)) if on else None
    folder = None if to is None else Path(to)
    named = f"{subject.absolute()}" if isinstance(subject, Path) else str(subject)
    with _host(host) as here:
        key = read_key(Path(key_file), trusted_ids(here.trust.owners)) if key_file else None
        return checking.check(
            here, named, to=folder, route=route, key=key, on_stderr=ignore_line
        ).found


def status(domain: str | int, *, host: Host | None = None) -> DomainState:
    """Return what all parties say of a domain, named or by id; raise `HostError` for none."""
    with _host(host) as here:
        return domain_state.state(here, domain_state.find(here, str(domain)).domid)


def job(domain: str | int = "", *, host: Host | None = None) -> list[Job]:
    """Return the operations of a host, or on one domain, and how far each is, oldest first.

    Raises `HostError` for a journal that no operation writes.
    """
    with _host(host) as here:
        return looking.job(here, *([str(domain)] if domain != "" else []))


def domains(*, host: Host | None = None) -> list[DomainState]:
    """Return what all parties say of each domain; raise `HostError` if there is no host."""
    with _host(host) as here:
        return [domain_state.state(here, domid) for domid in here.domids()]


def _words(command: str | Sequence[str]) -> tuple[str, ...]:
    """Return a command as its arguments; raise `UsageError` for what is a line for a shell."""
    if not isinstance(command, str):
        return tuple(command)
    if command.split() not in ([], [command]):
        raise UsageError(f"expected a list of arguments, got a line for a shell: {command!r}")
    return (command,) if command else ()


@contextmanager
def _host(given: Host | None) -> Iterator[Host]:
    """Yield the host to work on; one that was opened for this call alone is closed after it."""
    if given is not None:
        yield given
        return
    with open_host() as host:
        yield host
