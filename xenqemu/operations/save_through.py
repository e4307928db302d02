"""Suspend a guest into a target that takes its save file once: a command, a pipe.

::

    file      written, read back, synced │ published: the point of no return │ guest destroyed
    target    written but for END        │ in doubt: END, the target's end   │ guest destroyed

The target has no whole save file before END.  From then on the operation is in doubt: a process
that is killed there leaves two copies, and only who looks at the target knows which one counts.  In
this process the doubt ends when the command has ended: with status 0 it has taken the save file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import BinaryIO

from xenqemu.errors import UsageError
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.stream.buffers import Buffer
from xenqemu.formats.stream.sink import Outlet
from xenqemu.host.domain import Domain
from xenqemu.host.protocol import Host
from xenqemu.operations.compressed import form_for
from xenqemu.operations.events import Observer, Phase, unobserved
from xenqemu.operations.journal import steps
from xenqemu.operations.journal.log import About
from xenqemu.operations.journal.operation import Operation
from xenqemu.operations.options import After, SaveOptions, key_for, seconds_for
from xenqemu.operations.outgoing_guest import OutgoingGuest, no_act
from xenqemu.operations.targets import Target, Way

OUT_OF_DATE = "what it took may be whole, and is out of date: do not restore it"


def save_through(
    host: Host,
    domain: Domain,
    way: Way,
    options: SaveOptions = SaveOptions(),
    *,
    observe: Observer = unobserved,
) -> int:
    """Save a running or paused domain to a target; return how many bytes that took.

    `options` are those of `save`; nothing is read back, and nothing can be compacted.

    Raises what the tree in `xenqemu.errors` says; unless it is a `PastReturn` or `Stranded`, the
    guest is as it was.  `OutcomeUnknown` is raised where a command cannot be ended.
    """
    if options.compact:
        raise UsageError("superseded pages can be dropped from a file alone")
    key = key_for(host, options)
    about = About("save", domain.domid, domain.name, domain.uuid, way.name)
    with (
        Operation.begin(host, about, observe, seconds_for(host, options)) as job,
        ExitStack() as stack,
    ):
        guest = OutgoingGuest(host, domain, job, options.layout)
        with job.phase(Phase.CHECK):
            config = guest.checked_config(options)
            if options.precopy:
                guest.require_may_run()
            form = form_for(options, key, config, job)
        with job.phase(Phase.CONNECT):
            target = stack.enter_context(way.opened(host.deadlines))
        leaving = options.after is After.DESTROY
        counted = _Counted(target)
        try:
            with form.passing(counted) as out:
                before_end = _doubt(guest, way) if leaving else no_act
                _write(guest, out, config, options, before_end)
            if not leaving:
                with job.phase(Phase.RELEASE):
                    guest.release(paused=options.after is After.PAUSE)
            with job.phase(Phase.PUBLISH):
                target.complete()
        except BaseException as error:
            if job.state.doubt:
                _resolve(job, target, error)
            raise
        if leaving:
            job.resolve(passed=True)
            with job.phase(Phase.RELEASE):
                job.finish()
    return counted.size


def _write(
    guest: OutgoingGuest,
    out: BinaryIO | Outlet,
    config: DomainConfig,
    options: SaveOptions,
    before_end: Callable[[], None],
) -> None:
    if options.precopy:
        guest.write_running(
            out,
            config,
            options.precopy,
            live=False,
            watch=guest.job.iteration,
            before_end=before_end,
        )
    else:
        guest.write(out, config, live=False, ready=lambda _state: None, before_end=before_end)


def _doubt(guest: OutgoingGuest, way: Way) -> Callable[[], None]:
    """Return what is done before the target gets the end of the save file."""
    domid, name = guest.domid, guest.domain.name
    commit = steps.Commit(
        None, f"the save file that {way.name} took is the guest now", (steps.Destroy(*guest.who),)
    )
    what = (
        f"nobody here can tell whether {way.name} has taken the whole save file; domain {domid} is "
        f"suspended here: look there, then run `xenqemu recover --moved {name}`, which destroys "
        f"it, if it has, or `--stayed {name}`"
    )
    return lambda: guest.job.doubt(commit, what, stoppable=True)


def _resolve(job: Operation, target: Target, error: BaseException) -> None:
    """End the target, and with it the doubt."""
    taken = target.taken()
    job.resolve(passed=taken)
    if not taken:
        error.add_note(OUT_OF_DATE)


class _Counted:
    """An outlet that counts what goes through it to another."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self.size = 0

    def writev(self, buffers: Sequence[Buffer]) -> int:
        """Write some of `buffers`, in order, and return how many bytes that was."""
        done = self._outlet.writev(buffers)
        self.size += done
        return done
