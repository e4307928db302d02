"""Driving a save helper: Xen's own as far as it gets without Xen, and scripted ones."""

import io
import time
from pathlib import Path

import pytest

from tests.doubles.xen.helper_peer import write_peer
from xenqemu.errors import Cancelled, HostError, HostTimeout, HypervisorError
from xenqemu.formats.helper.dialects import DIALECTS, dialect_of
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.source import Source
from xenqemu.host.guest_memory import GuestMemory
from xenqemu.host.memory.pages import image_space
from xenqemu.host.party_deadlines import Deadlines
from xenqemu.host.xen.memory import helper_process
from xenqemu.host.xen.memory.helper_memory import HelperMemory
from xenqemu.host.xen.memory.own_helper import own_environment, own_helper
from xenqemu.system.cancellation import Cancellation, cancellable

REAL = Path("/usr/lib/xen-4.17/bin/libxl-save-helper")
PAGE = 4096


@pytest.fixture
def memory(tmp_path):
    """Make the memory of domain 7, written by a peer that does what it is told."""

    def make(body, *, suspended=lambda: True, dialect=DIALECTS[-1], **options):
        path = write_peer(tmp_path / "peer", body)
        memory: GuestMemory = HelperMemory(
            7, path, dialect, suspended, pages=lambda: 1000, logs=lambda: True, **options
        )
        return memory

    return make


def saved(memory):
    """Return the image that `memory` writes, and its progress."""
    steps: list[tuple[int, int]] = []
    file = io.BytesIO()
    sink = Sink(file)
    memory.save(sink, lambda done, total: steps.append((done, total)))
    assert sink.offset == len(file.getvalue())
    return file.getvalue(), steps


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def nobody_is_left(name):
    """Return whether no process runs the peer `name` any more."""
    for entry in Path("/proc").iterdir():
        try:
            if name in (entry / "cmdline").read_text():
                return False
        except OSError:
            continue
    return True


def test_a_save_from_end_to_end(memory):
    asked = []

    def suspended():
        asked.append(True)
        return True

    image, steps = saved(
        memory(
            """
            log(1, 0, "starting save")
            frames(0, 0, "Start of stream")
            say(7, struct.pack("<II", 7, 1)); assert answer() == 0
            image(b"head")
            say(3); assert answer() == 1
            frames(1, 4); image(b"x" * 3000000); frames(4, 4)
            say(7, struct.pack("<II", 7, 0)); assert answer() == 0
            image(" ".join(arguments).replace(arguments[1], "FD", 1).encode())
            assert complete() == 0
            """,
            suspended=suspended,
        )
    )
    assert image == b"head" + b"x" * 3000000 + b"--save-domain FD -1 7 0 136 0"
    assert steps == [(PAGE, 4 * PAGE), (4 * PAGE, 4 * PAGE)]
    assert asked == [True]


def test_the_arguments_of_an_older_version_with_hvm(memory):
    image, _ = saved(
        memory(
            """
            image(" ".join(arguments[2:]).encode())
            say(9, struct.pack("<ii", 0, 0)); answer()
            """,
            dialect=dialect_of((4, 11)),
            hvm=True,
        )
    )
    assert image == b"-1 7 4 1 136 0"


def test_messages_split_and_joined(memory):
    image, steps = saved(
        memory(
            """
            data = b"".join(
                struct.pack("<HH", 36, 2) + string("xc") + string("Frames")
                + struct.pack("<QQ", n, 9) for n in range(10)
            ) + struct.pack("<HHii", 10, 10, 0, 0)
            for start in range(0, len(data), 5):
                os.write(1, data[start:start + 5])
            assert answer() == 0
            image(b"end")
            """
        )
    )
    assert (image, len(steps), steps[-1]) == (b"end", 10, (9 * PAGE, 9 * PAGE))


def test_a_flood_of_messages_while_the_image_flows(memory):
    image, steps = saved(
        memory(
            """
            for n in range(20000):
                log(8, 0, "trouble %d" % n); frames(n, 20000)
                if n % 100 == 0: image(bytes(5000))
            complete()
            """
        )
    )
    assert (len(image), len(steps)) == (1000000, 20000)


def test_a_guest_that_is_not_suspended(memory):
    peer = memory(
        """
        say(3); log(8, 0xffffffff, "save callback suspend() failed: %d" % answer())
        complete(-1, 0)
        """,
        suspended=lambda: False,
    )
    with pytest.raises(HypervisorError) as caught:
        saved(peer)
    assert str(caught.value) == (
        "libxl-save-helper could not save domain 7 (result -1): "
        "xc: save callback suspend() failed: 0"
    )


def test_the_last_complaints_are_the_reason(memory):
    peer = memory(
        """
        for n in range(9): log(8, 12, "no %d" % n)
        log(5, 0, "never mind")
        complete(1, 12)
        """
    )
    with pytest.raises(HypervisorError) as caught:
        saved(peer)
    reasons = "; ".join(f"xc: no {n}: Cannot allocate memory" for n in range(4, 9))
    assert str(caught.value).endswith(f"(result 1): {reasons}")


@pytest.mark.parametrize("errno", [0, 4096, 0x80000000, 0xFFFFFFFF])
def test_a_complaint_without_an_error_of_the_system(memory, errno):
    with pytest.raises(HypervisorError, match=r"\(result 1\): xc: no$"):
        saved(memory(f"log(8, {errno}, 'no'); complete(1)"))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("sys.exit(0)", "(ended without a result): no reason given"),
        ("sys.exit('write: no')", "(status 1): write: no"),
        ("complete(); sys.exit(3)", "(status 3): no reason given"),
        ("os.kill(os.getpid(), 9)", "(signal 9): no reason given"),
        ("os.write(1, b'abc'); os.kill(os.getpid(), 11)", "(signal 11): no reason given"),
    ],
)
def test_an_early_exit(memory, body, words):
    with pytest.raises(HypervisorError) as caught:
        saved(memory(body))
    assert str(caught.value) == f"libxl-save-helper could not save domain 7 {words}"


def test_a_flood_of_errors_does_not_hold_the_helper_up(memory):
    body = "sys.stderr.write('no\\n' * 200000); image(b'x'); sys.exit('the end')"
    with pytest.raises(HypervisorError, match=r"\(status 1\): no; no; no; no; the end$"):
        saved(memory(body))


@pytest.mark.parametrize(
    "body", ["say(77)", "os.write(1, b'#!/bin/sh' * 2000)", "say(5)", "say(8, bytes(4))"]
)
def test_what_is_no_save_helper(memory, tmp_path, body):
    with pytest.raises(HypervisorError, match="sent an invalid message: save helper"):
        saved(memory(body + "; time.sleep(60)"))
    assert nobody_is_left(str(tmp_path))


def test_a_helper_that_does_not_wait_for_its_answer(memory):
    image, _ = saved(memory("image(b'x'); say(3); say(10, bytes(8)); os.close(0); os._exit(0)"))
    assert image == b"x"


def test_a_stalled_helper_is_ended(memory, tmp_path):
    start = time.monotonic()
    with pytest.raises(HostTimeout, match=r"sent neither data nor messages for 0\.3 s"):
        saved(memory("image(b'x'); time.sleep(60)", deadlines=Deadlines(helper_stall=0.3)))
    assert time.monotonic() - start < 5
    assert nobody_is_left(str(tmp_path))


def test_a_helper_that_closes_its_pipes_and_stays_is_killed(memory, tmp_path, monkeypatch):
    monkeypatch.setattr(helper_process, "END_TIMEOUT", 0.3)
    body = """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for fd in (0, 1, io_fd): os.close(fd)
        time.sleep(60)
        """
    with pytest.raises(HostTimeout, match="did not end"):
        saved(memory(body))
    assert nobody_is_left(str(tmp_path))


def test_a_full_disk_ends_the_helper(memory, tmp_path):
    peer = memory("image(bytes(10 << 20)); complete()")
    with open("/dev/full", "wb", buffering=0) as full:
        with pytest.raises(OSError, match="No space left"):
            peer.save(Sink(full), lambda _done, _total: None)
    assert nobody_is_left(str(tmp_path))


def test_an_interrupt_ends_the_helper(memory, tmp_path):
    def interrupt(_done, _total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        memory("frames(1, 2); time.sleep(60)").save(Sink(io.BytesIO()), interrupt)
    assert nobody_is_left(str(tmp_path))


def test_no_descriptor_is_left_open(memory):
    before = open_descriptors()
    saved(memory("complete()"))
    with pytest.raises(HypervisorError):
        saved(memory("sys.exit(1)"))
    assert open_descriptors() == before


def test_a_helper_that_is_not_there(tmp_path):
    before = open_descriptors()
    memory = HelperMemory(
        7, tmp_path / "none", DIALECTS[-1], lambda: True, pages=lambda: 0, logs=lambda: True
    )
    with pytest.raises(HostError, match="cannot start libxl-save-helper"):
        saved(memory)
    assert open_descriptors() == before


def test_the_helper_does_not_see_that_another_is_to_be_used(memory, monkeypatch):
    monkeypatch.setenv("LIBXL_SAVE_HELPER", "/ours")
    image, _ = saved(memory("image(str(os.environ.get('LIBXL_SAVE_HELPER')).encode()); complete()"))
    assert image == b"None"
    assert "PATH" in own_environment()


def test_space_is_that_of_the_pages_the_guest_has_now(tmp_path):
    pages = [0, 1000]
    memory = HelperMemory(
        7, tmp_path, DIALECTS[-1], lambda: True, pages=pages.pop, logs=lambda: True
    )
    assert memory.space() == image_space(1000) > 1000 * PAGE
    assert memory.space() == image_space(0) > 0


def test_an_operation_that_is_to_end_ends_the_helper(memory, tmp_path):
    """Though it would not have stalled for long."""

    def end():
        raise Cancelled("cancelled")

    start = time.monotonic()
    with pytest.raises(Cancelled), cancellable(Cancellation(end)):
        saved(memory("image(b'x'); time.sleep(60)"))
    assert time.monotonic() - start < 20
    assert nobody_is_left(str(tmp_path))


def test_loading_is_xls_work(memory):
    with pytest.raises(HypervisorError, match="only be restored by xl"):
        memory("").load(Source.of(b""), lambda _done, _total: None)


def test_the_hosts_own_helper_is_found(tmp_path):
    folders = (f"{tmp_path}/xen-{{}}/bin", f"{tmp_path}/libexec")
    with pytest.raises(HostError, match=r"in .*/xen-4\.17/bin, .*/libexec"):
        own_helper((4, 17), folders)
    (tmp_path / "libexec").mkdir()
    write_peer(tmp_path / "libexec" / "libxl-save-helper", "")
    assert own_helper((4, 17), folders) == tmp_path / "libexec" / "libxl-save-helper"
    (tmp_path / "xen-4.17" / "bin").mkdir(parents=True)
    write_peer(tmp_path / "xen-4.17" / "bin" / "libxl-save-helper", "")
    assert own_helper((4, 17), folders) == tmp_path / "xen-4.17" / "bin" / "libxl-save-helper"


def test_xens_own_helper_says_why_it_cannot_reach_xen():
    assert own_helper((4, 17)) == REAL
    memory = HelperMemory(
        7, REAL, dialect_of((4, 17)), lambda: True, pages=lambda: 0, logs=lambda: True
    )
    with pytest.raises(HypervisorError) as caught:
        saved(memory)
    assert str(caught.value).startswith("libxl-save-helper could not save domain 7 (status 255): ")
    assert "privileged command interface" in str(caught.value)
    assert "No such file or directory" in str(caught.value)
