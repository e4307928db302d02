"""A live save that a helper does: scripted helpers say what Xen's own do (seen on Xen 4.17)."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.doubles.xen.helper_peer import write_peer
from xenqemu.errors import HypervisorError, NotConverged
from xenqemu.formats.helper.dialects import DIALECTS
from xenqemu.formats.stream.sink import Sink
from xenqemu.host.guest_memory import Live
from xenqemu.host.memory import live
from xenqemu.host.precopy import Iteration
from xenqemu.host.precopy_options import PrecopyOptions
from xenqemu.host.xen.memory.helper_memory import HelperMemory

PAGE = 4096

ITERATIONS = """
    import fcntl, termios
    def drained(fd=io_fd):
        unread = bytearray(b"some")
        while any(unread): fcntl.ioctl(fd, termios.FIONREAD, unread)
    log(1, 0, "starting save")
    frames(0, 0, "Start of stream")
    frames(0, 1000, "Frames iteration 0"); image(b"a" * 40000)
    drained(); frames(1000, 1000, "Frames iteration 0")
    frames(0, {changed}, "Frames iteration 1"); drained(1); image(b"b" * 8000)
    drained(); frames({changed}, {changed}, "Frames iteration 1")
    say(3)
    if not answer():
        log(8, 0xffffffff, "save callback suspend() failed: 0")
        open({marker!r}, "w").close()
        complete(-1, 0); sys.exit()
    frames(0, 0, "Domain now suspended")
    frames(0, 7, "Frames iteration 2"); image(b"c" * 300); frames(7, 7, "Frames iteration 2")
    image(" ".join(arguments[2:]).encode())
    complete()
"""


class Seen:
    """What a live save told, and asked for."""

    def __init__(self) -> None:
        self.iterations: list[Iteration] = []
        self.progress: list[tuple[int, int]] = []
        self.suspends = 0

    def suspend(self) -> None:
        self.suspends += 1

    def save(
        self,
        memory: HelperMemory,
        precopy: PrecopyOptions | None = None,
        suspend: Callable[[], None] | None = None,
    ) -> bytes:
        file = io.BytesIO()
        how = Live(precopy or PrecopyOptions(), suspend or self.suspend, self.iterations.append)
        memory.save_live(Sink(file), lambda *told: self.progress.append(told), how)
        return file.getvalue()


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that the helper makes once it has put things in order."""
    return tmp_path / "in order"


@pytest.fixture
def memory(tmp_path: Path, marker: Path) -> Callable[..., HelperMemory]:
    """Make the memory of domain 7, in whose second iteration so many pages changed."""

    def make(changed: int = 20, body: str = ITERATIONS) -> HelperMemory:
        script = body.replace("{changed}", str(changed)).replace("{marker!r}", repr(str(marker)))
        path = write_peer(tmp_path / "peer", script)
        return HelperMemory(
            7, path, DIALECTS[-1], lambda: False, pages=lambda: 0, logs=lambda: True
        )

    return make


def test_the_iterations_of_libxc(memory: Callable[..., HelperMemory]) -> None:
    seen = Seen()
    image = seen.save(memory())
    assert image == b"a" * 40000 + b"b" * 8000 + b"c" * 300 + b"-1 7 1 136 0"
    assert seen.suspends == 1
    assert [(r.number, r.pages, r.size, r.changed) for r in seen.iterations] == [
        (1, 1000, 40000, 20),
        (2, 20, 8000, 20),
        (3, 7, 300 + len(b"-1 7 1 136 0"), 0),
    ]
    assert seen.progress[:2] == [(0, 1000 * PAGE), (1000 * PAGE, 1000 * PAGE)]
    assert seen.progress[-1] == (7 * PAGE, 7 * PAGE)


@pytest.mark.parametrize(
    ("changed", "precopy", "suspends"),
    [
        (50, PrecopyOptions(), 1),
        (51, PrecopyOptions(), 1),
        (51, PrecopyOptions(give_up=True), 0),
        (50, PrecopyOptions(give_up=True), 1),
        (51, PrecopyOptions(max_downtime=60.0, give_up=True), 1),
        (51, PrecopyOptions(max_downtime=0.0, give_up=True), 0),
        (51, PrecopyOptions(max_downtime=0.0), 1),
    ],
)
def test_the_policy_at_the_end(
    memory: Callable[..., HelperMemory],
    marker: Path,
    changed: int,
    precopy: PrecopyOptions,
    suspends: int,
) -> None:
    seen = Seen()
    if suspends:
        seen.save(memory(changed), precopy)
    else:
        with pytest.raises(
            NotConverged, match=f"after 2 iterations {changed} pages had changed again"
        ):
            seen.save(memory(changed), precopy)
        assert marker.exists()
    assert seen.suspends == suspends


@pytest.mark.parametrize("error", [HypervisorError, KeyboardInterrupt])
def test_a_guest_that_cannot_be_frozen(
    memory: Callable[..., HelperMemory], marker: Path, error: type[BaseException]
) -> None:
    """The helper is told so, and ends the dirty log, before the error is raised."""

    def suspend() -> None:
        raise error("no")

    with pytest.raises(error, match="no"):
        Seen().save(memory(), suspend=suspend)
    assert marker.exists()


def test_a_helper_that_fails_by_itself(memory: Callable[..., HelperMemory]) -> None:
    with pytest.raises(HypervisorError, match="Failed to enable logdirty"):
        Seen().save(
            memory(body='log(8, 0xffffffff, "Failed to enable logdirty"); complete(-1, 22)')
        )


TERMINATED = """
    def stop(*_signal):
        open({marker!r}, "w").close()
        os._exit(0)
    signal.signal(signal.SIGTERM, stop)
    frames(0, 1000, "Frames iteration 0")
    try:
        while True: image(bytes(5000))
    except BrokenPipeError:
        os._exit(1)
"""


def test_a_helper_that_is_not_wanted_any_more_is_told_before_its_pipe_is_closed(
    memory: Callable[..., HelperMemory], marker: Path
) -> None:
    how = Live(PrecopyOptions(), lambda: None, lambda _done: None)
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OSError, match="No space"):
        memory(body=TERMINATED).save_live(Sink(full), lambda _done, _total: None, how)
    assert marker.exists()


def test_the_bandwidth_is_kept_until_the_freeze(
    memory: Callable[..., HelperMemory], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(live, "wait_cancellable", lambda _wait, seconds: waits.append(seconds))
    seen = Seen()
    seen.save(memory(), PrecopyOptions(bandwidth=1), suspend=lambda: waits.append(-1.0))
    assert sum(waits[: waits.index(-1.0)]) > 40000
    assert waits[-1] == -1.0
