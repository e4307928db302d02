"""Loop devices of this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from xenqemu.errors import HostError
from xenqemu.system import loop_devices

TAG = "backend/vbd/5/51712"


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    """A file, and nothing bound to it in the end."""
    path = tmp_path / "disk.img"
    path.write_bytes(b"first sector".ljust(512, b"\0") * 8)
    yield path
    for each in on(path):
        loop_devices.detach(each.path)


def on(image: Path) -> list[loop_devices.Loop]:
    """Return the loop devices that are bound to a file."""
    file = image.stat()
    return [each for each in loop_devices.bound() if each.file == (file.st_dev, file.st_ino)]


def losetup(image: Path, *columns: str) -> list[str]:
    """Return what util-linux says of the devices on a file."""
    command = ["losetup", "--noheadings", "--raw", "--output", ",".join(columns), "-j", str(image)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_a_file_becomes_a_device(image: Path) -> None:
    with loop_devices.attached(image, TAG, writable=True) as made:
        assert made.path.read_bytes().startswith(b"first sector\0")
    assert loop_devices.status(made.path) == made
    assert on(image) == [made]
    assert (made.tag, made.file) == (TAG, (image.stat().st_dev, image.stat().st_ino))
    assert losetup(image, "NAME", "RO", "DIO", "AUTOCLEAR") == [str(made.path), "0", "1", "0"]


def test_what_is_only_to_be_read_cannot_be_written(image: Path) -> None:
    image.chmod(0o400)
    with loop_devices.attached(image, TAG, writable=False) as made:
        assert losetup(image, "RO") == ["1"]
        with pytest.raises(PermissionError), made.path.open("wb", buffering=0) as device:
            device.write(bytes(512))


def test_a_file_system_without_direct_io_has_it_without() -> None:
    image = Path("/dev/shm") / f"loop-{os.getpid()}"
    image.write_bytes(bytes(4096))
    try:
        with loop_devices.attached(image, TAG, writable=True) as made:
            assert made.path.read_bytes() == bytes(4096)
        loop_devices.detach(made.path)
    finally:
        image.unlink()


def test_nothing_is_bound_when_the_block_fails(image: Path) -> None:
    with pytest.raises(ZeroDivisionError), loop_devices.attached(image, TAG, writable=True) as made:
        raise ZeroDivisionError
    assert on(image) == []
    assert loop_devices.status(made.path) is None


def test_detaching_may_be_repeated(image: Path) -> None:
    with loop_devices.attached(image, TAG, writable=True) as made:
        pass
    loop_devices.detach(made.path)
    assert loop_devices.status(made.path) is None
    loop_devices.detach(made.path)


def test_a_device_that_is_open_goes_when_it_is_closed(image: Path) -> None:
    with loop_devices.attached(image, TAG, writable=True) as made:
        pass
    with made.path.open("rb") as user:
        loop_devices.detach(made.path)
        assert user.read(5) == b"first"
        assert on(image) == [made]
    assert on(image) == []


def test_no_such_file_and_no_such_device(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="^no loop device for .*/none: No such file"):
        with loop_devices.attached(tmp_path / "none", TAG, writable=True):
            pytest.fail("bound")
    assert loop_devices.status(Path("/dev/loop-none")) is None
    with pytest.raises(HostError, match="^/dev/null: Inappropriate ioctl"):
        loop_devices.status(Path("/dev/null"))
    with pytest.raises(HostError, match="^cannot detach /dev/null: Inappropriate ioctl"):
        loop_devices.detach(Path("/dev/null"))


def test_many_at_once_get_one_each(tmp_path: Path) -> None:
    images = [tmp_path / f"{number}.img" for number in range(20)]
    made: list[loop_devices.Loop] = []

    def bind(image: Path) -> None:
        image.write_bytes(bytes(4096))
        with loop_devices.attached(image, image.name, writable=True) as device:
            made.append(device)

    threads = [threading.Thread(target=bind, args=[image]) for image in images]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    try:
        assert len({device.path for device in made}) == len(images)
        for image in images:
            assert [device.tag for device in on(image)] == [image.name]
    finally:
        for device in made:
            loop_devices.detach(device.path)


def test_a_device_that_has_no_node_is_named(image: Path) -> None:
    """In a mount namespace whose /dev has only loop-control, as before udev has run."""
    program = (
        "import pathlib, sys; from xenqemu.system import loop_devices\n"
        "with loop_devices.attached(pathlib.Path(sys.argv[1]), 'tag', writable=True): pass"
    )
    script = (
        'mount -t tmpfs none /dev && mknod /dev/loop-control c 10 237 && exec "$0" -c "$1" "$2"'
    )
    command = ["unshare", "-m", "sh", "-c", script, sys.executable, program, str(image)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    words = rf"HostError: no loop device for {image}: /dev/loop\d+: No such file or directory\n"
    assert re.search(words, done.stderr), done.stderr
