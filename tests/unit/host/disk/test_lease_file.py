"""The files of a lease where others may write to the folder: what they put there does no harm."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.doubles.system.traps import OTHER, TRAPS, prompt, seen
from xenqemu.errors import HostError
from xenqemu.host.disk import lease
from xenqemu.host.disk.lease import Owner
from xenqemu.host.party_deadlines import Deadlines

ONE = Owner("one", "boot-1", "9233e52c-49ca-454f-96be-f53e22f3994d")
SOON = Deadlines(lease_lock=0.3)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image of root's, in a folder where everyone may make files."""
    folder = tmp_path / "images"
    folder.mkdir()
    folder.chmod(0o1777)
    path = folder / "disk.img"
    path.touch()
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


ACTS: dict[str, Callable[[Path], object]] = {
    "take": lambda image: lease.take(image, ONE, SOON),
    "claim": lambda image: lease.claim(image, ONE, SOON),
    "keep": lambda image: lease.keep(image, ONE, SOON),
    "release": lambda image: lease.release(image, ONE, SOON),
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("suffix", ["", ".lock"])
@pytest.mark.parametrize("trap", TRAPS)
def test_what_is_no_file_of_ours_is_an_error_at_once(image, target, trap, suffix, act):
    path = image.with_name(f"disk.img.xenqemu-lease{suffix}")
    TRAPS[trap](path, target)
    images, others = seen(image.parent), seen(image.parent.parent)
    with prompt(), pytest.raises(HostError, match=r"disk\.img\.xenqemu-lease"):
        ACTS[act](image)
    assert (seen(image.parent), seen(image.parent.parent)) == (images, others)


@pytest.mark.parametrize("trap", TRAPS)
def test_a_lease_is_not_read_from_what_is_no_file_of_ours(image, target, trap):
    TRAPS[trap](image.with_name("disk.img.xenqemu-lease"), target)
    with prompt(), pytest.raises(HostError, match="xenqemu-lease is "):
        lease.held(image)


@pytest.mark.parametrize("trap", TRAPS)
def test_what_is_in_the_place_of_the_draft_is_removed(image, target, trap):
    TRAPS[trap](image.with_name("disk.img.xenqemu-lease.new"), target)
    others = seen(image.parent.parent)
    with prompt():
        lease.take(image, ONE, SOON)
    assert lease.held(image).owner.host == "one"
    assert seen(image.parent.parent) == others
    assert len(seen(image.parent)) == 2


def test_a_file_of_ours_that_has_the_name_of_the_draft_too_keeps_its_bytes(image, target):
    target.write_text("precious")
    os.link(target, image.with_name("disk.img.xenqemu-lease.new"))
    lease.take(image, ONE, SOON)
    assert target.read_text() == "precious"


@pytest.mark.parametrize("which", ["image", "folder"])
def test_who_has_the_image_or_its_folder_may_own_the_lease(image, which):
    """So does storage that takes root for another user: what root writes there is that one's."""
    lease.take(image, ONE, SOON)
    os.chown(image.with_name("disk.img.xenqemu-lease"), OTHER, -1)
    with pytest.raises(HostError, match=f"is owned by user {OTHER}"):
        lease.held(image)
    os.chown({"image": image, "folder": image.parent}[which], OTHER, -1)
    assert lease.held(image).owner.host == "one"
    lease.release(image, ONE, SOON)
    assert seen(image.parent).keys() == {"disk.img"}


def test_a_lease_that_is_replaced_while_it_is_written(image, monkeypatch):
    path = image.with_name("disk.img.xenqemu-lease")

    def rename(*names: object, **folders: object) -> None:
        renamed(*names, **folders)
        path.unlink()
        path.write_text("theirs")

    renamed = os.rename
    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(HostError, match="somebody has replaced it while it was written"):
        lease.take(image, ONE, SOON)


def test_an_image_whose_links_go_in_a_circle(tmp_path):
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    assert lease.held(tmp_path / "one") is None
