"""Which host is worked on: this machine's Xen, or a lab in a folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from xenqemu.errors import UsageError
from xenqemu.host.ended_operation import Records, unrecorded
from xenqemu.host.party_deadlines import Deadlines
from xenqemu.host.protocol import Host
from xenqemu.settings.after_xendomains import after_xendomains
from xenqemu.settings.xendomains import MAX_TEXT
from xenqemu.settings.xenqemu_conf import DEFAULTS, Log, Metrics, Settings, read_settings
from xenqemu.system.regular_file import read_regular

CAPABILITIES = Path("/proc/xen/capabilities")
"""Holds "control_d" in a domain that controls its host."""


def _unsaid(_complaint: str) -> None:
    """Say nothing of what is not heeded."""


def for_all_guests(
    host: Host, file: str | Path | None = None, complain: Callable[[str], None] = _unsaid
) -> Settings:
    """Return the settings for all guests of a host at once: `file`, xendomains, the defaults.

    A host in a folder has its save files and its guests' own files there, by default, and no
    xendomains, which is the machine's.  `complain` is called with what of xendomains is not heeded.
    """
    place = host.own_folder
    if place is None:
        return with_xendomains(file, complain)
    save_all = DEFAULTS.save_all.but(folder=place / "save", configs=place / "auto")
    base = DEFAULTS.but(xendomains=None, save_all=save_all)
    return with_xendomains(file, complain, base)


def with_xendomains(
    file: str | Path | None = None,
    complain: Callable[[str], None] = _unsaid,
    base: Settings = DEFAULTS,
) -> Settings:
    """Return the settings for all guests at once: `file`, then xendomains, then `base`."""
    settings = read_settings(file, base)
    old = settings.xendomains
    if old is None or not old.exists():
        return settings
    try:
        text = read_regular(old, MAX_TEXT + 1)
    except OSError as error:
        raise UsageError(f"{old}: the settings cannot be read: {error.strerror}") from error
    if text is None:
        raise UsageError(f"{old}: the settings cannot be read: it is no regular file")
    heeded = after_xendomains(text, str(old), base)
    settings = heeded.require_folder(read_settings(file, heeded.settings))
    for complaint in heeded.complaints:
        complain(complaint)
    return settings


def open_host(
    words: str | None = None,
    *,
    deadlines: Deadlines | None = None,
    step_timeout: float | None = None,
    settings: Settings | None = None,
) -> Host:
    """Return the host that `words` name: "xen", "lab", "lab:DIR", or "auto" for what is there.

    It is a context manager, which closes it.  What is not given is as in `settings`, by default
    those of the file.  `step_timeout`, if given, is the deadline for a guest to acknowledge the
    suspend request, and again to suspend.  Raises `UsageError` for other words; whether the host is
    there shows when it is used.
    """
    settings = settings or read_settings()
    deadlines = deadlines or settings.deadlines
    if step_timeout is not None:
        deadlines = deadlines.but(acknowledge=step_timeout, suspend=step_timeout)
    words = settings.host if words is None else words
    # Each host is loaded only when it is used: that takes longer than many operations.
    kind, _, folder = words.partition(":")
    if words == "auto":
        kind = "xen" if is_dom0() else "lab"
    if kind == "lab":
        from xenqemu.lab.lab_host import Lab  # noqa: PLC0415

        place = Path(folder) if folder else default_lab(settings)
        log = settings.log.but(syslog=False)  # the machine's own is of the machine's guests
        records = _records(log, settings.metrics)
        return Lab(
            place,
            deadlines=deadlines,
            trust=settings.trust,
            ram=settings.lab_ram,
            records=records,
        )
    if kind == "xen" and not folder:
        from xenqemu.host.xen.xen_host import XenHost  # noqa: PLC0415

        records = _records(settings.log, settings.metrics)
        return XenHost(
            deadlines=deadlines, paths=settings.xen, trust=settings.trust, records=records
        )
    raise UsageError(f"host {words!r} is none of xen, lab, lab:DIR, auto")


def _records(log: Log, metrics: Metrics) -> Records:
    """Return what keeps operations as the settings say; it is loaded before a guest is touched."""
    if not (log.syslog or log.file or metrics.file):
        return unrecorded
    from xenqemu.settings.records import keep  # noqa: PLC0415  labs seldom keep any

    return partial(keep, log, metrics)


def is_dom0() -> bool:
    """Return whether this machine is the control domain of a Xen host."""
    try:
        return "control_d" in CAPABILITIES.read_text()
    except OSError:
        return False


def default_lab(settings: Settings) -> Path:
    """Return the lab's folder: $XENQEMU_LAB, or that of the settings, or our own in memory."""
    named = os.environ.get("XENQEMU_LAB") or settings.lab
    if named:
        return Path(named)
    import tempfile  # noqa: PLC0415  seldom needed, and slow to load

    memory = Path("/dev/shm")  # `Lab.up` refuses a folder that is not ours alone
    base = memory if memory.is_dir() else Path(tempfile.gettempdir())
    return base / f"xenqemu-lab-{os.geteuid()}"
