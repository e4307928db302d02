"""Guests go from lab host to lab host: over ssh, over a socket, and over ways that break."""

from __future__ import annotations

import random
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

import xenqemu
from tests.integration.lab.guests import Guest, Host, Seed
from tests.integration.lab.migrations import (
    ACTS,
    BANNER,
    CUTS_BACK,
    UP_TO_READY,
    assert_goes_on,
    moved,
    receiver,
    record_size,
    running,
    way,
)
from tests.integration.lab.namespaces import NamespacedHost, listening, namespaced, sshd
from xenqemu.errors import HostError
from xenqemu.formats.migration.stream_chunks import CHUNK, SIZE
from xenqemu.formats.migration.wrapping import DIGEST_SIZE
from xenqemu.operations.events import Event, Kind
from xenqemu.operations.journal.folder import Journals

pytestmark = pytest.mark.lab


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
    command = shlex.split(receiver(two, "-p"))
    xenqemu.migrate("web", command, whole, host=one.lab, observe=events.append)
    assert one.empty()
    assert two.status("web")["state"] == "paused"
    done = [event.phase.value for event in events if event.kind is Kind.DONE]
    assert done == ["check", "connect", "quiesce", "save", "handover", "release"]
    with pytest.raises(HostError, match="there is no domain 'web'"):
        xenqemu.migrate("web", shlex.split(receiver(two)), whole, host=one.lab)


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
    """Return how many bytes each of three streams has of a save file."""
    chunks = [min(CHUNK, size - at) + SIZE.size for at in range(0, size, CHUNK)]
    return [sum(chunks[stream::3]) for stream in range(3)]


def test_streams_to_one_that_does_not_know_them(guest: Guest, two: Host, folder: Path):
    older = f"""exec {shlex.join(two.command())} "$@" | sed 's/, "streams"//'"""
    ssh = way(two, folder, "--preflight", older)
    words = ("-s", ssh, "web", "two")
    done = guest.host.run("migrate", "--streams", 2, *words)
    assert (done.code, done.out) == (3, "")
    assert done.err == "xenqemu: two cannot take a save file over 2 streams\n"
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
