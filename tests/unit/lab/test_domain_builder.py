"""The making of a domain: all of it, or nothing."""

import fcntl
import os
import resource
import subprocess
import sys
import time

import pytest

from tests.doubles.qemu.lab_guest import config
from tests.doubles.xen.xenstored import tool
from xenqemu.errors import DeviceModelError, HostError, HostTimeout
from xenqemu.host.party_deadlines import Deadlines
from xenqemu.lab import admission
from xenqemu.lab.domain_builder import LOCK, DomainBuilder
from xenqemu.lab.lab_host import Lab
from xenqemu.lab.plain_qemu import Machine

OTHER = 'name = "other"\nuuid = "00000000-0000-0000-0000-000000000002"'


def assert_nothing_left(lab):
    assert list(lab.guests.iterdir()) == []
    assert list(lab.run.iterdir()) == []
    shown = tool(lab.folder / "xenstored.socket", "ls", "-f").stdout
    assert "/local/domain/0/name" in shown
    assert not [line for line in shown.splitlines() if line.startswith("/local/domain/1")]


def test_an_id_and_empty_memory_are_claimed(lab):
    with DomainBuilder(lab) as builder:
        memory = builder.prepare(config())
        folder = lab.guests / "1"
        assert builder.domid == 1
        assert (memory.layout.size, memory.layout.below) == (8 << 20, 8 << 20)
        status = (folder / "ram").stat()
        assert (status.st_size, status.st_blocks, status.st_mode & 0o777) == (8 << 20, 0, 0o600)
        assert (folder / "paused").exists()
        assert lab.config(1) == config()
        assert DomainBuilder.busy(folder)
    assert not DomainBuilder.busy(folder)
    assert not DomainBuilder.busy(lab.guests / "2")
    assert folder.stat().st_mode & 0o777 == 0o700


def test_memory_above_the_pci_hole(lab):
    with DomainBuilder(lab) as builder:
        memory = builder.prepare(config("memory = 5120"))
        assert (memory.layout.size, memory.layout.below) == (5 << 30, 3 << 30)
        assert memory.layout.pfn(3 << 30) == 1 << 20
        assert (lab.guests / "1" / "ram").stat().st_blocks == 0


def test_ids_are_not_used_again(lab):
    for domid in (1, 2, 3):
        with pytest.raises(ZeroDivisionError), DomainBuilder(lab) as builder:
            builder.prepare(config())
            assert builder.domid == domid
            raise ZeroDivisionError
    assert (lab.folder / "domid").read_text() == "3\n"
    assert_nothing_left(lab)


def test_no_space_for_the_memory(lab):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 20, hard))
    try:
        with pytest.raises(HostError, match="cannot create the files of small: .*File too large"):
            with DomainBuilder(lab) as builder:
                builder.prepare(config("memory = 16"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_nothing_left(lab)


@pytest.mark.parametrize("text", [b"", b"x", b"-4\n", b"3", b"1\n2\n", b"\xff\n", b"9" * 5000])
def test_a_damaged_count_is_an_error(lab, text):
    (lab.folder / "domid").write_bytes(text)
    with pytest.raises(HostError, match="domid is damaged: .* is not a domain id"):
        with DomainBuilder(lab) as builder:
            builder.prepare(config())
    assert (lab.folder / "domid").read_bytes() == text
    assert_nothing_left(lab)


def test_two_of_a_name_are_not_made_at_once(lab):
    with DomainBuilder(lab) as first:
        first.prepare(config())
        with (
            pytest.raises(HostError, match="domain 1 is named small already"),
            DomainBuilder(lab) as second,
        ):
            second.prepare(config())
        assert second.domid == 0
        with DomainBuilder(lab) as third:
            third.prepare(config(OTHER))
            assert third.domid == 2


def test_a_folder_that_is_in_the_way_is_left_alone(lab):
    (lab.guests / "1").mkdir()
    (lab.guests / "1" / "mine").touch()
    with pytest.raises(HostError, match="cannot create the files of small: .*File exists"):
        with DomainBuilder(lab) as builder:
            builder.prepare(config())
    assert (lab.guests / "1" / "mine").exists()


def test_a_save_file_without_memory(lab):
    with (
        pytest.raises(HostError, match="a save file without memory"),
        DomainBuilder(lab) as builder,
    ):
        builder.start(b"")
    assert_nothing_left(lab)


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo 'no such disk' >&2; exit 1", "ended with status 1; .* said: no such disk"),
        ("exit 0", "ended with status 0; .* said nothing"),
    ],
)
def test_a_qemu_that_ends_leaves_nothing(lab, fake_qemu, script, why):
    fake_qemu(script)
    with pytest.raises(HostError, match=why), DomainBuilder(lab) as builder:
        builder.prepare(config())
        builder.start(None)
    assert_nothing_left(lab)


def test_a_qemu_that_never_answers_is_ended(lab, fake_qemu):
    lab = Lab(lab.folder, deadlines=Deadlines(qemu_start=0.5))
    fake_qemu("echo $$ >&2; exec sleep 600")
    with pytest.raises(HostTimeout, match=r"not ready after 0.5 s; .* said: \d+$") as caught:
        with DomainBuilder(lab) as builder:
            builder.prepare(config())
            builder.start(None)
    assert not os.path.exists(f"/proc/{str(caught.value).split()[-1]}")  # noqa: PTH110
    assert_nothing_left(lab)


def test_no_qemu_at_all(lab, place, monkeypatch):
    monkeypatch.setenv("PATH", str(place))
    with pytest.raises(HostError, match="cannot start qemu-system-x86_64: No such file"):
        with DomainBuilder(lab) as builder:
            builder.prepare(config())
            builder.start(None)
    monkeypatch.undo()
    assert_nothing_left(lab)


def test_what_cannot_be_removed_is_a_note_on_the_first_error(lab):
    with pytest.raises(ZeroDivisionError) as caught, DomainBuilder(lab) as builder:
        builder.prepare(config())
        (lab.guests / "1" / "machine.json").write_text("{")
        raise ZeroDivisionError
    (note,) = caught.value.__notes__
    assert note.startswith("could not remove domain 1: ")
    assert "machine.json is damaged" in note
    (lab.guests / "1" / "machine.json").unlink()


def test_the_lock_is_waited_for_and_not_for_ever(lab):
    holder = os.open(lab.folder / LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(holder, fcntl.LOCK_EX)
    impatient = Lab(lab.folder, deadlines=Deadlines(lab_lock=0.2))
    with pytest.raises(HostTimeout, match=r"lock is locked by another process for 0\.2 s"):
        with DomainBuilder(impatient) as builder:
            builder.prepare(config())
    os.close(holder)
    assert_nothing_left(lab)
    with DomainBuilder(impatient) as builder:
        builder.prepare(config())


MAKERS = """
import sys
from pathlib import Path
from tests.doubles.qemu.lab_guest import config
from xenqemu.lab.lab_host import Lab
from xenqemu.lab.lab_host import Lab
from xenqemu.lab.domain_builder import DomainBuilder
lab = Lab(Path(sys.argv[1]))
for n in range(5):
    with DomainBuilder(lab) as builder:
        uuid = f"00000000-0000-0000-{int(sys.argv[2]):04}-{n + 1:012}"
        builder.prepare(config(f'name = "g{sys.argv[2]}.{n}"\\nuuid = "{uuid}"'))
        print(builder.domid)
"""


def test_ids_are_given_once_whoever_asks(lab):
    command = [sys.executable, "-c", MAKERS, str(lab.folder)]
    makers = [
        subprocess.Popen([*command, str(n)], stdout=subprocess.PIPE, text=True) for n in range(3)
    ]
    given = [int(word) for maker in makers for word in maker.communicate(timeout=60)[0].split()]
    assert [maker.returncode for maker in makers] == [0, 0, 0]
    assert sorted(given) == list(range(1, 16))


@pytest.mark.lab
def test_a_whole_domain_and_its_end(lab):
    machine = admission.default_machine()
    before = time.time()
    with DomainBuilder(lab) as builder:
        builder.prepare(config('serial = ["pty", "null", "pty"]', machine))
        builder.start(None)
    found = Machine.load(lab.guests / "1")
    assert (found.domid, found.memory, found.below, found.vcpus) == (1, 8 << 20, 8 << 20, 1)
    assert found.process.alive
    with lab.store() as store:
        home = store.tree("/local/domain/1")
        started = store.read(f"{home['vm']}/start_time")
    assert home["name"] == "small"
    assert home["image/device-model-pid"] == str(found.pid)
    assert home["serial/0/tty"].startswith("/dev/pts/")
    assert home["serial/1/tty"].startswith("/dev/pts/")
    assert {name for name in home if name.startswith("serial/")} == {
        *("serial/0", "serial/0/tty", "serial/1", "serial/1/tty")
    }
    assert int(before) - 1 <= float(started) <= time.time() + 1
    lab.destroy(1)
    assert not found.process.alive
    assert_nothing_left(lab)


@pytest.mark.lab
@pytest.mark.parametrize(
    ("state", "why"),
    [
        (b"no state", "Not a migration stream|ended while it loaded"),
        (b"QEVM\0\0\0\3\1", "ended while it loaded|Unknown|section"),
    ],
)
def test_a_state_that_qemu_cannot_load_leaves_nothing(lab, state, why):
    with pytest.raises(HostError, match=why) as caught, DomainBuilder(lab) as builder:
        builder.prepare(config(machine=admission.default_machine()))
        builder.start(state)
    assert not isinstance(caught.value, DeviceModelError)  # it has QEMU's last words added
    assert "qemu-system-x86_64 said" in str(caught.value)
    assert_nothing_left(lab)
