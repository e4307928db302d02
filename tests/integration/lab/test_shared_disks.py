"""Two lab hosts on one storage: which host has an image, through moves that go well and that break.

Each guest has its image by its lease, and QEMU's own lock on it beside that.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.lab import migrations
from tests.integration.lab.guests import CFG, Guest, Host, Seed
from tests.integration.lab.migrations import assert_goes_on, moved, receiver, running
from tests.parts import shortened
from xenqemu.host.disk import lease
from xenqemu.operations.journal.folder import Journals

pytestmark = pytest.mark.lab

UUID = "9233e52c-49ca-454f-96be-f53e22f3994d"
STREAMS = ("--streams", "2")
DISK = CFG.format(name="tiny", memory=16) + f'uuid = "{UUID}"\n'


@pytest.fixture
def image(folder: Path) -> Path:
    """A raw image that both hosts reach."""
    path = folder / "disk.raw"
    path.write_bytes(bytes(1 << 20))
    return path


@pytest.fixture
def hosts(one: Host, two: Host) -> tuple[Host, Host]:
    return one, two


@pytest.fixture
def tiny(image: Path, one: Host) -> Guest:
    """A small guest that writes it, on `one`."""
    return one.create(f'{DISK}disk = ["{image},raw,hda,w"]\n')


def parts(image: Path) -> list[str]:
    """Return the hosts that have a part in the lease of an image, its holder first."""
    found = lease.held(image)
    return [party.host for party in (found.owner, found.next_owner) if party] if found else []


def called(host: Host) -> str:
    """Return how a lease names a host."""
    return host.lab.owner(UUID).host


def assert_settled(image: Path, hosts: tuple[Host, Host]) -> None:
    """The image is for the host of its guest alone, and nothing else lies around it."""
    (here,) = [host for host in hosts if running(host)]
    assert parts(image) == [called(here)]
    assert {path.name for path in image.parent.glob("disk*")} == {
        *(image.name, f"{image.name}.xenqemu-lease")
    }


@pytest.mark.parametrize("options", shortened([(), ("--no-live",), STREAMS], STREAMS), ids=" ".join)
def test_there_and_back(devices_seed: Seed, one: Host, two: Host, room: Path, options):
    images = [room / "hda.raw", room / "sdb.qcow2"]
    guest = devices_seed.on(one)
    guest.wait_tick()
    for to in (two, one):
        guest = moved(guest, to, *options, "-s", "", "full", receiver(to))
        assert [parts(image) for image in images] == [[called(to)]] * 2
    assert_goes_on(guest)
    one.must("lab", "destroy", "full")
    assert [parts(image) for image in images] == [[], []]


def test_a_guest_that_stays_paused_there_has_its_disk(tiny: Guest, image, one: Host, two: Host):
    assert one.run("migrate", "-s", "", "tiny", receiver(two, "-p")).code == 0
    assert parts(image) == [called(two)]
    two.must("lab", "unpause", "tiny")
    assert_settled(image, (one, two))


@pytest.mark.parametrize("act", shortened(migrations.ACTS, "cut"))
@pytest.mark.parametrize("back", migrations.CUTS_BACK.values(), ids=migrations.CUTS_BACK.keys())
def test_cut_off_at_every_answer(break_off, image: Path, hosts: tuple[Host, Host], back, act):
    broken = break_off(act, back=back)
    for host in hosts:
        assert not running(host) or parts(image)[0] == called(host)
    broken.settle()
    assert_settled(image, hosts)


@pytest.mark.parametrize("behind", shortened([-4096, -1, 0, 43], 0))
def test_cut_off_before_the_last_word(
    break_off, image: Path, hosts: tuple[Host, Host], folder: Path, behind: int
):
    one, _ = hosts
    broken = break_off("cut", out=migrations.record_size(one, folder) + behind)
    assert parts(image)[0] == called(one)
    broken.settle()
    assert running(one) == ["tiny"]
    assert_settled(image, hosts)


def test_the_disk_tells_a_sender_that_was_killed(break_off, image: Path, one: Host, two: Host):
    broken = break_off("kill-sender", back=migrations.UP_TO_READY)
    assert broken.in_doubt
    assert running(two) == ["tiny"]
    refused = one.run("recover", "--stayed", "tiny")
    assert (refused.code, refused.out) == (3, "")
    assert refused.err.endswith("another host has the disks of tiny: it has moved\n")
    assert "the guest is on" in one.must("recover", "tiny")
    assert one.empty()
    assert_settled(image, (one, two))


def test_a_record_is_brought_back_on_one_host(tiny: Guest, image, one: Host, two: Host, folder):
    record = folder / "tiny.save"
    one.must("save", "tiny", record)
    assert parts(image) == []
    one.restore(record)
    refused = two.run("restore", record)
    assert (refused.code, refused.out) == (3, "")
    assert f"{image} is leased to domain {UUID} on host {called(one)} since 2" in refused.err
    assert two.empty()
    assert Journals(two.lab.journals).found() == []
    assert_settled(image, (one, two))
    one.must("lab", "destroy", "tiny")
    two.restore(record)
    assert_settled(image, (one, two))
