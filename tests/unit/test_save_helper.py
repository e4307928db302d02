"""The save helper that libxl starts: here the test is libxl, at the other ends of the pipes."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from xenqemu import save_helper
from xenqemu.errors import HostTimeout, HypervisorError, ReplyLost
from xenqemu.formats.helper import messages
from xenqemu.formats.helper.dialects import LIVE, SAVE, Call, dialect_of
from xenqemu.host.precopy import Iteration
from xenqemu.save_helper import BAD_CALL, PARENT_GONE, Parent, reported, save

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "hotplug" / "libxl-save-helper"
DIALECT = dialect_of((4, 17))
MIB = 1 << 20
WHY = "the image could not be written: "
GIVEN = messages.Log(messages.INFO, messages.NO_ERRNO, "xenqemu",
                     "Saving domain 7 by xenqemu's own writer")  # fmt: skip


class Libxl:
    """libxl's side: the pipes to a helper, and what it hears from it."""

    def __init__(self):
        self.answers, self.answering = os.pipe()
        self._hearing, self.output = os.pipe()
        self._reader = DIALECT.reader()
        self.heard = []

    @property
    def parent(self):
        return Parent(DIALECT, self.answers, self.output)

    def answer(self, *values):
        """Answer, in advance, the messages that will ask."""
        for value in values:
            os.write(self.answering, messages.ANSWER.pack(value))

    def hear(self):
        """Return all that was said so far, or until the helper has gone."""
        os.set_blocking(self._hearing, False)
        while True:
            try:
                data = os.read(self._hearing, MIB)
            except BlockingIOError:
                return self.heard
            if not data:
                return self.heard
            self.heard.extend(self._reader.feed(data))

    def go(self):
        """Be gone, as if killed."""
        for descriptor in (self.answering, self._hearing):
            os.close(descriptor)


@pytest.fixture
def libxl():
    return Libxl()


class Memory:
    """A guest's memory of a few MiB, written by what a test gives."""

    def __init__(self, pieces):
        self._pieces = pieces

    def save(self, out, progress):
        for count, piece in enumerate(self._pieces, start=1):
            out.write(piece() if callable(piece) else piece)
            progress(count * MIB, len(self._pieces) * MIB)

    def save_live(self, out, progress, live):
        out.write(b"running")
        live.report(Iteration(1, 1, 4096, 1.0))
        live.suspend()
        self.save(out, progress)

    def load(self, source, progress):
        raise AssertionError("nobody loads")


@pytest.fixture
def image(tmp_path):
    """Open a file for an image, where libxl would have it."""
    with (tmp_path / "image").open("wb") as file:
        yield file


def call(image, flags=0):
    return Call(DIALECT, SAVE, {"io_fd": image.fileno(), "domid": 7, "flags": flags})


def saved(libxl, image, *pieces, flags=0):
    asked = call(image, flags)
    return reported(libxl.parent, lambda: save(asked, libxl.parent, Memory(pieces)))


def test_a_save_writes_the_image_and_tells_libxl_each_step(libxl, image):
    libxl.answer(1, 0)
    assert saved(libxl, image, b"head", b"pages", b"end") == 0
    assert Path(image.name).read_bytes() == b"headpagesend"
    assert libxl.hear() == [
        GIVEN,
        messages.Suspend(),
        messages.Progress("xenqemu", "Frames", 256, 768),
        messages.Progress("xenqemu", "Frames", 512, 768),
        messages.Progress("xenqemu", "Frames", 768, 768),
        messages.Complete(0, 0),
    ]


def test_progress_in_steps_that_xl_shows(libxl):
    report = libxl.parent.progress()
    for done in range(1001):
        report(done * MIB, 1000 * MIB)
    report(0, 0)
    steps = [(message.done, message.total) for message in libxl.hear()]
    assert steps == [(percent * 2560, 256000) for percent in range(5, 101, 5)]


def test_progress_that_ends_short_of_a_step(libxl):
    report = libxl.parent.progress()
    for done in (1, 94, 97, 99, 100, 100):
        report(done * MIB, 100 * MIB)
    assert [message.done for message in libxl.hear()] == [94 * 256, 100 * 256]


def test_a_guest_that_libxl_could_not_suspend(libxl, image):
    libxl.answer(0, 0)
    assert saved(libxl, image, b"never") == 0
    assert Path(image.name).read_bytes() == b""
    assert libxl.hear() == [
        GIVEN,
        messages.Suspend(),
        messages.Log(8, messages.NO_ERRNO, "xenqemu", "libxl could not suspend domain 7"),
        messages.Complete(-1, errno.EIO),
    ]


def test_a_live_save_has_libxl_suspend_the_guest_in_the_middle(libxl, image):
    libxl.answer(1, 0)
    assert saved(libxl, image, b"frozen", flags=LIVE) == 0
    assert Path(image.name).read_bytes() == b"runningfrozen"
    progress = messages.Progress("xenqemu", "Frames", 256, 256)
    assert libxl.hear() == [GIVEN, messages.Suspend(), progress, messages.Complete(0, 0)]


def test_a_running_guest_that_libxl_could_not_suspend(libxl, image):
    libxl.answer(0, 0)
    assert saved(libxl, image, b"never", flags=LIVE) == 0
    assert Path(image.name).read_bytes() == b"running"
    assert libxl.hear()[-1] == messages.Complete(-1, errno.EIO)


def test_a_full_disk(libxl):
    libxl.answer(1, 0)
    with Path("/dev/full").open("wb") as full:
        assert saved(libxl, full, bytes(MIB)) == 0
    *_, log, complete = libxl.hear()
    assert (log.level, log.text) == (messages.ERROR, WHY + "No space left on device")
    assert complete == messages.Complete(-1, errno.ENOSPC)


def test_an_image_that_is_not_open(libxl, image):
    closed = call(image)
    image.close()
    libxl.answer(0)
    assert reported(libxl.parent, lambda: save(closed, libxl.parent, Memory([]))) == 0
    assert libxl.hear()[-1] == messages.Complete(-1, errno.EBADF)


def test_an_error_of_ours_with_its_cause(libxl):
    def work():
        try:
            raise PermissionError(errno.EACCES, "no")
        except PermissionError as error:
            raise HypervisorError("x" * 9999 + "\0") from error

    libxl.answer(0)
    assert reported(libxl.parent, work) == 0
    log, complete = libxl.hear()
    assert log == messages.Log(8, messages.NO_ERRNO, "xenqemu", "x" * 4096)
    assert complete == messages.Complete(-1, errno.EACCES)


def test_sigterm_makes_the_next_write_fail(libxl, image):
    def told_to_stop():
        os.kill(os.getpid(), signal.SIGTERM)
        return b"after"

    before = signal.getsignal(signal.SIGTERM)
    libxl.answer(1, 0)
    assert saved(libxl, image, b"before", told_to_stop) == 0
    assert Path(image.name).read_bytes() == b"before"
    assert libxl.hear()[-2:] == [
        messages.Log(8, messages.NO_ERRNO, "xenqemu", WHY + "terminated by SIGTERM"),
        messages.Complete(-1, errno.EBADF),
    ]
    assert signal.getsignal(signal.SIGTERM) is before


def test_libxl_gone_while_it_should_suspend(libxl, image):
    libxl.go()
    assert saved(libxl, image, b"never") == PARENT_GONE
    assert Path(image.name).read_bytes() == b""


def test_libxl_gone_without_an_answer(libxl):
    os.close(libxl.answering)
    with pytest.raises(ReplyLost, match="before it answered suspend"):
        libxl.parent.ask(messages.Suspend())


def test_half_an_answer_and_then_the_rest(libxl):
    os.write(libxl.answering, b"\xfe\xff")
    timer = threading.Timer(0.05, os.write, [libxl.answering, b"\xff\xff"])
    timer.start()
    assert libxl.parent.ask(messages.Suspend()) == -2
    timer.join()


def test_a_libxl_that_does_not_answer(libxl, image, monkeypatch):
    monkeypatch.setattr(save_helper, "ANSWER_TIMEOUT", 0.1)
    with pytest.raises(HostTimeout, match="not answered suspend"):
        libxl.parent.ask(messages.Suspend())
    assert saved(libxl, image) == PARENT_GONE
    assert [type(message).NAME for message in libxl.hear()] == [
        "suspend", "log", "suspend", "log", "complete",
    ]  # fmt: skip


# Which calls are ours.


class Executed(BaseException):
    """What would run in our place."""


@pytest.fixture
def host(monkeypatch, libxl):
    """Stand in for Xen 4.17 with an HVM guest, 7, and a PV guest, 8; note what is executed."""

    def execve(path, arguments, environment):
        assert "LIBXL_SAVE_HELPER" not in environment
        raise Executed([str(path), *arguments[1:]])

    class Xen(contextlib.nullcontext):
        pass

    def switching(_xen, domid, device_log):
        def pages():
            device_log(True)
            device_log(False)
            return b"%d" % domid

        return Memory([pages])

    class Control:
        def __init__(self, version):
            assert version == (4, 17)  # a nullcontext gives what it was made of

        def existing(self, domid):
            if domid not in (7, 8):
                raise HypervisorError(f"there is no domain {domid}")
            return SimpleNamespace(hvm=domid == 7)

    monkeypatch.setenv("LIBXL_SAVE_HELPER", "/ours")
    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.setattr(save_helper, "Xen", Xen)
    monkeypatch.setattr(save_helper, "Control", Control)
    monkeypatch.setattr(save_helper, "HvmMemory", switching)
    monkeypatch.setattr(save_helper, "Parent", lambda _dialect: libxl.parent)
    monkeypatch.setattr(save_helper, "own_helper", lambda version: Path("/own"))

    def run(words, version=(4, 17)):
        monkeypatch.setattr(save_helper, "running_version", lambda: version)
        return save_helper.main(words.split())

    kept = {number: signal.getsignal(number) for number in (signal.SIGPIPE, signal.SIGXFSZ)}
    yield run
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("flags", "written"), [(0, b"7"), (LIVE, b"running7")])
def test_an_hvm_guest_is_ours(host, libxl, image, flags, written):
    libxl.answer(1, 0, 0, 0)
    assert host(f"--save-domain {image.fileno()} -1 7 {flags} 136 0") == 0
    assert Path(image.name).read_bytes() == written
    assert libxl.hear()[2:] == [
        messages.SwitchQemuLogdirty(7, 1),
        messages.SwitchQemuLogdirty(7, 0),
        messages.Progress("xenqemu", "Frames", 256, 256),
        messages.Complete(0, 0),
    ]


def test_a_dirty_log_that_libxl_could_not_switch(host, libxl, image):
    libxl.answer(1, -1, 0)
    assert host(f"--save-domain {image.fileno()} -1 7 1 136 0") == 0
    log, complete = libxl.hear()[-2:]
    assert log.text == "libxl could not switch the dirty log of domain 7's QEMU"
    assert complete.retval == -1


def test_a_pv_guest_is_not(host, libxl):
    with pytest.raises(Executed) as caught:
        host("--save-domain 3 -1 8 0 136 0")
    assert caught.value.args == (["/own", "--save-domain", "3", "-1", "8", "0", "136", "0"],)
    assert libxl.hear() == []


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ((4, 17), "--restore-domain 3 -1 7 1 0 2 0 768 0"),
        ((4, 17), "--save-domain 3 -1 7 3 136 0"),
        ((4, 17), "--save-domain 3 -1 7 0 184 1"),
        ((4, 12), "--save-domain 3 -1 7 4 1 136 0"),
    ],
    ids=["restore", "live and debug", "remus", "4.12"],
)
def test_nor_is_all_else(host, libxl, version, words):
    with pytest.raises(Executed) as caught:
        host(words, version)
    assert caught.value.args == (["/own", *words.split()],)
    assert libxl.hear() == []


def test_a_guest_that_is_not_there(host, libxl):
    libxl.answer(0)
    assert host("--save-domain 3 -1 9 0 136 0") == 0
    log, complete = libxl.hear()
    assert log.text == "there is no domain 9"
    assert complete == messages.Complete(-1, errno.EIO)


# As a process.


def start(words, **options):
    return subprocess.Popen(
        [SCRIPT, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        **options,
    )  # fmt: skip


@pytest.mark.parametrize("where", [".", "elsewhere"])
def test_the_script_outside_xen(tmp_path, where):
    (tmp_path / "json.py").write_text("raise SystemExit('a module of the folder xl runs in')")
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / where / "helper"
    link.symlink_to(SCRIPT)
    done = subprocess.run(
        [link, "--save-domain", "3", "-1", "7", "0", "136", "0"], check=False, capture_output=True,
        cwd=tmp_path, env=os.environ | {"XENQEMU_PYTHON": sys.executable},
    )  # fmt: skip
    assert done.returncode == BAD_CALL
    assert done.stderr.startswith(b"xenqemu: this machine does not run under Xen")
    assert done.stdout == b""


SHIM = """
import functools, sys
from pathlib import Path
from xenqemu import save_helper
save_helper.running_version = lambda: {version}
save_helper.own_helper = lambda version: Path({helper!r})
sys.exit(save_helper.main())
"""


@pytest.fixture
def run(tmp_path):
    """Run the entry as on a host with a version of Xen, and with a script as its own helper."""
    helper = tmp_path / "own"

    def run(words, version=(4, 17), script="", **options):
        helper.write_text(f"#!/bin/sh\n{script}\n")
        helper.chmod(0o700)
        shim = SHIM.format(version=version, helper=str(helper))
        return subprocess.run(
            [sys.executable, "-c", shim, *words],
            check=False,
            capture_output=True,
            cwd=ROOT,
            env=os.environ | {"LIBXL_SAVE_HELPER": "/ours"},
            timeout=30,
            **options,
        )

    return run


HANDED = [
    ((4, 17), "--restore-domain {} -1 7 1 0 2 0 768 0"),
    ((4, 17), "--save-domain {} -1 7 3 136 0"),
    ((4, 17), "--save-domain {} -1 7 2 136 0"),
    ((4, 17), "--save-domain {} -1 7 0 184 1"),
    ((4, 12), "--save-domain {} -1 7 4 1 136 0"),
    ((4, 6), "--save-domain {} 7 0 0 4 1 72"),
]
HANDED_IDS = ["restore", "live and debug", "debug", "remus", "4.12", "4.6"]

SHOW = """
echo "$@" "${LIBXL_SAVE_HELPER-none}"
grep SigIgn "/proc/$$/status"
printf image > "/proc/self/fd/$2"
exit 9
"""


@pytest.mark.parametrize(("version", "words"), HANDED, ids=HANDED_IDS)
def test_what_is_handed_to_the_hosts_own_helper(run, tmp_path, version, words):
    with (tmp_path / "image").open("wb") as image:
        words = words.format(image.fileno())
        done = run(words.split(), version, SHOW, pass_fds=[image.fileno()])
    said, ignored = done.stdout.decode().splitlines()
    assert said == f"{words} none"
    assert int(ignored.split()[1], 16) & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1) == 0
    assert (tmp_path / "image").read_bytes() == b"image"
    assert done.returncode == 9


def test_a_helper_that_cannot_be_started_is_told_to_libxl(tmp_path):
    shim = SHIM.format(version=(4, 17), helper=str(tmp_path / "none"))
    words = ["--restore-domain", "3", "-1", "7", "1", "0", "2", "0", "768", "0"]
    done = subprocess.run(
        [sys.executable, "-c", shim, *words], check=False, capture_output=True, cwd=ROOT,
        input=bytes(4), timeout=30,
    )  # fmt: skip
    log, complete = DIALECT.reader().feed(done.stdout)
    assert (log.level, "No such file" in log.text) == (messages.ERROR, True)
    assert complete == messages.Complete(-1, errno.ENOENT)
    assert done.returncode == 0


def test_a_host_without_its_libraries_is_told_to_libxl(run):
    done = run(["--save-domain", "3", "-1", "7", "0", "136", "0"], (4, 99), input=bytes(4))
    log, complete = DIALECT.reader().feed(done.stdout)
    assert log.text.startswith("a library of Xen is missing: libxenctrl.so.4.99")
    assert complete.retval == -1
    assert done.returncode == 0


@pytest.mark.parametrize("words", ["", "--save-domain 3", "--restore-domain 3 -1 7 0 136 0"])
def test_a_call_that_makes_no_sense(run, words):
    done = run(words.split())
    assert done.returncode == BAD_CALL
    assert done.stderr.startswith(b"xenqemu: save helper's arguments")
    assert done.stdout == b""
