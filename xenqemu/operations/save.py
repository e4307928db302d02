"""Suspend a guest into a save file: the order of acts and their undo.

The guest is destroyed only when its save file is complete, read back, synced and in place.  Where
the guest stays (`After.CONTINUE`, `After.PAUSE`), it is resumed as soon as its memory is written:
what can still fail then costs the save file, not the guest.  A live save writes most of the memory
before the guest is suspended.  A paused guest that need not answer stays paused, and its save file
says so.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import BinaryIO

from xenqemu.errors import HostError
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.stream.detect import Layer
from xenqemu.formats.stream.framing import Record
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.source import Source
from xenqemu.host.allowed_resources import why_refused
from xenqemu.host.precopy import Iteration
from xenqemu.host.precopy_options import PrecopyOptions
from xenqemu.host.protocol import Domain, Host
from xenqemu.operations.compact import compact
from xenqemu.operations.events import Observer, Phase, unobserved
from xenqemu.operations.inspect import Contents, read_contents
from xenqemu.operations.journal import steps
from xenqemu.operations.journal.log import About
from xenqemu.operations.journal.operation import Operation
from xenqemu.operations.options import After, SaveOptions, key_for, seconds_for
from xenqemu.operations.outgoing_guest import UNKNOWN_CHANGES, OutgoingGuest, written_config
from xenqemu.operations.save_file import space_for, space_for_rest, with_paused
from xenqemu.operations.sealing import Sealing
from xenqemu.operations.verify import checked_contents
from xenqemu.system.cancellation import check_often
from xenqemu.system.staged_file import Draft, draft_for


def save(
    host: Host,
    domain: Domain,
    path: Path,
    options: SaveOptions = SaveOptions(),
    *,
    observe: Observer = unobserved,
) -> Contents:
    """Save a running or paused domain to `path` and return what the save file holds.

    With precopy options the guest runs while it is saved, until these have it suspended; the save
    file holds superseded pages then, unless `compact` drops them.  Without `verify` and
    without a seal, what is returned says only its size.

    Raises what the tree in `xenqemu.errors` says; unless it is a `PastReturn` or `Stranded`, the
    guest is as it was.  `path` is as it was too, or (never with `After.DESTROY`) whole already.
    """
    own = host.config(domain.domid)
    config = written_config(domain, own, options.config, keep_domid=options.keep_domid)
    sealing = Sealing(key_for(host, options)) if options.seal else None
    about = About("save", domain.domid, domain.name, domain.uuid, str(path.absolute()))
    with (
        Operation.begin(host, about, observe, seconds_for(host, options)) as job,
        draft_for(path, host.trust.owners) as draft,
        draft_for(path, host.trust.owners) as smaller,
    ):
        guest = OutgoingGuest(host, domain, job, options.layout)
        with job.phase(Phase.CHECK):
            host.check_name(config.name)
            guest.require_savable(paused_too=True)
            guest.require_fit(own, options.config)
            config = with_paused(config, guest.paused)
            if options.precopy and not guest.may_run():
                raise HostError(
                    f"domain {guest.domid} cannot be saved while it runs: {UNKNOWN_CHANGES}"
                )
            refused = why_refused(host.trust, config)
            if refused:
                job.note(f"a restore here would refuse the save file: {refused}")
            job.cleanup(steps.RemoveDraft(draft.traces))
            draft.create()
            _reserve(draft, guest, config, live=options.precopy is not None)
        _write(guest, draft, config, options.precopy, None if options.compact else sealing)
        suspended_at = time.time_ns()
        if options.after is not After.DESTROY:
            with job.phase(Phase.RELEASE):
                guest.release(paused=options.after is After.PAUSE)
        written = _compacted(draft, smaller, job, sealing) if options.compact else draft
        found = _checked(written, job, sealing, synced=options.verify)
        with job.phase(Phase.PUBLISH):
            _publish(written, guest, options.after, suspended_at)
        if options.after is After.DESTROY:
            with job.phase(Phase.RELEASE):
                job.finish()
    return found


def _write(
    guest: OutgoingGuest,
    draft: Draft,
    config: DomainConfig,
    precopy: PrecopyOptions | None,
    sealing: Sealing | None,
) -> None:
    """Write the save file; space for what is left is reserved as soon as its size is known."""

    def ready(device_state: bytes | None) -> None:
        _reserve(draft, guest, config, device_state)

    def watch(done: Iteration) -> None:
        draft.reserve(draft.file.tell() + space_for_rest(done.changed))
        guest.job.iteration(done)

    pieces = sealing.pieces if sealing else None
    if precopy:
        guest.write_running(draft.file, config, precopy, live=False, watch=watch, pieces=pieces)
    else:
        guest.write(draft.file, config, live=False, ready=ready, pieces=pieces)


def _reserve(
    draft: Draft,
    guest: OutgoingGuest,
    config: DomainConfig,
    device_state: bytes | None = None,
    *,
    live: bool = False,
) -> None:
    """Reserve space for a save file; where it seems too little, pages of zeros are counted first.

    Raises `HostError` if it is too little.  A guest that is saved `live` shares no pages with it.
    """
    most = space_for(config, guest.space_in(draft, live=live), device_state)
    try:
        draft.reserve(most)
    except HostError:
        counted = guest.memory.counted_space(guest.job.progress)
        draft.reserve(space_for(config, counted, device_state))


def _compacted(draft: Draft, smaller: Draft, job: Operation, sealing: Sealing | None) -> Draft:
    """Return another draft of the same save file, without superseded pages."""
    with job.phase(Phase.COMPACT):
        job.cleanup(steps.RemoveDraft(smaller.traces))
        smaller.create()
        smaller.reserve(draft.file.tell())
        with draft.reopen() as save_file:
            compact(save_file, smaller.file, job.progress, sealing.pieces if sealing else None)
    return smaller


def _checked(draft: Draft, job: Operation, sealing: Sealing | None, *, synced: bool) -> Contents:
    """Read the save file back, from the disk if it is to be `synced` first, and seal it.

    Pages are read if there are no digests of them, made while they were written.
    """
    if not (synced or sealing):
        return Contents(Layer.XL, size=draft.file.tell())
    with job.phase(Phase.VERIFY):
        if synced:
            draft.sync()
        with draft.reopen() as save_file:
            if sealing is None:
                return checked_contents(Source(save_file, seek=False, check=check_often))
            found = _listed(save_file, sealing, checked=synced)
            seal = sealing.seal(save_file, found, job.phases)
        packed = seal.pack(sealing.key)
        draft.file.seek(found.size)
        Sink(draft.file).write(packed)
        found.take_seal(seal, len(packed))
        return found


def _listed(save_file: BinaryIO, sealing: Sealing, *, checked: bool) -> Contents:
    """Read the structure of a save file for its seal; it is `checked` whether the parts agree."""

    def take(record: Record) -> None:
        sealing.take(record, save_file)

    source = Source(save_file, check=check_often)
    return checked_contents(source, take) if checked else read_contents(source, take)


def _publish(draft: Draft, guest: OutgoingGuest, after: After, suspended_at: int) -> None:
    """Give the save file its name; unless the guest stays, it is the guest from then on."""
    file = draft.traces.path, draft.identity
    question = steps.Published(*file)
    if after is After.DESTROY:
        meaning = f"the save file {draft.path} is the guest now"
        then = (steps.Destroy(*guest.who), steps.DateSaveFile(*file))
        guest.job.commit(draft.publish, steps.Commit(question, meaning, then))
    else:
        guest.job.prepare_commit(steps.Commit(question, f"the save file {draft.path} is complete"))
        draft.publish()
        steps.DateSaveFile(*file, suspended_at).perform(guest.host)
