"""Guests go from lab host to lab host: over ssh, over a socket, and over ways that break."""

from __future__ import annotations

import json
import os
import random
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import xenqemu
from tests.doubles.peers import relay
from tests.integration.lab.guests import PATIENCE, PROGRAM, Guest, Host, Seed, ticks, wait
from tests.integration.lab.namespaces import NamespacedHost, listening, namespaced, sshd
from xenqemu.errors import HostError
from xenqemu.formats.migration.handshake import WORDS, Message
from xenqemu.formats.migration.stream_chunks import CHUNK, SIZE
from xenqemu.formats.migration.wrapping import DIGEST_SIZE
from xenqemu.operations.events import Event, Kind
from xenqemu.operations.journal.folder import Journals

pytestmark = pytest.mark.lab

AWAY = "--migratedaway"


def receiver(host: Host, *options: str) -> str:
    """Return the command that has a host receive a guest."""
    return shlex.join([*PROGRAM, "--host", host.option, "migrate-receive", *options])


def moved(guest: Guest, to: Host, *words: object) -> Guest:
    """Migrate a guest and return it on the other host."""
    with (guest.folder / "console.log").open("rb") as console:  # the file's name goes away
        done = guest.host.run("migrate", *words)
        assert done.code == 0, done.err
        said = guest.earlier + console.read()
    arrived = to.guest(guest.name)
    arrived.earlier = said
    return arrived


def assert_goes_on(guest: Guest) -> None:
    before = ticks(guest.said)
    guest.wait_tick(3)
    assert ticks(guest.said) >= before + 2


@pytest.fixture(scope="module")
def pair(room: Path) -> Iterator[tuple[NamespacedHost, NamespacedHost]]:
    with namespaced(room) as hosts:
        yield hosts


@pytest.fixture
def ends(
    pair: tuple[NamespacedHost, NamespacedHost],
) -> Iterator[tuple[NamespacedHost, NamespacedHost]]:
    yield pair
    for host in pair:
        host.clean()


@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), id="one stream"),
        pytest.param(("--streams", 3), id="streams", marks=pytest.mark.long),
        pytest.param(("--streams", 3, "--compress"), id="packed streams"),
    ],
)
def test_over_ssh(ends, seed: Seed, folder: Path, options):
    here, there = ends
    guest = seed.on(here)
    guest.wait_tick()
    with sshd(there, folder) as ssh:
        arrived = moved(guest, there, *options, "-s", ssh, guest.name, there.address)
    assert here.empty()
    assert there.status("web")["running"]
    assert_goes_on(arrived)


@pytest.mark.parametrize("options", [(), ("-p",)], ids=["running", "paused"])
def test_over_a_socket(ends, seed: Seed, folder: Path, options):
    here, there = ends
    guest = seed.on(here)
    guest.wait_tick()
    with listening(there, folder, *options) as command:
        arrived = moved(guest, there, "-s", "", guest.name, command)
    assert here.empty()
    assert there.status("web")["state"] == ("paused" if options else "running")
    if options:
        there.must("lab", "unpause", "web")
    assert_goes_on(arrived)


def test_there_and_back_again_compressed(guest: Guest, one: Host, two: Host):
    guest.wait_tick()
    for to in (two, one, two):
        before = guest.host
        guest = moved(guest, to, "--compress", "-s", "", "web", receiver(to))
        assert before.empty()
        assert Journals(guest.host.lab.journals).found() == []
    assert_goes_on(guest)


def test_a_toolstack_migrates_by_a_function(guest: Guest, one: Host, two: Host):
    events: list[Event] = []
    whole = xenqemu.MigrateOptions(command="", precopy=None)
    xenqemu.migrate("web", receiver(two, "-p"), whole, host=one.lab, observe=events.append)
    assert one.empty()
    assert two.status("web")["state"] == "paused"
    done = [event.phase.value for event in events if event.kind is Kind.DONE]
    assert done == ["check", "connect", "quiesce", "save", "handover", "release"]
    with pytest.raises(HostError, match="there is no domain 'web'"):
        xenqemu.migrate("web", receiver(two), whole, host=one.lab)


def test_a_guest_with_disks_cards_and_a_screen(devices_seed: Seed, one: Host, two: Host):
    """Both QEMUs have the same disk images, which one gives up and the other takes."""
    guest = devices_seed.on(one)
    guest.wait_tick()
    for to in (two, one):
        guest = moved(guest, to, "-s", "", "full", receiver(to))
    assert_goes_on(guest)


def test_refused_before_anything_is_touched(guest: Guest, one: Host, two: Host, firmware_record):
    other = two.restore(firmware_record, "-p")
    two.lab.rename(other.domid, "tiny", "web")
    done = one.run("migrate", "-s", "", "web", receiver(two))
    assert (done.code, done.out) == (3, "")
    assert done.err.endswith(f"cannot take web: 1. domain {other.domid} is named web already\n")
    assert_goes_on(guest)
    assert Journals(one.lab.journals).found() == []


@pytest.mark.parametrize(
    ("command", "code", "why"),
    [
        ("exec ssh -o ConnectTimeout=1 -p 1 127.0.0.1 xl migrate-receive", 3, "Connection refused"),
        ("echo 'Welcome to Debian'; exec cat", 4, r"got 'Welcome to Debian\n'; is there a login"),
        ("exec no-such-program", 3, "not found"),
    ],
    ids=["nobody", "a banner", "nothing"],
)
def test_what_is_no_receiver_leaves_the_guest_running(guest: Guest, command, code, why):
    done = guest.host.run("migrate", "-s", "", "web", command)
    assert (done.code, done.out) == (code, ""), done.err
    assert why in done.err
    assert_goes_on(guest)


BACK = {message: len(words) for message, (_role, words) in WORDS.items()}
BANNER = BACK[Message.BANNER]
UP_TO_READY = BANNER + BACK[Message.READY]
UP_TO_REPORT = UP_TO_READY + BACK[Message.REPORT]

CUTS_BACK = {
    "in the banner": 20,
    "before the ready message": BANNER,
    "in the ready message": BANNER + 3,
    "before the report": UP_TO_READY,
    "in the report": UP_TO_READY + 5,
    "before the status": UP_TO_REPORT,
}
ACTS = ("cut", "kill-receiver", "kill-sender")


@dataclass
class Broken:
    """A migration from `one` to `two` over a way that broke, and what the sender said of it."""

    one: Host
    two: Host
    code: int
    words: str

    def settle(self) -> None:
        """Do what a user has to do, and assert that there is one guest in the end."""
        assert len([*running(self.one), *running(self.two)]) <= 1, self.words
        self.two.must("recover")
        there = running(self.two)
        if self.in_doubt:
            assert [each["name"] for each in self.one.list()] == [f"tiny{AWAY}"]
            assert running(self.one) == []
            self.one.must("recover", "tiny", "--moved" if there else "--stayed")
        else:
            assert self.code != 13
            self.one.must("recover")
        assert [*running(self.one), *running(self.two)] == ["tiny"], self.words
        for host in (self.one, self.two):
            assert Journals(host.lab.journals).found() == []
            assert all(each["running"] for each in host.list())

    @property
    def in_doubt(self) -> bool:
        """Whether the sender left a doubt behind."""
        found = Journals(self.one.lab.journals).found()
        return any(line.get("doubt") for each in found for line in each.lines[-1:])


def running(host: Host) -> list[str]:
    """Return the names of the guests that run on a host."""
    return [each["name"] for each in host.list() if each["running"]]


def nothing_goes_on(host: Host) -> bool:
    return not any(each.busy for each in Journals(host.lab.journals).found())


@pytest.fixture
def tiny(firmware_record: Path, one: Host) -> Guest:
    """A small guest on `one`."""
    return one.restore(firmware_record)


WAY = """\
#!/bin/sh
shift 2  # the host's name and the program's
case "$*" in
*{marked}*) {changed} ;;
*) exec {plain} "$@" ;;
esac
"""


def way(host: Host, folder: Path, marked: str, changed: str) -> Path:
    """Make a command in ssh's place that leads to a host otherwise where its words are `marked`."""
    script = folder / "way"
    plain = shlex.join(host.command())
    script.write_text(WAY.format(marked=shlex.quote(marked), changed=changed, plain=plain))
    script.chmod(0o755)
    return script


def relayed(command: str, act: str, out: int, back: int = -1) -> str:
    """Return the command that leads to another one over a way that breaks."""
    words = [sys.executable, relay.__file__, str(out), str(back), act]
    return f"exec {shlex.join(words)} {command}"


@pytest.fixture
def break_off(tiny: Guest, one: Host, two: Host, folder: Path) -> Callable[..., Broken]:
    """Migrate `tiny` over a way that breaks so; return once both sides have ended.

    With `stream` only this one of three breaks.
    """
    sender = folder / "sender"

    def run(act: str, *options: str, out: int = -1, back: int = -1, stream: int = 0) -> Broken:
        route = ["-s", "", "tiny", relayed(shlex.quote(receiver(two)), act, out, back)]
        if stream:
            command = f'"exec {shlex.join(two.command())} $*"'
            ssh = way(two, folder, f"--stream {stream} ", relayed(command, act, out))
            route = ["--streams", "3", "-s", str(ssh), "tiny", "two"]
        process = subprocess.Popen(
            one.command("migrate", *options, *route),
            env={**os.environ, "SENDER": str(sender)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        sender.write_text(str(process.pid))
        _, words = process.communicate(timeout=PATIENCE)
        wait(lambda: nothing_goes_on(one) and nothing_goes_on(two), lambda: words)
        return Broken(one, two, process.returncode, words)

    return run


@pytest.mark.long
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("back", CUTS_BACK.values(), ids=CUTS_BACK.keys())
def test_cut_off_at_every_answer(break_off, back: int, act: str):
    broken = break_off(act, back=back)
    if act != "kill-sender":
        early = 10 if back >= BANNER else 3
        known = early if back < UP_TO_READY else 13
        assert broken.code == known, broken.words
    broken.settle()


@pytest.mark.long
@pytest.mark.parametrize("act", ACTS)
def test_cut_off_at_random_places_of_the_record(break_off, one: Host, folder: Path, act: str):
    size = record_size(one, folder)
    choose = random.Random(f"of {act}")
    for _ in range(7):
        broken = break_off(act, out=choose.randrange(size))
        if act != "kill-sender":
            assert broken.code == 10, broken.words
            assert "the guest is as it was" in broken.words
        broken.settle()


@pytest.mark.long
@pytest.mark.parametrize("act", ACTS)
def test_one_of_the_streams_is_cut_off(break_off, one: Host, two: Host, folder: Path, act: str):
    """Before its first byte, or at a random place of its share."""
    shares = dealt(record_size(one, folder) + DIGEST_SIZE)
    choose = random.Random(f"one stream, {act}")
    cuts = [(stream, choose.randrange(shares[stream])) for stream in (1, 2) * 2]
    for stream, out in ((1, 0), (2, 0), *cuts):
        broken = break_off(act, out=out, stream=stream)
        if act != "kill-sender":
            assert broken.code == 10, broken.words
            assert "the guest is as it was" in broken.words
            assert running(two) == []
        broken.settle()
        assert running(one) == ["tiny"]
        assert [path.name for path in (two.lab.folder / "operations").iterdir()] == ["lock"]


def dealt(size: int) -> list[int]:
    """Return how many bytes each of three streams has of a record."""
    chunks = [min(CHUNK, size - at) + SIZE.size for at in range(0, size, CHUNK)]
    return [sum(chunks[stream::3]) for stream in range(3)]


def test_streams_to_one_that_does_not_know_them(guest: Guest, two: Host, folder: Path):
    older = f"""exec {shlex.join(two.command())} "$@" | sed 's/, "streams"//'"""
    ssh = way(two, folder, "--preflight", older)
    words = ("-s", ssh, "web", "two")
    done = guest.host.run("migrate", "--streams", 2, *words)
    assert (done.code, done.out) == (3, "")
    assert done.err == "xenqemu: a record in 2 streams is nothing for two\n"
    assert_goes_on(guest)
    assert_goes_on(moved(guest, two, *words))


@pytest.mark.long
@pytest.mark.parametrize("behind", [0, 1, 43])
def test_cut_off_before_the_last_word_is_whole(break_off, one: Host, folder: Path, behind: int):
    """The sender cannot know that its word was lost on the way; the receiver never has it."""
    broken = break_off("cut", "--no-live", out=record_size(one, folder) + behind)
    assert broken.code == 13, broken.words
    assert "look at both" in broken.words
    assert running(broken.two) == []
    broken.settle()
    assert running(one) == ["tiny"]


def record_size(host: Host, folder: Path) -> int:
    """Return how many bytes a migration of `tiny` sends before its last word."""
    file = folder / "counted.save"
    lines = host.must("save", "-c", "--json", "tiny", file).splitlines()
    return int(json.loads(lines[-1])["size"])
