"""Saves and restores of sealed files: what is made while writing, compared while building."""

from itertools import product
from pathlib import Path

import pytest

from tests.doubles.in_memory.save_files import config, save_file
from tests.doubles.in_memory.sealed_files import sealed
from tests.doubles.in_memory.world import World
from tests.property import strategies as made
from xenqemu.errors import (
    BadRecord,
    Damaged,
    Forbidden,
    FormatError,
    RolledBack,
    Truncated,
    UsageError,
    XenqemuError,
)
from xenqemu.formats.stream import libxc
from xenqemu.formats.stream import pieces as digests
from xenqemu.formats.stream.page_data import PageData
from xenqemu.formats.stream.seal import find
from xenqemu.formats.stream.seal_passing import Followed
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.source import Source
from xenqemu.host.precopy_options import PrecopyOptions
from xenqemu.operations.events import Kind
from xenqemu.operations.inspect import read_contents
from xenqemu.operations.options import RestoreOptions, SaveOptions
from xenqemu.operations.reading_seals import inspect
from xenqemu.operations.restore import restore
from xenqemu.operations.save import save
from xenqemu.operations.save_file import write_save_file
from xenqemu.operations.seal_file import seal_file
from xenqemu.operations.sealing import TOO_BIG, Sealing
from xenqemu.operations.verify import verify
from xenqemu.system.zstd.unpacked import unpacked

KINDS = {
    "plain": {},
    "live": {"precopy": PrecopyOptions()},
    "compact": {"precopy": PrecopyOptions(), "compact": True},
    "not read back": {"verify": False},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "guest"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(b"a key")
    path.chmod(0o600)
    return path


def saved(path: Path, **options):
    world = World()
    return save(world.host, world.domain(), path, SaveOptions(**options))


def verified(path: Path, key: bytes | None = None):
    with path.open("rb") as file:
        return verify(file, key)


@pytest.mark.parametrize(("kind", "keyed"), list(product(KINDS, (False, True))))
def test_a_save_is_sealed(path: Path, key_file: Path, kind: str, keyed: bool) -> None:
    found = saved(path, key_file=key_file if keyed else None, **KINDS[kind])
    again = verified(path, b"a key" if keyed else None)
    assert again.seal == found.seal is not None
    assert found.size == again.size == path.stat().st_size
    phases = [each["phase"] for each in again.seal.about["phases"]]
    assert phases[:1] == ["check"]
    assert ("compact" in phases) == (kind == "compact")
    assert {"quiesce", "save"} <= set(phases)


def test_pieces_of_a_save_are_those_of_whoever_reads_a_pipe(path: Path) -> None:
    found = saved(path, precopy=PrecopyOptions())
    followed = Followed()
    followed.feed(path.read_bytes())
    assert found.seal is not None
    assert tuple(followed.found()) == found.seal.pieces
    assert followed.index.packed_records() == found.seal.index.packed_records()
    assert followed.index.packed_runs() == found.seal.index.packed_runs()


def test_a_save_without_a_seal(path: Path) -> None:
    found = saved(path, seal=False)
    assert found.seal is None
    assert verified(path).seal is None
    with path.open("rb") as file:
        assert find(file) is None


@pytest.mark.parametrize("compress", [None, 1])
def test_a_guest_that_is_too_big_for_a_seal(
    path: Path, compress: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "MOST_PIECES", 1)
    world = World()
    options = SaveOptions(compress=compress)
    found = save(world.host, world.domain(), path, options, observe=world.observe)
    assert found.seal is None
    assert TOO_BIG in [event.text for event in world.events if event.kind is Kind.NOTE]
    with path.open("rb") as file, unpacked(file) as inside:
        assert verify(inside, None).seal is None
    if compress is None:
        with pytest.raises(UsageError, match=TOO_BIG):
            seal_file(path)


def test_a_key_without_a_seal_and_a_bad_key(path: Path, key_file: Path) -> None:
    with pytest.raises(UsageError, match="--key-file goes without --no-seal"):
        saved(path, seal=False, key_file=key_file)
    key_file.chmod(0o644)
    with pytest.raises(Forbidden, match="others may read the key"):
        saved(path, key_file=key_file)
    assert not path.exists()


def test_pages_are_not_read_to_seal_them(path: Path) -> None:
    sealing = Sealing(None)

    def image(sink: Sink) -> None:
        writer = libxc.ImageWriter(sink, made.DOMAIN)
        writer.write(libxc.StaticDataEnd())
        for first in range(0, 4096, 512):
            writer.pages(PageData.of(range(first, first + 512)), [made.PAGE * 512])
        writer.write(libxc.End())

    with path.open("xb", buffering=0) as file:
        write_save_file(file, config("pvh"), image, sealing.pieces)
    with path.open("rb", buffering=0) as file:
        before = _read()
        found = read_contents(Source(file), lambda record: sealing.take(record, file))
        assert sealing.seal(file, found).end == path.stat().st_size
        assert _read() - before < 1 << 20


def _read() -> int:
    """Return how many bytes this process has read."""
    return int(Path("/proc/self/io").read_text().split()[1])


def test_what_was_not_digested_is_not_sealed(path: Path) -> None:
    path.write_bytes(save_file())
    sealing = Sealing(None)
    with path.open("rb") as file:
        found = read_contents(Source(file), lambda record: sealing.take(record, file))
        with pytest.raises(XenqemuError, match="cannot be sealed: there is no digest from 0x0"):
            sealing.seal(file, found)


def restored(path: Path, **options):
    world = World(guests={})
    try:
        return restore(world.host, path, RestoreOptions(**options))
    except BaseException:
        assert world.guests == {}
        raise


def test_a_sealed_file_is_restored(path: Path, key_file: Path) -> None:
    saved(path)
    assert restored(path).contents.seal is not None
    saved(path, key_file=key_file)
    assert restored(path, key_file=key_file).contents.seal is not None
    assert restored(path, seal=False).contents.seal is None


def test_keys_of_a_restore(path: Path, key_file: Path) -> None:
    saved(path, key_file=key_file)
    with pytest.raises(UsageError, match="sealed with a key: name its file by --key-file"):
        restored(path)
    key_file.write_bytes(b"another")
    with pytest.raises(UsageError, match="sealed with another key"):
        restored(path, key_file=key_file)
    saved(path)
    with pytest.raises(BadRecord, match="got one without a key"):
        restored(path, key_file=key_file)
    saved(path, seal=False)
    with pytest.raises((BadRecord, RolledBack), match="got none"):
        restored(path, key_file=key_file)


def test_damage_is_named_and_nothing_is_left(path: Path) -> None:
    saved(path)
    whole = bytearray(path.read_bytes())
    page = whole.index(next(iter(World().guests[1].pages.values())))
    whole[page + 7] ^= 1
    path.write_bytes(whole)
    with pytest.raises((RolledBack, Damaged), match="libxc PAGE_DATA, pfns .* that were sealed"):
        restored(path)
    assert restored(path, seal=False).domid


def test_a_torn_seal_is_told(path: Path) -> None:
    saved(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises((Truncated, RolledBack), match="seal at offset"):
        restored(path)


def test_inspect_tells_of_the_seal_of_what_is_compressed(path: Path, key_file: Path) -> None:
    saved(path, compress=1, key_file=key_file)
    with path.open("rb") as file, unpacked(file) as inside:
        seal = inspect(inside).seal
        assert seal
        assert seal.keyed


def test_inspect_tells_of_the_seal(path: Path) -> None:
    whole = sealed(path)
    with path.open("rb") as file:
        assert inspect(file).seal is not None
    path.write_bytes(whole[:-1])
    with path.open("rb") as file, pytest.raises(FormatError, match="seal at offset"):
        inspect(file)
