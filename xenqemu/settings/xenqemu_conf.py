"""The administrator's settings: /etc/xenqemu/xenqemu.conf as one object.

etc/xenqemu.conf holds every key with its default and what it means.
"""

from __future__ import annotations

import os
from pathlib import Path

from xenqemu.errors import Forbidden, UsageError
from xenqemu.formats.stream.layout import Layout
from xenqemu.frozen import Frozen
from xenqemu.host.party_deadlines import DEFAULT_DEADLINES, Deadlines
from xenqemu.host.trust import DEFAULT_TRUST, Trust
from xenqemu.host.xen.xen_paths import XEN_PATHS, XenPaths
from xenqemu.settings import toml_values
from xenqemu.settings.choice import Choice
from xenqemu.settings.hooks import Hooks
from xenqemu.system.writers import require_sole_writers, trusted_ids


class Save(Frozen):
    """How each domain is saved: `verify` reads a save file back before its guest is destroyed.

    `layout` is how pages lie in it.  `key_file` has the key of its seal, which restores need then.
    """

    verify: bool = True
    layout: Layout = Layout.ALIGNED
    key_file: Path | None = None


class SaveAll(Frozen):
    """What `save-all` does, so many domains at once, all within `deadline` seconds.

    Without `save`, all are shut down instead.  What is not saved in time, and what `shut_down`
    names, is shut down too, in `shutdown_deadline` seconds; what `leave` names is left alone.
    Of the rest, xl.cfg files in `configs` may say the same by their own key; `others` are what no
    file there is about.
    """

    folder: Path = Path("/var/lib/xen/save")
    save: bool = True
    parallel: int = 2
    deadline: float = 300.0
    shutdown_deadline: float = 120.0
    shut_down: tuple[str, ...] = ()
    leave: tuple[str, ...] = ()
    configs: Path = Path("/etc/xen/auto")
    others: Choice = Choice.SAVE


class RestoreAll(Frozen):
    """What `restore-all` does: nothing without `restore`; those that `first` names come first.

    A guest has to run for `proof` seconds before its save file is removed.
    """

    restore: bool = True
    first: tuple[str, ...] = ()
    proof: float = 10.0


class Log(Frozen):
    """Where operations are logged: a line each in `syslog` or not, details in a `file` or not."""

    syslog: bool = True
    file: Path | None = None


class Metrics(Frozen):
    """A `file` for the textfile collector of Prometheus' node exporter; None for none."""

    file: Path | None = None


class Settings(Frozen):
    """All of it; `host` is in the words of `--host`, no `lab` is a folder of one's own.

    No `lab_ram` leaves RAM files where they are.  `xendomains` is a file of Xen's own script, which
    says what is not said here; see after_xendomains.py.
    """

    host: str = "auto"
    lab: Path | None = None
    lab_ram: Path | None = None
    xendomains: Path | None = Path("/etc/default/xendomains")
    xen: XenPaths = XEN_PATHS
    deadlines: Deadlines = DEFAULT_DEADLINES
    trust: Trust = DEFAULT_TRUST
    save: Save = Save()
    hooks: Hooks = Hooks()
    save_all: SaveAll = SaveAll()
    restore_all: RestoreAll = RestoreAll()
    log: Log = Log()
    metrics: Metrics = Metrics()


DEFAULTS = Settings()
"""Where no file says otherwise."""

CONF = Path("/etc/xenqemu/xenqemu.conf")
"""Where an administrator's settings are, if there are any."""


def read_settings(file: str | Path | None = None, base: Settings = DEFAULTS) -> Settings:
    """Return what `file` says, else $XENQEMU_CONF, else `CONF`, which need not be there.

    What it does not say is as in `base`.  Raises `UsageError` for what cannot be read, what others
    than root and our own user could have written, and what makes no sense.
    """
    named = file or os.environ.get("XENQEMU_CONF")
    path = Path(named or CONF)
    try:
        with path.open("rb") as conf:
            require_sole_writers(path, trusted_ids())
            text = conf.read(toml_values.MAX_TEXT + 1)
    except Forbidden as error:
        raise UsageError(f"{path}: the settings are not used: {error}") from error
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not named:
            return base
        raise UsageError(f"{path}: the settings cannot be read: {error.strerror}") from error
    return toml_values.read(text, base, str(path))
