"""The main job: guests are saved and go on elsewhere as if nothing had happened."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import random
import re
import resource
import select
import signal
import stat
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import soak
from tests.doubles.xen.stream_oracle import oracle
from tests.doubles.xen.xenstored import tool
from tests.integration.lab.guests import (
    CFG,
    FILL,
    PROGRAM,
    TICK,
    TIMEOUT,
    Guest,
    Host,
    assert_same_memory,
    ticks,
    wait,
)
from tests.parts import shortened
from xenqemu.host.qemu.device_model import DeviceModel
from xenqemu.lab.command_line import BELOW

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

MIB = 1 << 20


def nodes(host: Host) -> dict[str, str]:
    """Return what Debian's xenstore-ls shows of a host."""
    shown = tool(host.lab.folder / "xenstored.socket", "ls", "-f")
    assert shown.returncode == 0, shown.stderr
    lines = (line.partition(" = ") for line in shown.stdout.splitlines())
    return {path: value.strip('"') for path, _, value in lines}


def test_a_guest_goes_on_on_another_host(guest, one, two, folder):
    record = folder / "web.save"
    guest.wait_tick()
    before = guest.machine
    uuid = one.status("web")["uuid"]
    there = guest.moved(two, record)
    there.wait_tick(5)
    counted = ticks(there.said)
    assert counted > ticks(there.earlier) >= ticks(guest.earlier) + 2

    assert one.empty()
    assert one.list() == []
    assert not before.process.alive
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    assert [entry.name for entry in folder.iterdir()] == ["web.save"]
    (found,) = two.list()
    assert found == {
        "domid": there.domid,
        "name": "web",
        "uuid": uuid,
        "state": "running",
        "device_model": "running",
        "memory": 256 * MIB,
        "vcpus": 1,
        "running": True,
        "trouble": [],
    }
    store = nodes(two)
    home = f"/local/domain/{there.domid}"
    assert store[f"{home}/name"] == "web"
    assert store[f"{home}/vm"] == f"/vm/{uuid}"
    assert store[f"/vm/{uuid}/name"] == "web"
    assert store[f"{home}/image/device-model-pid"] == str(there.machine.pid)
    assert store[f"{home}/console/tty"] == store[f"{home}/serial/0/tty"]
    assert store[f"{home}/memory/static-max"] == str(256 * 1024)
    assert store[f"/local/domain/0/device-model/{there.domid}/state"] == "running"
    assert not [path for path in nodes(one) if uuid in path or "/local/domain/1" in path]


def test_xens_own_verifier_accepts_the_record(seed):
    verifier = oracle()
    environment = {"PYTHONPATH": str(verifier.parent.parent / "lib" / "python")}
    command = [sys.executable, str(verifier), "-f", "xl", "-i", str(seed.record)]
    done = subprocess.run(
        command, capture_output=True, env=environment, timeout=TIMEOUT, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_save_and_run_on(guest, one, two, folder):
    said = guest.save(folder / "web.save", "-c")
    guest.wait_tick(5)
    assert ticks(guest.said) > ticks(said)
    assert one.status("web")["running"]
    twin = two.restore(folder / "web.save")
    twin.wait_tick(3)
    guest.wait_tick(2)
    assert ticks(guest.said) > ticks(said)
    # Its first whole line is one that the other has said too, or is about to say.
    again = [(int(number), nonce) for number, nonce in TICK.findall(twin.said)]
    (start, nonce), *_ = again
    assert ticks(guest.earlier) < start <= ticks(said) + 2
    assert again == [(start + index, nonce) for index in range(len(again))]
    assert nonce == TICK.findall(said)[0][1]


def test_save_and_stay_paused(guest, one, two, folder):
    guest.wait_tick()
    said = guest.save(folder / "web.save", "-p")
    assert one.status("web")["state"] == "paused"
    time.sleep(0.5)
    assert guest.said == said
    one.must("save", "-c", "web", folder / "again.save")
    assert one.status("web")["state"] == "paused"
    assert guest.said == said
    assert one.run("devices", "save", "web", folder / "again.qevm").code == 3
    assert sorted(entry.name for entry in folder.iterdir()) == ["again.save", "web.save"]
    one.must("lab", "unpause", "web")
    guest.wait_tick(3)
    assert ticks(guest.said) >= ticks(said) + 3
    twin = two.restore(folder / "web.save")
    twin.earlier = said
    twin.wait_tick(3)
    assert ticks(twin.said) >= ticks(said) + 3


def test_pause_and_unpause(guest, one):
    guest.wait_tick()
    one.must("lab", "pause", "web")
    said = guest.said
    assert [each["state"] for each in one.list()] == ["paused"]
    assert "device model: paused" in one.must("status", "web")
    one.must("lab", "pause", str(guest.domid))
    time.sleep(0.5)
    assert guest.said == said
    one.must("lab", "unpause", "web")
    one.must("lab", "unpause", "web")
    guest.wait_tick()
    assert ticks(guest.said) > ticks(said)


@pytest.mark.long
def test_ten_times_there_and_back(guest, one, two, folder):
    soak.lab(guest, (one, two), folder / "web.save", 10)


def test_the_state_of_the_devices_alone(guest, one, folder):
    file = folder / "web.qevm"
    said = guest.said
    done = one.run("devices", "save", "--json", "web", file).good().json
    assert done == {"saved": str(file), "domid": guest.domid, "size": file.stat().st_size}
    assert file.read_bytes()[:8] == b"QEVM\0\0\0\3"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    found = one.run("inspect", "--json", file).good().json
    names = {device["idstr"] for device in found["devices"]}
    assert {"cpu", "apic", "i8259", "serial", "0000:00:00.0/I440FX"} <= names
    again = one.must("devices", "save", "web", file)
    assert again.startswith(f"saved the devices of web to {file}: device state, ")
    guest.wait_tick(3)
    assert ticks(guest.said) > ticks(said)


# Memory.


def test_a_paused_guest_has_the_memory_of_its_record(seed, one):
    guest = seed.on(one, "-p")
    assert one.status("web")["state"] == "paused"
    below, above = assert_same_memory(guest.ram, seed.record)
    assert below > 10_000
    assert above == 0
    assert guest.said == seed.said
    one.must("lab", "unpause", "web")
    guest.wait_tick(3)
    assert ticks(guest.said) >= ticks(seed.said) + 3


def test_memory_above_the_pci_hole(big_seed, one):
    """Linux puts its data there; what it never touched costs nothing."""
    touched = big_seed.record.stat().st_size
    assert FILL * MIB < touched < (FILL + 400) * MIB
    guest = big_seed.on(one, "-p")
    assert guest.ram.stat().st_size == 5 << 30
    assert guest.ram.stat().st_blocks * 512 < touched + 4 * MIB
    below, above = assert_same_memory(guest.ram, big_seed.record)
    assert below > 1000
    assert above > FILL * MIB // 4096 // 2
    one.must("lab", "unpause", "big")
    guest.wait_tick(3)
    assert ticks(guest.said) >= ticks(big_seed.said) + 3


@pytest.mark.parametrize("memory", shortened([3072, 3080], 3080))
def test_sparse_memory_up_to_the_pci_hole_and_beyond(one, two, folder, memory):
    """Pages anywhere, put there while the guest is stopped; its firmware leaves them alone."""
    size = memory * MIB
    some = random.Random(memory)
    guest = one.create(CFG.format(name="sparse", memory=memory), "-p")
    places = {some.randrange(64 * MIB, BELOW - 8 * MIB) // 4096 * 4096 for _ in range(50)}
    places |= {BELOW, size - 4096} if size > BELOW else set()
    wanted = {place: some.randbytes(4096) for place in places}
    with guest.ram.open("r+b") as file:
        for place, contents in wanted.items():
            file.seek(place)
            file.write(contents)
    one.must("lab", "unpause", "sparse")
    record = folder / "sparse.save"
    guest.save(record)
    assert record.stat().st_size < 16 * MIB
    there = two.restore(record, "-p")
    below, above = assert_same_memory(there.ram, record)
    assert (below > 50, above > 0) == (True, size > BELOW)
    with there.ram.open("rb") as file:
        for place, contents in wanted.items():
            assert os.pread(file.fileno(), 4096, place) == contents


def test_pages_are_numbered_as_the_guest_sees_them(one):
    """QEMU is asked what stands at guest-physical addresses on both sides of the hole."""
    guest = one.create(CFG.format(name="sparse", memory=5120), "-p")
    words = {BELOW - 8: b"below it", BELOW: b"above it", (5 << 30) - 8: b"the last"}
    with guest.ram.open("r+b") as file:
        for offset, word in words.items():
            os.pwrite(file.fileno(), word, offset)
    memory = one.lab.hypervisor.memory(guest.domid)
    with DeviceModel(one.lab.run / f"qmp-libxl-{guest.domid}") as device_model:
        for offset, word in words.items():
            address = memory.layout.pfn(offset) * 4096 + offset % 4096
            line = {"command-line": f"xp /1gx {address:#x}"}
            shown = str(device_model.execute("human-monitor-command", line))
            assert int(shown.split(":")[1], 16) == int.from_bytes(word, "little")


MEASURED = """
import sys
from xenqemu.cli.main import main
code = main(sys.argv[1:])
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(peak.split()[1], file=sys.stderr)
sys.exit(code)
"""


def test_neither_save_nor_restore_takes_much_memory(big_seed, one, two, folder):
    record = folder / "big.save"
    big_seed.on(one)
    for host, words in ((one, ("save", "big", record)), (two, ("restore", record))):
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, *host.command(*words)[len(PROGRAM) :]],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert 10 << 10 < int(done.stderr) < 128 << 10  # KiB


# Devices.


def test_guests_with_devices_go_on(devices_seed, one, two, folder):
    guest = devices_seed.on(one)
    guest.wait_tick()
    there = guest.moved(two, folder / "full.save")
    there.wait_tick(3)
    assert ticks(there.said) >= ticks(there.earlier) + 3
    assert two.status("full")["vcpus"] == 2
    found = two.run("inspect", "--json", folder / "full.save").good().json
    devices = [device["idstr"].rpartition("/")[2] for device in found["devices"]]
    assert devices.count("apic") == 2
    assert {"ide", "lsiscsi", "scsi-disk", "e1000", "rtl8139", "vga"} <= set(devices)
    assert [disk["vdev"] for disk in found["config"]["disks"]] == ["hda", "sdb", "hdc"]
    shown = two.must("inspect", folder / "full.save")
    assert "qcow2 rw\n" in shown
    assert "nic      00:16:3e:00:00:01 e1000" in shown


def test_a_disk_in_use_cannot_be_used_twice(devices_seed, one, two):
    guest = devices_seed.on(one)
    refused = two.run("restore", devices_seed.record)
    assert (refused.code, refused.out) == (3, "")
    assert f"hda.raw is leased to domain {one.status('full')['uuid']} on host " in refused.err
    assert f"{one.lab.folder} since" in refused.err
    assert two.run("status", "full").code == 3
    guest.wait_tick()
    assert ticks(guest.said) > ticks(devices_seed.said)


# What fails, and what it leaves.


@contextlib.contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Have 16 MiB in `folder`; where we may not mount, no file may be larger than that."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m,mode=700", "none", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        try:
            yield
        finally:
            subprocess.run(["umount", "-l", folder], check=True)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 * MIB, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_costs_the_record_only(guest, one, folder):
    with full_disk(folder):
        (folder / "web.save").write_bytes(b"older")
        done = one.run("save", "web", folder / "web.save")
        assert done.code == 3
        assert "bytes of free space are needed for the save file" in done.err
        assert [entry.name for entry in folder.iterdir()] == ["web.save"]
        assert (folder / "web.save").read_bytes() == b"older"
    guest.wait_tick(3)
    assert one.status("web")["running"]
    assert ticks(guest.said)


def test_a_host_without_room_for_the_memory(seed, folder):
    with full_disk(folder):
        host = Host(folder)
        host.lab.up()
        try:
            done = host.run("restore", seed.record)
            assert (done.code, done.out) == (3, "")
            words = rf"xenqemu: web needs \d+ MiB: {host.lab.guests} has \d+ MiB free"
            assert re.fullmatch(words, done.err.splitlines()[-1])
            assert host.empty()
        finally:
            host.lab.down()


def started(host: Host, phase: str, *words: object) -> subprocess.Popen[str]:
    """Start a command and return when it has moved some, not all, of a guest's memory."""
    process = subprocess.Popen(
        host.command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if (event["phase"], event["event"]) == (phase, "progress"):
            assert 0 < event["done"] < event["total"] // 2
            return process
    raise AssertionError(process.communicate())


@pytest.mark.parametrize("number", shortened([signal.SIGTERM, signal.SIGINT], signal.SIGTERM))
def test_a_save_that_is_interrupted(big_seed, one, folder, number):
    guest = big_seed.on(one)
    process = started(one, "save", "save", "--json", "big", folder / "big.save")
    process.send_signal(number)
    out, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130
    assert err.startswith("xenqemu: interrupted; save of domain ")
    assert err.endswith("; the guest is as it was\n")
    *events, last = [json.loads(line) for line in out.splitlines()]
    assert [(each["phase"], each["event"]) for each in events[-2:]] == [
        ("undo", "started"),
        ("undo", "done"),
    ]
    assert last["error"]["exit_code"] == 130
    assert (last["error"]["class"], last["error"]["phase"]) == ("KeyboardInterrupt", "save")
    assert list(folder.iterdir()) == []
    guest.wait_tick(3)
    assert ticks(guest.said) > ticks(big_seed.said)
    guest.save(folder / "big.save")


def test_a_restore_that_is_interrupted(big_seed, one):
    process = started(one, "build", "restore", "--json", big_seed.record)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, err) == (130, "xenqemu: interrupted\n")
    assert one.empty()


def test_a_restore_that_is_killed_is_cleared_away(big_seed, one):
    process = started(one, "build", "restore", "--json", big_seed.record)
    process.send_signal(signal.SIGSTOP)
    assert one.list() == []  # it is being made: nobody clears it away
    assert not one.empty()
    process.kill()
    process.communicate(timeout=TIMEOUT)
    assert not one.empty()
    assert one.list() == []
    assert one.empty()


def test_qemu_was_killed(guest, one):
    os.kill(guest.machine.pid, signal.SIGKILL)
    wait(lambda: not guest.machine.process.alive, lambda: "it lives on")
    words = f"domain {guest.domid} (web): hypervisor: no such domain; name in xenstore: web\n"
    assert one.must("status", "web") == words
    assert one.run("save", "web", "/nowhere/file").code == 3
    assert one.list() == []
    assert one.empty()
    assert one.run("status", "web") == (3, "", "xenqemu: there is no domain 'web' on this host\n")


def test_qemu_is_killed_during_a_save(big_seed, one, two, folder):
    """Its devices were saved, and its memory is a file: the save file is complete even so."""
    guest = big_seed.on(one)
    process = started(one, "save", "save", "--json", "big", folder / "big.save")
    os.kill(guest.machine.pid, signal.SIGKILL)
    said = guest.said
    _, err = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, err) == (0, "")
    assert one.empty()
    there = two.restore(folder / "big.save")
    there.earlier = said
    there.wait_tick(3)
    assert ticks(there.said) >= ticks(said) + 3


def test_xenstored_was_killed(guest, one, folder):
    state = one.lab.folder / "xenstored.state"
    name = f'["/local/domain/{guest.domid}/name", "web"'  # not what a guest before it left
    wait(lambda: state.exists() and name in state.read_text(), lambda: "not saved")
    pid = int((one.lab.folder / "xenstored.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    why = f"xenqemu: no lab host is up in {one.lab.folder}: xenqemu lab up {one.lab.folder}\n"
    for words in (("status", "web"), ("lab", "list"), ("save", "web", folder / "x")):
        assert one.run(*words) == (3, "", why)
    assert list(folder.iterdir()) == []
    one.must("lab", "up", one.lab.folder)
    assert [(each["name"], each["state"]) for each in one.list()] == [("web", "running")]
    guest.wait_tick()
    assert ticks(guest.save(folder / "web.save")) > ticks(guest.earlier)
    assert one.empty()


def test_down_ends_the_guests(seed, folder):
    host = Host(folder / "host")
    host.lab.up()
    guest = seed.on(host)
    process = guest.machine.process
    host.lab.folder.joinpath("mine").touch()
    assert host.must("lab", "down", folder / "host").endswith("is down; ended: web\n")
    assert not process.alive
    assert list(host.lab.guests.iterdir()) == []


# The console.


def read_until(fd: int, text: bytes) -> bytes:
    said = b""
    while text not in said:
        assert select.select([fd], [], [], TIMEOUT)[0], said
        said += os.read(fd, 4096)
    return said


def test_the_console(guest, one):
    ours, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    process = subprocess.Popen(
        one.command("lab", "console", "web"), stdin=terminal, stdout=terminal, stderr=terminal
    )
    try:
        said = read_until(ours, b"nonce")
        assert b"tick " in said
        assert not termios.tcgetattr(terminal)[3] & termios.ICANON
        os.write(ours, b"\x1d")
        assert process.wait(TIMEOUT) == 0
        assert termios.tcgetattr(terminal) == before
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(terminal)
    guest.wait_tick()


def test_the_console_of_a_guest_that_ends(guest, one):
    process = subprocess.Popen(
        one.command("lab", "console", "web"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        read_until(process.stdout.fileno(), b"nonce")
        one.must("lab", "destroy", "web")
        process.wait(TIMEOUT)
        assert (process.returncode, process.stderr.read()) == (0, b"")
    assert one.empty()
    assert isinstance(guest, Guest)
