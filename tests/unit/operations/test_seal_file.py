"""Sealing what is there already: no byte is moved, any crash leaves a file that can be sealed."""

import contextlib
import errno
import fcntl
import os
import random
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.doubles.in_memory.save_files import checkpointed, save_file
from tests.doubles.in_memory.sealed_files import LAB, Whose, sealed
from tests.golden import save_files
from xenqemu.errors import (
    BadRecord,
    Damaged,
    Forbidden,
    FormatError,
    InUse,
    Truncated,
    Unsupported,
    UsageError,
)
from xenqemu.formats.stream.seal import FOOTER, MAGIC
from xenqemu.operations.reading_seals import inspect
from xenqemu.operations.seal_file import seal_file
from xenqemu.operations.verify import verify

KEY = b"a key of ours"
KEYS = pytest.mark.parametrize("key", [None, KEY], ids=["no key", "key"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "guest"


def verified(path: Path, key: bytes | None = None):
    with path.open("rb") as file:
        return verify(file, key)


def piped(data: bytes, key: bytes | None = None):
    """Verify what comes in a pipe."""
    out, into = os.pipe()

    def feed() -> None:
        with open(into, "wb") as pipe:
            try:
                pipe.write(data)
            except BrokenPipeError:  # the reader has refused it
                return

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        with open(out, "rb", buffering=0) as file:
            return verify(file, key)
    finally:
        feeder.join()


@KEYS
def test_a_sealed_file_is_what_it_was_and_a_seal(path: Path, key: bytes | None) -> None:
    whole = sealed(path, key=key)
    assert whole.startswith(LAB)
    assert whole[len(LAB) :].startswith(MAGIC)
    for found in (verified(path, key), piped(whole, key)):
        assert found.seal is not None
        assert (found.size, found.trailing) == (len(whole), 0)
        assert found.records[-1].name == "seal"
        assert found.seal.keyed == (key is not None)
        assert found.seal.about["guest"]["name"] == "sample"


@pytest.mark.parametrize("name", save_files.SAVES)
def test_what_xl_wrote_is_sealed(path: Path, name: str) -> None:
    whole = sealed(path, save_files.unpacked(name))
    assert whole.startswith(save_files.unpacked(name))
    assert verified(path).seal is not None


def test_the_time_of_the_file_stays(path: Path) -> None:
    path.write_bytes(LAB)
    os.utime(path, ns=(10**18, 10**18 + 7))
    seal_file(path)
    assert path.stat().st_mtime_ns == 10**18 + 7


@KEYS
def test_what_is_sealed_stays_as_it_is(path: Path, key: bytes | None) -> None:
    whole = sealed(path, key=key)
    assert seal_file(path, key).seal is not None
    assert path.read_bytes() == whole


def test_what_is_sealed_and_damaged_is_not_sealed_again(path: Path) -> None:
    whole = bytearray(sealed(path))
    whole[100] ^= 1
    path.write_bytes(whole)
    with pytest.raises(Damaged, match="xl header"):
        seal_file(path)
    assert path.read_bytes() == whole


def test_keys_are_told(path: Path) -> None:
    sealed(path, key=KEY)
    with pytest.raises(UsageError, match="sealed with a key: name its file by --key-file"):
        verified(path)
    with pytest.raises(UsageError, match="sealed with another key"):
        verified(path, b"another")
    with pytest.raises(UsageError, match="sealed with a key"):
        piped(path.read_bytes())
    with path.open("rb") as file:
        assert inspect(file).seal is not None
    sealed(path)
    for read in (lambda: verified(path, KEY), lambda: piped(path.read_bytes(), KEY)):
        with pytest.raises(BadRecord, match="a seal made with the key, got one without a key"):
            read()
    path.write_bytes(LAB)
    for read in (lambda: verified(path, KEY), lambda: piped(LAB, KEY)):
        with pytest.raises(BadRecord, match="a seal made with the key, got none"):
            read()


@KEYS
def test_a_torn_seal_is_told(path: Path, key: bytes | None) -> None:
    whole = sealed(path, key=key)
    for size in _cuts(len(LAB) + 1, len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(Truncated, match="seal"):
            verified(path, key)
        with pytest.raises(Truncated, match="seal"):
            piped(whole[:size], key)


@pytest.mark.parametrize("size", [1, 16, 40, 64, 500, -33, -32, -1])
def test_a_torn_seal_is_replaced(path: Path, size: int) -> None:
    whole = sealed(path)
    path.write_bytes(whole[: len(LAB) + size if size > 0 else size])
    seal_file(path)
    assert path.read_bytes().startswith(LAB)
    assert verified(path).seal is not None


def test_zeros_that_a_crash_leaves_are_replaced(path: Path) -> None:
    path.write_bytes(LAB + bytes(5000))
    seal_file(path)
    assert verified(path).trailing == 0


def test_other_bytes_after_end_stay(path: Path) -> None:
    path.write_bytes(LAB + b"of somebody else")
    assert verified(path).trailing == 16
    with pytest.raises(UsageError, match="the 16 bytes after END are no seal"):
        seal_file(path)
    assert path.read_bytes() == LAB + b"of somebody else"


def test_a_file_cut_anywhere_is_never_sound_and_sealed(path: Path) -> None:
    whole = sealed(path)
    for size in _cuts(0, len(whole)):
        path.write_bytes(whole[:size])
        try:
            assert verified(path).seal is None
            assert size == len(LAB)
        except FormatError:
            assert size != len(LAB)


@pytest.mark.parametrize(
    ("data", "error"),
    [(checkpointed(2), Unsupported), (save_file()[:-4], Truncated), (b"none", BadRecord)],
)
def test_what_cannot_be_sealed_stays(path: Path, data: bytes, error: type[Exception]) -> None:
    path.write_bytes(data)
    with pytest.raises(error):
        seal_file(path)
    assert path.read_bytes() == data


def test_files_of_others_and_no_files(path: Path, tmp_path: Path) -> None:
    path.write_bytes(LAB)
    path.chmod(0o666)
    with pytest.raises(Forbidden, match="others may write"):
        seal_file(path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UsageError, match="cannot be sealed: it is a FIFO|pipe"):
        seal_file(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(OSError, match="symbolic links"):
        seal_file(tmp_path / "link")


def test_one_seals_at_a_time(path: Path) -> None:
    path.write_bytes(LAB)
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(InUse, match="is being sealed"):
            seal_file(path)
    assert path.read_bytes() == LAB


@KEYS
def test_each_byte_of_the_seal_is_checked(path: Path, key: bytes | None) -> None:
    whole = sealed(path, key=key)
    for offset in _cuts(len(LAB), len(whole)):
        _change(path, whole, offset, 1 + offset % 255)
        with pytest.raises(FormatError) as caught:
            verified(path, key)
        assert caught.value.record == "seal"
        assert caught.value.offset >= len(LAB)
        path.write_bytes(whole)


@KEYS
def test_what_is_changed_is_found_and_named(path: Path, key: bytes | None) -> None:
    _found_and_named(path, LAB, key, 300)


@pytest.mark.long
@pytest.mark.parametrize(("name", "key"), [("hvm.save", None), ("hvm-xen4.20.save", KEY)])
@pytest.mark.timeout(3600)
def test_each_of_ten_thousand_changes_is_found_and_named(
    path: Path, name: str, key: bytes | None
) -> None:
    _found_and_named(path, save_files.unpacked(name), key, 5000)


def _found_and_named(path: Path, data: bytes, key: bytes | None, times: int) -> None:
    whole = sealed(path, data, key)
    whose = Whose(data)
    chance = random.Random(f"{len(data)}")
    for _ in range(times):
        offset = chance.randrange(len(whole))
        _change(path, whole, offset, chance.randrange(1, 256))
        with pytest.raises(Damaged) as caught:
            verified(path, key)
        assert whose.is_named(offset, caught.value), (hex(offset), str(caught.value))
        _change(path, whole, offset, 0)


def _change(path: Path, whole: bytes, offset: int, by: int) -> None:
    """Have one byte of a file be another one."""
    with path.open("r+b", buffering=0) as file:
        file.seek(offset)
        file.write(bytes([whole[offset] ^ by]))


def _cuts(start: int, end: int) -> Iterator[int]:
    """Yield offsets: all near the ends, and some in between."""
    near = 2 * FOOTER.size
    yield from range(start, min(start + 4 * near, end))
    yield from range(start + 4 * near, end - near, 97)
    yield from range(max(end - near, start + 4 * near), end)


class Stopped(Exception):
    """Takes the place of a kill or a full disk."""


CALLS = ("writev", "fsync", "ftruncate", "utime")


@pytest.mark.parametrize("torn", [False, True], ids=["unsealed before", "torn before"])
@pytest.mark.parametrize("done", ["before", "half", "after"])
def test_wherever_it_is_stopped_it_can_be_sealed_again(
    path: Path, torn: bool, done: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sealed(path)
    start = whole[: len(LAB) + 300] if torn else LAB
    at = 0
    while _stopped_at(path, start, at, done, monkeypatch):
        assert path.read_bytes().startswith(LAB)
        with contextlib.suppress(Truncated):
            verified(path)
        assert seal_file(path).seal is not None
        assert verified(path).seal is not None
        at += 1
    assert at == (8 if torn else 6)


def _stopped_at(
    path: Path, start: bytes, at: int, done: str, monkeypatch: pytest.MonkeyPatch
) -> bool:
    """Seal a file, up to call number `at`; return whether there are so many."""
    path.write_bytes(start)
    made = 0

    def watched(name: str):
        real = getattr(os, name)

        def call(*arguments, **named):
            nonlocal made
            made += 1
            if made - 1 != at:
                return real(*arguments, **named)
            if done == "half" and name == "writev":
                data = b"".join(arguments[1])
                os.write(arguments[0], data[: len(data) // 2])
            elif done != "before":
                real(*arguments, **named)
            raise Stopped

        return call

    with monkeypatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, watched(name))
        try:
            seal_file(path)
        except Stopped:
            return True
    return False


def test_a_disk_that_fills_up(path: Path) -> None:
    path.write_bytes(LAB)
    with file_limit(len(LAB) + 100), pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        seal_file(path)
    assert path.read_bytes().startswith(LAB)
    seal_file(path)
    assert verified(path).seal is not None


def test_a_process_that_is_killed(path: Path) -> None:
    """By a real signal, where the seal is written and its footer is not."""
    path.write_bytes(LAB)
    child = os.fork()
    if not child:
        real = os.fsync
        os.fsync = lambda fd: (real(fd), os.kill(os.getpid(), signal.SIGKILL))
        seal_file(path)
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    with pytest.raises(Truncated, match="seal at offset"):
        verified(path)
    seal_file(path)
    assert verified(path).seal is not None


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """Have the system write no file beyond `size` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
