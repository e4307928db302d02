"""The commands on all domains of a host: before it shuts down, and after it has booted."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import suppress
from functools import partial

from xenqemu.choose_host import open_host, with_xendomains
from xenqemu.cli import show
from xenqemu.cli.hooked import hooked
from xenqemu.errors import HostError
from xenqemu.operations import restore_all as restoring
from xenqemu.operations import save_all as saving
from xenqemu.operations.outcome import How, Outcome
from xenqemu.settings.guest_choices import own_choices


def save_all(chosen: argparse.Namespace) -> None:
    """`xenqemu save-all`."""
    settings = with_xendomains(chosen.conf)
    own, complaints = own_choices(settings.save_all.configs)
    for complaint in complaints:
        show.complain(complaint)
    told = _Told(as_json=chosen.json)
    opened = partial(open_host, chosen.host, settings=settings)
    saving.save_all(
        opened,
        settings.save_all,
        own,
        told,
        check=settings.save.verify,
        around=partial(hooked, settings.hooks),
    )
    told.conclude()


def restore_all(chosen: argparse.Namespace) -> None:
    """`xenqemu restore-all`."""
    settings = with_xendomains(chosen.conf)
    told = _Told(as_json=chosen.json)
    if settings.restore_all.restore:
        opened = partial(open_host, chosen.host, settings=settings)
        around = partial(hooked, settings.hooks)
        folder = settings.save_all.folder
        restoring.restore_all(opened, folder, settings.restore_all, told, around=around)
    told.conclude()


class _Told:
    """Shows what becomes of each domain, and counts those that it is not well with."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._failed: list[str] = []

    def __call__(self, outcome: Outcome) -> None:
        name, how, text = outcome.name, outcome.how, outcome.text
        if how in (How.FAILED, How.FORBIDDEN):
            self._failed.append(name)
        with suppress(OSError):  # nobody hears us any more, which is no matter of the domains
            if self._as_json:
                show.line(json.dumps({"name": name, "outcome": how.value, "text": text}))
            else:
                show.line(f"{name}: {how.value}{f' ({text})' if text else ''}")
            sys.stdout.flush()

    def conclude(self) -> None:
        """Raise `HostError` if anything failed."""
        if self._failed:
            raise HostError(f"not all is well, see above: {', '.join(self._failed)}")
