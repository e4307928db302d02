"""Cancelling an operation from elsewhere: a thread here, as good as another process."""

import threading
import time

import pytest

from tests.doubles.in_memory.world import World
from xenqemu.errors import Cancelled, HostError, HostTimeout, RolledBack
from xenqemu.operations.cancel import cancel
from xenqemu.operations.events import Kind, Phase
from xenqemu.operations.journal.folder import Journals
from xenqemu.operations.options import After, SaveOptions
from xenqemu.operations.save import save
from xenqemu.system.cancellation import wait_cancellable


class Saving:
    """A save in a thread, which waits in one phase until it may continue."""

    def __init__(self, world, path, phase, after=After.DESTROY):
        self.error = None
        self.reached = threading.Event()
        self._go_on = threading.Event()
        self._phase = phase
        self._thread = threading.Thread(target=self._run, args=(world, path, after))

    def __enter__(self):
        self._thread.start()
        assert self.reached.wait(10)
        return self

    def __exit__(self, *error):
        self.let_go_on()
        self._thread.join(10)

    def let_go_on(self):
        self._go_on.set()

    def _run(self, world, path, after):
        try:
            save(world.host, world.domain(), path, SaveOptions(after=after), observe=self._observe)
        except (HostError, Cancelled, RolledBack) as error:
            self.error = error

    def _observe(self, event):
        if (event.phase, event.kind) == (self._phase, Kind.STARTED):
            self.reached.set()
            wait_cancellable(self._go_on.wait, 10)  # as each long wait does


@pytest.fixture
def world():
    return World()


def test_nothing_goes_on(world):
    with pytest.raises(HostError, match="no operation is running on sample"):
        cancel(world.host, "sample", 1)


@pytest.mark.parametrize("phase", [Phase.QUIESCE, Phase.SAVE, Phase.VERIFY, Phase.PUBLISH])
@pytest.mark.parametrize("after", After)
def test_guest_runs_and_no_file_is_left(world, tmp_path, phase, after):
    with Saving(world, tmp_path / "record", phase, after) as saving:
        (ended,) = cancel(world.host, "sample", 10)
    assert str(ended.about) == f"save of domain 1 (sample) to {tmp_path}/record"
    assert isinstance(saving.error, Cancelled if phase is Phase.QUIESCE else RolledBack)
    assert "cancelled" in str(saving.error)
    assert world.running() == [1]
    assert list(tmp_path.iterdir()) == []
    assert save(world.host, world.domain(), tmp_path / "record").size


def test_too_late_to_cancel(world, tmp_path):
    with Saving(world, tmp_path / "record", Phase.RELEASE) as saving:
        with pytest.raises(
            HostTimeout, match=r"asked to end 0.1 s ago, and still running: the save of"
        ):
            cancel(world.host, "1", 0.1)
    assert saving.error is None
    assert world.guests == {}


def test_cancel_waits_until_it_has_ended(world, tmp_path):
    with Saving(world, tmp_path / "record", Phase.SAVE) as saving:
        began = time.monotonic()
        cancel(world.host, "sample", 10)
        assert Journals(world.host.journals).found() == []
        assert saving.error is not None or time.monotonic() - began < 10
    assert isinstance(saving.error.__cause__, Cancelled)
