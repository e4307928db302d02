"""Operations on whole save files, and the two sides of xenstore and of the save helper's messages.

As in `targets`, but some of these also raise what their own documents say: that a host cannot do
something (`HostError`), or that a request makes no sense there (`UsageError`).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest import mock
from zlib import crc32

from tests.fuzz import noise, samples, wires
from tests.fuzz.engine import Target
from tests.fuzz.records import stream_changed
from tests.fuzz.targets import certain, either_way
from tests.fuzz.texts import CFG, LINES
from xenqemu.cli import inspect_command
from xenqemu.errors import FormatError, HostError, UsageError
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.helper.dialects import DIALECTS
from xenqemu.formats.helper.messages import Suspend, SwitchQemuLogdirty
from xenqemu.formats.stream.source import Source
from xenqemu.formats.xenstore import HEADER
from xenqemu.host import domain_state
from xenqemu.host.findings import Check, Finding, findings
from xenqemu.host.outside_state import outside_state
from xenqemu.host.party_deadlines import Deadlines
from xenqemu.host.peer.command import LINE_MAX, StderrLines
from xenqemu.host.protocol import Needs
from xenqemu.host.qemu import emulator
from xenqemu.host.trust import DEFAULT_TRUST
from xenqemu.host.xen import requirements as xen_admission
from xenqemu.host.xen.memory.helper_memory import HelperDialogue
from xenqemu.host.xenstore.store import Store
from xenqemu.lab import admission as lab_admission
from xenqemu.lab.ram_file import RamFile
from xenqemu.lab.xenstored import xs_wire
from xenqemu.lab.xenstored.client import Client
from xenqemu.lab.xenstored.daemon import Daemon
from xenqemu.operations.journal.folder import Journals
from xenqemu.operations.journal.log import About
from xenqemu.operations.journal.steps import Step
from xenqemu.operations.options import RestoreOptions
from xenqemu.operations.restore import restore
from xenqemu.operations.save_file import read_save_file
from xenqemu.operations.verify import verify
from xenqemu.settings import toml_values, xendomains
from xenqemu.settings.xenqemu_conf import Settings
from xenqemu.shown_text import printable

XENS = ((4, 13), (4, 17), (4, 20))
RAM, BELOW = 5 << 30, 4 << 30
IN_MEMORY = "/dev/shm"
MOST_DAMAGED = 4000
"""Characters of what is said of a damaged journal: a path and two texts of others, each cut."""
MACHINES = {samples.MACHINE: "pc", "none": ""}
DEVICES = {"rtl8139", "ide-hd", "ide-cd"}
"""The machines and devices of a QEMU, without one."""

TIMEOUT, SILENCE = 5.0, 0.05
"""Seconds that our client waits for an answer, and after which one comes without a request."""


@contextlib.contextmanager
def file_of(data: bytes) -> Iterator[Path]:
    """A file with these bytes, in memory."""
    with open(os.memfd_create("input"), "w+b", buffering=0) as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(data)
        yield Path(f"/proc/self/fd/{file.fileno()}")


# The commands.

verified = either_way(verify)


def inspected(data: bytes) -> None:
    """The output can be encoded, has no control characters, and as JSON is JSON."""
    with file_of(data) as path:
        text = _shown(path, as_json=False)
        assert all(line == printable(line) for line in text.split("\n"))
        assert isinstance(json.loads(_shown(path, as_json=True)), dict)


def _shown(path: Path, *, as_json: bool) -> str:
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    with contextlib.redirect_stdout(out):
        show = inspect_command.print_json if as_json else inspect_command.print_tree
        show(path, DEFAULT_TRUST)
    return out.buffer.getvalue().decode()


class Admitted(HostError):
    """The checks are done; nothing is built here."""


class CheckingHost:
    """The checks of all hosts: of each Xen, and of the lab; no domain is built."""

    kind = "none"
    deadlines = Deadlines()
    trust = DEFAULT_TRUST

    def __init__(self, folder: str) -> None:
        self.journals = Path(folder) / "operations"

    def findings(self, needs: Needs, *, quick: bool) -> Iterator[Finding]:
        questions = {"machines": _machines, "devices": _devices, "device_states": _states}
        with mock.patch.multiple(emulator, **questions):
            found = [type(each.error).__name__ for each in findings(_checks(needs, quick=quick))]
        raise Admitted(", ".join(found))


def _machines(_program: str) -> dict[str, str]:
    return MACHINES


def _devices(_program: str) -> set[str]:
    return DEVICES


def _states(_program: str) -> dict[str, emulator.Versions]:
    return {name: emulator.Versions(1, 3) for name in ("vga", "timer", "e1000", "cpu")}


def _checks(needs: Needs, *, quick: bool) -> Iterator[Check]:
    """Yield the checks of each host; the free space is made up."""
    config, xen, lab = needs.config, xen_admission, lab_admission
    yield from (("xen", partial(xen.check, needs, version)) for version in XENS)
    yield from (("xen", partial(check, config)) for check in (xen.check_disks, xen.check_bridges))
    yield "xen", partial(xen.check_memory, config, 1 << 30, 1 << 30)
    yield "xen", partial(xen.check_cpu, needs, ())
    yield "xen", partial(xen.check_devices, needs, XENS[-1])
    yield "outside", partial(outside_state, DEFAULT_TRUST, config)
    yield from lab.checks(needs, Path(IN_MEMORY), Path(IN_MEMORY), quick=quick)


def restored(data: bytes) -> None:
    config = DomainConfig.parse(samples.configs()[0]) if crc32(data) % 4 == 0 else None
    with file_of(data) as path, tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        restore(CheckingHost(folder), path, RestoreOptions(config=config))


def loaded(data: bytes) -> None:
    """Read a save file into the memory of a guest of the lab."""
    with file_of(b"") as ram:
        os.truncate(ram, RAM)
        memory = RamFile(ram, RAM, BELOW)
        read_save_file(Source.of(data), lambda _config: memory, lambda _done, _total: None)
        assert ram.stat().st_size == RAM


def left_over(data: bytes) -> None:
    """Read the journal of a killed operation; nothing is done, and another guest is not concerned.

    A damaged one is a legal error, and one visible line.
    """
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        (Path(folder) / "1.op").write_bytes(data)
        journals = Journals(Path(folder))
        certain_for_others(journals)
        for damaged in journals.damaged():
            assert printable(str(damaged)) == str(damaged)
            assert len(str(damaged)) < MOST_DAMAGED
            raise HostError(damaged.reason)
        for found in journals.found():
            state = found.state()
            assert found.about.concerns(found.about)
            assert all(isinstance(step, Step) and step.text for step in state.steps.values())
            assert printable(f"{found.about} {state.meaning}")


def certain_for_others(journals: Journals) -> None:
    """Begin and end an operation on a guest that no sample names."""
    about = About("save", 99, "somebody else", "no uuid of a sample", "/other")
    log = journals.begin(about, lambda _other: False)
    log.write({"phase": "save"})
    log.close()


def configured(data: bytes) -> None:
    toml_values.read(data, Settings(), "xenqemu.conf")


def configured_for_xendomains(data: bytes) -> None:
    chosen = xendomains.read(data, "xendomains")
    assert all(len(each.value or "") <= xendomains.MAX_TEXT for each in chosen.values())


def said_aside(data: bytes) -> None:
    """What a peer says on its standard error is passed on in visible lines, each bounded."""
    lines: list[str] = []
    said = StderrLines(lines.append)
    size = 1 + crc32(data) % 5000
    for start in range(0, len(data), size):
        said.feed(data[start : start + size])
    said.feed(b"")
    assert all(line.isprintable() and len(line) <= 10 * LINE_MAX for line in lines)
    assert str(said.words).isprintable()


# The save helper's messages.


def heard(data: bytes) -> None:
    answers = {Suspend: lambda _message: 1, SwitchQemuLogdirty: lambda _message: 0}
    talk = HelperDialogue(DIALECTS[-1], answers, lambda _told: None)
    for start in range(0, len(data), 64):
        assert all(isinstance(answer, int) for answer in talk.feed(data[start : start + 64]))


# xenstore: the lab's server, and our client.


def served(data: bytes) -> None:
    """All answers are packets, whatever the requests."""
    daemon, client = Daemon(), Client()
    daemon.clients.append(client)
    inbox = bytearray(data)
    while not client.paused and (request := xs_wire.take(inbox)) is not None:
        daemon.handle(client, request)
    while (answer := certain(xs_wire.take, client.outbox)) is not None:
        assert answer.op < 24
    assert not client.outbox


def answered(data: bytes) -> None:
    """Our client asks as operations do; the input is all answers."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("")  # the system finds a name that is no file
    listener.listen()
    listener.settimeout(TIMEOUT)
    path = Path(os.fsdecode(listener.getsockname()))
    server = threading.Thread(target=_answer, args=(listener, data))
    server.start()
    try:
        with Store(path, Deadlines(store_request=TIMEOUT)) as store:
            _asked(store)
    finally:
        server.join()


def _asked(store: Store) -> None:
    store.tree("/local/domain/1")
    store.permissions("/tool")
    store.domain_path(1)
    store.atomically(lambda nodes: nodes.write("/tool", "x"))
    nobody = SimpleNamespace(info=lambda _domid: None)
    host = SimpleNamespace(store=lambda: contextlib.nullcontext(store), hypervisor=nobody)
    domain_state.find(host, "guest")


def _answer(listener: socket.socket, data: bytes) -> None:
    """Send a packet for each request, or where none comes; then hang up."""
    with listener:
        connection, _ = listener.accept()
    with connection, contextlib.suppress(OSError):  # the client may be gone at any time
        connection.settimeout(SILENCE)
        while data:
            _request(connection)
            size = HEADER.size + int.from_bytes(data[HEADER.size - 4 : HEADER.size], "little")
            connection.sendall(data[:size])
            data = data[size:]


def _request(connection: socket.socket) -> None:
    """Read a request, or a part of one before silence or the end."""
    inbox = bytearray()
    with contextlib.suppress(TimeoutError):
        while xs_wire.take(inbox) is None and (piece := connection.recv(1 << 16)):
            inbox += piece


_ANY = noise.changed
_STREAMS = (stream_changed, stream_changed, stream_changed, _ANY)
_PACKETS = (wires.PACKETS.changed, wires.PACKETS.changed, _ANY)

_SHELL = (LINES.changed, CFG.changed, _ANY)

OPERATIONS = (
    Target("verify", samples.streams, _STREAMS, verified),
    Target("inspect", samples.streams, _STREAMS, inspected),
    Target("restore", samples.save_files, _STREAMS, restored, (FormatError, HostError)),
    Target("load", samples.save_files, _STREAMS, loaded),
    Target("big-save-file", samples.big_save_files, (_ANY,), verified, most=1 << 25),
    Target(
        "journal", samples.journals, (LINES.changed, LINES.changed, _ANY), left_over, (HostError,)
    ),
    Target("stderr", samples.journals, (LINES.changed, _ANY), said_aside, ()),
    Target("settings", samples.settings, (CFG.changed, _ANY), configured, (UsageError,)),
    Target("xendomains", samples.xendomains, _SHELL, configured_for_xendomains, (UsageError,)),
    Target("save-helper", wires.saves, (wires.MESSAGES.changed, _ANY), heard),
    Target("xenstored", wires.requests, _PACKETS, served),
    Target("store", wires.replies, _PACKETS, answered, (HostError,), memory=1 << 30),
)
