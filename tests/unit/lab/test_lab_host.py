"""A lab host: up, down, and what it finds of domains that ended without it."""

import os
import signal
import stat
import subprocess
import threading
import time

import pytest

from tests.doubles.qemu.lab_guest import UUID, config
from tests.doubles.system.processes import wait_ended
from xenqemu.errors import HostError, HostTimeout, HypervisorError
from xenqemu.host.domain_state import find, state
from xenqemu.host.party_deadlines import Deadlines
from xenqemu.lab import lab_host as host_module
from xenqemu.lab import xenstore_layout
from xenqemu.lab.domain_builder import LOCK, DomainBuilder
from xenqemu.lab.lab_host import Lab
from xenqemu.lab.plain_qemu import Machine
from xenqemu.lab.xenstore_layout import Running
from xenqemu.system import lock_file
from xenqemu.system.process import Process


def xenstored(lab: Lab) -> Process:
    return Process.of(int((lab.folder / "xenstored.pid").read_text()))


def kill(process: Process) -> None:
    os.kill(process.pid, signal.SIGKILL)
    wait_ended(process.pid)


def wait_saved(lab: Lab, text: str) -> None:
    """Wait until xenstored has saved what was written last."""
    deadline = time.monotonic() + 20
    file = lab.folder / "xenstored.state"
    while not (file.exists() and text in file.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def leave_behind(lab: Lab, domid: int = 5, machine: Machine | None = None) -> None:
    """Put what there is of a domain whose process ended."""
    folder = lab.guests / str(domid)
    folder.mkdir()
    (folder / "config.json").write_bytes(config().dump())
    if machine:
        machine.store(folder)
    with lab.store() as store:
        xenstore_layout.introduce(store, config(), Running(domid, 1, (), "0"))


def ended(domid: int = 5) -> Machine:
    """Return the machine of a process that ended."""
    child = subprocess.Popen(["sleep", "60"])
    started = Process.of(child.pid).started
    child.kill()
    child.wait()
    return Machine(domid, UUID, child.pid, started, 4096, 4096, 1)


def test_up_is_private_and_may_be_repeated(place):
    lab = Lab(place / "a" / "host")
    try:
        lab.up()
        first = xenstored(lab)
        for folder in (lab.folder, lab.run, lab.guests):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        with lab.store() as store:
            assert store.tree("/local/domain") == {"0": "", "0/name": "Domain-0", "0/domid": "0"}
        lab.up()
        assert xenstored(lab) == first
        assert lab.domains() == []
    finally:
        assert lab.down() == []
    wait_ended(first.pid)
    assert sorted(entry.name for entry in lab.folder.iterdir()) == [
        *("guests", "run", "xenstored.log", "xenstored.socket.lock")
    ]
    assert lab.down() == []


def test_two_folders_are_two_hosts(lab, place):
    other = Lab(place / "other")
    other.up()
    try:
        with lab.store() as store, other.store() as another:
            store.write("/tool/x", "here")
            assert another.read("/tool/x") is None
    finally:
        other.down()
    assert xenstored(lab).alive


def test_a_folder_open_to_others_is_refused(place):
    folder = place / "host"
    folder.mkdir(mode=0o750)
    with pytest.raises(HostError, match=rf"{folder} must be owned by you and closed to others"):
        Lab(folder).up()
    assert list(folder.iterdir()) == []


def test_a_folder_of_somebody_else_is_refused(place, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(HostError, match="must be owned by you"):
        Lab(place / "host").up()


@pytest.mark.parametrize("length", [107, 108])
def test_a_path_too_long_for_sockets(place, length):
    left = length - len(f"{place}//run/qmp-libxenstat-99999")
    folder = place / ("x" * left)
    if length == 107:
        assert Lab(folder).folder == folder
    else:
        with pytest.raises(HostError, match="too long for a socket"):
            Lab(folder)


def test_a_host_that_is_not_up(place):
    lab = Lab(place / "host")
    message = rf"no lab host is up in {lab.folder}: xenqemu lab up {lab.folder}"
    with pytest.raises(HostError, match=message), lab.store():
        pytest.fail("nobody answers")
    with pytest.raises(HostError, match=message):
        lab.domains()
    with pytest.raises(HostError, match=r"there is no domain 4 on /"):
        lab.config(4)


def test_xenstored_was_killed(lab):
    (lab.guests / "9").mkdir()
    with lab.store() as store:
        store.write("/local/domain/8/name", "ended meanwhile")
        store.write("/local/domain/9/name", "survivor")
    wait_saved(lab, "survivor")
    first = xenstored(lab)
    kill(first)
    assert (lab.folder / "xenstored.socket").exists()
    with pytest.raises(HostError, match="no lab host is up in"), lab.store():
        pytest.fail("nobody answers")
    lab.up()
    assert xenstored(lab) != first
    assert find(lab, "survivor").domid == 9
    with lab.store() as store:
        assert store.list("/local/domain") == ["0", "9"]


def test_a_session_with_xenstored_is_kept_until_it_is_closed_or_lost(lab):
    with lab.store() as first, lab.store() as inner:
        assert inner is first
    with lab.store() as second:
        assert second is first
    lab.close()
    with lab.store() as third:
        assert third is not first
    kill(xenstored(lab))
    lab.up()
    with lab.store() as fourth:
        assert fourth is not third
        assert fourth.read("/local/domain/0/name") == "Domain-0"


def test_down_ends_no_program_that_got_the_id_of_xenstored(place):
    lab = Lab(place / "host")
    lab.up()
    kill(xenstored(lab))
    innocent = subprocess.Popen(["sleep", "60"])
    try:
        (lab.folder / "xenstored.pid").write_text(f"{innocent.pid}\n")
        with pytest.raises(HostError, match="no lab host is up"), lab.store():
            pytest.fail("nobody answers")
        lab.down()
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()
    assert not (lab.folder / "xenstored.pid").exists()


def test_xenstored_hangs_with_a_full_queue(lab):
    hasty = Lab(lab.folder, deadlines=Deadlines(xenstored_start=0.3))
    process = xenstored(lab)
    os.kill(process.pid, signal.SIGSTOP)
    looked = 0
    try:
        with pytest.raises(HostTimeout, match="xenstored hangs: its queue is full"):
            while looked < 200:
                hasty.domids()  # looks whether somebody listens
                looked += 1
    finally:
        os.kill(process.pid, signal.SIGCONT)
    assert 60 <= looked < 200
    assert lab.domains() == []  # it takes the queue up again


def test_xenstored_that_cannot_start(place):
    lab = Lab(place / "host")
    for folder in (lab.folder, lab.run, lab.guests):
        folder.mkdir(mode=0o700)
    (lab.folder / "xenstored.state").write_text("no state")
    with pytest.raises(HostError, match=r"ended with status 3; .*not a state of xenstored"):
        lab.up()
    lab.down()
    lab.up()  # a host that went down has no state
    lab.down()


def test_xenstored_that_is_never_ready(place):
    lab = Lab(place / "host", deadlines=Deadlines(xenstored_start=0.0))
    with pytest.raises(HostError, match=r"not ready after 0 s"):
        lab.up()
    lab = Lab(place / "host")
    lab.up()
    lab.down()


def test_what_ended_domains_left_is_removed(lab):
    leave_behind(lab, 5, ended())
    leave_behind(lab, 6)  # its maker died before QEMU started
    assert find(lab, "small").domid in (5, 6)
    assert state(lab, 5).info is None
    assert lab.domains() == []
    assert list(lab.guests.iterdir()) == []
    with lab.store() as store:
        assert store.list("/local/domain") == ["0"]
        assert not store.list("/vm")


def test_a_domain_that_is_being_made_is_left_alone(lab):
    with DomainBuilder(lab) as made:
        made.prepare(config())
        assert lab.domains() == []
        assert (lab.guests / "1" / "ram").exists()
    assert lab.domains() == []
    assert not (lab.guests / "1").exists()


def test_a_domain_that_is_whole_by_now_is_left_alone(lab, monkeypatch):
    """It was not yet there when it was looked at first, and its maker has finished since."""
    leave_behind(lab)
    child = subprocess.Popen(["sleep", "60"])
    try:
        really = lock_file.locked

        def finished_meanwhile(*words):
            started = Process.of(child.pid).started
            Machine(5, UUID, child.pid, started, 4096, 4096, 1).store(lab.guests / "5")
            return really(*words)

        monkeypatch.setattr(lock_file, "locked", finished_meanwhile)
        assert lab.domains() == []
        assert (lab.guests / "5").exists()
        assert child.poll() is None
        (now,) = lab.domains()
        assert now.trouble[0].startswith("hypervisor: ")  # a sleep does not speak QMP
    finally:
        child.kill()
        child.wait()


def test_nothing_is_removed_while_an_id_is_being_claimed(lab):
    leave_behind(lab)
    began = threading.Event()

    def look() -> None:
        began.set()
        lab.domains()

    with lock_file.locked(lab.folder / LOCK, lab.deadlines.lab_lock):
        looking = threading.Thread(target=look)
        looking.start()
        assert began.wait(20)
        time.sleep(0.3)
        assert (lab.guests / "5").exists()
    looking.join(20)
    assert not (lab.guests / "5").exists()


def test_damage_is_shown_as_trouble(lab):
    leave_behind(lab)
    (lab.guests / "5" / "machine.json").write_text("{")
    (now,) = lab.domains()
    assert (now.domid, now.name, now.info) == (5, "small", None)
    assert "machine.json is damaged" in now.trouble[0]
    with pytest.raises(HypervisorError, match="is damaged"):
        lab.destroy(5)
    (lab.guests / "5" / "machine.json").unlink()


def test_down_names_what_it_ended(place):
    lab = Lab(place / "host")
    lab.up()
    leave_behind(lab, 5, ended())
    (lab.guests / "6").mkdir()
    assert lab.down() == ["small", "6"]
    assert list(lab.guests.iterdir()) == []


def test_destroy_may_be_repeated(lab):
    leave_behind(lab, 5, ended())
    lab.destroy(5)
    lab.destroy(5)
    assert lab.domains() == []
    with lab.store() as store:
        assert store.list("/libxl") == []


@pytest.mark.lab
def test_a_domain_is_made_and_listed(lab):
    from xenqemu.lab.admission import default_machine

    domid = lab.create(config(machine=default_machine()))
    (now,) = lab.domains()
    assert (now.domid, now.name, now.info.memory, now.info.vcpus) == (domid, "small", 8 << 20, 1)
    assert (now.info.run_state.value, now.info.uuid) == ("paused", UUID)
    assert now.device_model == "prelaunch"
    assert lab.device_model(domid) is not None
    lab.hypervisor.unpause(domid)
    assert state(lab, domid).running
    kill(Machine.load(lab.guests / str(domid)).process)
    assert lab.domains() == []
    assert list(lab.run.iterdir()) == []


def called(lab, domid):
    """Return all the names that a domain has."""
    with lab.store() as store:
        names = [store.read(f"/local/domain/{domid}/name"), store.read(f"/vm/{UUID}/name")]
    return {*names, lab.config(domid).name}


def test_a_domain_is_renamed_everywhere_and_again(lab):
    leave_behind(lab, 5)
    assert called(lab, 5) == {"small"}
    for _ in range(2):
        lab.rename(5, "small", "small--incoming")
        assert called(lab, 5) == {"small--incoming"}
    assert lab.config(5).with_name("small") == config()
    lab.rename(5, "small--incoming", "small")
    assert called(lab, 5) == {"small"}


def test_a_renaming_that_was_cut_short_is_finished(lab, monkeypatch):
    leave_behind(lab, 5)
    monkeypatch.setattr(host_module, "keep", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        lab.rename(5, "small", "away")
    monkeypatch.undo()
    assert called(lab, 5) == {"small", "away"}
    lab.rename(5, "small", "away")
    assert called(lab, 5) == {"away"}


def test_a_name_that_is_another_domains_is_refused(lab):
    leave_behind(lab, 5)
    with DomainBuilder(lab) as other:
        other.prepare(config(f'name = "other"\nuuid = "{UUID[:-1]}e"'))
        with pytest.raises(HostError, match="domain 1 is named other already"):
            lab.rename(5, "small", "other")
    with pytest.raises(HostError, match="it is named 'small', not 'large'"):
        lab.rename(5, "large", "larger")
    with pytest.raises(HostError, match="there is no domain 6"):
        lab.rename(6, "small", "smaller")
    assert called(lab, 5) == {"small"}
