"""The images of lab guests: shared within a host by its rules, between hosts by leases."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.doubles.qemu.lab_guest import config
from xenqemu.errors import HostError, InUse
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.host.disk import lease
from xenqemu.lab import admission, disks
from xenqemu.lab.domain_builder import DomainBuilder
from xenqemu.lab.lab_host import Lab

OTHER = 'name = "other"\nuuid = "00000000-0000-0000-0000-000000000002"\n'


@pytest.fixture
def image(place: Path) -> Path:
    path = place / "disk.qcow2"
    path.touch()
    return path


def with_disk(image: Path, access: str = "w", text: str = "") -> DomainConfig:
    return config(f'disk = ["{image},qcow2,hda,{access}"]\n{text}')


def test_a_guest_has_the_lease_as_long_as_it_is_there(lab, image):
    with DomainBuilder(lab) as builder:
        builder.prepare(with_disk(image))
        found = lease.held(image)
        assert found.owner.host == lease.host_id(str(lab.folder))
        assert found.owner.vm == config().uuid
    lab.destroy(1)
    lab.destroy(1)
    assert lease.held(image) is None
    assert [entry.name for entry in image.parent.glob("disk*")] == ["disk.qcow2"]


def test_a_host_that_goes_down_releases_the_lease(lab, image):
    with DomainBuilder(lab) as builder:
        builder.prepare(with_disk(image))
    assert lab.down() == ["small"]
    assert lease.held(image) is None


def test_what_cannot_be_made_has_no_lease(lab, image):
    with pytest.raises(ZeroDivisionError), DomainBuilder(lab) as builder:
        builder.prepare(with_disk(image))
        raise ZeroDivisionError
    assert lease.held(image) is None


def test_what_is_only_read_has_no_lease(lab, image):
    with DomainBuilder(lab) as builder:
        builder.prepare(with_disk(image, "r"))
        assert lease.held(image) is None


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [("r", "r", True), ("w", "r", False), ("r", "w", False), ("w", "w", False)],
)
def test_two_guests_of_one_host(lab, image, first, second, both):
    link = image.with_name("link")
    link.symlink_to(image)
    with DomainBuilder(lab) as builder:
        builder.prepare(with_disk(image, first))
        wanted = with_disk(link, second, OTHER)
        if both:
            admission.require_free(wanted, lab.guests)
            return
        how = "written" if first == "w" else "read"
        why = rf"^{link} is in use by domain 1 \(small\) as hda, to be {how}$"
        with pytest.raises(InUse, match=why):
            admission.require_free(wanted, lab.guests)
        before = lease.held(image)
        with pytest.raises(InUse, match=why), DomainBuilder(lab) as beside:
            beside.prepare(wanted)
        assert lease.held(image) == before
        assert [entry.name for entry in lab.guests.iterdir()] == ["1"]


def test_two_hosts(lab, image, place):
    other = Lab(place / "other")
    other.up()
    try:
        with DomainBuilder(lab) as builder:
            builder.prepare(with_disk(image))
        before = lease.held(image)
        for text in ("", OTHER):
            with pytest.raises(InUse, match=f"{image} is leased to domain .*{lab.folder} since"):
                with DomainBuilder(other) as there:
                    there.prepare(with_disk(image, text=text))
            assert list(other.guests.iterdir()) == []
            assert lease.held(image) == before
        lab.destroy(1)
        with DomainBuilder(other) as there:
            there.prepare(with_disk(image))
            assert str(other.folder) in lease.held(image).owner.host
    finally:
        other.down()


@pytest.mark.parametrize("claimed", [True, False])
def test_a_migration(lab, image, place, claimed):
    """By ours or by xl, which claims nothing: the name says that the guest is coming."""
    other = Lab(place / "other")
    other.up()
    try:
        with DomainBuilder(lab) as builder:
            builder.prepare(with_disk(image))
        with DomainBuilder(other) as failing:
            failing.prepare(with_disk(image).with_name("small--incoming"))
        assert str(other.folder) in lease.held(image).next_owner.host
        other.destroy(failing.domid)
        assert lease.held(image).next_owner is None
        with DomainBuilder(other) as there:
            there.prepare(with_disk(image).with_name("small--incoming"))
        if claimed:
            lease.claim(image, other.owner(config().uuid))
        lab.destroy(1)
        assert str(other.folder) in lease.held(image).owner.host
    finally:
        other.down()
    assert lease.held(image) is None


def test_all_leases_or_none(lab, image, place):
    second = place / "second"
    second.touch()
    lease.take(second, lease.Owner("elsewhere", "boot", "vm"))
    both = config(f'disk = ["{image},qcow2,hda,w", "{second},raw,hdb,w"]')
    with pytest.raises(InUse, match=r"second is leased to domain vm on host elsewhere"):
        with DomainBuilder(lab) as builder:
            builder.prepare(both)
    assert lease.held(image) is None
    assert lease.held(second).owner.host == "elsewhere"


def test_a_damaged_lease_does_not_keep_a_domain_here(lab, image):
    with DomainBuilder(lab) as builder:
        builder.prepare(with_disk(image))
    image.with_name("disk.qcow2.xenqemu-lease").write_text("")
    with pytest.raises(HostError, match="is damaged"):
        lab.destroy(1)
    assert list(lab.guests.iterdir()) == []


def test_an_image_that_is_gone(lab, image):
    with DomainBuilder(lab) as builder:
        builder.prepare(with_disk(image))
        image.unlink()
        assert list(disks.taken(config(OTHER), [("1", with_disk(image))])) == []
    lab.destroy(1)
    assert lease.held(image) is None


def test_drives_without_a_medium():
    empty = config('disk = [",,hdc,cdrom"]')
    assert list(disks.taken(empty, [("1", empty)])) == []
    disks.take(empty, lease.Owner.here(""))
