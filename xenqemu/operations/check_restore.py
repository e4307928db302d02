"""Whether a guest can be restored here: what a restore, a clone and a migration refuse, and more.

What is checked of the host is the host's own (`Host.findings`); here is what concerns the save file
and its config.  Nothing is built, and nothing is changed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from xenqemu.errors import Damaged, HostError
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.host.allowed_resources import require_allowed
from xenqemu.host.findings import Check, Finding, findings
from xenqemu.host.protocol import Host, Needs
from xenqemu.operations import after_save
from xenqemu.operations.checked_save_file import (
    config_of,
    needs_of,
    opened_twice,
    writer_checks,
)
from xenqemu.operations.given_config import require_fit
from xenqemu.operations.journal.folder import Journals
from xenqemu.operations.journal.harmless import is_harmless
from xenqemu.operations.journal.log import About
from xenqemu.operations.verify import verify
from xenqemu.system.zstd.unpacked import unpacked

CFG_INSTEAD = ", and so can a CFG of your own: restore CFG FILE"


def takeable(
    host: Host,
    needs: Needs,
    own: DomainConfig,
    given: DomainConfig | None = None,
    *,
    instead: str = "",
    quick: bool = False,
) -> Iterator[Finding]:
    """Yield why this host cannot take a guest, by its `own` config and by what the host has.

    Where a config is `given` in its place, the administrator answers for what that names, and it
    has to fit.  `instead` says what can be done where a config is not allowed; `quick` leaves out
    the host's slow checks.
    """
    if given is None:
        check: Check = ("trust", lambda: require_allowed(host.trust, own, instead))
    else:
        check = ("config", lambda: require_fit(given, own))
    yield from findings([check])
    yield from host.findings(needs, quick=quick)


def aged(save_file: BinaryIO, config: DomainConfig, *, strict: bool) -> Iterator[Finding]:
    """Yield what happened after the save; disks that changed refuse it if `strict`."""
    for image, when in after_save.changed_images(config, save_file):
        words = f"{image} was changed ({when}) after {config.name} was saved"
        if strict:
            error = HostError(f"{words}, and --strict-disks forbids that")
            yield Finding.refusal("age", error)
        else:
            yield Finding.warning("age", f"{words}: its file systems may break")
    if when := after_save.restored_before(save_file):
        yield Finding.warning("age", f"{save_file.name} was restored before ({when})")


def restorable(
    host: Host,
    path: Path,
    key: bytes | None = None,
    given: DomainConfig | None = None,
    *,
    strict_disks: bool = False,
) -> Iterator[Finding]:
    """Yield all that a restore of the save file `path` would refuse here, or warn of.

    All of it is read, and compared with its seal, which has to be made with the `key` if there is
    one.  A config may be `given` in place of its own.  Raises `FormatError` for what nobody could
    restore, `UsageError` as `restore` does.
    """
    with opened_twice(path) as file:
        yield from findings(writer_checks(path, os.fstat(file.fileno()), host.trust))
        needs, found = _needs_in(path, file, key)
        own = needs.config
        used = own if given is None else given.with_extra(own.extra)
        about = About("restore", 0, used.name, used.uuid, str(path.absolute()))
        yield from unclaimed(host, about)
        yield from found
        needs = replace(needs, config=used)
        yield from takeable(host, needs, own, given, instead=CFG_INSTEAD)
        yield from aged(file, used, strict=strict_disks)


def saved_needs(path: Path, key: bytes | None = None) -> tuple[Needs, list[Finding]]:
    """Return what the guest of a save file needs, and what is found of its seal."""
    with opened_twice(path) as file:
        return _needs_in(path, file, key)


def _needs_in(path: Path, file: BinaryIO, key: bytes | None) -> tuple[Needs, list[Finding]]:
    """Return it; of a damaged save file only the config is heeded."""
    with unpacked(file) as save_file:
        config = config_of(save_file)
        try:
            contents = verify(save_file, key)
        except Damaged as error:
            return Needs(config, 0), [Finding.refusal("seal", error)]
        needs = needs_of(contents, config)
    if contents.seal is not None:
        return needs, []
    text = f"{path} has no seal: nobody can tell whether its pages were changed"
    return needs, [Finding.warning("seal", text, f"xenqemu seal {path} makes one")]


def unclaimed(host: Host, about: About) -> Iterator[Finding]:
    """Return the operations on a guest beside which `about` may not begin."""
    journals = Journals(host.journals)
    return findings(
        [("operation", lambda: journals.conflicts(about, partial(is_harmless, host, about)))]
    )
