"""What a QEMU says of itself; what it lists of machines and devices is tested where it is used."""

import json

import pytest

from xenqemu.errors import HostError
from xenqemu.host.qemu import emulator
from xenqemu.host.qemu.emulator import Versions


def state(name, newest, oldest):
    return {"Description": {"name": name, "version_id": newest, "minimum_version_id": oldest}}


DUMP = {
    "vmschkmachine": {"Name": "none"},
    "PIIX3": state("PIIX3", 3, 2),
    "PIIX3-xen": state("PIIX3", 2, 1),
    "VGA": state("vga", 2, 2),
    "none": {"Name": "none", "version_id": 1},
    "odd": {"Description": {"name": 7, "version_id": 1, "minimum_version_id": 1}},
}
KNOWN = {"PIIX3": Versions(1, 3), "vga": Versions(2, 2)}


@pytest.fixture
def qemu(tmp_path):
    """A QEMU that counts how often it is asked, and prints what `answer` holds."""
    program = tmp_path / "qemu"
    program.write_text(f"#!/bin/sh\necho $* >> {tmp_path}/asked\ncat {tmp_path}/answer\n")
    program.chmod(0o755)
    (tmp_path / "answer").write_text(json.dumps(DUMP))
    return program


def asked(qemu):
    return qemu.with_name("asked").read_text().splitlines()


def test_device_states(qemu):
    assert emulator.device_states(str(qemu)) == KNOWN
    (words,) = asked(qemu)
    assert words.endswith("-dump-vmstate /dev/stdout")


def test_it_is_asked_once_as_long_as_it_is_the_same_file(qemu):
    for _ in range(3):
        assert emulator.device_states(str(qemu)) == KNOWN
    assert len(asked(qemu)) == 1
    qemu.with_name("answer").write_text(json.dumps({"VGA": state("vga", 9, 9)}))
    newer = qemu.with_name("newer")
    newer.write_text(qemu.read_text())
    newer.chmod(0o755)
    newer.rename(qemu)
    assert emulator.device_states(str(qemu)) == {"vga": Versions(9, 9)}
    assert len(asked(qemu)) == 2


def test_what_fails_is_asked_again(qemu):
    text = qemu.read_text()
    qemu.write_text("#!/nowhere/sh\n")
    with pytest.raises(HostError, match="cannot ask .* for its device states"):
        emulator.device_states(str(qemu))
    qemu.write_text(text)
    assert emulator.device_states(str(qemu)) == KNOWN


@pytest.mark.parametrize("answer", ["", "no JSON", "[]", "{}", "[" * 100_000, '{"a": 1}'])
def test_a_qemu_that_answers_otherwise(qemu, answer):
    qemu.with_name("answer").write_text(answer)
    with pytest.raises(HostError, match="does not list its device states"):
        emulator.device_states(str(qemu))


def test_a_qemu_that_hangs_or_does_not_stop(qemu, monkeypatch):
    monkeypatch.setattr(emulator, "QUESTION_TIMEOUT", 0.3)
    qemu.write_text("#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(HostError, match="timed out after 0.3 s"):
        emulator.device_states(str(qemu))
    monkeypatch.setattr(emulator, "QUESTION_TIMEOUT", 30)
    qemu.write_text("#!/bin/sh\nexec cat /dev/zero\n")
    with pytest.raises(HostError, match="printed more than 16 MiB"):
        emulator.device_states(str(qemu))


@pytest.mark.parametrize(
    ("devices", "wrong"),
    [
        ({}, []),
        ({"PIIX3": 1, "vga": 2, "timer": 99}, []),
        ({"PIIX3": 0}, ["web has the state of PIIX3 in version 0: {} loads 1 to 3"]),
        (
            {"PIIX3": 4, "vga": 3},
            [
                "web has the state of PIIX3 in version 4: {} loads 1 to 3",
                "web has the state of vga in version 3: {} loads 2 to 2",
            ],
        ),
    ],
)
def test_states_that_it_does_not_load(qemu, devices, wrong):
    found = emulator.unknown_states(str(qemu), "web", devices)
    assert [str(error) for error in found] == [text.format(qemu) for text in wrong]


def test_no_devices_need_no_answer(qemu):
    assert list(emulator.unknown_states(str(qemu), "web", {})) == []
    assert not qemu.with_name("asked").exists()


@pytest.mark.lab
def test_qemu_of_this_machine():
    known = emulator.device_states("qemu-system-x86_64")
    assert {"vga", "PIIX3", "I440FX", "rtl8139", "mc146818rtc"} < known.keys()
    assert all(0 <= each.oldest <= each.newest <= 10000 for each in known.values())
