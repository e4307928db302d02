"""A key in a file: its size, and who may read or replace it."""

import os
from pathlib import Path

import pytest

from xenqemu.errors import Forbidden, UsageError
from xenqemu.system.key_file import read_key
from xenqemu.system.writers import trusted_ids

USERS = trusted_ids()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(b"a\nkey\0")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("key", [b"a", b"\n", bytes(64)])
def test_all_bytes_are_the_key(path: Path, key: bytes) -> None:
    path.write_bytes(key)
    assert read_key(path, USERS) == key


@pytest.mark.parametrize(("key", "said"), [(b"", "no bytes"), (bytes(65), "more than 64 bytes")])
def test_sizes(path: Path, key: bytes, said: str) -> None:
    path.write_bytes(key)
    with pytest.raises(UsageError, match=f"is no key file: it has {said}"):
        read_key(path, USERS)


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_others_may_not_read_it(path: Path, mode: int) -> None:
    path.chmod(mode)
    with pytest.raises(Forbidden, match="others may read the key"):
        read_key(path, USERS)


def test_others_may_not_write_it_or_replace_it(path: Path) -> None:
    path.chmod(0o620)
    with pytest.raises(Forbidden, match="others may write"):
        read_key(path, USERS)
    path.chmod(0o600)
    path.parent.chmod(0o777)
    with pytest.raises(Forbidden, match="others may write"):
        read_key(path, USERS)


def test_of_somebody_else(path: Path) -> None:
    os.chown(path, 12345, 12345)
    with pytest.raises(Forbidden, match="owned by user 12345"):
        read_key(path, USERS)


def test_no_file(path: Path) -> None:
    with pytest.raises(UsageError, match="not a regular file"):
        read_key(path.parent, USERS)
    with pytest.raises(FileNotFoundError):
        read_key(path.with_name("none"), USERS)
