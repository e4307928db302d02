"""A sender that sends its save file as slowly as it likes; test_moves has all else."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress

import pytest

from tests.doubles.in_memory.save_files import config, save_file
from tests.doubles.in_memory.world import World
from xenqemu.errors import HostError, HostTimeout
from xenqemu.formats.migration.handshake import Role
from xenqemu.host.party_deadlines import Deadlines
from xenqemu.host.peer.peer_messages import Peer
from xenqemu.host.peer.wire import Wire
from xenqemu.operations.journal.folder import Journals
from xenqemu.operations.options import ReceiveOptions
from xenqemu.operations.receive import receive

PATIENT = Deadlines(peer_stall=600)


class Sender:
    """Sends `data` in pieces of `size` bytes, with pauses; a context manager of its `peer`."""

    def __init__(self, data, size=1, pause=0.01):
        self._data, self._size, self._pause = data, size, pause

    def __enter__(self):
        incoming, self._out = os.pipe()
        self._answers, outgoing = os.pipe()
        self._files = [open(incoming, "rb", buffering=0), open(outgoing, "wb", buffering=0)]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()
        return Peer(Role.RECEIVER, Wire(*self._files), None, PATIENT)

    def __exit__(self, *_error):
        self._over.set()
        for file in self._files:
            file.close()
        self._thread.join()
        os.close(self._answers)

    def _send(self):
        data = self._data
        with suppress(BrokenPipeError):
            while data and not self._over.wait(self._pause):
                os.write(self._out, data[: self._size])
                data = data[self._size :]
        self._over.wait()
        os.close(self._out)


@pytest.fixture
def world():
    return World()


@pytest.mark.parametrize("size", [0, 1], ids=["silent", "trickling"])
def test_the_header_of_a_save_file_has_a_deadline(world, size):
    began = time.monotonic()
    with Sender(save_file(), size) as peer:
        words = "the header of the save file did not come within 0.5 s"
        with pytest.raises(HostTimeout, match=words):
            receive(world.host, peer, ReceiveOptions(timeout=0.5))
    assert time.monotonic() - began < 10
    assert Journals(world.host.journals).found() == []


@pytest.mark.parametrize("name", ["x" * 100_000, "ж" * 3000])
def test_a_name_longer_than_any_of_xl_is_refused_and_leaves_no_journal(world, name, tmp_path):
    """What it could not do before: keep other guests from being saved."""
    with Sender(save_file(config(name=name)), 1 << 20, 0) as peer:
        with pytest.raises(HostError, match="its name has .* bytes, expected at most") as caught:
            receive(world.host, peer)
    assert len(str(caught.value)) < 1500
    assert not list(world.host.journals.glob("*.op"))
