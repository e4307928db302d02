"""Restore a guest from what can be read once: a command, a pipe.

It is verified while the guest is built of it.  The guest is paused until all of it was read and
found sound, and the command has ended with status 0; else it is destroyed.  What the config would
have this host use is looked at before anything is built.
"""

from __future__ import annotations

from collections.abc import Callable

from xenqemu.errors import HostError, UsageError
from xenqemu.formats.stream.source import Source
from xenqemu.host.domain import Domain
from xenqemu.host.findings import require
from xenqemu.host.protocol import BuildOptions, Host, Needs
from xenqemu.operations.check_restore import CFG_INSTEAD, takeable
from xenqemu.operations.checked_save_file import needs_of
from xenqemu.operations.checked_stream import CheckedStream
from xenqemu.operations.events import Observer, Phase, unobserved
from xenqemu.operations.journal import steps
from xenqemu.operations.journal.log import About
from xenqemu.operations.journal.operation import Operation
from xenqemu.operations.options import RestoreOptions, key_for, seconds_for
from xenqemu.operations.restore import Restored, unpause
from xenqemu.operations.save_file import config_within, was_paused
from xenqemu.operations.sources import From
from xenqemu.system.cancellation import check_often
from xenqemu.system.zstd.unpacked import unpacked


def restore_through(
    host: Host,
    way: From,
    options: RestoreOptions = RestoreOptions(),
    *,
    before_run: Callable[[], None] = lambda: None,
    observe: Observer = unobserved,
) -> Restored:
    """Restore a domain from what comes from `way`; see `restore` for the rest.

    Raises `UsageError` for `strict_disks`: nobody knows when the guest was saved.
    """
    if options.strict_disks:
        raise UsageError("--strict-disks needs a file, which has the time of the save")
    key = key_for(host, options)
    with (
        way.opened(host.deadlines, host.trust) as source,
        unpacked(source) as inside,
        CheckedStream(inside, key, sealed=options.seal) as checked,
    ):
        stream = Source(checked, check=check_often)
        own = config_within(stream, min(host.deadlines.peer_banner, seconds_for(host, options)))
        used = own if options.config is None else options.config.with_extra(own.extra)
        paused = options.paused or was_paused(own)
        about = About("restore", 0, used.name, used.uuid, way.name)
        with Operation.begin(host, about, observe, seconds_for(host, options)) as job:
            with job.phase(Phase.CHECK):
                needs = Needs(used, 0)
                found = takeable(host, needs, own, options.config, instead=CFG_INSTEAD)
                for warning in require(found, f"{used.name} cannot be restored here"):
                    job.note(str(warning))
            with job.phase(Phase.BUILD):
                destroy = steps.DestroyIncomplete(used.name, used.uuid)
                building = job.cleanup(destroy)
                how = BuildOptions(0, used, options.monitor)
                domid = host.build(stream, job.progress, how)
                job.undo(destroy)
                job.drop(building)
                contents = checked.finish()
                source.finish()
                if contents.config != own:
                    raise HostError(f"{way.name}: its config is not what it began with")
                needs_of(contents, used)
                if paused:
                    before_run()
            if not paused:
                with job.phase(Phase.RELEASE):
                    before_run()
                    unpause(host, Domain(domid, used.uuid, used.name, used.type), job)
    return Restored(domid, contents, paused)
