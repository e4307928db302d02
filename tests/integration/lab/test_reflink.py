"""Guests whose RAM files share what they have with their save files, on real disks."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.doubles.system.file_systems import REFLINKING, disk
from tests.integration.lab.guests import Guest, Host, assert_same_memory, at, ticks
from tests.integration.moments import DIE
from xenqemu.lab.lab_host import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

MIB = 1 << 20

BOOKS = 8 * MIB
"""Bytes that a file system takes for the tables of some save files, and its own."""


class Disk(NamedTuple):
    """A lab host whose RAM files are on a disk, and a folder for save files there."""

    host: Host
    folder: Path
    tells: bool
    """Whether it tells at once what is taken: btrfs gives back what was removed some time later."""

    def taken(self) -> int:
        """Return how many bytes of the disk are taken."""
        os.sync()
        status = os.statvfs(self.folder)
        return (status.f_blocks - status.f_bfree) * status.f_frsize


@pytest.fixture(scope="module", params=REFLINKING)
def disk_host(request: pytest.FixtureRequest, room: Path) -> Iterator[Disk]:
    with disk(request.param, 2048 * MIB) as place:
        host = Host(room / request.param)
        host.must("lab", "up", "--ram", place / "ram", host.lab.folder)
        folder = place / "saves"
        folder.mkdir(mode=0o700)
        yield Disk(host, folder, tells=request.param == "xfs")
        host.lab.down()


@pytest.fixture
def here(disk_host: Disk) -> Iterator[Disk]:
    """The same without guests and save files."""
    yield disk_host
    disk_host.host.clean()
    for each in disk_host.folder.iterdir():
        each.unlink()


def brought(seed, here: Disk) -> Guest:
    """Restore a guest from memory, so that its RAM file shares nothing yet."""
    guest: Guest = seed.on(here.host)
    guest.wait_tick()
    return guest


def test_a_guest_is_saved_and_restored_without_copying(seed, here):
    guest = brought(seed, here)
    assert guest.ram.readlink().parent == here.folder.parent / "ram"
    before = here.taken()
    said = guest.save(here.folder / "web.save")
    assert list((here.folder.parent / "ram").iterdir()) == []
    here.host.must("verify", here.folder / "web.save")
    again = here.host.restore(here.folder / "web.save", "-p")
    below, _above = assert_same_memory(again.ram, here.folder / "web.save")
    assert below > 10_000
    if here.tells:
        assert here.taken() - before < BOOKS
    again.earlier = said
    here.host.must("lab", "unpause", "web")
    again.wait_tick(3)
    assert ticks(again.said) >= ticks(said) + 3


def test_saves_of_a_guest_that_goes_on_keep_their_moments(busy_seed, here):
    """It writes to 32 MiB all the time: what its mapping has dirty is in each save file."""
    busy: Guest = busy_seed.on(here.host)
    files = [here.folder / f"{number}.save" for number in range(3)]
    for file in files:
        busy.wait_rewritten(1)
        here.host.must("save", "-c", "busy", file)
    busy.wait_rewritten(1)
    here.host.must("lab", "destroy", "busy")
    for file in files:
        again = here.host.restore(file)
        again.wait_rewritten(1)
        here.host.must("lab", "destroy", "busy")


def test_a_save_file_is_read_elsewhere_too(seed, here, one):
    guest = brought(seed, here)
    said = guest.save(here.folder / "web.save")
    there = one.restore(here.folder / "web.save", "-p")
    assert_same_memory(there.ram, here.folder / "web.save")
    there.earlier = said
    one.must("lab", "unpause", "web")
    there.wait_tick(3)
    assert ticks(there.said) >= ticks(said) + 3


def test_memory_above_the_pci_hole_is_shared(big_seed, here):
    guest = brought(big_seed, here)
    before = here.taken()
    here.host.must("save", "-c", "big", here.folder / "big.save")
    here.host.must("lab", "destroy", "big")
    again = here.host.restore(here.folder / "big.save", "-p")
    below, above = assert_same_memory(again.ram, here.folder / "big.save")
    assert (below > 1000, above > 1000) == (True, True)
    assert here.taken() - before < BOOKS
    assert guest.domid != again.domid


def test_a_later_save_costs_what_changed(seed, one, here):
    """The guest's memory is elsewhere: what is the same is shared with the save file before."""
    guest = seed.on(one)
    first, second = here.folder / "first.save", here.folder / "second.save"
    before = here.taken()
    one.must("save", "-c", "web", first)
    whole = here.taken() - before
    guest.wait_tick(3)
    said = guest.save(second, "--base", first)
    if here.tells:
        assert here.taken() - before < whole + whole // 2
    first.unlink()
    one.must("verify", second)
    again = one.restore(second, "-p")
    assert_same_memory(again.ram, second)
    again.earlier = said
    one.must("lab", "unpause", "web")
    again.wait_tick(3)
    assert ticks(again.said) >= ticks(said) + 3


REFUSES = """
import errno, xenqemu.lab.shared_pages as pages
real, calls = pages.clone_range, []
def refusing(*ranges):
    calls.append(ranges)
    if len(calls) > {number}:
        raise OSError(errno.{why}, "refused")
    real(*ranges)
pages.clone_range = refusing
"""


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("why", ["EOPNOTSUPP", "ENOSPC"])
def test_what_the_disk_refuses_to_share_is_copied(seed, here, number, why):
    guest = brought(seed, here)
    act = REFUSES.format(number=number, why=why)
    done = at(here.host, "save started", act, "save", "-c", "web", here.folder / "web.save")
    done.good()
    guest.wait_tick()
    here.host.must("lab", "destroy", "web")
    here.host.must("verify", here.folder / "web.save")
    done = at(here.host, "build started", act, "restore", here.folder / "web.save")
    assert done.code == 0
    again = here.host.guest("web")
    again.earlier = seed.said
    again.wait_tick(3)


@pytest.mark.parametrize("moment", ["save progress", "verify started", "publish done"])
def test_a_killed_save_is_recovered(seed, here, moment):
    guest = brought(seed, here)
    killed = at(here.host, moment, DIE, "save", "web", here.folder / "web.save")
    assert killed.code == -signal.SIGKILL
    here.host.must("recover", "web")
    files = [each.name for each in here.folder.iterdir()]
    if moment == "publish done":
        assert files == ["web.save"]
        assert here.host.empty()
        guest = here.host.restore(here.folder / "web.save")
        guest.earlier = seed.said
    else:
        assert files == []
    guest.wait_tick(3)


def test_a_killed_restore_leaves_no_ram_file(seed, here):
    guest = brought(seed, here)
    guest.save(here.folder / "web.save")
    killed = at(here.host, "build progress", DIE, "restore", here.folder / "web.save")
    assert killed.code == -signal.SIGKILL
    assert len(list((here.folder.parent / "ram").iterdir())) == 1
    here.host.must("recover", "web")
    assert list((here.folder.parent / "ram").iterdir()) == []
    here.host.restore(here.folder / "web.save").wait_tick(3)


def test_a_full_disk_leaves_the_guest_as_it_was(seed, here):
    guest = brought(seed, here)
    with (here.folder / "others").open("wb", buffering=0) as others:
        free = os.statvfs(here.folder).f_bavail * os.statvfs(here.folder).f_frsize
        with contextlib.suppress(OSError):  # btrfs has less than it says
            os.posix_fallocate(others.fileno(), 0, free - MIB // 2)
    done = here.host.run("save", "web", here.folder / "web.save")
    if not here.tells and not done.code:  # all is shared, and there was space for the rest
        return
    assert done.code in (3, 10)
    assert "space" in done.err
    assert [each.name for each in here.folder.iterdir()] == ["others"]
    guest.wait_tick(3)


def test_the_folder_of_ram_files_is_kept(here):
    assert Lab(here.host.lab.folder).hypervisor.domids() == []
    here.host.must("lab", "up", here.host.lab.folder)
    tiny = here.host.create(
        'name = "tiny"\ntype = "hvm"\nmemory = 16\nserial = "pty"\nvga = "none"\n'
    )
    assert tiny.ram.is_symlink()
    here.host.must("lab", "destroy", "tiny")
    assert list((here.folder.parent / "ram").iterdir()) == []
