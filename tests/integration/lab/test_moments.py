"""Guests that are saved as of one moment by their own QEMU, and do not wait for it."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.lab.guests import Guest, Host, Seed, at, pages
from tests.integration.moments import DIE
from xenqemu.host.qemu import background_snapshot

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

SAVE = ("save", "-c", "--live")
KILL_READERS = "subprocess.run(['pkill', '-KILL', '-P', str(os.getpid())]); "
"""Kills the second reader of QEMU's pipe."""


@pytest.fixture
def busy(busy_seed: Seed, one: Host) -> Guest:
    """The guest that rewrites its memory, running on `one`."""
    guest = busy_seed.on(one)
    guest.wait_rewritten()
    return guest


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[Host]:
    """A host whose guests have their RAM on a disk."""
    host = Host(tmp_path / "lab")
    host.lab.up()
    yield host
    host.lab.down()


def way(out: str) -> dict[str, Any]:
    """Return what a command told as JSON of how it saved a guest that ran."""
    (told,) = [each for line in out.splitlines() if (each := json.loads(line)).get("way")][:1]
    return dict(told)


def assert_as_before(guest: Guest) -> None:
    """Assert that its QEMU is as if there had been no snapshot."""
    with guest.host.lab.device_model(guest.domid) as device_model:
        capabilities = device_model.execute("query-migrate-capabilities")
        assert isinstance(capabilities, list)
        assert {"capability": background_snapshot.CAPABILITY, "state": False} in capabilities
        assert background_snapshot.bandwidth(device_model) < background_snapshot.FAST
    folder = Path(f"/proc/{guest.machine.pid}/fd")
    kinds = [str(entry.readlink()) for entry in folder.iterdir() if entry.is_symlink()]
    assert not [kind for kind in kinds if "userfaultfd" in kind]
    assert not [kind for kind in kinds if kind.startswith("pipe:")]


def test_a_guest_goes_on_here_and_from_its_save_file(busy, one, two, folder):
    for number in (1, 2):
        save_file = folder / f"save{number}"
        told = way(one.must(*SAVE, "--json", busy.name, save_file))
        assert told["way"] == "background snapshot"
        assert 0 < told["downtime"] < 30
        assert_as_before(busy)
        busy.wait_rewritten()
        pfns = [pfn for pfn, _ in pages(save_file)]
        assert len(pfns) == len(set(pfns))
        if number == 1:  # after which no page of the file is a hole any more
            assert 32 << 8 < len(pfns) < busy.machine.memory >> 12
        one.must("verify", save_file)
    two.restore(folder / "save1").wait_rewritten(4)
    one.must("save", busy.name, folder / "third")
    one.restore(folder / "third").wait_rewritten()


def test_the_words_for_people(busy, one, folder):
    said = one.must(*SAVE, busy.name, folder / "save")
    assert re.search(r"; downtime [0-9.]+ m?s \(background snapshot\)\n\Z", said)


@pytest.mark.parametrize("options", [["--precopy"], ["--iterations", "2"], ["--bandwidth", "500M"]])
def test_iterations_where_they_are_wanted(busy, one, folder, options):
    told = way(one.must(*SAVE, *options, "--json", busy.name, folder / "save"))
    assert told["way"] == "precopy"
    assert told["downtime"] > 0
    busy.wait_rewritten()


def test_a_guest_of_which_no_snapshot_can_be_taken(on_disk, tmp_path, firmware_record):
    """RAM in a file of a disk cannot be write-protected: that it is so is said by QEMU."""
    guest = on_disk.restore(firmware_record)
    done = on_disk.run(*SAVE, "--json", guest.name, tmp_path / "save")
    assert done.code == 0, done
    assert way(done.out)["way"] == "precopy"
    assert "saved in iterations, not as of one moment" in done.out
    assert_as_before(guest)
    assert on_disk.status(guest.name)["running"]


def test_a_paused_guest_stays_paused(busy, one, folder):
    one.lab.hypervisor.pause(busy.domid)
    told = one.must(*SAVE, "--json", busy.name, folder / "save")
    assert way(told)["way"] == "precopy"
    assert one.list()[0]["state"] == "paused"


def test_it_is_killed_and_the_guest_runs_on(busy, one, folder):
    done = at(one, "save progress", DIE, *SAVE, busy.name, folder / "save")
    assert done.code == -signal.SIGKILL
    busy.wait_rewritten()
    assert "is rolled back" in one.must("recover", busy.name)
    assert list(folder.iterdir()) == []
    assert_as_before(busy)
    one.must(*SAVE, busy.name, folder / "save")
    busy.wait_rewritten()


def test_all_readers_are_killed_and_recovered(busy, one, folder):
    """Then the guest waits for what it may not write yet, until somebody reads the rest."""
    done = at(one, "save progress", KILL_READERS + DIE, *SAVE, busy.name, folder / "save")
    assert done.code == -signal.SIGKILL
    time.sleep(1)
    assert "is rolled back" in one.must("recover", busy.name)
    busy.wait_rewritten()
    assert_as_before(busy)
    one.must(*SAVE, busy.name, folder / "save")


@pytest.mark.parametrize("moment", ["check done", "save started", "verify started", "publish done"])
def test_it_is_killed_elsewhere(busy, one, folder, moment):
    at(one, moment, DIE, *SAVE, busy.name, folder / "save")
    busy.wait_rewritten(1)
    assert one.run("recover", busy.name).code == 0
    assert_as_before(busy)
    assert {each.name for each in folder.iterdir()} <= {"save"}
    busy.wait_rewritten(1)


def test_it_is_interrupted(busy, one, folder):
    act = "os.kill(os.getpid(), signal.SIGINT)"
    done = at(one, "save progress", act, *SAVE, busy.name, folder / "save")
    assert done.code in (-signal.SIGINT, 130)
    assert list(folder.iterdir()) == []
    assert_as_before(busy)
    busy.wait_rewritten()


def test_it_is_cancelled(busy, one, folder):
    act = f"subprocess.Popen({one.command('cancel', busy.name)!r}); time.sleep(3)"
    done = at(one, "save progress", act, *SAVE, busy.name, folder / "save")
    assert done.code == 10, done
    assert "cancelled" in done.err
    assert list(folder.iterdir()) == []
    assert_as_before(busy)
    busy.wait_rewritten()


def test_the_disk_is_full(busy, one, folder):
    """As far as a process may write: what is beyond fails, as on a full disk."""
    act = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))"
    done = at(one, "save progress", act, *SAVE, busy.name, folder / "save")
    assert done.code == 10, done
    assert "File too large" in done.err
    assert list(folder.iterdir()) == []
    assert_as_before(busy)
    busy.wait_rewritten()


def test_qemu_dies(busy, one, folder):
    act = f"os.kill({busy.machine.pid}, signal.SIGKILL)"
    done = at(one, "save progress", act, *SAVE, busy.name, folder / "save")
    assert done.code in (10, 11), done
    assert list(folder.iterdir()) == []
    assert one.must("recover") == "nothing was left unfinished\n"
    assert one.list() == []
