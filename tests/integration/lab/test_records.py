"""Save files of lab guests: what they show, and which of them a host refuses, leaving nothing."""

from __future__ import annotations

import io
import json
import os
import re
import stat
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.golden import save_files
from tests.integration.lab.guests import CFG, LINUX, PROGRAM, TIMEOUT, ticks
from tests.parts import shortened
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.stream import xl
from xenqemu.formats.stream.detect import Walk
from xenqemu.formats.stream.framing import Record
from xenqemu.formats.stream.seal import find
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.source import Source
from xenqemu.quantities import in_bytes

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

Records = dict[str, Record]


def parts(data: bytes) -> Records:
    """Return the records of all layers by layer and name, the last of each."""
    return {f"{each.layer} {each.name}": each for each in Walk(Source.of(data))}


def with_config(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """Return a save file with another configuration."""
    source = Source.of(data)
    header = xl.read(source).value
    assert isinstance(header, xl.XlHeader)
    assert header.config is not None
    tree = json.loads(header.config.rstrip(b"\0"))
    change(tree)
    head = io.BytesIO()
    xl.write(Sink(head), xl.XlHeader.of_json(DomainConfig(tree).dump().decode()))
    return head.getvalue() + data[source.offset :]


def unsealed(path: Path) -> bytes:
    """Return a save file without its seal, which would tell of any change first."""
    with path.open("rb") as file:
        found = find(file)
    assert found is not None
    return path.read_bytes()[: found[0]]


@pytest.fixture(scope="session")
def tiny(firmware_record: Path) -> bytes:
    """The save file of a guest that has firmware alone, without its seal."""
    return unsealed(firmware_record)


# What they show.


def test_a_record_is_shown_layer_by_layer(one, firmware_record):
    size = firmware_record.stat().st_size
    shown = one.must("inspect", firmware_record)
    names = [line.split(maxsplit=2)[2] for line in shown.splitlines()[1:10]]
    assert [re.split(" x |  ", name)[0] for name in names] == [
        "xl header",
        "libxl header",
        "libxl LIBXC_CONTEXT",
        "libxc image header",
        "libxc domain header",
        "libxc STATIC_DATA_END",
        "libxc PAGE_DATA",
        "libxc END",
        "libxl EMULATOR_CONTEXT",
    ]
    assert "\ntype     hvm of the lab\nconfig   16 MiB, 1 vcpus\nmemory   " in shown
    assert "  cpu\n" in shown
    found = one.run("inspect", "--json", firmware_record).good().json
    assert (found["kind"], found["size"], found["trailing"]) == ("xl", size, 0)
    ours = found["config"]["xenqemu"]
    assert (ours["host"], ours["accel"]) == ("lab", "tcg")
    assert ours["machine"].startswith("pc-i440fx-")
    assert found["image"]["pages"]["data"] > 10
    assert found["image"]["pages"]["data"] + found["image"]["pages"]["zero"] <= 4096
    assert found["ambiguities"] == []


def test_a_record_is_sound(one, firmware_record):
    size = firmware_record.stat().st_size
    said = one.must("verify", firmware_record)
    summary = f"sound and sealed; xl, {in_bytes(size)}; hvm guest tiny; "
    assert said.startswith(f"{firmware_record}: {summary}")
    found = one.run("verify", "--json", firmware_record).good().json
    assert found["sound"] is True
    assert found["size"] == size
    assert stat.S_IMODE(firmware_record.stat().st_mode) == 0o600


def test_a_record_in_a_pipe(firmware_record):
    size = firmware_record.stat().st_size
    command = 'cat "$1" | "$0" -m xenqemu verify -'
    done = subprocess.run(
        ["/bin/sh", "-c", command, PROGRAM[0], firmware_record],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    assert done.stdout.startswith(f"-: sound and sealed; xl, {in_bytes(size)}; hvm guest tiny; ")
    assert done.stderr == ""


def test_the_head_of_what_is_shown(firmware_record):
    command = '"$0" -m xenqemu inspect "$1" | head -n 1'
    done = subprocess.run(
        ["/bin/sh", "-c", command, PROGRAM[0], firmware_record],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("      OFFSET         SIZE  RECORD\n", "")


def test_layers_cut_out_of_a_record(one, tiny, folder):
    found = parts(tiny)
    emulator = found["libxl EMULATOR_CONTEXT"]
    image = found["libxc image header"].offset
    for name, data in (
        ("libxl", tiny[found["libxl header"].offset :]),
        ("libxc", tiny[image : emulator.offset]),
        ("device state", emulator.value.state),
    ):
        file = folder / name
        file.write_bytes(data)
        kind = name.replace(" ", "_")
        if name == "device state":
            assert one.run("verify", "--json", file).good().json["kind"] == kind
        shown = one.run("inspect", "--json", file).good().json
        assert (shown["kind"], shown["size"]) == (kind, len(data))
        refused = one.run("restore", file)
        assert (refused.code, refused.out) == (2, "")
        assert "not a save file, but a bare" in refused.err or "at offset" in refused.err
    assert one.empty()


def test_progress_in_json(seed, one, folder):
    events = one.run("restore", "--json", seed.record).good().lines
    done = events.pop()
    assert (done["restored"], done["name"]) == (str(seed.record), "web")
    said = ("progress", "note")
    phases = [(each["phase"], each["event"]) for each in events if each["event"] not in said]
    assert phases == [
        (phase, kind) for phase in ("check", "build", "release") for kind in ("started", "done")
    ]
    moved = [each for each in events if each["event"] == "progress"]
    assert moved[-1]["done"] <= moved[-1]["total"] == 256 << 20
    assert [each["done"] for each in moved] == sorted(each["done"] for each in moved)

    events = one.run("save", "--json", "-c", "web", folder / "f").good().lines
    done = events.pop()
    size = (folder / "f").stat().st_size
    assert 0 < done.pop("downtime") < done.pop("seconds") < 60
    assert done.pop("rate") > 0
    assert done == {"saved": str(folder / "f"), "domid": done["domid"], "size": size}
    started = [each["phase"] for each in events if each["event"] == "started"]
    assert started == ["check", "quiesce", "save", "release", "verify", "publish"]
    assert any(each["done"] == each["total"] == 256 << 20 for each in events if "done" in each)


def test_a_save_says_what_it_saved(seed, one, folder):
    seed.on(one)
    file = folder / "f"
    said = one.must("save", "web", file)
    size = in_bytes(file.stat().st_size)
    assert said.startswith(f"saved web to {file}: xl, {size}; hvm guest web; ")
    said = one.must("restore", "-p", file)
    assert said.startswith(f"restored web from {file}: domain ")
    assert ", paused; " in said


# What a host refuses.


def cut(share: float) -> Callable[[bytes, Records], bytes]:
    return lambda data, found: data[: int(len(data) * share)]


def put(what: str, at: int, value: bytes) -> Callable[[bytes, Records], bytes]:
    """Return what puts other bytes into a save file, `at` bytes behind its start."""

    def damage(data: bytes, found: Records) -> bytes:
        place = found[what].offset + at
        return data[:place] + value + data[place + len(value) :]

    return damage


DAMAGES = {
    "cut in the memory": (cut(0.5), "and then the end"),
    "empty": (lambda data, found: b"", "expected one of XL"),
    "cut in the config": (lambda data, found: data[:99], "offset 0x30"),
    "cut in the devices": (lambda data, found: data[:-3000], "and then the end"),
    "without its end": (lambda data, found: data[:-8], "and then the end"),
    "no name": (lambda data, found: data.replace(b'"name":', b'"nome":', 1), "name"),
    "magic": (put("xl header", 0, b"x"), "expected one of XL"),
    "byte order": (put("xl header", 32, b"\1\2\3\4"), "xl header"),
    "libxl magic": (put("libxl header", 0, b"LibxlFmx"), "libxl header"),
    "image version": (put("libxc image header", 12, b"\0\0\0\x09"), "version 2 or 3"),
    "page size": (put("libxc domain header", 4, b"\x0d"), "page_shift 12"),
    "type of guest": (put("libxc domain header", 0, b"\1"), "libxc"),
    "unknown record": (put("libxc STATIC_DATA_END", 0, b"\x66"), "libxc"),
    "reserved page type": (put("libxc PAGE_DATA", 23, b"\x50"), "a type of 0-4 or 9-F"),
    "page count": (put("libxc PAGE_DATA", 8, b"\xff\xff\xff"), "PAGE_DATA"),
    "no RAM there": (put("libxc PAGE_DATA", 19, b"\x7f"), "pages of 16777216 bytes of RAM"),
    "emulator": (put("libxl EMULATOR_CONTEXT", 4, b"\xff\xff\xff\x7f"), "libxl"),
    "device state": (put("libxl EMULATOR_CONTEXT", 16, b"NONE"), "device state"),
}


@pytest.mark.parametrize(
    "kind", shortened(DAMAGES, "cut in the memory", "unknown record", "device state")
)
def test_a_damaged_record_is_refused(one, folder, tiny, kind):
    damage, message = DAMAGES[kind]
    file = folder / "damaged"
    file.write_bytes(damage(tiny, parts(tiny)))
    done = one.run("restore", file)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("xenqemu: ")
    assert " at offset 0x" in done.err
    assert message in done.err
    assert one.empty()


def change(*keys: str, to: object) -> Callable[[dict[str, Any]], None]:
    def change(tree: dict[str, Any]) -> None:
        for key in keys[:-1]:
            tree = tree[key]
        tree[keys[-1]] = to

    return change


def memory(kib: int) -> Callable[[dict[str, Any]], None]:
    """Return a change of what a guest starts with, and may have."""

    def apply(tree: dict[str, Any]) -> None:
        for key in ("max_memkb", "target_memkb"):
            change("b_info", key, to=kib)(tree)

    return apply


CONFIGS = {
    "no kernel": (
        change("b_info", "kernel", to="/nowhere/vmlinuz"),
        3,
        "tiny needs /nowhere/vmlinuz, which cannot be read",
    ),
    "no disk": (
        change("disks", to=[{"vdev": "hda", "pdev_path": "/nowhere/disk", "format": "raw"}]),
        3,
        "tiny needs /nowhere/disk, which cannot be read",
    ),
    "no such machine": (
        change("xenqemu", "machine", to="pc-i440fx-99.9"),
        3,
        "has no machine pc-i440fx-99.9, which tiny needs",
    ),
    "no accelerator": (change("xenqemu", "accel", to="xen"), 2, "expected machine and accel"),
    "of another type": (change("c_info", "type", to="pvh"), 2, "pvh"),
    "too small": (change("b_info", "max_memkb", to=8192), 2, "pages of 8388608 bytes of RAM"),
    "odd memory": (memory(16385), 2, "memory in multiples of 8 KiB"),
    "huge memory": (memory(1 << 40), 3, "qemu-system-x86_64"),
    "odd screen": (
        change("b_info", "type.hvm", "vga", "kind", to="qxl"),
        64,
        "vga='qxl'",
    ),
    "too many vcpus": (change("b_info", "max_vcpus", to=8000), 2, "8000 vcpus as in the config"),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_config_that_cannot_be_met(one, folder, tiny, kind):
    changed, code, message = CONFIGS[kind]
    file = folder / "record"
    file.write_bytes(with_config(tiny, changed))
    done = one.run("restore", file)
    assert (done.code, done.out) == (code, "")
    assert message in done.err
    assert one.empty()


def test_a_state_that_qemu_does_not_take(one, folder, tiny):
    """It reads as a sound save file; only QEMU knows that it has no such version of a device."""
    state = parts(tiny)["libxl EMULATOR_CONTEXT"]
    at = tiny.index(struct.pack(">B", 5) + b"timer", state.offset) + 6 + 4  # its version
    file = folder / "record"
    file.write_bytes(tiny[:at] + struct.pack(">I", 99) + tiny[at + 4 :])
    done = one.run("restore", file)
    assert (done.code, done.out) == (3, "")
    assert "ended while it loaded the device state; qemu-system-x86_64 said: " in done.err
    assert "unsupported version 99 for 'timer'" in done.err
    assert one.empty()


def test_a_record_of_xen_is_not_for_the_lab(one, folder):
    for name in save_files.SAVES:
        file = folder / name
        file.write_bytes(save_files.unpacked(name))
        done = one.run("restore", file)
        assert (done.code, done.out) == (3, "")
        assert "is a guest of Xen" in done.err
    assert one.empty()


def test_names_and_uuids_are_there_once(one, folder, tiny, firmware_record):
    guest = one.restore(firmware_record, "-p")
    done = one.run("restore", firmware_record)
    why = f"xenqemu: domain {guest.domid} is named tiny already\n"
    assert done == (3, "", why)
    other = folder / "other"
    other.write_bytes(with_config(tiny, change("c_info", "name", to="other")))
    done = one.run("restore", other)
    assert (done.code, done.out) == (3, "")
    assert f"domain {guest.domid} (tiny) has uuid " in done.err
    cfg = folder / "cfg"
    cfg.write_text(CFG.format(name="tiny", memory=16))
    assert one.run("lab", "create", cfg) == (3, "", why)
    assert [each["name"] for each in one.list()] == ["tiny"]


def test_a_uuid_may_be_here_under_another_number(one, two, folder, tiny):
    """Two hosts know nothing of each other."""
    file = folder / "f"
    uuid = "00000000-0000-0000-0000-00000000000a"
    both = with_config(tiny, change("c_info", "uuid", to=uuid))
    file.write_bytes(with_config(both, change("c_info", "name", to="second")))
    one.restore(file)
    two.restore(file)
    assert one.status("second")["uuid"] == two.status("second")["uuid"] == uuid


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        (LINUX.replace("vmlinuz", "none") % 0, 3, "/none, which cannot be read"),
        ('disk = ["{folder}/text,qcow2,hda,w"]', 3, "Image is not in qcow2 format"),
        ('disk = ["{folder},raw,hda,w"]', 3, "neither a file nor"),
        ('vif = ["bridge=nosuchbridge"]', 3, "there is no bridge 'nosuchbridge'"),
        ('vif = ["model=nosuchcard"]', 3, "nosuchcard"),
        ('kernel = "{folder}/text"', 3, "qemu-system-x86_64 said: "),
        ('disk = ["{folder}/text,raw,hda,w", "{folder}/text,raw,xvda,w"]', 3, "unit 0 is in use"),
    ],
)
def test_guests_that_qemu_cannot_start_leave_nothing(one, folder, text, code, message):
    (folder / "text").write_text("no image at all\n" * 100)
    cfg = folder / "cfg"
    cfg.write_text(CFG.format(name="tiny", memory=16) + text.format(folder=folder))
    done = one.run("lab", "create", cfg)
    assert (done.code, done.out) == (code, "")
    assert message in done.err
    assert one.empty()


def test_files_that_no_record_can_go_to(seed, one, folder):
    guest = seed.on(one)
    os.mkfifo(folder / "fifo")
    (folder / "folder").mkdir()
    (folder / "link").symlink_to(folder / "target")
    (folder / "file").write_bytes(b"not a folder")
    before = sorted(entry.name for entry in folder.iterdir())
    for name, code, why in (
        ("link", 64, "exists and is a symbolic link"),
        ("folder", 64, "exists and is a folder"),
        ("missing/web.save", 3, "cannot open the folder "),
        ("file/web.save", 3, "cannot open the folder "),
        ("/dev/null", 64, "exists and is a device"),
    ):
        for words in (("save", "web"), ("save", "-c", "web"), ("devices", "save", "web")):
            done = one.run(*words, folder / name)
            assert (done.code, done.out) == (code, "")
            assert why in done.err
    done = one.run("devices", "save", "web", folder / "fifo")
    assert (done.code, "exists and is a FIFO" in done.err) == (64, True)
    done = one.run("save", "web", folder / "fifo")
    assert (done.code, "others may read from" in done.err) == (3, True)
    assert sorted(entry.name for entry in folder.iterdir()) == before
    assert one.run("save", "nobody", folder / "f").code == 3
    guest.wait_tick(2)
    assert ticks(guest.said) > ticks(seed.said)
    (folder / "file").chmod(0o644)
    guest.save(folder / "file")
    assert stat.S_IMODE((folder / "file").stat().st_mode) == 0o600
    one.must("verify", folder / "file")


def test_a_record_that_is_cut_off_in_a_pipe_is_not_restored(one, firmware_record):
    command = 'head -c 100000 "$2" | "$0" -m xenqemu --host "$1" restore /dev/stdin'
    done = subprocess.run(
        ["/bin/sh", "-c", command, PROGRAM[0], one.option, firmware_record],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "and then the end" in done.stderr
    assert one.run("restore", "/nowhere").code == 1
    assert one.empty()
