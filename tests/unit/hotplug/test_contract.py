"""Which calls make sense; the time that a script has."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.doubles.xen.libxl_scripts import SCRIPTS, Libxl, holder, loops
from xenqemu.errors import HostError, HostTimeout, UsageError
from xenqemu.hotplug import contract
from xenqemu.hotplug.contract import Backend, Device, limited, reason
from xenqemu.settings.xenqemu_conf import read_settings
from xenqemu.system import lock_file

GOOD = {"XENBUS_PATH": "backend/vbd/5/51712", "XENBUS_TYPE": "vbd", "XENBUS_BASE_PATH": "backend"}


def test_the_device_that_libxl_means():
    assert Device.of(GOOD, "vbd") == Device("vbd", 5, 51712)
    assert Device.of({"XENBUS_PATH": "backend/vif/12/0"}, "vif") == Device("vif", 12, 0)
    device = Device("vif", 12, 3)
    assert device.path == "backend/vif/12/3"
    assert device.frontend == "/local/domain/12/device/vif/3"
    assert device.home == "/local/domain/12"


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "backend", "backend/vbd", "backend/vbd/5", "backend/vbd/5/", "backend/vbd/5/1/"),
        *("backend/vif/5/0", "backend/qdisk/5/51712", "device/vbd/5/51712", "backend/vbd/0/51712"),
        *("backend/vbd/5/../6", "backend/vbd/../../local", "/backend/vbd/5/51712"),
        *("/local/domain/7/backend/vbd/5/51712", "backend/vbd/5/51712\n", "backend/vbd/5/-1"),
        *("backend/vbd/05/1", "backend/vbd/5/0x1", "backend/vbd/٣/1", "backend/vbd/999999/1"),
        *("backend/vbd/5/51712;id", "backend/vbd/$(id)/1", "x" * 5000),
    ],
)
def test_paths_that_are_no_backend_of_ours(path):
    with pytest.raises(UsageError, match="^XENBUS_PATH='.*: expected backend/vbd/DOMID/DEVID$"):
        Device.of(GOOD | {"XENBUS_PATH": path}, "vbd")


@pytest.mark.parametrize(
    ("name", "value"), [("XENBUS_TYPE", "vif"), ("XENBUS_BASE_PATH", "/local/domain/3/backend")]
)
def test_an_environment_that_contradicts_itself(name, value):
    with pytest.raises(UsageError, match=f"^{name}='{value}': expected"):
        Device.of(GOOD | {name: value}, "vbd")


@pytest.mark.parametrize("kind", ["vbd", "vif"])
@pytest.mark.parametrize("environment", [{}, {"XENBUS_PATH": "backend/vbd\n/5/1"}])
def test_scripts_that_nobody_told_what_to_do(kind, environment):
    given = {key: value for key, value in os.environ.items() if not key.startswith("XENBUS")}
    done = subprocess.run(
        [SCRIPTS[kind], "add"],
        env=given | environment | {"XENQEMU_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"xenqemu-{kind}: XENBUS_PATH=")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [[], ["online"], ["add", "add"], ["--help"], ["add; id"], [""]])
def test_words_that_a_disk_does_not_know(libxl: Libxl, words):
    path = libxl.disk(5, "/dev/none")
    done = libxl.run(path, *words)
    assert done.code == 1
    assert done.err == f"xenqemu-vbd: {' '.join(words)!r}: expected add or remove\n"


def test_a_script_started_by_its_other_name(libxl: Libxl, image, tmp_path):
    link = tmp_path / "scripts" / "block-ours"
    link.parent.mkdir()
    link.symlink_to(SCRIPTS["vbd"])
    path = libxl.disk(5, image)
    libxl.good(path, "add", script=str(link))
    libxl.good(path, "remove", script=str(link))


def test_time_runs_from_the_start_of_the_process():
    started = time.monotonic()
    with pytest.raises(HostTimeout, match="not done within 0 s"), limited(0):
        time.sleep(60)
    assert time.monotonic() - started < 30


def test_what_is_undone_is_not_disturbed_again(monkeypatch):
    monkeypatch.setattr(contract, "age", lambda: 0.0)  # not that of all these tests
    undone = []
    with pytest.raises(HostError, match="terminated by SIGTERM"), limited(1000):
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGALRM)
            undone.append(1)
    assert undone == [1]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_libxl_would_kill_us_later():
    assert contract.LIMIT + 5 < 40


def test_a_reason_is_one_line():
    error = HostError("bad\nvalue\x00\x7f")
    error.add_note("could not undo:\r it")
    assert reason(error) == "bad value  ; could not undo:  it"
    assert reason(KeyError()) == "KeyError"


def test_a_lock_that_another_script_holds(libxl: Libxl, monkeypatch):
    monkeypatch.setattr(contract, "LOCK_TIMEOUT", 0.1)
    backend = Backend(Device("vbd", 5, 51712), libxl.store, read_settings())
    with backend.locked("vbd-5-51712"), backend.locked("vbd-5-51728"):
        assert libxl.locks.stat().st_mode & 0o777 == 0o700
        with pytest.raises(HostTimeout, match=r"vbd-5-51712\.lock is locked by another process"):
            with backend.locked("vbd-5-51712"):
                pytest.fail("both hold it")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "deadlines.lease_lock = -1",
            "deadlines.lease_lock: expected seconds or a time .*, got -1",
        ),
        ('xen.journalss = "/run"', r"unknown key 'xen.journalss'; did you mean xen.journals\?"),
        ("xen", "not TOML: .*"),
        (None, "the settings cannot be read: No such file or directory"),
    ],
)
def test_settings_that_are_not_sound(libxl: Libxl, image, text, why):
    """Nothing is connected then, and libxl is told why; what is connected can be removed."""
    path = libxl.disk(5, image)
    libxl.good(path, "add")
    other = libxl.disk(6, image.with_name("other.img"))
    libxl.conf.unlink()
    if text is not None:
        libxl.conf.write_text(text)
    assert re.fullmatch(f"{libxl.conf}: {why}", libxl.refused(other, "add"))
    assert libxl.nodes(other)["hotplug-status"] == "error"
    libxl.good(path, "remove")
    assert (loops(image), holder(image)) == ([], None)


def test_xenstored_is_where_the_settings_say(libxl: Libxl, image):
    libxl.conf.write_text(f'{libxl.conf.read_text()}xen.xenstored = "{libxl.socket}"\n')
    path = libxl.disk(5, image)
    libxl.good(path, "add", XENSTORED_PATH="/nowhere")
    assert libxl.nodes(path)["hotplug-status"] == "connected"
    libxl.good(path, "remove", XENSTORED_PATH="/nowhere")


def test_a_lease_is_waited_for_as_the_settings_say(libxl: Libxl, image):
    libxl.conf.write_text(f"{libxl.conf.read_text()}deadlines.lease_lock = 0.2\n")
    path = libxl.disk(5, image)
    lock = image.with_name(f"{image.name}.xenqemu-lease.lock")
    with lock_file.locked(lock, 1):
        why = libxl.refused(path, "add")
    assert why.startswith(f"{lock} is locked by another process for 0.")
    assert loops(image) == []
