"""xenqemu-block as libxl runs it: real loop devices, a real xenstore."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.doubles.xen.libxl_scripts import UUIDS, Libxl, holder, loops
from xenqemu.host.disk import lease
from xenqemu.host.disk.backing import Backing
from xenqemu.host.disk.lease import Owner
from xenqemu.hotplug import contract
from xenqemu.system import lock_file, loop_devices

ELSEWHERE = Owner("other", "boot", UUIDS[5])


def number(device: Path) -> str:
    found = device.stat().st_rdev
    return f"{os.major(found):x}:{os.minor(found):x}"


def nothing(image: Path) -> bool:
    """Return whether nothing was set up for an image."""
    left = [entry.name for entry in image.parent.glob(f"{image.name}.*")]
    return loops(image) == [] and left == []


def test_a_file_becomes_a_loop_device_that_libxl_is_told_of(libxl: Libxl, image: Path) -> None:
    path = libxl.disk(5, image)
    libxl.good(path, "add")
    (device,) = loops(image)
    assert device.tag == path
    nodes = libxl.nodes(path)
    assert nodes["node"] == nodes["physical-device-path"] == str(device.path)
    assert nodes["physical-device"] == number(device.path)
    assert nodes["hotplug-status"] == "connected"
    assert "hotplug-error" not in nodes
    assert holder(image) == UUIDS[5]
    with device.path.open("r+b", buffering=0) as disk:
        assert disk.read(512).startswith(b"first sector")

    libxl.good(path, "remove")
    assert nothing(image)
    assert set(libxl.nodes(path)) == {"frontend-id", "online", "state", "params", "mode", "dev"}


def test_a_file_that_is_only_read(libxl: Libxl, image: Path) -> None:
    image.chmod(0o444)
    path = libxl.disk(5, image, "r")
    libxl.good(path, "add")
    (device,) = loops(image)
    assert Path(f"/sys/block/{device.path.name}/ro").read_text() == "1\n"
    assert holder(image) is None
    libxl.good(path, "remove")
    assert nothing(image)


@pytest.mark.parametrize("link", [False, True])
def test_a_block_device(libxl: Libxl, image: Path, tmp_path: Path, link: bool) -> None:
    with loop_devices.attached(image, "somebody's", writable=True) as device:
        disk = device.path
    if link:
        disk = tmp_path / "link"
        disk.symlink_to(device.path)
    path = libxl.disk(5, disk)
    libxl.good(path, "add")
    nodes = libxl.nodes(path)
    assert nodes["physical-device"] == number(device.path)
    assert nodes["physical-device-path"] == str(disk)
    assert nodes["hotplug-status"] == "connected"
    assert "node" not in nodes
    libxl.good(path, "remove")
    assert loops(image) == [device]
    assert "physical-device" not in libxl.nodes(path)


def test_a_block_device_below_dev(libxl: Libxl, image: Path) -> None:
    with loop_devices.attached(image, "somebody's", writable=True) as device:
        path = libxl.disk(5, device.path.name)
    libxl.good(path, "add")
    assert libxl.nodes(path)["physical-device-path"] == str(device.path)


def test_a_drive_without_a_medium(libxl: Libxl) -> None:
    path = libxl.disk(5, "", "r")
    libxl.good(path, "add")
    assert libxl.nodes(path)["hotplug-status"] == "connected"
    assert "physical-device" not in libxl.nodes(path)
    libxl.good(path, "remove")


def test_adding_twice_is_adding_once(libxl: Libxl, image: Path) -> None:
    path = libxl.disk(5, image)
    libxl.good(path, "add")
    before = libxl.nodes(path)
    libxl.good(path, "add")
    assert libxl.nodes(path) == before
    assert len(loops(image)) == 1


def test_removing_twice_and_what_is_gone_already(libxl: Libxl, image: Path) -> None:
    path = libxl.disk(5, image)
    libxl.good(path, "add")
    libxl.good(path, "remove")
    libxl.good(path, "remove")
    assert nothing(image)
    libxl.store.remove("backend/vbd/5")
    libxl.good(path, "remove")
    libxl.good("backend/vbd/77/1", "remove")
    assert libxl.store.list("backend/vbd/77") is None


def test_removing_what_somebody_else_has_taken_away(libxl: Libxl, image: Path) -> None:
    path = libxl.disk(5, image)
    libxl.good(path, "add")
    loop_devices.detach(loops(image)[0].path)
    image.unlink()
    assert holder(image) == UUIDS[5]
    libxl.good(path, "remove")
    assert holder(image) is None
    image.touch()
    path = libxl.disk(5, image.parent / "folder" / "disk.img")
    libxl.good(path, "remove")


def test_the_loop_device_is_found_by_its_mark(libxl: Libxl, image: Path) -> None:
    """Whatever xenstore says, and also if the script was killed before it could say anything."""
    path = libxl.disk(5, image)
    with loop_devices.attached(image, path, writable=True):
        pass
    other = image.with_name("other.img")
    other.write_bytes(bytes(4096))
    with loop_devices.attached(other, "backend/vbd/6/51712", writable=True) as device:
        libxl.store.write(f"{path}/node", str(device.path))
    try:
        libxl.good(path, "remove")
        assert loops(image) == []
        assert loops(other) == [device]
    finally:
        loop_devices.detach(device.path)


# Sharing.


def test_a_second_guest_is_refused_and_the_first_named(libxl: Libxl, image: Path) -> None:
    libxl.good(libxl.disk(5, image), "add")
    second = libxl.disk(6, image)
    why = libxl.refused(second, "add")
    assert why == f"{image} is in use by domain 5 (web) as xvda, to be written"
    nodes = libxl.nodes(second)
    assert nodes["hotplug-status"] == "busy"
    assert "physical-device" not in nodes
    assert len(loops(image)) == 1
    assert holder(image) == UUIDS[5]
    libxl.good("backend/vbd/6/51712", "remove")
    assert len(loops(image)) == 1
    assert holder(image) == UUIDS[5]
    libxl.good("backend/vbd/5/51712", "remove")
    libxl.good(second, "add")
    assert "hotplug-error" not in libxl.nodes(second)
    assert holder(image) == UUIDS[6]


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [("r", "r", True), ("w", "r", False), ("r", "w", False), ("w", "w", False)],
)
def test_reading_is_shared_and_writing_is_not(libxl, image, first, second, both):
    libxl.good(libxl.disk(5, image, first), "add")
    path = libxl.disk(6, image, second)
    if both:
        libxl.good(path, "add")
    else:
        how = "written" if first == "w" else "read"
        assert libxl.refused(path, "add").endswith(f"domain 5 (web) as xvda, to be {how}")


def test_the_same_guest_may_have_it_twice(libxl: Libxl, image: Path) -> None:
    """A migration within the host: the new domain is built while the old one is still there."""
    old = libxl.disk(5, image)
    libxl.good(old, "add")
    libxl.domain(7, "web--incoming", UUIDS[5])
    new = libxl.disk(7, image)
    libxl.good(new, "add")
    assert len(loops(image)) == 2
    libxl.good(old, "remove")
    assert holder(image) == UUIDS[5]
    assert len(loops(image)) == 1
    libxl.good(new, "remove")
    assert nothing(image)


def test_a_migration_within_the_host_that_fails(libxl: Libxl, image: Path) -> None:
    libxl.good(libxl.disk(5, image), "add")
    libxl.domain(7, "web--incoming", UUIDS[5])
    new = libxl.disk(7, image)
    libxl.good(new, "add")
    libxl.good(new, "remove")
    assert holder(image) == UUIDS[5]
    assert len(loops(image)) == 1


def test_a_stub_domain_has_the_disks_of_its_guest(libxl: Libxl, image: Path) -> None:
    libxl.good(libxl.disk(5, image), "add")
    libxl.store.write("/local/domain/6/target", "5")
    libxl.good(libxl.disk(6, image), "add")


def test_a_guest_that_is_gone_has_nothing_any_more(libxl: Libxl, image: Path) -> None:
    libxl.good(libxl.disk(5, image), "add")
    libxl.store.remove("/local/domain/5")
    libxl.good(libxl.disk(6, image), "add")
    assert holder(image) == UUIDS[6]


def test_a_device_and_the_file_below_it_are_one_disk(libxl: Libxl, image: Path) -> None:
    libxl.good(libxl.disk(5, image), "add")
    (device,) = loops(image)
    why = libxl.refused(libxl.disk(6, device.path), "add")
    assert why == f"{device.path} is in use by domain 5 (web) as xvda, to be written"


def test_disks_of_other_scripts_and_of_qemu_count(libxl: Libxl, image: Path) -> None:
    with loop_devices.attached(image, "", writable=True) as device:
        pass
    stock = libxl.disk(5, image)  # as Xen's own block script leaves it
    libxl.store.write(f"{stock}/physical-device", number(device.path))
    assert "domain 5 (web)" in libxl.refused(libxl.disk(6, image), "add")
    libxl.store.remove(stock)
    qemus = {"params": f"qcow2:{image}", "mode": "w", "dev": "hda"}
    libxl.device("qdisk", 5, 768, **qemus)
    assert "domain 5 (web) as hda" in libxl.refused(libxl.disk(6, image), "add")
    for params in ("", "raw:", "nbd:host:10809", "raw:/none", f"raw:{image.parent}"):
        libxl.store.write("backend/qdisk/5/768/params", params)
        libxl.good(libxl.disk(6, image), "add")
        libxl.good("backend/vbd/6/51712", "remove")


def test_what_the_host_itself_has_mounted(libxl: Libxl, image: Path) -> None:
    with image.open("r+b") as file:
        file.truncate(4 << 20)
    subprocess.run(["mke2fs", "-q", "-F", str(image)], check=True)
    place = image.parent / "mount"
    place.mkdir()
    subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)
    try:
        path = libxl.disk(5, image)
        why = libxl.refused(path, "add")
        assert why == f"{image} cannot be given to a guest: it is mounted on {place}"
        assert libxl.nodes(path)["hotplug-status"] == "busy"
        assert len(loops(image)) == 1
    finally:
        subprocess.run(["umount", str(place)], check=True)
    assert nothing(image)


# The lease.


def test_a_guest_of_another_host_is_named(libxl: Libxl, image: Path) -> None:
    lease.take(image, ELSEWHERE)
    before = lease.held(image)
    for domid in (5, 6):  # the same guest as well: it runs there, whatever record it was saved to
        path = libxl.disk(domid, image)
        why = libxl.refused(path, "add")
        assert why.startswith(f"{image} is leased to domain {UUIDS[5]} on host other since 2")
        assert libxl.nodes(path)["hotplug-status"] == "busy"
        libxl.good(path, "remove")
        assert lease.held(image) == before
        assert loops(image) == []


def test_a_guest_that_migrates_here_by_xl(libxl: Libxl, image: Path) -> None:
    lease.take(image, ELSEWHERE)
    libxl.domain(7, "web--incoming", UUIDS[5])
    path = libxl.disk(7, image)
    libxl.good(path, "add")
    assert lease.held(image).owner.host == "other"
    assert lease.held(image).next_owner.host == lease.host_id()
    lease.release(image, ELSEWHERE)  # the other host has destroyed its own
    libxl.domain(7, "web", UUIDS[5])
    assert lease.held(image).owner.host == lease.host_id()
    libxl.good(path, "remove")
    assert nothing(image)


def test_a_guest_that_migrates_here_by_ours(libxl: Libxl, image: Path) -> None:
    lease.take(image, ELSEWHERE)
    libxl.domain(7, "web--incoming", UUIDS[5])
    path = libxl.disk(7, image)
    libxl.good(path, "add")
    lease.claim(image, Owner.here(UUIDS[5]))
    assert lease.held(image).owner.host == lease.host_id()
    assert lease.held(image).next_owner.host == "other"
    libxl.good(path, "remove")  # it failed here
    assert lease.held(image).owner.host == "other"
    assert lease.held(image).next_owner is None


def test_a_lease_that_was_left_by_a_crash_of_this_host(libxl: Libxl, image: Path) -> None:
    lease.take(image, Owner(lease.host_id(), "an earlier boot", UUIDS[6]))
    libxl.good(libxl.disk(5, image), "add")
    assert holder(image) == UUIDS[5]


# What makes no sense, and what goes wrong.


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ("/nowhere/disk.img", "/nowhere/disk.img: No such file or directory"),
        ("/", "/ is neither a file nor a block device"),
        ("/dev/null", "/dev/null is neither a file nor a block device"),
        ("no/such", "/dev/no/such: No such file or directory"),
        ("/tmp/a\nb", r"params '/tmp/a\nb' has control characters, or is too long"),
        ("x" * 2000, f"params '{'x' * 79} has control characters, or is too long"),
        ("$(touch /tmp/owned)", "/dev/$(touch /tmp/owned): No such file or directory"),
    ],
)
def test_bad_images(libxl: Libxl, params: str, why: str) -> None:
    """Nothing of a value is ever run: no shell sees it."""
    path = libxl.disk(5, params)
    assert libxl.refused(path, "add") == why
    assert libxl.nodes(path)["hotplug-status"] == "error"
    assert "physical-device" not in libxl.nodes(path)
    assert not Path("/tmp/owned").exists()


def test_a_file_that_nobody_may_write(libxl: Libxl, image: Path) -> None:
    image.chmod(0o444)
    why = libxl.refused(libxl.disk(5, image), "add")
    assert why == f"{image} is read-only, and no guest may write it"
    assert nothing(image)


@pytest.mark.parametrize("state", ["5", "6"])
def test_a_device_that_is_being_removed(libxl: Libxl, image: Path, state: str) -> None:
    path = libxl.disk(5, image)
    libxl.store.write(f"{path}/state", state)
    assert libxl.refused(path, "add") == f"{path} is not there, or is being removed"
    assert nothing(image)


def test_a_device_that_is_not_there(libxl: Libxl) -> None:
    path = "backend/vbd/9/51712"
    done = libxl.run(path, "add")
    assert done == (1, f"xenqemu-vbd: {path} is not there, or is being removed\n")
    assert libxl.store.list("backend/vbd/9") is None


def test_a_domain_that_is_not_there(libxl: Libxl, image: Path) -> None:
    assert libxl.refused(libxl.disk(9, image), "add") == "there is no domain 9"
    assert nothing(image)


def test_a_neighbour_whose_number_is_none(libxl: Libxl, image: Path) -> None:
    other = libxl.disk(6, "/dev/none")
    libxl.store.write(f"{other}/physical-device", "7:zz")
    why = libxl.refused(libxl.disk(5, image), "add")
    assert why == f"{other}/physical-device is '7:zz', expected MAJOR:MINOR"


def test_no_xenstore(libxl: Libxl, image: Path, tmp_path: Path) -> None:
    done = libxl.run(libxl.disk(5, image), "add", XENSTORED_PATH=str(tmp_path / "none"))
    assert done.code == 1
    assert "cannot connect to xenstored" in done.err
    assert nothing(image)


# Time.


@pytest.fixture
def busy_disk(libxl: Libxl, image: Path):
    """Hold the lock on the disk that a script will want."""
    backing = Backing.of(image)
    libxl.locks.mkdir(mode=0o700, parents=True)
    name = f"disk-{backing.device:x}-{backing.inode:x}.lock"
    with lock_file.locked(libxl.locks / name, 5):
        yield


def test_told_to_stop_while_it_waits(libxl: Libxl, image: Path, busy_disk: None) -> None:
    path = libxl.disk(5, image)
    with libxl.start(path, "add") as script:
        lock = libxl.locks / "vbd-5-51712.lock"
        deadline = time.monotonic() + 30
        while not lock.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.3)
        script.send_signal(signal.SIGTERM)
        assert script.communicate(timeout=30)[1] == "xenqemu-vbd: terminated by SIGTERM\n"
    assert script.returncode == 1
    assert libxl.nodes(path)["hotplug-error"] == "terminated by SIGTERM"
    assert not lock.exists()
    assert nothing(image)


def test_everything_is_undone_when_the_time_is_over(
    libxl: Libxl, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, so that the time can be over just when all is set up."""
    path = libxl.disk(5, image)
    really = contract.Backend.connect

    def too_late(backend, values):
        really(backend, values)
        assert loops(image) != []
        assert holder(image) == UUIDS[5]
        signal.raise_signal(signal.SIGALRM)

    monkeypatch.setattr(contract.Backend, "connect", too_late)
    assert serve_here(libxl, monkeypatch, path, "add") == 1
    assert nothing(image)
    nodes = libxl.nodes(path)
    assert nodes["hotplug-error"] == "not done within 32 s"
    assert (nodes["hotplug-status"], nodes.get("physical-device")) == ("error", None)


def test_what_cannot_be_undone_is_reported_too(libxl, image, monkeypatch, capsys):
    path = libxl.disk(5, image)

    def fails(*_: object) -> None:
        raise OSError(5, "stuck")

    monkeypatch.setattr(contract.Backend, "connect", fails)
    monkeypatch.setattr(lease, "release", fails)
    assert serve_here(libxl, monkeypatch, path, "add") == 1
    why = f"[Errno 5] stuck; could not release {image}: [Errno 5] stuck"
    assert libxl.nodes(path)["hotplug-error"] == why
    assert loops(image) == []


def serve_here(libxl, monkeypatch, path, *words):
    from xenqemu.hotplug import block

    for name, value in libxl.environment(path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", ["xenqemu-block", *words])
    monkeypatch.setattr(contract, "age", lambda: 0.0)  # not that of all these tests
    return contract.serve("vbd", block.chosen)


# Twenty at once.


def test_twenty_at_once(libxl: Libxl, tmp_path: Path) -> None:
    images = [tmp_path / f"{number}.img" for number in range(20)]
    for number, image in enumerate(images):
        image.write_bytes(bytes([number]) * 4096)
        libxl.domain(20 + number, f"guest-{number}", UUIDS[20 + number])
    paths = [libxl.disk(20 + number, image) for number, image in enumerate(images)]
    try:
        all_at_once(libxl, paths, "add")
        devices = set()
        for number, (path, image) in enumerate(zip(paths, images, strict=True)):
            (device,) = loops(image)
            assert libxl.nodes(path)["physical-device-path"] == str(device.path)
            assert device.path.read_bytes()[:512] == bytes([number]) * 512
            devices.add(device.path)
        assert len(devices) == len(images)
    finally:
        all_at_once(libxl, paths, "remove")
    assert all(nothing(image) for image in images)
    assert [path for path in paths if "physical-device" in libxl.nodes(path)] == []


def test_of_many_who_want_one_disk_one_gets_it(libxl: Libxl, image: Path) -> None:
    for domid in range(20, 26):
        libxl.domain(domid, f"guest-{domid}", UUIDS[domid])
    paths = [libxl.disk(domid, image) for domid in range(20, 26)]
    scripts = [libxl.start(path, "add") for path in paths]
    said = [script.communicate(timeout=100)[1] for script in scripts]
    won = [domid for domid, script in enumerate(scripts, 20) if script.returncode == 0]
    assert len(won) == 1
    assert len(loops(image)) == 1
    assert holder(image) == UUIDS[won[0]]
    for script, words in zip(scripts, said, strict=True):
        assert script.returncode == 0 or f"is in use by domain {won[0]} (guest-" in words


def test_one_device_added_by_many_at_once(libxl: Libxl, image: Path) -> None:
    path = libxl.disk(5, image)
    all_at_once(libxl, [path] * 5, "add")
    assert len(loops(image)) == 1
    all_at_once(libxl, [path] * 5, "remove")
    assert nothing(image)


def all_at_once(libxl: Libxl, paths: list[str], verb: str) -> None:
    scripts = [libxl.start(path, verb) for path in paths]
    ended = [(script.communicate(timeout=100)[1], script.returncode) for script in scripts]
    assert ended == [("", 0)] * len(paths)
