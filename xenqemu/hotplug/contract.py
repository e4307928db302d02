"""libxl's contract with a hotplug script (libxl_linux.c, libxl_device.c; docs/misc/xenstore-paths).

::

    environment   XENBUS_PATH=backend/TYPE/DOMID/DEVID   XENBUS_TYPE=TYPE   XENBUS_BASE_PATH=backend
                  vif=vifDOMID.DEVID   INTERFACE=vifDOMID.DEVID-emu   netdev=GATEWAYDEV   script=…
    arguments     disk: add | remove
                  network card: online | offline  type_if=vif,   add | remove  type_if=tap
    done          hotplug-status = "connected", and for a disk
                  physical-device = "MAJOR:MINOR" in hexadecimal, physical-device-path
    failed        hotplug-error = why, hotplug-status = "error" or "busy", exit status not 0

libxl kills a script after 40 s; this one gives up before, so that it can still undo what it did.
It ignores what becomes of a removal.  The values in xenstore are libxl's, but come from
users: none is ever executed, or used as more than a name, a path or a number.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from xenqemu.errors import HostError, HostTimeout, InUse, UsageError, XenqemuError, in_words
from xenqemu.frozen import Frozen
from xenqemu.host.xenstore.names import INCOMING
from xenqemu.host.xenstore.store import Store, Transaction
from xenqemu.settings.xenqemu_conf import DEFAULTS, Settings, read_settings
from xenqemu.shown_text import printable
from xenqemu.system import lock_file
from xenqemu.system.private_folder import require_own
from xenqemu.system.process import Process
from xenqemu.system.standard_streams import open_standard_streams

LIMIT = 32.0
"""Seconds since our start until we abort; libxl's LIBXL_HOTPLUG_TIMEOUT is 40."""

LOCK_TIMEOUT = 30.0
"""Seconds to wait for another script that works on the same device or disk."""

LEAVING = ("remove", "offline")
"""Acts that are done in any case, even if the settings are invalid."""

LONGEST = 1024
"""Characters of a value in xenstore, or of a reason given there, at most."""

CLOSING = ("5", "6")
"""XenbusStateClosing and XenbusStateClosed (io/xenbus.h)."""

_PATH = re.compile(r"backend/(vbd|vif)/([1-9][0-9]{0,4})/(0|[1-9][0-9]{0,9})", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Device(Frozen):
    """A device of a guest; `kind` is "vbd" or "vif"."""

    kind: str
    domid: int
    devid: int

    @classmethod
    def of(cls, environment: Mapping[str, str], kind: str) -> Device:
        """Return the device of this kind that the environment names; else raise `UsageError`."""
        path = environment.get("XENBUS_PATH", "")
        match = _PATH.fullmatch(path)
        if match is None or match[1] != kind:
            raise UsageError(f"XENBUS_PATH={path!r:.80}: expected backend/{kind}/DOMID/DEVID")
        for name, value in (("XENBUS_TYPE", kind), ("XENBUS_BASE_PATH", "backend")):
            if environment.get(name, value) != value:
                raise UsageError(f"{name}={environment[name]!r:.80}: expected {value}")
        return cls(kind, int(match[2]), int(match[3]))

    @property
    def path(self) -> str:
        """Its backend in xenstore, below the home of the domain that we are in."""
        return f"backend/{self.kind}/{self.domid}/{self.devid}"

    @property
    def frontend(self) -> str:
        """Its frontend in xenstore."""
        return f"/local/domain/{self.domid}/device/{self.kind}/{self.devid}"

    @property
    def home(self) -> str:
        """The home in xenstore of its guest."""
        return f"/local/domain/{self.domid}"


class Backend:
    """The backend of a device in xenstore, and how long others are waited for."""

    def __init__(self, device: Device, store: Store, settings: Settings = DEFAULTS) -> None:
        self.device = device
        self.store = store
        self.deadlines = settings.deadlines
        self._locks = settings.xen.journals / "hotplug"

    @property
    def there(self) -> bool:
        """Whether libxl still has it."""
        return self.store.list(self.device.path) is not None

    @property
    def vm(self) -> str:
        """The uuid of the guest; raises `HostError` if it is gone."""
        vm = self.store.read(f"{self.device.home}/vm")
        if not vm:
            raise HostError(f"there is no domain {self.device.domid}")
        return vm.rpartition("/")[2]

    @property
    def incoming(self) -> bool:
        """Whether the guest is migrating to this host by xl, and not yet the only one."""
        return (self.store.read(f"{self.device.home}/name") or "").endswith(INCOMING)

    def text(self, name: str) -> str:
        """Return the value of a node, "" if there is none; raise `HostError` if it is not plain."""
        value = self.store.read(f"{self.device.path}/{name}") or ""
        if _CONTROL.search(value) or len(value) > LONGEST:
            raise HostError(f"{name} {value!r:.80} has control characters, or is too long")
        return value

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold one of the scripts' locks for the block; raise `HostTimeout` if another one does.

        Raises `HostError` where others may write to the folder of the locks.
        """
        self._locks.mkdir(mode=0o700, parents=True, exist_ok=True)
        require_own(self._locks)
        with lock_file.locked(self._locks / f"{name}.lock", LOCK_TIMEOUT):
            yield

    def connect(self, values: Mapping[str, str]) -> None:
        """Write what was done, by paths below the backend or absolute ones, and that it is done.

        Raises `HostError` if libxl is removing the device already.
        """
        self.store.atomically(lambda change: self._connect(change, values))

    def disconnect(self, names: Sequence[str]) -> None:
        """Remove nodes that `connect` has written; nothing where they, or all, are gone."""
        for name in names:
            self.store.remove(f"{self.device.path}/{name}")

    def fail(self, error: BaseException) -> None:
        """Tell libxl why; nothing if there is no such backend any more."""
        if self.there:
            path = self.device.path
            self.store.write(f"{path}/hotplug-error", reason(error)[:LONGEST])
            self.store.write(f"{path}/hotplug-status", "busy" if _is_busy(error) else "error")

    def _connect(self, change: Transaction, values: Mapping[str, str]) -> None:
        path = self.device.path
        if change.read(f"{path}/state") in (None, *CLOSING):
            raise HostError(f"{path} is not there, or is being removed")
        for name, value in (*values.items(), ("hotplug-status", "connected")):
            change.write(name if name.startswith("/") else f"{path}/{name}", value)
        change.remove(f"{path}/hotplug-error")


Act = Callable[[Backend], None]


def serve(kind: str, choose: Callable[[Device, Mapping[str, str], Sequence[str]], Act]) -> int:
    """Do what the environment and the arguments ask for, and return the exit status.

    `choose` returns the act, and raises `UsageError` for an invalid call.
    """
    open_standard_streams()
    try:
        with limited(LIMIT):
            device = Device.of(os.environ, kind)
            act = choose(device, os.environ, sys.argv[1:])
            _obey(device, act, leaving=sys.argv[1] in LEAVING)
    except (XenqemuError, OSError) as error:
        words = printable(reason(error))
        with suppress(OSError):  # nobody reads it
            print(f"xenqemu-{kind}: {words}", file=sys.stderr)  # noqa: T201  libxl's own log
        return 1
    return 0


def _obey(device: Device, act: Act, *, leaving: bool) -> None:
    settings, wrong = _settings()
    with Store(settings.xen.xenstored, settings.deadlines) as store:
        backend = Backend(device, store, settings)
        try:
            if wrong and not leaving:
                raise wrong
            with backend.locked(f"{device.kind}-{device.domid}-{device.devid}"):
                act(backend)
        except (XenqemuError, OSError) as error:
            backend.fail(error)
            raise


def _settings() -> tuple[Settings, UsageError | None]:
    """Return the settings, or the defaults and what is wrong with the settings."""
    try:
        return read_settings(), None
    except UsageError as error:
        return DEFAULTS, error


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise `HostTimeout` in the block once we have run for so long, `HostError` at SIGTERM.

    Either only once: the undo that follows is not interrupted.
    """
    numbers = (signal.SIGALRM, signal.SIGTERM)

    def stop(number: int, _frame: object) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        if number == signal.SIGALRM:
            raise HostTimeout(f"not done within {seconds:g} s")
        raise HostError("terminated by SIGTERM")

    before = [signal.signal(number, stop) for number in numbers]
    signal.setitimer(signal.ITIMER_REAL, max(seconds - age(), 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def reason(error: BaseException) -> str:
    """Return an error and its notes in one line."""
    lines = [in_words(error), *getattr(error, "__notes__", ())]
    return _CONTROL.sub(" ", "; ".join(lines))


def _is_busy(error: BaseException) -> bool:
    return isinstance(error, InUse)


def age() -> float:
    """Return for how many seconds this process has run: starting Python may be most of it."""
    ours = Process.of(os.getpid())
    started = ours.started / os.sysconf("SC_CLK_TCK") if ours else 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started
