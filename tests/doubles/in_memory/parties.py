"""The parties of a host in memory: each is a view of the world's guests."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from tests.doubles.in_memory.guest import Guest
from tests.property import strategies as made
from xenqemu.errors import HypervisorError, NotConverged
from xenqemu.formats.stream import libxc
from xenqemu.formats.stream.page_data import PAGE_SIZE, PageData
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.source import Source
from xenqemu.host.domain import DomainInfo
from xenqemu.host.guest_memory import Live, Moment
from xenqemu.host.precopy import Iteration

if TYPE_CHECKING:
    from tests.doubles.in_memory.world import World


class Hypervisor:
    """The view of memory and run states."""

    def __init__(self, world: World) -> None:
        self._world = world

    def info(self, domid: int) -> DomainInfo | None:
        def answer() -> DomainInfo | None:
            guest = self._world.guests.get(domid)
            if guest is None:
                return None
            if guest.unread:
                self._world.broken.append("a guest whose snapshot nobody reads may not answer")
            uuid, vcpus = guest.config.uuid, guest.config.max_vcpus
            guest.cpu_seconds += 0.25 if guest.runs else 0
            memory = len(guest.pages) * PAGE_SIZE
            return DomainInfo(domid, uuid, guest.run_state, memory, vcpus, guest.cpu_seconds)

        return self._world.call("hypervisor.info", answer)

    def require_suspendable(self, domid: int) -> None:
        def check() -> None:
            guest = self._world.guests.get(domid)
            if guest is None:
                raise HypervisorError(f"there is no domain {domid}")
            if guest.paused and guest.must_answer:
                raise HypervisorError(f"domain {domid} cannot be suspended: it is paused")

        self._world.call("hypervisor.require_suspendable", check)

    def suspend(self, domid: int) -> None:
        self._set("suspend", domid, suspended=True)

    def suspend_requested(self, domid: int) -> bool:
        return self._world.call(
            "hypervisor.suspend_requested", lambda: self._world.guests[domid].asked
        )

    def withdraw_suspend(self, domid: int) -> None:
        self._set("withdraw_suspend", domid, asked=False)

    def resume(self, domid: int) -> None:
        self._set("resume", domid, suspended=False)

    def pause(self, domid: int) -> None:
        self._set("pause", domid, paused=True)

    def unpause(self, domid: int) -> None:
        self._set("unpause", domid, paused=False)

    def destroy(self, domid: int) -> None:
        self._world.call("hypervisor.destroy", lambda: self._world.guests.pop(domid, None))

    def memory(self, domid: int) -> Memory:
        return self._world.call(
            "hypervisor.memory", lambda: Memory(self._world, self._world.guests[domid])
        )

    def stop_dirty_log(self, domid: int) -> None:
        self._set("stop_dirty_log", domid, logged=False)

    def moment_memory(self, domid: int) -> MomentMemory | None:
        def answer() -> MomentMemory | None:
            guest = self._world.guests[domid]
            return MomentMemory(self._world, guest) if guest.moments else None

        return self._world.call("hypervisor.moment_memory", answer)

    def read_rest(self, domid: int, uuid: str, pipe: int) -> None:
        def read() -> None:
            guest = self._world.guests.get(domid)
            if guest is not None and guest.config.uuid == uuid and pipe == MomentMemory.PIPE:
                guest.unread = False

        self._world.call("hypervisor.read_rest", read)

    def stop_moment(self, domid: int, bandwidth: int) -> None:
        if self._world.guests[domid].unread:
            self._world.broken.append("to wait for a snapshot that nobody reads takes for ever")
        self._set("stop_moment", domid, enabled=False)

    def _set(self, act: str, domid: int, **state: bool) -> None:
        def change() -> None:
            if domid not in self._world.guests:
                raise HypervisorError(f"there is no domain {domid}")
            vars(self._world.guests[domid]).update(state)

        self._world.call(f"hypervisor.{act}", change)


class Memory:
    """The view of one guest's pages, written as Xen writes them."""

    def __init__(self, world: World, guest: Guest) -> None:
        self._world = world
        self._guest = guest

    def space(self, _file=None) -> int:
        return self._world.call("memory.space", lambda: len(self._guest.pages) * 2 * PAGE_SIZE)

    def counted_space(self, progress) -> int:
        def count() -> int:
            progress(PAGE_SIZE, PAGE_SIZE)
            return len(self._guest.pages) * 2 * PAGE_SIZE

        return self._world.call("memory.counted_space", count)

    def size_before_pages(self) -> int:
        def size() -> int:
            sink = Sink(io.BytesIO())
            self._begun(sink)
            return sink.offset

        return self._world.call("memory.size_before_pages", size)

    def save(self, out, progress) -> None:
        self._world.call("memory.save", lambda: self._save(out, progress))

    def load(self, source: Source, progress) -> None:
        self._world.call("memory.load", lambda: self._load(source, progress))

    def can_log_dirty(self) -> bool:
        return self._world.call("memory.can_log_dirty", lambda: self._guest.can_log_dirty)

    def save_live(self, out, progress, live: Live) -> None:
        """Write the guest in two iterations, during which it runs; then suspend it, or give up."""
        self._world.call("memory.save_live", lambda: setattr(self._guest, "logged", True))
        writer = self._begun(out)
        for number in (1, 2):
            self._write(writer, sorted(self._guest.pages), progress)
            self._guest.count()
            live.report(Iteration(number, 10, 40960, 0.5, 1))
        if live.precopy.give_up:
            raise NotConverged("it never converges")
        live.suspend()
        self._world.call("memory.rest", lambda: self.rest(writer, progress))
        live.report(Iteration(3, 1, 4096, 0.1))
        self._world.call("memory.stop", lambda: setattr(self._guest, "logged", False))

    def _save(self, out, progress) -> None:
        writer = self._begun(out)
        self._require_suspended()
        self._write(writer, sorted(self._guest.pages), progress)
        self._end(writer)

    def rest(self, writer: libxc.ImageWriter, progress) -> None:
        """Write what has changed since, of a suspended guest."""
        self._require_suspended()
        self._write(writer, [3], progress)
        self._end(writer)

    def _require_suspended(self) -> None:
        if not self._guest.suspended or self._guest.devices_run:
            self._world.broken.append("memory saved while it may change")

    def _begun(self, out) -> libxc.ImageWriter:
        hole = max(self._guest.pages, default=0) + 1 if out.align_pages else None
        writer = libxc.ImageWriter(out, made.DOMAIN, hole=hole)
        made.put(writer, (made.CPUID, made.MSRS, libxc.StaticDataEnd()))
        return writer

    def _write(self, writer: libxc.ImageWriter, pfns: list[int], progress) -> None:
        for done in range(0, len(pfns), 5):
            batch = pfns[done : done + 5]
            writer.pages(PageData.of(batch), [self._guest.pages[pfn] for pfn in batch])
            progress((done + len(batch)) * PAGE_SIZE, len(pfns) * PAGE_SIZE)

    def _end(self, writer: libxc.ImageWriter) -> None:
        made.put(writer, (made.TSC, made.CONTEXT, made.PARAMS, libxc.End()))

    def _load(self, source: Source, progress) -> None:
        def take(pages: PageData, source: Source) -> None:
            for run in pages.runs():
                for pfn in range(run.pfn, run.pfn + (run.pages if run.has_data else 0)):
                    self._guest.pages[pfn] = source.exact(PAGE_SIZE, "a page")
            progress(len(self._guest.pages) * PAGE_SIZE, 0)

        for _ in libxc.read(source, take):
            pass


class MomentMemory(Memory):
    """The view of one guest's pages, which its device model writes while it runs."""

    PIPE = 12345

    @property
    def bandwidth(self) -> int:
        return self._world.call("moment.bandwidth", lambda: 1 << 27)

    def obstacle(self) -> str:
        return self._world.call("moment.obstacle", lambda: self._world.obstacle)

    def enable(self) -> None:
        self._world.call("moment.enable", lambda: setattr(self._guest, "enabled", True))

    def save(self, out, progress, begins) -> Moment:
        begins(self.PIPE)
        taken = replace(self._guest, pages=dict(self._guest.pages))
        self._world.call("moment.begin", lambda: setattr(self._guest, "unread", True))
        copy = Memory(self._world, taken)
        writer = copy._begun(out)  # noqa: SLF001 - of one class
        copy._write(writer, sorted(taken.pages), progress)  # noqa: SLF001
        copy._end(writer)  # noqa: SLF001
        self._world.call("moment.end", lambda: setattr(self._guest, "unread", False))
        return Moment(self._world.device_state(taken.tick), 0.005)


class DeviceModel:
    """The view of a guest's devices: a connection, one at a time."""

    def __init__(self, world: World, domid: int) -> None:
        self._world = world
        self._domid = domid
        self._open = False

    def __enter__(self) -> Self:
        def connect() -> None:
            if self._world.clients:
                self._world.broken.append("two clients at one device model")

        self._world.call("device_model.connect", connect)
        self._open = True
        self._world.clients += 1
        return self

    def __exit__(self, *error: object) -> None:
        self._open = False
        self._world.clients -= 1

    def status(self) -> str:
        return self._ask("status", lambda: "running" if self._guest.devices_run else "paused")

    def blockers(self) -> list[str]:
        return self._ask("blockers", lambda: list(self._world.blockers))

    def prepare_save(self) -> None:
        self._ask("prepare_save", lambda: None)

    def stop(self) -> None:
        self._ask("stop", lambda: setattr(self._guest, "devices_run", False))

    def cont(self) -> None:
        self._ask("cont", lambda: setattr(self._guest, "devices_run", True))

    def announce(self) -> None:
        self._ask("announce", lambda: None)

    def save_state_bytes(self, *, live: bool) -> bytes:
        if live != self._world.sends:
            self._world.broken.append(f"saved with live={live} a guest that does otherwise")
        return self._ask("save", lambda: self._world.device_state(self._guest.tick))

    @property
    def _guest(self) -> Guest:
        return self._world.guests[self._domid]

    def _ask(self, command: str, answer: Callable[[], object]) -> object:
        if not self._open:
            self._world.broken.append(f"{command} without a connection")
        return self._world.call(f"device_model.{command}", answer)


class Store:
    """The view of names."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __enter__(self) -> Self:
        self._world.call("store.connect", lambda: None)
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def read(self, path: str) -> str | None:
        def answer() -> str | None:
            *_, domid, node = path.split("/")
            guest = self._world.guests.get(int(domid))
            if guest is None:
                return None
            what = guest.config
            return {"name": what.name, "vm": f"/vm/{what.uuid}", "type": what.type}.get(node)

        return self._world.call("store.read", answer)

    def list(self, path: str) -> list[str]:
        assert path == "/local/domain"
        return self._world.call("store.list", lambda: ["0", *map(str, self._world.guests)])
