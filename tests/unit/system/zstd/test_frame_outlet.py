"""Files written in the seekable format, by module and program, and read at any place."""

import io
import os
import random
import shutil
import subprocess
import threading
from contextlib import suppress

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.golden import save_files
from tests.property.strategies import Dribble
from xenqemu.errors import BadRecord, FormatError, HostError, Unsupported
from xenqemu.formats.zstd_seekable import WINDOW
from xenqemu.system.zstd import codec as codecs
from xenqemu.system.zstd.frame_outlet import FrameOutlet
from xenqemu.system.zstd.pace import AUTO, Pace
from xenqemu.system.zstd.seekable_file import SeekableFile
from xenqemu.system.zstd.unpacked import unpacked

RANDOM = random.Random(1)
MIB = 1 << 20
DATA = b"".join(
    RANDOM.randbytes(MIB) if number % 3 else bytes([number]) * MIB for number in range(9)
)
CODECS = ["module", "program"]


@pytest.fixture(params=CODECS)
def codec(request, monkeypatch):
    """Return who compresses; the program where there is no module."""
    codecs.codec.cache_clear()
    if request.param == "program":
        monkeypatch.setattr(codecs, "find_spec", lambda _name: None)
    yield codecs.codec()
    codecs.codec.cache_clear()


def packed(path, data, codec, level=1, *, pieces=700_001):
    with path.open("wb", buffering=0) as file, FrameOutlet(file, codec, level, 2) as out:
        for start in range(0, len(data), pieces):
            assert out.writev([data[start : start + 9], data[start + 9 : start + pieces]])
        assert out.finish() == os.fstat(file.fileno()).st_size
    return path


@pytest.mark.parametrize("level", [AUTO, 1, 7])
def test_any_place_of_it_and_what_zstd_makes_of_it(tmp_path, codec, level):
    path = packed(tmp_path / "file", DATA, codec, level)
    program = subprocess.run(["zstd", "-dc", path], capture_output=True, check=True)
    assert program.stdout == DATA
    with path.open("rb") as file, unpacked(file) as inside:
        assert isinstance(inside, SeekableFile)
        assert inside.left() == len(DATA)
        for _ in range(9):
            start, size = RANDOM.randrange(len(DATA)), RANDOM.randrange(2 * WINDOW)
            assert inside.seek(start) == start
            assert inside.read(size) == DATA[start : start + size]
        inside.seek(0)
        assert inside.read() == DATA
        assert inside.read(1) == b""


def test_in_order_from_a_pipe(tmp_path, codec):
    path = packed(tmp_path / "file", DATA, codec)
    with unpacked(Dribble(path.read_bytes(), 99_999)) as inside:
        found = b"".join(iter(lambda: inside.read(1 << 20), b""))
        assert found == DATA
        with pytest.raises(Unsupported, match="a file, to read it again"):
            inside.seek(0)


def test_a_file_without_a_seek_table_is_read_from_its_start(tmp_path, codec):
    (tmp_path / "plain").write_bytes(DATA)
    subprocess.run(["zstd", "-q", tmp_path / "plain"], check=True)
    with (tmp_path / "plain.zst").open("rb") as file, unpacked(file) as inside:
        assert inside.left() is None
        for start in (5, MIB, 3):
            inside.seek(start)
            assert inside.read(10) == DATA[start : start + 10]


def test_golden_files_of_the_program():
    for name in save_files.SAVES:
        with (save_files.FOLDER / f"{name}.zst").open("rb") as file, unpacked(file) as inside:
            assert inside.read(1 << 30) == save_files.unpacked(name)


def test_what_is_not_compressed_is_the_file_itself():
    file = io.BytesIO(b"Xen saved")
    with unpacked(file) as inside:
        assert inside is file
        assert inside.read() == b"Xen saved"
    with unpacked(Dribble(b"Xen saved")) as inside:
        assert b"".join(iter(lambda: inside.read(5), b"")) == b"Xen saved"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Return a small file of each kind of frame, and what is in it."""
    data = bytes(20_000) + RANDOM.randbytes(3000)
    codecs.codec.cache_clear()
    return packed(tmp_path_factory.mktemp("small") / "file", data, codecs.codec()), data


def content(path):
    with path.open("rb") as file, unpacked(file) as inside:
        return inside.read(1 << 20)


def test_cut_at_every_offset(small, tmp_path):
    path, data = small
    whole = path.read_bytes()
    for end in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:end])
        try:
            found = content(tmp_path / "cut")
        except FormatError:
            continue
        assert data.startswith(found) or end < 4


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_changed_bit_gives_other_bytes(small, tmp_path_factory, data):
    path, expected = small
    whole = bytearray(path.read_bytes())
    bit = data.draw(st.integers(0, len(whole) * 8 - 1))
    whole[bit // 8] ^= 1 << bit % 8
    other = tmp_path_factory.getbasetemp() / "changed"
    other.write_bytes(whole)
    if bit < 32:  # it is no file of zstd any more
        return
    with suppress(FormatError):
        assert content(other) == expected


class Pipe:
    """An outlet that takes what it is given, or fails."""

    def __init__(self, fails_at=None):
        self.data = bytearray()
        self._fails_at = fails_at

    def writev(self, buffers):
        if self._fails_at is not None and len(self.data) >= self._fails_at:
            raise BrokenPipeError(32, "Broken pipe")
        self.data += buffers[0][:1_000_000]
        return min(len(buffers[0]), 1_000_000)


def test_a_pipe_gets_the_frames_in_order():
    pipe = Pipe()
    with FrameOutlet(pipe, codecs.codec(), AUTO, 3) as out:
        out.writev([DATA])
        out.finish()
    assert zstandard.ZstdDecompressor().stream_reader(
        bytes(pipe.data), read_across_frames=True
    ).read(len(DATA) + 1) == (DATA)


@pytest.mark.parametrize("fails_at", [0, 3 * MIB])
def test_what_the_target_raises_is_raised_and_no_thread_is_left(fails_at):
    before = threading.active_count()
    with pytest.raises(BrokenPipeError):
        with FrameOutlet(Pipe(fails_at), codecs.codec(), AUTO, 2) as out:
            for _ in range(9):
                out.writev([DATA])
            out.finish()
    assert threading.active_count() == before


def test_ctrl_c_ends_the_threads():
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        with FrameOutlet(Pipe(), codecs.codec(), 1, 2) as out:
            out.writev([DATA])
            raise KeyboardInterrupt
    assert threading.active_count() == before


def test_pages_that_change_after_they_were_given():
    page, pipe = bytearray(b"first" * 1000), Pipe()
    with FrameOutlet(pipe, codecs.codec(), 1, 1) as out:
        out.writev([page])
        page[:] = b"other" * 1000
        out.finish()
    with unpacked(io.BytesIO(pipe.data)) as inside:
        assert inside.read(9000) == b"first" * 1000


def test_neither_module_nor_program(monkeypatch):
    codecs.codec.cache_clear()
    monkeypatch.setattr(codecs, "find_spec", lambda _name: None)
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(HostError, match="need python3-zstandard, or the program zstd"):
        codecs.codec()
    codecs.codec.cache_clear()


def test_what_the_program_cannot_read(codec):
    with pytest.raises(BadRecord):
        codec.unpack(b"\x28\xb5\x2f\xfd" + bytes(20), 100)
    reader = codec.unpacked(io.BytesIO(codec.pack(b"x" * 9000, 1)[:-9]))
    with suppress(BadRecord):  # the module does not tell of an early end: who reads on sees it
        assert b"".join(iter(lambda: reader.read(100), b"")) in (b"", b"x" * 9000)


def levels(pace, serial, parallel=0.0):
    """Return the last levels that are chosen where the target takes so many nanoseconds a byte."""
    seconds, chosen = {1: 2.5e-9, 3: 5e-9, 6: 20e-9}, []
    for _ in range(60):
        level, tried = pace.next()
        chosen.append(level)
        for each in {level, tried} & seconds.keys():
            pace.compressed(each, 1000, 300 - 10 * each, seconds[each] * 1000)
        pace.written(1000, (parallel or serial) * 1e-6)
        if parallel:
            pace.synced(1000, serial * 1e-6)
    return {*chosen[-10:]}


@pytest.mark.parametrize(
    ("target", "level"), [((0.5,), 0), ((1.0,), 0), ((10,), 3), ((100,), 6)], ids=str
)
def test_pace_of_a_pipe(target, level):
    assert levels(Pace(AUTO, 2, in_order=True), *target) == {level}


@pytest.mark.parametrize(
    ("target", "level"),
    [((1e-5, 0.7), 0), ((0.5, 0.7), 0), ((4, 0.7), 1), ((10, 0.7), 3), ((100, 0.7), 6)],
    ids=str,
)
def test_pace_of_a_file_and_its_disk(target, level):
    assert levels(Pace(AUTO, 2, in_order=False), *target) == {level}


def test_a_level_that_was_asked_for_stays():
    pace = Pace(7, 2, in_order=True)
    pace.written(1000, 1e-9)
    assert [pace.next() for _ in range(9)] == [(7, None)] * 9
