"""Whether a guest can be saved: every reason at once, each by the check that a save has."""

import json
import os

import pytest

from tests.doubles.in_memory.save_files import config, config_with
from tests.doubles.in_memory.world import World
from xenqemu.errors import HostError, Refused
from xenqemu.host.findings import Severity
from xenqemu.operations.check_guest import savable
from xenqemu.operations.journal import steps
from xenqemu.operations.journal.folder import Journals
from xenqemu.operations.journal.log import About
from xenqemu.operations.journal.operation import Operation
from xenqemu.operations.save import save
from xenqemu.system import free_space


@pytest.fixture
def world():
    return World()


def found(world, folder=None):
    every = list(savable(world.host, world.domain(), folder))
    assert world.acts() == []
    assert world.broken == []
    return every


def refused(world, folder=None):
    every = found(world, folder)
    return [(each.what, each.text) for each in every if each.severity is Severity.REFUSAL]


def test_nothing_is_found(world, tmp_path):
    assert found(world, tmp_path) == []
    assert list(tmp_path.iterdir()) == []
    assert Journals(world.host.journals).found() == []


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ({"crashed": True}, "domain 1 is not running (hypervisor: crashed"),
        ({"suspended": True}, "domain 1 is not running (hypervisor: suspended"),
        ({"devices_run": False}, "device model: paused"),
    ],
)
def test_a_guest_that_does_not_run_is_told_of_once(world, state, text):
    vars(world.guests[1]).update(state)
    ((what, said),) = refused(world)
    assert what == "state"
    assert text in said


def test_a_paused_guest(world):
    world.guests[1].paused = True
    assert found(world) == []
    world.guests[1].must_answer = True
    assert refused(world) == [("suspend", "domain 1 cannot be suspended: it is paused")]


def test_an_operation_that_is_running_or_was_left_unfinished(world):
    domain = world.domain()
    about = About("save", domain.domid, domain.name, domain.uuid, "/there")
    job = Operation.begin(world.host, about)
    job.undo(steps.Resume(domain.domid, domain.uuid))
    ((what, text),) = refused(world)
    assert what == "operation"
    assert text.startswith("the save of domain 1 (sample) to /there is running (process ")
    os.close(job.log.descriptor)  # as if it were killed
    ((what, text),) = refused(world)
    assert what == "operation"
    assert "was left unfinished" in text
    assert text.endswith("xenqemu recover sample")


def test_a_damaged_journal(world):
    world.host.journals.mkdir(mode=0o700, parents=True)
    about = {"verb": "save", "domid": 1, "name": "sample", "uuid": "u", "file": "", "pid": 1}
    path = world.host.journals / "1.op"
    path.write_text(json.dumps({**about, "started": 1, "since": 1.0}) + "\nnonsense\n")
    ((what, text),) = refused(world)
    assert what == "operation"
    assert str(path) in text


def test_what_no_save_file_holds(world):
    world.guests[1].config = config_with(pcidevs=[{"bus": 3}], vtpms=[{}])
    every = found(world)
    assert [each.what for each in every] == ["passthrough", "vtpm", "trust"]
    assert every[-1].severity is Severity.WARNING
    assert every[-1].text.startswith("a restore here would refuse the save file: the config of")
    with pytest.raises(Refused) as caught:
        save(world.host, world.domain(), world.folder / "record")
    assert [str(each) for each in caught.value.reasons] == [each.text for each in every[:2]]
    assert world.guests[1].runs


def test_every_reason_at_once(world, tmp_path, monkeypatch):
    world.blockers = ["nvme", "usb"]
    world.others = ["xl save (process 7)"]
    assert refused(world) == [("toolstacks", "domain 1 is in use by xl save (process 7)")]
    world.others = []
    monkeypatch.setattr(free_space, "free_for", lambda _file: 1000)
    words = "the device model of domain 1 cannot be saved"
    told = refused(world, tmp_path)
    assert told[:2] == [("device-model", f"{words}: nvme"), ("device-model", f"{words}: usb")]
    assert told[2][0] == "space"
    assert "bytes of free space are needed for the save file, 1000 are available" in told[2][1]


def test_pages_of_zeros_are_counted_where_space_is_little(world, tmp_path, monkeypatch):
    memory = type(world.host.hypervisor.memory(1))
    monkeypatch.setattr(memory, "space", lambda *_: 1 << 40)
    monkeypatch.setattr(free_space, "free_for", lambda _file: 1 << 30)
    assert found(world, tmp_path) == []


def test_a_folder_that_takes_no_save_file(world, tmp_path):
    assert refused(world, tmp_path / "no")[0][0] == "space"
    tmp_path.chmod(0o777)
    assert refused(world, tmp_path) == [("space", f"others may write to {tmp_path} (chmod go-w)")]


def test_a_folder_on_a_read_only_mount(world, tmp_path, monkeypatch):
    monkeypatch.setattr("xenqemu.system.staged_file.os.access", lambda *_: False)
    text = f"cannot create a file in {tmp_path}: it may not be written"
    assert refused(world, tmp_path) == [("space", text)]


def test_a_party_that_does_not_answer_is_a_reason(world, monkeypatch):
    def silent(_domain):
        raise HostError("xenstored does not answer")

    monkeypatch.setattr(world.host, "concurrent_toolstacks", silent)
    assert refused(world) == [("toolstacks", "xenstored does not answer")]


def test_a_guest_without_a_device_model(world):
    world.has_device_model = False
    world.guests[1].config = config("pvh")
    assert found(world) == []
