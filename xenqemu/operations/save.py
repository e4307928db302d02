"""Suspend a guest into a save file: the order of acts and their undo.

The guest is destroyed only when its save file is complete, read back, synced and in place.  Where
the guest stays (`After.CONTINUE`, `After.PAUSE`), it is resumed as soon as its memory is written:
what can still fail then costs the save file, not the guest.  A live save writes most of the memory
before the guest is suspended, or has the device model write it as of one moment (`moment`).  A
paused guest that need not answer stays paused, and its save file says so.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from xenqemu.errors import HostError, UsageError
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.stream.detect import Layer
from xenqemu.formats.stream.framing import Record
from xenqemu.formats.stream.layout import Layout
from xenqemu.formats.stream.sink import Outlet, Sink
from xenqemu.formats.stream.source import Source
from xenqemu.host.domain import Domain
from xenqemu.host.precopy import Iteration
from xenqemu.host.precopy_options import PrecopyOptions
from xenqemu.host.protocol import Host
from xenqemu.operations.base_file import BaseFile, opened_base
from xenqemu.operations.compact import compact
from xenqemu.operations.compressed import UNSEALED, Form, form_for, packed_space
from xenqemu.operations.events import Observer, Phase, Way, unobserved
from xenqemu.operations.inspect import Contents, read_contents
from xenqemu.operations.journal import steps
from xenqemu.operations.journal.log import About
from xenqemu.operations.journal.operation import Operation
from xenqemu.operations.moment import moment_save
from xenqemu.operations.options import After, SaveOptions, key_for, seconds_for
from xenqemu.operations.outgoing_guest import OutgoingGuest
from xenqemu.operations.save_file import fit_space, space_for, space_for_rest
from xenqemu.operations.sealing import TOO_BIG, Sealing
from xenqemu.operations.verify import checked_contents, verify
from xenqemu.system.cancellation import check_often
from xenqemu.system.staged_file import Draft, draft_for
from xenqemu.system.zstd.unpacked import unpacked


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
    key = key_for(host, options)
    if options.base and (options.compact or options.compress is not None or not options.seal):
        raise UsageError("--base goes without --compact, --compress and --no-seal")
    about = About("save", domain.domid, domain.name, domain.uuid, str(path.absolute()))
    with (
        Operation.begin(host, about, observe, seconds_for(host, options)) as job,
        draft_for(path, host.trust.owners) as draft,
        draft_for(path, host.trust.owners) as smaller,
        opened_base(options.base, key, host.trust) as base,
    ):
        guest = OutgoingGuest(host, domain, job, options.layout)
        with job.phase(Phase.CHECK):
            config = guest.checked_config(options)
            form = form_for(options, key, config, job)
            job.cleanup(steps.RemoveDraft(draft.traces))
            draft.create()
            if form.pieces and base:
                form.pieces.older = _usable(base, draft, options, job)
            space = _Space(draft, guest, config, None if options.compact else form.level)
            space.reserve(live=options.precopy is not None)
            moment = moment_save(guest, options)  # the first act on it: all else is checked before
            if options.precopy and not moment:
                guest.require_may_run()
        compacting = options.compact and not moment  # which has every page once
        first = UNSEALED if compacting else form
        with first.written(draft.file) as out:
            if moment:
                downtime, suspended_at = moment.write(out, config, first.pieces)
                job.live(Way.MOMENT, downtime)
            else:
                _write(out, options.precopy, space, first)
                suspended_at = time.time_ns()
        if options.after is not After.DESTROY and not moment:
            with job.phase(Phase.RELEASE):
                guest.release(paused=options.after is After.PAUSE)
            if options.precopy and options.after is After.CONTINUE:
                job.live(Way.PRECOPY, guest.downtime)
        written = _compacted(draft, smaller, job, form) if compacting else draft
        found = _checked(written, job, form, synced=options.verify)
        with job.phase(Phase.PUBLISH):
            _publish(written, guest, options.after, suspended_at)
        if options.after is After.DESTROY:
            with job.phase(Phase.RELEASE):
                job.finish()
    return found


def _usable(base: BaseFile, draft: Draft, options: SaveOptions, job: Operation) -> BaseFile | None:
    """Return the base, None if nothing can be shared with it, which is noted."""
    if options.layout is Layout.ALIGNED and base.can_share(draft.file):
        return base
    why = "pages are aligned, and both are on one file system that can (XFS, btrfs)"
    job.note(
        f"nothing is shared with {options.base}, but all written: that takes place where {why}"
    )
    return None


def _write(
    out: BinaryIO | Outlet, precopy: PrecopyOptions | None, space: _Space, form: Form
) -> None:
    """Write the save file; space for what is left is reserved as soon as its size is known."""
    guest, config = space.guest, space.config

    def watch(done: Iteration) -> None:
        space.reserve_rest(done.changed)
        guest.job.iteration(done)

    if precopy:
        guest.write_running(out, config, precopy, live=False, watch=watch, pieces=form.pieces)
    else:
        guest.write(out, config, live=False, ready=space.reserve, pieces=form.pieces)


@dataclass
class _Space:
    """Reserves space for a save file in its draft.

    What gets compressed takes less, nobody knows how much less: too little is only noted then.
    """

    draft: Draft
    guest: OutgoingGuest
    config: DomainConfig
    level: int | None

    def reserve(self, device_state: bytes | None = None, *, live: bool = False) -> None:
        """Reserve it; where it seems too little, pages of zeros are counted first.

        Raises `HostError` if it is too little.  A guest that is saved `live` shares no pages with
        it, and one that is compressed neither.
        """
        guest, packed = self.guest, self.level is not None
        space = guest.space_in(self.draft, live=live or packed)
        if not packed:
            fit_space(
                guest.memory,
                self.config,
                space,
                self._reserve,
                progress=guest.job.progress,
                device_state=device_state,
            )
            return
        try:
            self._reserve(space_for(self.config, space, device_state))
        except HostError as error:
            guest.job.note(f"if it were not compressed: {error}")

    def reserve_rest(self, pages: int) -> None:
        """Reserve it for so many pages that are left of a live save; raise as `reserve`."""
        if self.level is None:
            self._reserve(self.draft.file.tell() + space_for_rest(pages))

    def _reserve(self, size: int) -> None:
        self.draft.reserve(size if self.level is None else packed_space(size))


def _compacted(draft: Draft, smaller: Draft, job: Operation, form: Form) -> Draft:
    """Return another draft of the same save file, without superseded pages."""
    with job.phase(Phase.COMPACT):
        job.cleanup(steps.RemoveDraft(smaller.traces))
        smaller.create()
        smaller.reserve(draft.file.tell())
        with draft.reopen() as save_file, form.written(smaller.file) as out:
            compact(save_file, out, job.progress, form.pieces)
    return smaller


def _checked(draft: Draft, job: Operation, form: Form, *, synced: bool) -> Contents:
    """Read the save file back, from the disk if it is to be `synced` first, and seal it.

    Pages are read if there are no digests of them, made while they were written.  A compressed one
    is sealed already.
    """
    packed, sealing = form.level is not None, form.sealing
    if not synced and (packed or sealing is None):
        return Contents(Layer.XL, size=draft.file.tell())
    with job.phase(Phase.VERIFY):
        if synced:
            draft.sync()
        with draft.reopen() as file:
            if packed:
                return _verified_packed(file, sealing)
            if sealing is None:
                return checked_contents(Source(file, seek=False, check=check_often))
            found = _listed(file, sealing, checked=synced)
            seal = sealing.seal(file, found, job.phases)
        if seal is None:
            job.note(TOO_BIG)
            return found
        data = seal.pack(sealing.key)
        draft.file.seek(found.size)
        Sink(draft.file).write(data)
        found.take_seal(seal, len(data))
        return found


def _verified_packed(file: BinaryIO, sealing: Sealing | None) -> Contents:
    """Read all that is in a compressed save file, and compare it with its seal."""
    with unpacked(file) as inside:
        if sealing is None:
            return checked_contents(Source(inside, seek=False, check=check_often))
        return verify(inside, sealing.key)


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
