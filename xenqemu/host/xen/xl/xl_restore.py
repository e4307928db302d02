"""Building a domain from a save file: `xl restore -p`, fed through a pipe.

xl reads a save file from its start to libxl's END record and never seeks, so a pipe serves as well
as a file.  The records are parsed on the way: what comes from another host does not end where the
save file does.  xl opens /proc/self/fd/0: the daemon that it leaves behind to restart the guest,
and the QEMU that it starts, have another standard input and hold no pipe open.

When the pipe ends early, libxl destroys what it has built so far, and xl fails.  That is also how
a restore is aborted here.  The reason of a failure is in xl's output or, where QEMU did not load
its device state, only in QEMU's log.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from xenqemu.errors import BadRecord, HostError, HostTimeout, Unsupported
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.stream import xl as xl_format
from xenqemu.formats.stream.framing import Record
from xenqemu.formats.stream.libxl import Stream
from xenqemu.formats.stream.libxl_records import EmulatorXenstoreData
from xenqemu.formats.stream.source import Source
from xenqemu.formats.stream.xl import JSON, XlHeader
from xenqemu.host.guest_memory import Progress
from xenqemu.host.party_deadlines import DEFAULT_DEADLINES, Deadlines
from xenqemu.host.xen.xl import toolstack
from xenqemu.host.xen.xl.toolstack import XL
from xenqemu.host.xenstore.store import Store
from xenqemu.system import child
from xenqemu.system.cancellation import wait_cancellable
from xenqemu.system.child import PIPE, Child
from xenqemu.system.program_output import OutputTail, last_lines, tail

LOGS = Path("/var/log/xen")
PHYSMAP = r"physmap/[0-9a-fA-F]{1,16}/(start_addr|size|name)"
"""Keys that libxl saves for QEMU (libxl__save_emulator_xenstore_data)."""

CAUSES = 4
"""Errors of xl that ours repeats: the first ones, since later ones come from its cleanup."""


class XlRestore:
    """Builds paused domains on this host.

    `store` gives a session with xenstore for a block.  `monitor` is whether xl leaves its daemon
    behind, as it does without -e; without it nobody restarts a guest that reboots.
    """

    def __init__(
        self,
        store: Callable[[], contextlib.AbstractContextManager[Store]],
        *,
        monitor: bool = True,
        xl: Sequence[str] = XL,
        logs: Path = LOGS,
        deadlines: Deadlines = DEFAULT_DEADLINES,
    ) -> None:
        self._store = store
        self._options = ("-p",) if monitor else ("-p", "-e")
        self._xl = xl
        self._logs = logs
        self._deadlines = deadlines

    def build(
        self,
        save_file: Source,
        progress: Progress,
        config: DomainConfig | None = None,
        size: int = 0,
    ) -> int:
        """Build a paused domain from an xl save file and return its id, or leave nothing.

        `config` takes the place of the file's own.  `size` is how many bytes `save_file` has,
        for `progress`, 0 if that is not known.  Raises `HostError` with the errors of xl and QEMU,
        `HostTimeout` if xl stalled, `FormatError` if the file's header is bad or has no config.
        """
        head, config = _header(save_file, config)
        self._require_free(config)
        started, said = time.time(), OutputTail()
        with self._destroyed_on_failure(config), self._running(said) as xl:
            feed = partial(xl.feed, seconds=self._deadlines.xl_stall)
            with contextlib.suppress(BrokenPipeError):  # it has ended: its status will tell
                feed(head)
                forwarding = _Forwarding(save_file, feed)
                for record in Stream(Source(forwarding, save_file.offset)):
                    _refuse_foreign_keys(record)
                    progress(save_file.offset, max(save_file.offset, size))
                forwarding.flush()
            status = self._finished(xl)
            if status:
                words = [f"xl restore failed ({status}): {_complaints(said)}"]
                raise HostError("; ".join([*words, *self._device_model(config.name, started)]))
            return self._built(config)

    def _running(self, said: OutputTail) -> contextlib.AbstractContextManager[Child]:
        """Run xl for a block; in the end its input is closed first, so that it can clean up."""
        return child.started(
            "xl restore",
            [*self._xl, "restore", *self._options, "/proc/self/fd/0"],
            stdin=PIPE,
            stdout=said.keep,
            stderr=said.keep,
            new_session=True,  # Ctrl-C must not reach it
            eof_grace=self._deadlines.xl_give_up,
        )

    def _finished(self, xl: Child) -> int:
        """Close xl's input, wait for its end and return its exit status."""
        xl.hang_up()
        limit = self._deadlines.xl_finish
        if not wait_cancellable(xl.wait, limit):
            raise HostTimeout(f"xl restore did not end within {limit:g} s after the last byte")
        return xl.status

    def _require_free(self, config: DomainConfig) -> None:
        domid = self._find(config.name)
        if domid is not None:
            raise HostError(f"domain {domid} is named {config.name!r} already")

    def _built(self, config: DomainConfig) -> int:
        domid = self._find(config.name)
        if domid is None:
            raise HostError(f"xl restore succeeded, but there is no domain named {config.name!r}")
        return domid

    @contextlib.contextmanager
    def _destroyed_on_failure(self, config: DomainConfig) -> Iterator[None]:
        """Destroy the domain if the block fails."""
        try:
            yield
        except BaseException as error:
            try:
                domid = self._find(config.name, config.uuid)
                if domid is not None:
                    toolstack.destroy(domid, self._deadlines, self._xl)
            except HostError as trouble:
                error.add_note(f"not all may be removed of domain {config.name!r}: {trouble}")
            raise

    def _find(self, name: str, uuid: str | None = None) -> int | None:
        """Return the id of the domain of that name (and uuid), None if there is none."""
        with self._store() as store:
            for entry in store.list("/local/domain") or ():
                place = f"/local/domain/{entry}"
                if store.read(f"{place}/name") != name:
                    continue
                if uuid is None or store.read(f"{place}/vm") == f"/vm/{uuid}":
                    return int(entry)
        return None

    def _device_model(self, name: str, since: float) -> list[str]:
        """Return what the domain's QEMU logged after `since`, as words of an error."""
        path = self._logs / f"qemu-dm-{name.replace('/', '_')}.log"
        try:
            said = tail(path) if path.stat().st_mtime >= since else b""
        except OSError:
            return []  # a PVH guest has none; xl's own errors are reported already
        return [f"QEMU: {last_lines(said)}"] if said.strip() else []


class _Forwarding:
    """Reads from `save_file`, and passes all of it to xl, each piece before the next is read.

    So xl, which takes a record with its padding, has none before it was looked at.
    """

    def __init__(self, save_file: Source, feed: Callable[[bytes | memoryview], None]) -> None:
        self._save_file = save_file
        self._feed = feed
        self._piece: bytes | memoryview = b""

    def read(self, size: int, /) -> bytes:
        self.flush()
        piece = self._save_file.read(size)
        self._piece = piece
        return piece

    def readinto(self, buffer: memoryview, /) -> int:
        self.flush()
        got = self._save_file.readinto(buffer)
        self._piece = buffer[:got]
        return got

    def flush(self) -> None:
        """Pass on what was read last."""
        piece, self._piece = self._piece, b""
        self._feed(piece)


def _refuse_foreign_keys(record: Record) -> None:
    """Raise `BadRecord` for what libxl would write into xenstore, but no libxl saves there."""
    if isinstance(record.value, EmulatorXenstoreData):
        for key, _value in record.value.entries:
            if not re.fullmatch(PHYSMAP, key):
                where = f"libxl {record.name}"
                raise BadRecord(where, record.offset, "keys of QEMU's physmap", ascii(key)[:80])


def _complaints(said: OutputTail) -> str:
    """Return xl's errors or, without such lines, the last lines of its output."""
    errors = [line for line in said.text.splitlines() if b"error:" in line]
    return last_lines(b"\n".join(errors[:CAUSES]) or said.text)


def _header(save_file: Source, config: DomainConfig | None) -> tuple[bytes, DomainConfig]:
    """Return the header before the stream, with the config to use, and that config."""
    header = xl_format.read(save_file).value
    assert isinstance(header, XlHeader)  # by its type
    if config is not None:
        text = config.dump() + b"\0"
        header = XlHeader(header.mandatory_flags | JSON, text, header.tail)
    elif header.config and header.is_json:
        config = DomainConfig.parse(header.config)
    else:
        raise Unsupported("xl header", xl_format.HEADER.size, "a config in JSON", "none")
    return header.pack(), config
