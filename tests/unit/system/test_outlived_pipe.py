"""A pipe that is read to its end whatever becomes of its reader."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from xenqemu.errors import HostTimeout
from xenqemu.system.outlived_pipe import SIZE, outlived_pipe, read_rest

MUCH = 4 * SIZE

DIES = """
import os, signal, sys
from xenqemu.system.outlived_pipe import outlived_pipe
with outlived_pipe() as pipe:
    writer = int(sys.argv[1])
    os.dup2(pipe.writer.fileno(), writer)
    os.kill(os.getpid(), signal.SIGSTOP)
"""


def writes(writer: int, size: int) -> threading.Thread:
    """Have a thread write so many bytes to a pipe and close it."""

    def write() -> None:
        with os.fdopen(writer, "wb", buffering=0) as file:
            left = memoryview(bytes(size))
            while left:
                left = left[file.write(left) :]

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread


def test_all_of_it_is_the_readers():
    with outlived_pipe() as pipe:
        thread = writes(os.dup(pipe.writer.fileno()), MUCH)
        pipe.writer.close()
        assert sum(iter(lambda: len(pipe.reader.read(SIZE)), 0)) == MUCH
    thread.join(5)
    assert not thread.is_alive()


def test_what_the_reader_leaves_is_read():
    with pytest.raises(KeyError), outlived_pipe() as pipe:
        thread = writes(os.dup(pipe.writer.fileno()), MUCH)
        pipe.writer.close()
        pipe.reader.read(10)
        raise KeyError
    thread.join(5)
    assert not thread.is_alive()


def test_a_reader_that_is_killed_is_outlived(tmp_path):
    """Its pipe has a writer here: a write that is not read would be SIGPIPE, or take for ever."""
    fifo = tmp_path / "pid"
    program = DIES.replace("os.kill(", f"open({str(fifo)!r}, 'w').write('x'); os.kill(", 1)
    with subprocess.Popen([sys.executable, "-c", program, "50"]) as reader:
        while not fifo.exists():
            time.sleep(0.01)
        writer = os.open(f"/proc/{reader.pid}/fd/50", os.O_WRONLY)
        reader.send_signal(signal.SIGKILL)
        reader.wait()
        thread = writes(writer, MUCH)
        thread.join(5)
        assert not thread.is_alive()


def test_the_rest_is_read_by_the_pipe_of_its_writer():
    """As of a device model that has both ends, and whose readers were all killed."""
    reader, writer = os.pipe()
    inode = os.fstat(reader).st_ino
    thread = writes(writer, MUCH)
    read_rest(os.getpid(), inode, 5.0)
    thread.join(5)
    assert not thread.is_alive()
    read_rest(os.getpid(), inode, 5.0)  # nobody writes any more
    os.close(reader)
    read_rest(os.getpid(), inode, 5.0)  # the pipe is gone
    read_rest(1 << 22, inode, 5.0)  # its process too


def test_a_writer_that_does_not_write_is_not_waited_for_in_vain():
    reader, writer = os.pipe()
    with pytest.raises(HostTimeout, match="wrote nothing to its pipe for 0.05 s"):
        read_rest(os.getpid(), os.fstat(reader).st_ino, 0.05)
    os.close(reader)
    os.close(writer)


def test_nothing_is_left_running():
    with outlived_pipe() as pipe:
        pipe.writer.close()
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    names = [Path(f"/proc/{pid}/comm").read_text().strip() for pid in children]
    assert "cat" not in names
