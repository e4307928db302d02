"""Files that are read by names that others may have given to something else."""

import os
import socket

import pytest

from xenqemu.system.regular_file import open_regular, read_regular


def test_an_open_file_knows_its_name(tmp_path):
    (tmp_path / "file").write_bytes(b"0123456789")
    file = open_regular(tmp_path / "file")
    with file:
        assert (file.name, file.read(4)) == (str(tmp_path / "file"), b"0123")


def test_a_regular_file_is_read_up_to_a_bound(tmp_path):
    (tmp_path / "file").write_bytes(b"0123456789")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "file", 4) == b"0123"
    assert read_regular(tmp_path / "link", 99) == b"0123456789"


def test_nothing_else_is_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        for name in ("pipe", "zero", "socket", "."):
            assert read_regular(tmp_path / name, 4) is None


def test_what_becomes_a_pipe_meanwhile_is_not_waited_for(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.touch()
    real = os.open

    def open_late(path, flags):
        file.unlink()
        os.mkfifo(file)
        return real(path, flags)

    monkeypatch.setattr(os, "open", open_late)
    assert read_regular(file, 4) is None


def test_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none", 4)
