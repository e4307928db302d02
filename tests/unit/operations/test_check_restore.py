"""Whether a save file can be restored here: every reason at once, and what is only warned of."""

import os
from pathlib import Path

import pytest

from tests.doubles.in_memory.save_files import config, config_with, save_file
from tests.doubles.in_memory.world import World
from xenqemu.errors import FormatError, Refused, UsageError
from xenqemu.host.findings import Finding, Severity
from xenqemu.operations.check_restore import restorable, saved_needs
from xenqemu.operations.journal.folder import Journals
from xenqemu.operations.journal.log import About
from xenqemu.operations.options import RestoreOptions, SaveOptions
from xenqemu.operations.restore import restore
from xenqemu.operations.save import save

REFUSAL, WARNING = Severity.REFUSAL, Severity.WARNING


@pytest.fixture
def world():
    return World(guests={})


@pytest.fixture
def saved(tmp_path):
    """A sealed save file."""
    source = World()
    save(source.host, source.domain(), tmp_path / "record")
    return tmp_path / "record"


def found(world, path, key=None):
    every = list(restorable(world.host, path, key))
    assert world.acts() == []
    assert world.guests == {}
    return [(each.severity, each.what, each.text) for each in every]


def test_nothing_is_found(world, saved):
    before = saved.read_bytes()
    assert found(world, saved) == []
    assert saved.read_bytes() == before
    assert [file.name for file in saved.parent.iterdir()] == ["record"]
    assert Journals(world.host.journals).found() == []


def test_what_its_guest_needs(saved):
    needs, other = saved_needs(saved)
    assert other == []
    assert needs.devices == {"timer": 2}
    assert needs.data == 10 * 4096
    assert needs.image_version == 3
    assert needs.config == config()


def test_the_cpu_that_its_guest_was_told_of(tmp_path):
    path = tmp_path / "record"
    path.write_bytes(save_file())
    needs, _ = saved_needs(path)
    assert {leaf.leaf for leaf in needs.cpuid} <= {1, 7, 0xD, 0x80000001}


def test_a_file_without_a_seal(world, tmp_path):
    path = tmp_path / "record"
    path.write_bytes(save_file())
    why = f"{path} has no seal: nobody can tell whether its pages were changed"
    assert found(world, path) == [(WARNING, "seal", why)]
    restore(world.host, path)  # as stock xl wrote it


def test_a_file_whose_pages_were_changed(world, saved):
    data = bytearray(saved.read_bytes())
    at = data.rindex(b"LibxlFmt") + 1000
    data[at] ^= 1
    saved.write_bytes(data)
    world.objections = ["the name is taken"]
    seal, name = found(world, saved)
    assert (seal[1], name) == ("seal", (REFUSAL, "host", "the name is taken"))


@pytest.mark.parametrize("data", [b"hello", b"", save_file()[:-1], save_file()[4096:]])
def test_what_is_no_save_file(world, tmp_path, data):
    (tmp_path / "record").write_bytes(data)
    with pytest.raises(FormatError):
        found(world, tmp_path / "record")


def test_what_is_read_once_or_sealed_with_a_key(world, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="cannot be read twice"):
        found(world, tmp_path / "pipe")
    source = World()
    key = tmp_path / "key"
    key.write_bytes(b"secret")
    key.chmod(0o600)
    save(source.host, source.domain(), tmp_path / "record", SaveOptions(key_file=key))
    with pytest.raises(UsageError, match="key"):
        found(world, tmp_path / "record")
    assert found(world, tmp_path / "record", b"secret") == []


def test_who_may_write_to_it(world, saved):
    saved.chmod(0o666)
    text = f"others may write to {saved} (chmod go-w)"
    assert found(world, saved) == [(REFUSAL, "writers", text)]


def test_an_operation_on_the_same_guest(world, saved):
    own = config()
    about = About("restore", 0, own.name, own.uuid, "/there")
    log = Journals(world.host.journals).begin(about, lambda _other: False)
    ((severity, what, text),) = found(world, saved)
    assert (severity, what) == (REFUSAL, "operation")
    assert "is running" in text
    log.close()


def test_disks_that_changed_and_a_restore_before(world, tmp_path):
    image = tmp_path / "disk.img"
    image.write_text("older")
    source = World()
    source.guests[1].config = config(image=image)
    path = tmp_path / "record"
    save(source.host, source.domain(), path)
    os.utime(image, (2_000_000_000, 2_000_000_000))
    os.setxattr(path, "user.xenqemu.restored", b"1000000000")
    changed, restored = found(world, path)
    assert changed[:2] == restored[:2] == (WARNING, "age")
    assert changed[2].startswith(f"{image} was changed (2033-05-18")
    assert restored[2].startswith(f"{path} was restored before (2001-09-0")
    notes = []
    restore(world.host, path, observe=lambda event: notes.append(event.text))
    assert [text for text in notes if text] == [changed[2], restored[2]]


def test_every_reason_at_once(world, tmp_path):
    path = tmp_path / "record"
    path.write_bytes(save_file(config_with(b_info={"bootloader": "/tmp/loader"})))
    path.chmod(0o622)
    world.objections = ["the name is taken", "no bridge"]
    every = found(world, path)
    assert [each[1] for each in every] == ["writers", "seal", "trust", "host", "host"]
    path.chmod(0o600)
    with pytest.raises(Refused) as caught:
        restore(world.host, path)
    reasons = [str(each) for each in caught.value.reasons]
    assert reasons == [text for severity, what, text in every[2:] if severity is REFUSAL]


def test_a_restore_notes_the_warnings_of_the_host(world, saved):
    warned = Finding.warning("cpu", "it may be slow", "look")
    world.host.findings = lambda _needs, *, quick: iter([warned])
    notes = []
    restore(world.host, saved, observe=lambda event: notes.append(event.text))
    assert "it may be slow; look" in notes


def test_disks_that_changed_refuse_a_strict_restore_beside_all_else(world, tmp_path):
    image = tmp_path / "disk.img"
    image.write_text("older")
    source = World()
    source.guests[1].config = config(image=image)
    save(source.host, source.domain(), tmp_path / "record")
    os.utime(image, (2_000_000_000, 2_000_000_000))
    world.objections = ["no bridge"]
    with pytest.raises(Refused) as caught:
        restore(world.host, tmp_path / "record", RestoreOptions(strict_disks=True))
    bridge, strict = map(str, caught.value.reasons)
    assert bridge == "no bridge"
    assert strict.endswith("and --strict-disks forbids that")


def test_no_such_file(world):
    with pytest.raises(FileNotFoundError):
        found(world, Path("/nowhere/record"))
