"""Reading: exact, bounded, from files and from pipes that dribble."""

import io
import os
import threading
import tracemalloc

import pytest

from tests.property.strategies import Dribble, dribbled
from xenqemu.errors import TooBig, Truncated
from xenqemu.formats.stream.source import CHUNK, Source, bounded, read_at

DATA = bytes(range(256)) * 20


@pytest.fixture(params=["memory", "file", "raw file", "dribble", "pieces"])
def source(request, tmp_path):
    path = tmp_path / "data"
    path.write_bytes(DATA)
    if request.param == "memory":
        yield Source.of(DATA)
    elif request.param == "dribble":
        yield dribbled(DATA)
    elif request.param == "pieces":
        yield dribbled(DATA, 700)
    else:
        with path.open("rb", buffering=-1 if request.param == "file" else 0) as file:
            yield Source(file)


def test_exact_skip_into_and_peek_move_one_cursor(source):
    assert source.exact(3, "r") == DATA[:3]
    assert source.peek(5) == DATA[3:8]
    assert source.offset == 3
    assert source.exact(2, "r") == DATA[3:5]
    source.skip(1000, "r")
    assert source.offset == 1005
    source.peek(10)
    buffer = bytearray(300)
    source.into(memoryview(buffer), "r")
    assert buffer == DATA[1005:1305]
    source.peek(10)
    source.skip(4, "r")
    assert source.exact(0, "r") == b""
    assert source.exact(4, "r") == DATA[1309:1313]
    assert not source.at_end()
    assert source.drain() == len(DATA) - 1313
    assert source.at_end()
    assert source.offset == len(DATA)
    assert source.peek(4) == b""


@pytest.mark.parametrize(
    "act",
    [
        lambda source: source.exact(200, "r"),
        lambda source: source.skip(200, "r"),
        lambda source: source.into(memoryview(bytearray(200)), "r"),
    ],
)
def test_the_end_is_an_error_with_offset_and_sizes(source, act):
    source.skip(len(DATA) - 150, "before")
    with pytest.raises(Truncated) as caught:
        act(source)
    error = caught.value
    assert (error.record, error.offset) == ("r", len(DATA) - 150)
    assert (error.expected, error.got) == ("200 bytes", "150 and then the end")


def test_a_pipe_that_ends_after_a_peek_is_truncated():
    source = dribbled(b"abc")
    assert source.peek(8) == b"abc"
    with pytest.raises(Truncated, match="3 and then the end"):
        source.skip(8, "r")


def test_into_works_for_a_file_that_can_only_read():
    class OnlyRead:
        def __init__(self):
            self.rest = DATA

        def fileno(self):
            raise OSError("none")

        def read(self, size):
            piece, self.rest = self.rest[: min(size, 9)], self.rest[min(size, 9) :]
            return piece

    source = Source(OnlyRead())
    buffer = bytearray(100)
    source.into(memoryview(buffer), "r")
    assert buffer == DATA[:100]


def test_offset_may_start_anywhere():
    source = Source(io.BytesIO(DATA), 1000)
    source.skip(10, "r")
    assert source.offset == 1010
    with pytest.raises(Truncated) as caught:
        source.skip(len(DATA), "r")
    assert caught.value.offset == 1010


def test_a_length_beyond_a_file_allocates_nothing(tmp_path):
    path = tmp_path / "short"
    path.write_bytes(b"short")
    with path.open("rb") as file:
        tracemalloc.start()
        with pytest.raises(Truncated):
            Source(file).exact(1 << 40, "r")
        assert tracemalloc.get_traced_memory()[1] < 100_000
        tracemalloc.stop()


def test_small_pieces_of_a_pipe_do_not_add_up():
    size = 2 * CHUNK + 5
    source = Source(Dribble(bytes(size), 97))
    tracemalloc.start()
    assert len(source.exact(size, "r")) == size
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * size + 2 * CHUNK


def test_a_fifo_whose_writer_leaves_early(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(DATA,))
    writer.start()
    with path.open("rb", buffering=0) as file:
        source = Source(file)
        source.skip(100, "r")
        with pytest.raises(Truncated) as caught:
            source.exact(len(DATA), "r")
    writer.join()
    assert caught.value.offset == 100
    assert caught.value.got == f"{len(DATA) - 100} and then the end"


def test_a_number_up_to_its_bound_is_taken_and_one_above_it_refused():
    assert bounded(7, 7, "r", 3, "a count") == 7
    with pytest.raises(TooBig) as caught:
        bounded(8, 7, "r", 3, "a count")
    assert (caught.value.offset, caught.value.expected) == (3, "a count of at most 7")
    assert caught.value.got == "8"


class Inside(io.BytesIO):
    """What is inside a compressed file: it knows how much that is, and is no file."""

    def left(self):
        return len(self.getbuffer()) - self.tell()


def test_a_file_tells_where_what_comes_next_is(tmp_path):
    (tmp_path / "file").write_bytes(b"0123456789")
    with (tmp_path / "file").open("rb") as file:
        file.seek(2)
        source = Source(file)
        assert source.place == (file.fileno(), 2)
        source.exact(3, "x")
        source.peek(4)
        assert source.place == (file.fileno(), 5)
        assert Source(file, seek=False).place is None
    assert Source.of(b"0123").place is None
    assert Source(Inside(b"0123")).place is None
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0) as pipe:
        os.close(writer)
        assert Source(pipe).place is None


def test_a_file_system_that_gives_little_at_a_time(tmp_path, monkeypatch):
    real = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, to, offset: real(fd, [to[0][:3]], offset))
    (tmp_path / "file").write_bytes(b"0123456789")
    with (tmp_path / "file").open("rb") as file:
        for offset in range(12):
            for size in range(12):
                assert read_at(file, offset, size) == b"0123456789"[offset : offset + size]
