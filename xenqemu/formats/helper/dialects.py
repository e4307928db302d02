"""The protocol of libxl and its save helper in each version of Xen: arguments, message numbers.

::

    libxl-save-helper --save-domain
        4.6     io_fd         domid max_iters max_factor flags hvm cbflags
        4.7     io_fd recv_fd domid max_iters max_factor flags hvm cbflags stream_type
        4.10    io_fd recv_fd domid                      flags hvm cbflags stream_type
        4.14    io_fd recv_fd domid                      flags     cbflags stream_type
    libxl-save-helper --restore-domain
        4.6     io_fd              domid <events> hvm pae superpages cbflags checkpointed
        4.7     io_fd send_back_fd domid <events> hvm pae superpages cbflags stream_type
        4.10    io_fd send_back_fd domid <events> hvm pae            cbflags stream_type
        4.14    io_fd send_back_fd domid <events>                    cbflags stream_type

    <events>        store_evtchn store_domid console_evtchn console_domid
    cbflags         1 << msgnum for each callback that libxl answers
    …_fd            decimal numbers of inherited descriptors; -1 if there is no back channel

Source: libxl_save_helper.c and libxl_save_msgs_gen.pl at the release tags.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from xenqemu.errors import BadRecord, Unsupported
from xenqemu.formats.helper import messages as helper_messages
from xenqemu.formats.helper.messages import (
    Checkpoint,
    Complete,
    HelperMessage,
    Log,
    Postcopy,
    Progress,
    Reader,
    RestoreResults,
    StaticDataDone,
    Suspend,
    SwitchQemuLogdirty,
    WaitCheckpoint,
)
from xenqemu.frozen import Frozen

Version = tuple[int, int]
"""Xen's major and minor version."""

SAVE = "--save-domain"
RESTORE = "--restore-domain"
LIVE, DEBUG, HVM = 1, 2, 4
"""Bits of `flags`; HVM up to 4.13 only, where it goes with the argument of that name."""
PLAIN, REMUS, COLO = 0, 1, 2
"""Values of `stream_type`."""

_BACK = frozenset({"recv_fd", "send_back_fd"})
_NUMBER = re.compile(r"-1|\d{1,20}", re.ASCII)
_MODES = {SAVE: "save", RESTORE: "restore"}


class Dialect(Frozen):
    """The protocol of the versions from `since` to the next dialect."""

    since: Version
    messages: tuple[type[HelperMessage], ...]
    save: tuple[str, ...]
    restore: tuple[str, ...]

    def reader(self) -> Reader:
        """Return a reader of the messages of a helper of this dialect."""
        return Reader(self.messages)

    def pack(self, message: HelperMessage) -> bytes:
        """Return the bytes of `message` from a helper of this dialect, with its length."""
        return helper_messages.pack(self._number(type(message)), message)

    def callbacks(self, *classes: type[HelperMessage]) -> int:
        """Return the cbflags that promise an answer to each of these messages."""
        return sum(1 << self._number(cls) for cls in classes)

    def fields(self, mode: str) -> tuple[str, ...]:
        """Return the names of the arguments after `mode`."""
        return self.save if mode == SAVE else self.restore

    def arguments(self, mode: str, values: Mapping[str, int]) -> list[str]:
        """Return the helper's arguments; what `values` lacks is 0, a back channel -1."""
        names = self.fields(mode)
        return [mode, *(str(values.get(name, -1 if name in _BACK else 0)) for name in names)]

    def _number(self, cls: type[HelperMessage]) -> int:
        if cls not in self.messages:
            since = "{}.{}".format(*self.since)
            raise Unsupported(f"save helper of Xen {since}", 0, "a message that it has", cls.NAME)
        return self.messages.index(cls) + 1


_EVENTS = ("store_evtchn", "store_domid", "console_evtchn", "console_domid")
_OLDEST = (Log, Progress, Suspend, Postcopy, Checkpoint)
_NEWER = (*_OLDEST, WaitCheckpoint, SwitchQemuLogdirty)
_ITERATIONS = ("max_iters", "max_factor")

DIALECTS = (
    Dialect(
        (4, 6),
        (*_OLDEST, SwitchQemuLogdirty, RestoreResults, Complete),
        ("io_fd", "domid", *_ITERATIONS, "flags", "hvm", "cbflags"),
        ("io_fd", "domid", *_EVENTS, "hvm", "pae", "superpages", "cbflags", "checkpointed"),
    ),
    Dialect(
        (4, 7),
        (*_NEWER, RestoreResults, Complete),
        ("io_fd", "recv_fd", "domid", *_ITERATIONS, "flags", "hvm", "cbflags", "stream_type"),
        (
            *("io_fd", "send_back_fd", "domid", *_EVENTS),
            *("hvm", "pae", "superpages", "cbflags", "stream_type"),
        ),
    ),
    Dialect(
        (4, 10),
        (*_NEWER, RestoreResults, Complete),
        ("io_fd", "recv_fd", "domid", "flags", "hvm", "cbflags", "stream_type"),
        ("io_fd", "send_back_fd", "domid", *_EVENTS, "hvm", "pae", "cbflags", "stream_type"),
    ),
    Dialect(
        (4, 14),
        (*_NEWER, StaticDataDone, RestoreResults, Complete),
        ("io_fd", "recv_fd", "domid", "flags", "cbflags", "stream_type"),
        ("io_fd", "send_back_fd", "domid", *_EVENTS, "cbflags", "stream_type"),
    ),
)
"""Oldest first."""


class Call(Frozen):
    """The request of libxl to a helper: `values` by the names of the dialect's arguments."""

    dialect: Dialect
    mode: str
    values: Mapping[str, int]

    @property
    def checkpointed(self) -> bool:
        """Whether checkpoints follow the first image: Remus or COLO."""
        promised = self.values["cbflags"] & self.dialect.callbacks(Checkpoint)
        return bool(promised or self.values.get("stream_type", PLAIN))


def dialect_of(version: Version) -> Dialect:
    """Return the dialect of a version of Xen; raise `Unsupported` before 4.6."""
    for dialect in reversed(DIALECTS):
        if version >= dialect.since:
            return dialect
    raise Unsupported("save helper", 0, "Xen 4.6 or later", "Xen {}.{}".format(*version))


def parse_arguments(arguments: Sequence[str], version: Version | None = None) -> Call:
    """Return the request in the helper's arguments, `arguments[0]` being the mode.

    Their number distinguishes the versions, except 4.6 from 4.10; there the back channel does if
    it is -1, as it is for all but COLO, and else `version`.  Raises `BadRecord` for anything else.
    """
    mode = arguments[0] if arguments else ""
    if mode not in _MODES:
        raise BadRecord("save helper's arguments", 0, " or ".join(_MODES), ascii(mode[:40]))
    fitting = [found for dialect in DIALECTS if (found := _fit(dialect, mode, arguments[1:]))]
    if len(fitting) > 1 and version is not None:
        fitting = [call for call in fitting if call.dialect == dialect_of(version)]
    if len(fitting) != 1:
        got = ascii(" ".join(arguments[1:]))[:200]
        expected = f"those of one version of Xen for {_MODES[mode]}"
        raise BadRecord("save helper's arguments", 0, expected, got)
    return fitting[0]


def _fit(dialect: Dialect, mode: str, words: Sequence[str]) -> Call | None:
    """Return the arguments by their names in `dialect`, None if they cannot be its."""
    names = dialect.fields(mode)
    if len(words) != len(names) or not all(_NUMBER.fullmatch(word) for word in words):
        return None
    values = dict(zip(names, map(int, words), strict=True))
    if any(value < 0 for name, value in values.items() if name not in _BACK):
        return None
    return Call(dialect, mode, values)
