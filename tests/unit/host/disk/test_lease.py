"""Leases beside images: two hosts that share a folder, and what a crash of either leaves."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doubles.qemu.lab_guest import config
from xenqemu.errors import HostError, HostTimeout, InUse
from xenqemu.host.disk import lease
from xenqemu.host.disk.lease import Owner
from xenqemu.host.party_deadlines import Deadlines
from xenqemu.system import lock_file

WEB = "9233e52c-49ca-454f-96be-f53e22f3994d"
MAIL = "00000000-0000-0000-0000-000000000002"
ONE = Owner("one", "boot-1", WEB)
TWO = Owner("two", "boot-2", WEB)
THREE = Owner("three", "boot-3", WEB)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.touch()
    return path


def who(image: Path) -> tuple[str, str | None] | None:
    """Return the hosts of the owner and the next_owner."""
    found = lease.held(image)
    return found and (found.owner.host, found.next_owner.host if found.next_owner else None)


def reason(image: Path, party: Owner, **how: bool) -> str:
    """Return why a party does not get the lease; check that it is as before."""
    before = lease.held(image)
    with pytest.raises(InUse) as caught:
        lease.take(image, party, **how)
    assert lease.held(image) == before
    return str(caught.value)


def test_one_guest_uses_an_image_and_lets_go(image):
    assert lease.held(image) is None
    lease.take(image, ONE)
    found = lease.held(image)
    assert (found.owner.host, found.owner.boot, found.owner.vm) == ("one", "boot-1", WEB)
    assert found.next_owner is None
    lease.take(image, ONE)
    assert who(image) == ("one", None)
    lease.release(image, ONE)
    assert lease.held(image) is None
    lease.release(image, ONE)
    assert [entry.name for entry in image.parent.iterdir()] == ["disk.img"]


def test_the_file_is_for_humans_too(image):
    lease.take(image, Owner.here(WEB.upper(), "/lab"))
    file = image.with_name("disk.img.xenqemu-lease")
    tree = json.loads(file.read_text())
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    since = tree["owner"].pop("since")
    assert tree == {
        "owner": {"host": lease.host_id("/lab"), "boot": boot, "vm": WEB},
        "next_owner": None,
    }
    assert since.endswith("Z")
    assert len(since) == 20
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_hosts_on_one_machine_are_distinguished():
    assert lease.host_id().startswith(os.uname().nodename)
    assert lease.host_id("/lab/one") == f"{lease.host_id()}//lab/one"


def test_another_host_is_refused_with_the_holder_named(image):
    lease.take(image, ONE)
    for other in (Owner("two", "boot-2", MAIL), TWO):
        why = reason(image, other)
        assert f"{image} is leased to domain {WEB} on host one since 2" in why
        assert f"if that host is gone for good, remove {image}.xenqemu-lease" in why
    assert "host one" in reason(image, Owner("two", "boot-2", MAIL), incoming=True)
    lease.release(image, TWO)
    assert who(image) == ("one", None)


def test_another_guest_of_the_same_host_takes_it_over(image):
    """Whether the first one is gone, the host itself knows by its xenstore."""
    lease.take(image, ONE)
    lease.take(image, Owner("one", "boot-1", MAIL))
    assert lease.held(image).owner.vm == MAIL


def test_a_host_that_came_up_anew_takes_over_what_it_left(image):
    lease.take(image, ONE)
    lease.take(image, Owner("one", "boot-9", MAIL))
    found = lease.held(image).owner
    assert (found.boot, found.vm) == ("boot-9", MAIL)


def test_it_is_found_by_every_name_of_the_image(image):
    link = image.with_name("link")
    link.symlink_to("disk.img")
    lease.take(link, ONE)
    assert "host one" in reason(image, TWO)
    lease.release(link, ONE)
    assert lease.held(image) is None


def test_only_what_one_has_is_released(image):
    lease.take(image, ONE)
    for stranger in (Owner("one", "boot-1", MAIL), Owner("two", "boot-1", WEB)):
        lease.release(image, stranger)
        assert who(image) == ("one", None)
    lease.release(image, Owner("one", "boot-1", ""))
    assert lease.held(image) is None


def test_what_has_a_lease(tmp_path):
    device = next(iter(sorted(Path("/sys/block").glob("[vs]d*")))).name
    disks = [
        *("/a,raw,hda,w", "/b,qcow2,hdb,w", "/c,raw,hdc,r", ",,hdd,cdrom"),
        f"/dev/{device},raw,sda,w",
    ]
    found = config(f"disk = {disks!r}")
    assert list(lease.images(found)) == [Path("/a"), Path("/b")]


# A move.


def test_a_move(image):
    lease.take(image, ONE)
    lease.take(image, TWO, incoming=True)
    assert who(image) == ("one", "two")
    assert not lease.moved(image, ONE)
    lease.claim(image, TWO)
    lease.claim(image, TWO)
    assert who(image) == ("two", "one")
    assert lease.held(image).next_owner.boot == "boot-1"
    assert not lease.moved(image, ONE)
    lease.keep(image, TWO)
    lease.keep(image, TWO)
    assert who(image) == ("two", None)
    assert lease.moved(image, ONE)
    assert not lease.moved(image, TWO)
    lease.release(image, ONE)
    assert who(image) == ("two", None)
    assert "host two" in reason(image, ONE)
    lease.release(image, TWO)
    assert lease.held(image) is None
    assert not lease.moved(image, ONE)


def test_the_heir_stays_what_it_is_as_long_as_it_is_there(image):
    """Its script may be run once more, when its domain has its own name already."""
    lease.take(image, ONE)
    lease.take(image, TWO, incoming=True)
    lease.take(image, TWO)
    assert who(image) == ("one", "two")
    lease.claim(image, TWO)
    lease.take(image, TWO)
    assert who(image) == ("two", "one")


def test_only_the_same_guest_comes(image):
    lease.take(image, ONE)
    assert "host one" in reason(image, Owner("two", "boot-2", MAIL), incoming=True)
    assert "host one" in reason(image, TWO)


@pytest.mark.parametrize("claimed", [False, True])
def test_a_move_that_fails_on_the_new_host(image, claimed):
    lease.take(image, ONE)
    lease.take(image, TWO, incoming=True)
    if claimed:
        lease.claim(image, TWO)
    lease.release(image, TWO)
    assert who(image) == ("one", None)
    lease.keep(image, ONE)
    assert who(image) == ("one", None)


@pytest.mark.parametrize("claimed", [False, True])
def test_a_guest_that_stays_cannot_live_elsewhere_any_more(image, claimed):
    lease.take(image, ONE)
    lease.take(image, TWO, incoming=True)
    if claimed:
        lease.claim(image, TWO)
    lease.keep(image, ONE)
    assert who(image) == ("one", None)
    with pytest.raises(InUse, match=r"is leased to domain .* on host one"):
        lease.claim(image, TWO)
    with pytest.raises(InUse, match=r"is leased to domain .* on host one"):
        lease.keep(image, TWO)
    lease.release(image, TWO)
    assert who(image) == ("one", None)


def test_a_lease_that_somebody_has_removed(image):
    """The lease was removed there; whoever has the guest may run it, but nobody may begin."""
    lease.keep(image, ONE)
    assert lease.held(image) is None
    with pytest.raises(
        InUse, match=r"disk.img is no longer leased to domain .* on host two: .* was rem"
    ):
        lease.claim(image, TWO)


# A move by xl, which claims nothing.


def test_a_migration_by_xl(image):
    lease.take(image, ONE)
    lease.take(image, TWO, incoming=True)
    assert who(image) == ("one", "two")
    lease.release(image, ONE)
    assert who(image) == ("two", None)


def test_a_migration_by_xl_that_fails(image):
    lease.take(image, ONE)
    lease.take(image, TWO, incoming=True)
    lease.release(image, TWO)
    assert who(image) == ("one", None)
    lease.take(image, TWO, incoming=True)  # is lost, and the guest goes to another host instead
    lease.take(image, THREE, incoming=True)
    assert who(image) == ("one", "three")


def test_a_migration_within_one_host_keeps_the_lease_as_it_is(image):
    lease.take(image, ONE)
    lease.take(image, ONE, incoming=True)
    lease.claim(image, ONE)
    lease.keep(image, ONE)
    assert who(image) == ("one", None)


# Crashes during a move.


@pytest.mark.parametrize("claimed", [False, True])
def test_a_host_that_crashed_does_not_overtake_the_other(image, claimed):
    lease.take(image, ONE)
    lease.take(image, TWO, incoming=True)
    if claimed:
        lease.claim(image, TWO)
    before = who(image)
    again = Owner("one", "boot-9", WEB)
    assert "host two" in reason(image, again)
    assert "host" in reason(image, Owner("one", "boot-1", MAIL))
    lease.release(image, again)
    assert who(image) == before
    lease.release(image, TWO)
    lease.take(image, again)
    assert who(image) == ("one", None)


def test_an_heir_that_crashed_has_to_be_built_again(image):
    lease.take(image, ONE)
    lease.take(image, TWO, incoming=True)
    again = Owner("two", "boot-9", WEB)
    assert "host one" in reason(image, again)
    with pytest.raises(InUse, match="host one"):
        lease.claim(image, again)
    lease.take(image, again, incoming=True)
    assert lease.held(image).next_owner.boot == "boot-9"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"owner": null, "next_owner": null}',
        b'{"owner": {"host": "one"}, "next_owner": null}',
        b'{"owner": {"host": 1, "boot": "", "vm": "", "since": ""}, "next_owner": null}',
        b'{"owner": {"host": "", "boot": "", "vm": "", "since": "", "a": ""}, "next_owner": null}',
        b'{"owner": {"host": "", "boot": "", "vm": "", "since": ""}, "next_owner": []}',
        b"\xff\xfe",
        b"[" * 4096,
        b" " * (1 << 20) + b"{}",
    ],
)
def test_a_damaged_lease_is_left_to_a_human(image, text):
    file = image.with_name("disk.img.xenqemu-lease")
    file.write_bytes(text)
    for act in (
        lambda: lease.take(image, ONE),
        lambda: lease.release(image, ONE),
        lambda: lease.held(image),
    ):
        with pytest.raises(HostError, match="is damaged; if no guest uses the image, remove it"):
            act()
    assert file.read_bytes() == text
    assert len(list(image.parent.iterdir())) == 2


def test_a_lease_that_cannot_be_read_or_written(image, tmp_path):
    with pytest.raises(HostError, match="cannot open the lock file .*: No such file"):
        lease.take(tmp_path / "none" / "disk.img", ONE)
    with pytest.raises(HostError, match="File name too long"):
        lease.take(tmp_path / ("x" * 240), ONE)
    image.with_name("disk.img.xenqemu-lease").mkdir()
    with pytest.raises(HostError, match="Is a directory"):
        lease.take(image, ONE)


def test_a_lock_that_somebody_holds_for_long(image):
    with lock_file.locked(image.with_name("disk.img.xenqemu-lease.lock"), 5):
        with pytest.raises(
            HostTimeout, match=r"lease\.lock is locked by another process for 0\.1 s"
        ):
            lease.take(image, ONE, Deadlines(lease_lock=0.1))


TAKER = """
import sys
from pathlib import Path
from xenqemu.errors import InUse
from xenqemu.host.disk import lease
host = sys.argv[2]
sys.stdin.read(1)
for _ in range(20):
    try:
        lease.take(Path(sys.argv[1]), lease.Owner(host, "boot", host))
    except InUse:
        continue
    print("took", flush=True)
    assert lease.held(Path(sys.argv[1])).owner.host == host
    lease.release(Path(sys.argv[1]), lease.Owner(host, "boot", ""))
"""


def test_many_hosts_at_once(image):
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", TAKER, str(image), f"host-{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for host in hosts:
        host.stdin.write("x")
        host.stdin.flush()
    took = [host.communicate(timeout=60)[0].count("took") for host in hosts]
    assert [host.returncode for host in hosts] == [0] * 4
    assert sum(took) > 0
    assert [entry.name for entry in image.parent.iterdir()] == ["disk.img"]
