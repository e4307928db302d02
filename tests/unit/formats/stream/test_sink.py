"""Writing: all of it, in order, however short the system's writes are."""

import errno
import io
import os
import threading

import pytest

from xenqemu.formats.stream.sink import BUFFERS_A_CALL, Sink

PIECES = [bytes([number % 256]) * (number % 5) for number in range(2 * BUFFERS_A_CALL + 7)]


@pytest.fixture(params=["memory", "file"])
def out(request, tmp_path):
    if request.param == "memory":
        buffer = io.BytesIO()
        yield buffer, buffer.getvalue
    else:
        path = tmp_path / "out"
        with path.open("wb", buffering=0) as file:
            yield file, path.read_bytes


def test_pieces_of_every_type_are_written_in_order(out):
    file, read = out
    sink = Sink(file)
    sink.write(b"head")
    sink.writev([bytearray(b"1"), memoryview(b"22"), b"", b"333"])
    sink.writev([])
    assert sink.offset == 10
    assert read() == b"head122333"


def test_more_pieces_than_one_call_takes(out):
    file, read = out
    sink = Sink(file)
    sink.writev(PIECES)
    assert read() == b"".join(PIECES)
    assert sink.offset == len(read())


def test_short_writes_are_resumed():
    reader, writer = os.pipe()
    pieces = [bytes([number]) * 50_000 for number in range(20)]
    got = bytearray()

    def drain():
        while piece := os.read(reader, 3001):
            got.extend(piece)

    thread = threading.Thread(target=drain)
    thread.start()
    os.set_blocking(writer, True)
    with open(writer, "wb", buffering=0) as file:
        sink = Sink(file)
        sink.writev(pieces)
    thread.join()
    os.close(reader)
    assert got == b"".join(pieces)
    assert sink.offset == 1_000_000


def test_writev_that_takes_less_than_it_was_given(tmp_path, monkeypatch):
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda fd, buffers: real(fd, [bytes(buffers[0])[:3]]))
    path = tmp_path / "out"
    with path.open("wb", buffering=0) as file:
        sink = Sink(file)
        sink.writev([b"abcd", b"", b"efghijk", b"l"])
    assert path.read_bytes() == b"abcdefghijkl"
    assert sink.offset == 12


def test_pages_that_a_file_system_cannot_take_are_copied_for_it(tmp_path, monkeypatch):
    """As 9p cannot take those of another domain: see the tests on Xen."""
    real = os.writev

    def takes_no_views(fd, buffers):
        if any(isinstance(buffer, memoryview) for buffer in buffers):
            raise OSError(errno.EFAULT, "Bad address")
        return real(fd, [bytes(buffers[0])[:3]])

    monkeypatch.setattr(os, "writev", takes_no_views)
    path = tmp_path / "out"
    with path.open("wb", buffering=0) as file:
        sink = Sink(file)
        sink.writev([b"head", memoryview(b"page"), memoryview(b"another")])
    assert path.read_bytes() == b"headpageanother"
    assert sink.offset == 15


def test_what_the_system_says_is_raised():
    with open("/dev/full", "wb", buffering=0) as file, pytest.raises(OSError, match="space"):
        Sink(file).write(b"x")
