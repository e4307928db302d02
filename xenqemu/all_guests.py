"""For toolstacks: all domains of a host at once, as at shutdown and boot.  `xenqemu.api` has it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

from xenqemu.choose_host import for_all_guests, open_host
from xenqemu.host.protocol import Host
from xenqemu.operations import restore_all as restoring_all
from xenqemu.operations import save_all as saving_all
from xenqemu.operations.options import RestoreOptions, save_options
from xenqemu.operations.outcome import Outcome, OutcomeObserver
from xenqemu.operations.saved_guests import saved_as
from xenqemu.settings.guest_choices import own_choices


def save_all(
    *,
    conf: str | Path | None = None,
    opened: Callable[[], Host] = open_host,
    observe: OutcomeObserver = lambda _outcome: None,
    complain: Callable[[str], None] = warnings.warn,
) -> list[Outcome]:
    """Save all domains, as the settings say (in `conf`), and return what became of each.

    `opened` opens the host, and again for each save.  `observe` is called with each outcome,
    `complain` with each error in the guests' own files, and with each setting of xendomains that is
    not heeded.  Raises `UsageError` for settings that make no sense, `HostError` if the host does
    not say which domains there are.
    """
    with opened() as host:
        settings = for_all_guests(host, conf, complain)
    own, complaints = own_choices(settings.save_all.configs)
    for complaint in complaints:
        complain(complaint)
    outcomes: list[Outcome] = []
    note = _collecting(outcomes, observe)
    saving_all.save_all(
        opened,
        settings.save_all,
        own,
        note,
        options=save_options(settings.save),
    )
    return outcomes


def restore_all(
    *,
    conf: str | Path | None = None,
    opened: Callable[[], Host] = open_host,
    strict_disks: bool = False,
    observe: OutcomeObserver = lambda _outcome: None,
) -> list[Outcome]:
    """Restore all domains that `save_all` saved, as the settings say; return what became of each.

    `opened` opens the host; `observe` is called with each outcome.  With `strict_disks` those fail
    whose disk images were changed after the save.  Raises `UsageError` for settings that make no
    sense.
    """
    with opened() as host:
        settings = for_all_guests(host, conf)
    outcomes: list[Outcome] = []
    note = _collecting(outcomes, observe)
    if settings.restore_all.restore:
        restoring_all.restore_all(
            opened,
            settings.save_all.folder,
            settings.restore_all,
            note,
            options=RestoreOptions(strict_disks=strict_disks, key_file=settings.save.key_file),
        )
    return outcomes


def saved(
    name: str,
    *,
    folder: str | Path | None = None,
    conf: str | Path | None = None,
    opened: Callable[[], Host] = open_host,
) -> list[Path]:
    """Return the save files of the domain `name`: none if it may be started.

    They are looked for in `folder`, by default where `save_all` saves.  Raises `UsageError` for
    settings that make no sense, `OSError` if the folder cannot be read.
    """
    if folder is None:
        with opened() as host:
            folder = for_all_guests(host, conf).save_all.folder
    return [guest.path for guest in saved_as(Path(folder), name)]


def _collecting(outcomes: list[Outcome], observe: OutcomeObserver) -> OutcomeObserver:
    """Return an observer that keeps each outcome and passes it on."""

    def note(outcome: Outcome) -> None:
        outcomes.append(outcome)
        observe(outcome)

    return note
