"""Existing save files, compressed and decompressed into new ones."""

import os
import stat
import subprocess

import pytest

from tests.golden import save_files
from xenqemu.errors import BadRecord, Truncated, UsageError
from xenqemu.operations import repack
from xenqemu.operations.verify import verify
from xenqemu.system.zstd.unpacked import unpacked


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "guest.save"
    file.write_bytes(save_files.unpacked("hvm.save"))
    file.chmod(0o600)
    os.utime(file, (1000, 2000))
    return file


def test_there_and_back(path, tmp_path):
    to = repack.compress(path)
    assert to == tmp_path / "guest.save.zst"
    assert to.stat().st_size < path.stat().st_size // 10
    assert (to.stat().st_mtime, stat.S_IMODE(to.stat().st_mode)) == (2000, 0o600)
    assert subprocess.run(["zstd", "-t", to], check=False).returncode == 0
    with to.open("rb") as file, unpacked(file) as inside:
        assert verify(inside).pages
    data = path.read_bytes()
    path.unlink()
    assert repack.decompress(to) == path
    assert (path.read_bytes(), path.stat().st_mtime) == (data, 2000)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["guest.save", "guest.save.zst"]


def test_one_that_the_program_made(path, tmp_path):
    to = repack.decompress(save_files.FOLDER / "hvm.save.zst", tmp_path / "other")
    assert to.read_bytes() == path.read_bytes()


def test_an_existing_file_is_replaced_only_by_force(path, tmp_path):
    (tmp_path / "guest.save.zst").write_bytes(b"other")
    with pytest.raises(UsageError, match="exists: --force replaces it"):
        repack.compress(path)
    assert (tmp_path / "guest.save.zst").read_bytes() == b"other"
    repack.compress(path, force=True)
    assert repack.decompress(tmp_path / "guest.save.zst", force=True) == path


def test_what_makes_no_sense(path, tmp_path):
    to = repack.compress(path)
    with pytest.raises(UsageError, match="is compressed already"):
        repack.compress(to)
    with pytest.raises(UsageError, match="does not end in .zst"):
        repack.decompress(path)
    with pytest.raises(UsageError, match="is not compressed"):
        repack.decompress(path, tmp_path / "other")
    with pytest.raises(UsageError, match="is not a file"):
        repack.compress(tmp_path)
    (tmp_path / "text").write_text("no save file")
    with pytest.raises(BadRecord):
        repack.compress(tmp_path / "text")


def test_a_damaged_one_leaves_nothing(path, tmp_path):
    to = repack.compress(path)
    path.unlink()
    whole = bytearray(to.read_bytes())
    whole[len(whole) // 2] ^= 1
    to.write_bytes(whole)
    with pytest.raises((BadRecord, Truncated)):
        repack.decompress(to)
    assert [each.name for each in tmp_path.iterdir()] == ["guest.save.zst"]
