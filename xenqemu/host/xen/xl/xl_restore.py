"""Making a domain of a record: `xl restore -p`, fed through a pipe.

xl reads a record from its start to libxl's END record and never seeks, so the pipe is as good to
it as a file.  The record is looked through on its way: what comes from another host does not end
where a record does.  xl opens /proc/self/fd/0: the daemon that it leaves behind to see to the
guest's reboots, and the QEMU that it starts, have their standard input elsewhere and hold no pipe
open.

When the pipe ends early, libxl destroys what it has made so far, and xl fails.  That is also how
an attempt is given up here.  The reason of a failure is in xl's complaints or, where QEMU would
not take its state, in QEMU's log alone.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from xenqemu.errors import HostError, HostTimeout, Unsupported
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.stream import xl as xl_format
from xenqemu.formats.stream.libxl import Stream
from xenqemu.formats.stream.source import Source
from xenqemu.formats.stream.xl import JSON, XlHeader
from xenqemu.host.party_deadlines import DEFAULT_DEADLINES, Deadlines
from xenqemu.host.protocol import Progress
from xenqemu.host.xen.xl import toolstack
from xenqemu.host.xen.xl.toolstack import XL
from xenqemu.host.xenstore.store import Store
from xenqemu.system import child
from xenqemu.system.cancellation import wait_cancellable
from xenqemu.system.child import PIPE, Child
from xenqemu.system.program_output import OutputTail, last_lines, tail

LOGS = Path("/var/log/xen")
CAUSES = 4
"""Errors of xl that ours repeats: the first, for those that follow are of the clearing up."""


class XlRestore:
    """Builds paused domains on this host.

    `store` gives a session with xenstore for a block.  `monitor` is whether xl leaves its daemon
    behind, as it does unless told -e; without one nobody restarts a guest that reboots.
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
        record: Source,
        progress: Progress,
        config: DomainConfig | None = None,
        size: int = 0,
    ) -> int:
        """Make a paused domain of an xl save file and return its id, or leave nothing.

        `config` takes the place of the record's own.  `size` is how many bytes `record` has,
        for `progress`, 0 if that is not known.  Raises `HostError` with the words of xl and QEMU,
        `HostTimeout` if xl stalled, `FormatError` if the record's header is bad or has no config.
        """
        head, config = _head(record, config)
        self._require_free(config)
        started, said = time.time(), OutputTail()
        with self._undone(config), self._running(said) as xl:
            feed = partial(xl.feed, seconds=self._deadlines.xl_stall)
            with contextlib.suppress(BrokenPipeError):  # it has ended: its status will tell
                feed(head)
                for _record in Stream(Source(_Passing(record, feed))):
                    progress(record.offset, max(record.offset, size))
            status = self._finished(xl)
            if status:
                words = [f"xl restore failed ({status}): {_complaints(said)}"]
                raise HostError("; ".join([*words, *self._device_model(config.name, started)]))
            return self._built(config)

    def _running(self, said: OutputTail) -> contextlib.AbstractContextManager[Child]:
        """Run xl for a block; to be ended it first finds the pipe's end, and can clean up."""
        return child.started(
            "xl restore",
            [*self._xl, "restore", *self._options, "/proc/self/fd/0"],
            stdin=PIPE,
            stdout=said.keep,
            stderr=said.keep,
            new_session=True,  # Ctrl-C is ours to deal with
            eof_grace=self._deadlines.xl_give_up,
        )

    def _finished(self, xl: Child) -> int:
        """Let xl come to its end and return its exit status."""
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
    def _undone(self, config: DomainConfig) -> Iterator[None]:
        """See that nothing is left of the domain if the block fails."""
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
            return []  # a PVH guest has none, and xl's own words have been told
        return [f"QEMU: {last_lines(said)}"] if said.strip() else []


class _Passing:
    """Gives what comes from `record`, once xl has read it too."""

    def __init__(self, record: Source, feed: Callable[[bytes | memoryview], None]) -> None:
        self._record = record
        self._feed = feed

    def read(self, size: int, /) -> bytes:
        piece = self._record.read(size)
        self._feed(piece)
        return piece

    def readinto(self, buffer: memoryview, /) -> int:
        got = self._record.readinto(buffer)
        self._feed(buffer[:got])
        return got


def _complaints(said: OutputTail) -> str:
    """Return xl's errors or, where it calls none so, its last words."""
    errors = [line for line in said.text.splitlines() if b"error:" in line]
    return last_lines(b"\n".join(errors[:CAUSES]) or said.text)


def _head(record: Source, config: DomainConfig | None) -> tuple[bytes, DomainConfig]:
    """Return what stands before the stream, with the config to use, and that config."""
    header = xl_format.read(record).value
    assert isinstance(header, XlHeader)  # it says so
    if config is not None:
        text = config.dump() + b"\0"
        header = XlHeader(header.mandatory_flags | JSON, text, header.tail)
    elif header.config and header.is_json:
        config = DomainConfig.parse(header.config)
    else:
        raise Unsupported("xl header", xl_format.HEADER.size, "a config in JSON", "none")
    return header.pack(), config
