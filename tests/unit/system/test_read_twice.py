"""A file that is read twice has to be the same where it was read the first time."""

import io
import os

import pytest

from xenqemu.errors import HostError
from xenqemu.system.read_twice import FirstReading

DATA = bytes(range(256)) * 40


def first(path, *steps):
    """Read a file once, by (read, size) and (skip, size); return that reading."""
    file = path.open("rb", buffering=0)
    reading = FirstReading(file)
    for verb, size in steps:
        if verb == "skip":
            reading.seek(size, os.SEEK_CUR)
        elif verb == "into":
            assert reading.readinto(memoryview(bytearray(size))) == size
        else:
            assert len(reading.read(size)) == size
    return reading


STEPS = (("read", 100), ("skip", 300), ("into", 50), ("read", 50), ("skip", 1), ("read", 9))
READ = {*range(100), *range(400, 500), *range(501, 510)}


@pytest.fixture
def path(tmp_path):
    (tmp_path / "file").write_bytes(DATA)
    return tmp_path / "file"


@pytest.mark.parametrize("size", [1, 7, 100, 450, 20000])
def test_what_was_read_is_the_same_however_it_is_read_again(path, size):
    again = first(path, *STEPS).again()
    read = b""
    while piece := again.read(size):
        read += piece
    assert read == DATA
    again.require_same()


def test_it_is_read_to_its_end_by_itself(path):
    again = first(path, *STEPS).again()
    buffer = memoryview(bytearray(450))
    assert again.readinto(buffer) == 450
    assert bytes(buffer) == DATA[:450]
    again.require_same()


@pytest.mark.parametrize("at", [0, 99, 100, 399, 400, 499, 500, 501, 509, 510, 10239])
def test_one_byte_that_changed_matters_where_it_was_read(path, at):
    again = first(path, *STEPS).again()
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes([DATA[at] ^ 1]))
    if at in READ:
        with pytest.raises(HostError, match="it has changed since it was checked"):
            again.require_same()
    else:
        again.require_same()


@pytest.mark.parametrize("size", [0, 100, 450, 505])
def test_a_file_that_became_shorter(path, size):
    again = first(path, *STEPS).again()
    os.truncate(path, size)
    with pytest.raises(HostError, match="it has changed"):
        again.require_same()


def test_nothing_was_read(path):
    first(path).again().require_same()


def test_reading_backwards_is_an_error(path):
    reading = first(path, *STEPS)
    reading.seek(3)
    assert reading.tell() == 3
    with pytest.raises(HostError, match="backwards"):
        reading.read(1)


@pytest.mark.parametrize("size", [1, 70, 300, 401, 509, 10000])
def test_parts_that_are_passed_over_again_are_compared_if_they_were_read(path, size):
    again = first(path, *STEPS).again()
    read = {}
    while again.tell() < len(DATA):
        start = again.tell()
        if start // size % 2:
            again.seek(size, os.SEEK_CUR)
        else:
            read[start] = again.read(size)
        assert again.tell() == min(start + size, len(DATA)) or again.tell() == start + size
    assert all(DATA[start : start + size] == piece for start, piece in read.items())
    again.require_same()


@pytest.mark.parametrize("at", [99, 400, 499, 509])
def test_what_changed_is_noticed_though_it_is_passed_over(path, at):
    again = first(path, *STEPS).again()
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes([DATA[at] ^ 1]))
    assert again.seek(5000) == again.tell() == 5000
    assert again.read(10) == DATA[5000:5010]
    with pytest.raises(HostError, match="it has changed"):
        again.require_same()


def test_passing_over_more_than_there_is(path):
    again = first(path, *STEPS).again()
    os.truncate(path, 450)
    again.seek(20000)
    with pytest.raises(HostError, match="it has changed"):
        again.require_same()


@pytest.mark.parametrize("size", [1, 101, 5000])
def test_who_follows_gets_what_is_passed_over_too(path, size):
    seen = bytearray()
    again = first(path, *STEPS).again(seen.extend)
    while again.tell() < len(DATA):
        again.seek(size, os.SEEK_CUR)
        again.read(size)
    again.require_same()
    assert bytes(seen) == DATA


def test_whoever_writes_where_nobody_read_is_noticed_once_parts_were_passed_over(path):
    for passes in (False, True):
        again = first(path, *STEPS).again()
        if passes:
            again.seek(200)
        before = path.stat().st_mtime_ns
        while path.stat().st_mtime_ns == before:  # of the clock of files, whose ticks are long
            with path.open("r+b") as file:
                file.seek(5000)
                file.write(DATA[5000:5001])
        if passes:
            with pytest.raises(HostError, match="it has changed"):
                again.require_same()
        else:
            again.require_same()


def test_what_is_inside_of_a_file_is_read_twice_too():
    inside = io.BytesIO(DATA)
    inside.name = "inside"
    reading = FirstReading(inside)
    assert reading.read(100) == DATA[:100]
    again = reading.again()
    assert again.seek(50) == 50
    assert again.read(100) == DATA[50:150]
    again.require_same()
