"""RAM files where a host wants them."""

import stat

import pytest

from tests.doubles.qemu.lab_guest import config
from tests.doubles.system.file_systems import LEAST, REFLINKING, disk
from xenqemu.errors import HostError
from xenqemu.lab import ram_folder
from xenqemu.lab.domain_builder import DomainBuilder
from xenqemu.lab.lab_host import Lab

SIZE = 1 << 20


def test_a_file_beside_the_others(tmp_path):
    path = tmp_path / "ram"
    ram_folder.create_file(path, None, SIZE)
    assert not path.is_symlink()
    assert (path.stat().st_size, stat.S_IMODE(path.stat().st_mode)) == (SIZE, 0o600)
    with pytest.raises(FileExistsError):
        ram_folder.create_file(path, None, SIZE)
    ram_folder.remove_file(path)
    assert path.exists()  # its folder is removed with it


def test_a_file_in_a_folder(tmp_path):
    guests, folder = tmp_path / "7", tmp_path / "disk"
    guests.mkdir()
    folder.mkdir()
    path = guests / "ram"
    ram_folder.create_file(path, folder, SIZE)
    (file,) = folder.iterdir()
    assert path.readlink() == file
    assert file.name.startswith("7-")
    assert (file.stat().st_size, stat.S_IMODE(file.stat().st_mode)) == (SIZE, 0o600)
    ram_folder.remove_file(path)
    assert list(folder.iterdir()) == []
    ram_folder.remove_file(path)
    path.unlink()
    ram_folder.remove_file(path)


def test_a_file_that_was_not_made_leaves_a_link_alone(tmp_path):
    path = tmp_path / "ram"
    with pytest.raises(FileNotFoundError):
        ram_folder.create_file(path, tmp_path / "none", SIZE)
    assert path.is_symlink()
    ram_folder.remove_file(path)


@pytest.mark.parametrize("kind", REFLINKING)
def test_a_file_on_a_disk_has_its_space(kind):
    with disk(kind, LEAST) as folder:
        ram_folder.create_file(folder / "ram", None, SIZE)
        assert (folder / "ram").stat().st_blocks * 512 >= SIZE


def test_a_host_keeps_its_folder(place):
    lab = Lab(place / "host", ram=place / "disk")
    lab.up()
    try:
        assert stat.S_IMODE((place / "disk").stat().st_mode) == 0o700
        again = Lab(place / "host")
        again.up()
        with DomainBuilder(again) as builder:
            builder.prepare(config())
            (file,) = (place / "disk").iterdir()
            assert (lab.guests / "1" / "ram").samefile(file)
        other = Lab(place / "host", ram=place / "other")
        other.up()
        assert ram_folder.chosen(place / "host") == place / "other"
        again.destroy(1)
        assert [*(place / "disk").iterdir(), *lab.guests.iterdir()] == []
    finally:
        lab.down()


def test_what_fails_to_be_built_leaves_no_file(place):
    lab = Lab(place / "host", ram=place / "disk")
    lab.up()
    try:
        with pytest.raises(ZeroDivisionError), DomainBuilder(lab) as builder:
            builder.prepare(config())
            raise ZeroDivisionError
        assert list((place / "disk").iterdir()) == []
    finally:
        lab.down()


def test_a_folder_of_others_is_refused(place):
    (place / "disk").mkdir(mode=0o755)
    with pytest.raises(HostError, match="must be owned by you and closed to others"):
        Lab(place / "host", ram=place / "disk").up()
