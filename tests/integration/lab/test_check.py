"""`xenqemu check` on real hosts: guests, save files and another host, all reasons at once."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest

from tests.doubles.answers import is_a
from tests.integration.lab.guests import CFG, Guest, Host, at
from tests.integration.lab.migrations import way
from tests.integration.moments import DIE
from xenqemu.formats.device_state.section_header import pack_header
from xenqemu.operations.verify import verify

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]


def found(host: Host, *words: object) -> list[tuple[str, str]]:
    """Return the key and the text of all that refuses."""
    answer = json.loads(host.run("check", "--json", *words).out)
    is_a(answer, "check")
    every = answer["findings"]
    return [(each["what"], each["text"]) for each in every if each["severity"] == "refusal"]


def with_newer_device(record: Path, name: str) -> int:
    """Have a save file without seal hold the state of a device in a version that none has yet."""
    data = record.read_bytes()
    devices = verify(io.BytesIO(data)).devices
    assert devices is not None
    (old,) = (each for each in devices.sections if each.idstr == name)
    header = pack_header(old.id, name, old.instance_id, old.version_id)
    assert data.count(header) == 1
    newer = pack_header(old.id, name, old.instance_id, 77)
    record.write_bytes(data.replace(header, newer))
    return old.version_id


def test_a_guest_and_its_save_file_that_are_sound(one: Host, tiny: Guest, folder: Path) -> None:
    record = folder / "record"
    assert one.must("check", "--to", folder, "tiny") == "a save of tiny would work\n"
    assert list(folder.iterdir()) == []
    one.must("save", "tiny", record)
    assert one.must("check", record) == f"a restore of {record} would work\n"
    assert one.restore(record).name == "tiny"
    assert one.status("tiny")["running"]


def test_a_guest_with_three_reasons(one: Host, tiny: Guest, folder: Path) -> None:
    """A save that was killed, the guest that it left, a folder that others may write to."""
    killed = at(one, "quiesce done", DIE, "save", "tiny", folder / "record")
    assert killed.code < 0
    folder.chmod(0o777)
    done = one.run("check", "--to", folder, "tiny")
    operation, state, space, summary = done.out.splitlines()
    assert operation.startswith("refused: the save of domain ")
    assert operation.endswith("xenqemu recover tiny")
    assert state.startswith(f"refused: domain {tiny.domid} is not running (hypervisor: suspended")
    assert space == f"refused: others may write to {folder} (chmod go-w)"
    assert summary == "a save of tiny would fail: 3 refusals, 0 warnings"
    assert (done.code, done.err) == (3, "")
    folder.chmod(0o700)
    one.must("recover", "tiny")
    one.must("check", "--to", folder, "tiny")


def test_a_save_file_with_three_reasons(one: Host, folder: Path) -> None:
    """A disk that is gone, a domain of its name, and a device state that no QEMU loads yet."""
    disk, record = folder / "disk.raw", folder / "record"
    disk.write_bytes(bytes(1 << 20))
    text = CFG.format(name="tiny", memory=16)
    guest = one.create(f'{text}disk = ["{disk},raw,hda,w"]\n')
    one.must("save", "--no-seal", guest.name, record)
    version = with_newer_device(record, "mc146818rtc")
    disk.unlink()
    one.create(text)
    domid = one.guest("tiny").domid
    reasons = [
        ("disks", f"tiny needs {disk}, which cannot be read"),
        ("name", f"domain {domid} is named tiny already"),
        ("devices", "tiny has the state of mc146818rtc in version 77: qemu-system-x86_64 loads "),
    ]
    told = found(one, record)
    assert [what for what, _ in told] == [what for what, _ in reasons]
    assert all(text.startswith(words) for (_, text), (_, words) in zip(told, reasons, strict=True))
    assert told[-1][1].endswith(f" to {version}")
    done = one.run("restore", record)
    assert (done.code, done.out) == (3, "")
    summary, *each = done.err.splitlines()
    assert summary == "xenqemu: tiny cannot be restored here, for 3 reasons"
    assert each == [f"{number}. {text}" for number, (_, text) in enumerate(told, 1)]
    assert [each["domid"] for each in one.list()] == [domid]


def test_a_device_state_that_is_too_new_alone(one: Host, tiny: Guest, folder: Path) -> None:
    record = folder / "record"
    one.must("save", "--no-seal", "tiny", record)
    with_newer_device(record, "mc146818rtc")
    ((what, text),) = found(one, record)
    assert what == "devices"
    done = one.run("restore", record)
    assert (done.code, done.out, done.err) == (3, "", f"xenqemu: {text}\n")
    assert one.list() == []
    assert one.empty()


def test_warnings_alone(one: Host, folder: Path) -> None:
    disk, record = folder / "disk.raw", folder / "record"
    disk.write_bytes(bytes(1 << 20))
    text = CFG.format(name="tiny", memory=16)
    guest = one.create(f'{text}disk = ["{disk},raw,hda,w"]\n')
    one.must("save", "--no-seal", guest.name, record)
    os.utime(disk, (2_000_000_000, 2_000_000_000))
    done = one.run("check", record)
    assert (done.code, done.err) == (6, "")
    seal, age, summary = done.out.splitlines()
    assert seal.startswith(f"warning: {record} has no seal: ")
    assert age.startswith(f"warning: {disk} was changed (2033-")
    assert summary == f"a restore of {record} would work: 0 refusals, 2 warnings"


def test_another_host(one: Host, two: Host, tiny: Guest, folder: Path) -> None:
    ssh = way(two, folder, "no such words", "exit 9")
    words = ("check", "--on", "two", "-s", ssh)
    assert one.must(*words, "tiny") == "a migration of tiny to two would work\n"
    record = folder / "record"
    one.must("save", "-c", "--no-seal", "tiny", record)
    with_newer_device(record, "mc146818rtc")
    two.create(CFG.format(name="tiny", memory=16))
    done = one.run(*words, "tiny")
    assert done.code == 3
    domid = two.guest("tiny").domid
    named = f"refused: two: domain {domid} is named tiny already"
    summary = "a migration of tiny to two would fail: 1 refusal, 0 warnings"
    assert done.out.splitlines() == [named, summary]
    done = one.run(*words, record)
    assert done.code == 3
    first, second, seal, _summary = done.out.splitlines()
    assert first == named
    assert second.startswith("refused: two: tiny has the state of mc146818rtc in version 77: ")
    assert seal.startswith("warning: ")
    assert one.status("tiny")["running"]


def test_what_is_no_save_file(one: Host, folder: Path) -> None:
    (folder / "record").write_bytes(b"Xen saved domain, xl format\n \0 \r" + bytes(64))
    done = one.run("check", folder / "record")
    assert (done.code, done.out) == (2, "")


def test_a_dry_run_is_the_check_of_what_would_be_done(
    one: Host, two: Host, tiny: Guest, folder: Path
) -> None:
    record = folder / "record"
    assert one.must("save", "-n", "tiny", record) == "a save of tiny would work\n"
    assert one.must("save", "--dry-run", "tiny", "--to", "false") == "a save of tiny would work\n"
    assert list(folder.iterdir()) == []
    said = one.must(
        "migrate", "-n", "-s", way(two, folder, "no such words", "exit 9"), "tiny", "there"
    )
    assert said.startswith("a migration of tiny to ")
    assert said.endswith(" would work\n")
    one.must("save", "-c", "tiny", record)
    done = one.run("restore", "-n", record)
    assert done.code == 3
    refused, summary = done.out.splitlines()
    assert refused.startswith("refused: ")
    assert "tiny" in refused
    assert summary == f"a restore of {record} would fail: 1 refusal, 0 warnings"
    assert two.must("restore", "-n", record) == f"a restore of {record} would work\n"
    assert two.run("restore", "-n", "--from", f"cat {record}").code == 64
    cfg = folder / "cfg"
    cfg.write_text(CFG.format(name="other", memory=8))
    done = two.run("restore", "-n", "--json", cfg, record)
    assert done.code == 3
    (config, *_) = done.json["findings"]
    assert config["what"] == "config"
    assert two.empty()
