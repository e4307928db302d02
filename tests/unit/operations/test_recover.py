"""What recover does with which operations, and what it says; test_faults has it do everything."""

import errno
import os

import pytest

from tests.doubles.in_memory.guest import Guest
from tests.doubles.in_memory.save_files import device_state
from tests.doubles.in_memory.world import World
from xenqemu.errors import HostError, RolledBack
from xenqemu.operations.events import Kind, Phase
from xenqemu.operations.journal import steps
from xenqemu.operations.journal.folder import Journals
from xenqemu.operations.journal.log import About
from xenqemu.operations.journal.operation import Operation
from xenqemu.operations.options import After, SaveOptions
from xenqemu.operations.recover import damaged, recover, unfinished
from xenqemu.operations.restore import restore
from xenqemu.operations.save import save

UUID = World().guests[1].config.uuid


@pytest.fixture
def world():
    return World()


def killed(world, path, phase, after=After.DESTROY, kind=Kind.STARTED):
    """Save a guest in a process that is killed at the beginning of a phase."""

    def observe(event):
        if (event.phase, event.kind) == (phase, kind):
            world.die()

    assert world.outlive(
        lambda: save(world.host, world.domain(), path, SaveOptions(after=after), observe=observe)
    )


def test_nothing_is_left(world):
    assert recover(world.host) == []


LINE = '{"verb": "save", "domid": 8, "name": "n", "uuid": "u", "file": "f", "pid": 2, SINCE}\n'
ABOUT = LINE.replace("SINCE", '"started": 3, "since": 1.5')
UNDO = ABOUT + '{"undo": STEP}\n'


@pytest.mark.parametrize(
    "text",
    [
        *("\n", "{}\n", "[]\n", "7\n", "[" * 100_000 + "\n", LINE.replace("SINCE", "7: 7")),
        *(ABOUT.replace('"n"', "5"), ABOUT.replace("1.5", '"now"'), ABOUT.replace("2", "2.5")),
        *(ABOUT + line for line in ("[]\n", '{"phase": 5}\n', '{"done": 1}\n', '{"commit": {}}\n')),
        UNDO.replace("STEP", "{}"),
        UNDO.replace("STEP", '{"Fly": {"domid": 1, "uuid": "u"}}'),
        UNDO.replace("STEP", '{"OnGuest": {"domid": 1, "uuid": "u"}}'),
        UNDO.replace("STEP", '{"HasRun": {"domid": 1, "uuid": "u"}}'),
        UNDO.replace("STEP", '{"Resume": {"domid": 1}}'),
        UNDO.replace("STEP", '{"Resume": "none"}'),
    ],
)
def test_damaged_journal_is_told_of_and_stops_no_other_guest(world, text, tmp_path):
    killed(world, tmp_path / "record", Phase.SAVE)
    file = world.folder / "operations" / "9.op"
    file.write_text(text)
    (broken,) = damaged(world.host)
    assert str(broken).startswith(str(file))
    (done,) = recover(world.host)
    assert done.complete
    assert file.read_text() == text
    save(world.host, world.domain(), tmp_path / "record")


def test_damaged_journal_is_shown_for_its_guest_or_where_it_names_none(world):
    Operation.begin(world.host, About("save", 1, "n", "u", "f")).log.close()  # makes the folder
    for number, text in (1, ABOUT + "[]\n"), (2, "garbage\n"):
        (world.folder / "operations" / f"{number}.op").write_text(text)
    numbers = {
        names: [each.path.stem for each in damaged(world.host, *names)]
        for names in ((), ("n",), ("8",), ("other", "1"))
    }
    assert numbers == {
        (): ["1", "2"],
        ("n",): ["1", "2"],
        ("8",): ["1", "2"],
        ("other", "1"): ["2"],
    }


def test_operation_that_cannot_be_recovered_stops_no_other(world, tmp_path, monkeypatch):
    """Here the lease of its disk cannot be read."""
    for domid, name in ((5, "first"), (6, "second")):
        job = Operation.begin(world.host, About("migration", domid, name, name, "host"))
        job.undo(steps.KeepDisks(name, ("/disk",)))
        job.doubt(steps.Commit(None, "it is there"), "who knows")
        job.log.unfinished = True
        job.log.close()
    killed(world, tmp_path / "record", Phase.SAVE)

    def unreadable(_host, uuid, _images):
        raise HostError(f"the lease of {uuid} is damaged")

    monkeypatch.setattr("xenqemu.operations.guest_leases.moved", unreadable)
    ends = recover(world.host)
    assert [(each.trouble, each.complete, each.in_doubt) for each in ends] == [
        (("the lease of first is damaged",), False, True),
        (("the lease of second is damaged",), False, True),
        ((), True, False),
    ]
    with pytest.raises(HostError, match="the lease of first is damaged"):
        recover(world.host, "first")


def test_interrupted_save_is_taken_back(world, tmp_path):
    killed(world, tmp_path / "record", Phase.SAVE)
    assert world.running() == []
    assert [entry.suffix for entry in tmp_path.iterdir()] != []
    events = []
    (done,) = recover(world.host, observe=events.append)
    assert (done.phase, done.committed, done.meaning, done.trouble) == ("save", False, "", ())
    assert str(done.about) == f"save of domain 1 (sample) to {tmp_path}/record"
    assert done.state == "hypervisor: running; name in xenstore: sample; device model: running"
    assert [event.text for event in events if event.kind is Kind.DONE] == [
        "continue the device model",
        "resume the guest",
        *[event.text for event in events if event.text.startswith("remove .record")][:1],
    ]
    assert list(tmp_path.iterdir()) == []
    assert world.running() == [1]


def test_save_that_had_passed_its_point_of_no_return_is_finished(world, tmp_path):
    killed(world, tmp_path / "record", Phase.RELEASE)
    (done,) = recover(world.host)
    assert done.committed
    assert done.meaning == f"the save file {tmp_path}/record is the guest now"
    assert done.state == "hypervisor: no such domain; name in xenstore: none"
    assert world.guests == {}
    assert world.running() == [] != [restore(world.host, tmp_path / "record").domid]


def test_guest_that_somebody_has_let_go_on_is_not_destroyed(world, tmp_path):
    killed(world, tmp_path / "record", Phase.RELEASE)
    world.guests[1].suspended = False
    world.guests[1].devices_run = True
    (done,) = recover(world.host)
    assert done.trouble == ("could not destroy domain 1: domain 1 runs: somebody has resumed it",)
    assert done.complete
    assert world.running() == [1]
    assert Journals(world.host.journals).found() == []


def test_guest_that_is_gone_is_not_missed(world, tmp_path):
    killed(world, tmp_path / "record", Phase.SAVE)
    del world.guests[1]
    (done,) = recover(world.host)
    gone = "domain 1 is gone: it was destroyed, or ended, meanwhile"
    assert done.trouble == (
        f"could not continue the device model: {gone}",
        f"could not resume the guest: {gone}",
    )
    assert done.complete
    assert list(tmp_path.iterdir()) == []


def test_another_domain_of_the_same_id_is_left_alone(world, tmp_path):
    killed(world, tmp_path / "record", Phase.SAVE)
    tree = {**world.guests[1].config.tree}
    tree["c_info"] = {**tree["c_info"], "uuid": "11111111-e6df-11f1-a061-0df29b9903a9"}
    world.guests[1].config = type(world.guests[1].config)(tree)
    assert world.guests[1].suspended
    done, other = recover(world.host)
    assert not other.resumed
    assert all("is gone" in trouble for trouble in done.trouble)
    assert world.guests[1].suspended


def test_what_cannot_be_done_stays_to_be_done(world, tmp_path, monkeypatch):
    killed(world, tmp_path / "record", Phase.SAVE)

    def refuse(domid):
        raise HostError("Xen refuses")

    with monkeypatch.context() as patch:
        patch.setattr(world.host.hypervisor, "resume", refuse)
        (done,) = recover(world.host)
    assert done.trouble == ("could not resume the guest: Xen refuses",)
    assert not done.complete
    (done,) = recover(world.host)
    assert done.complete
    assert world.running() == [1]


def test_new_operation_names_recover(world, tmp_path):
    killed(world, tmp_path / "record", Phase.SAVE)
    with pytest.raises(HostError, match="left unfinished .process .*: xenqemu recover sample"):
        save(world.host, world.domain(), tmp_path / "second")


class Stuck:
    """A save that failed, and whose draft nobody can remove while it is `stuck`."""

    def __init__(self, world, path, monkeypatch):
        self.world, self.path = world, path
        self.patch = monkeypatch
        world.guests[1].pages.pop(0xFEFFC)  # it does not verify
        self.stick()
        with pytest.raises(RolledBack):
            save(world.host, world.domain(), path)
        world.guests[1] = Guest.running()

    def stick(self):
        really = os.unlink

        def unlink(name, **where):
            if ".xenqemu-" in os.fspath(name) and not os.fspath(name).endswith(".older"):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            really(name, **where)

        self.patch.setattr(os, "unlink", unlink)

    def drafts(self):
        return [entry for entry in self.path.parent.iterdir() if ".xenqemu-" in entry.name]


@pytest.fixture
def stuck(world, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        yield Stuck(world, tmp_path / "elsewhere", patch)


def test_a_draft_that_cannot_be_removed_keeps_nobody_from_the_guest(stuck, world, tmp_path):
    (draft,) = stuck.drafts()
    stuck.patch.undo()
    assert save(world.host, world.domain(), tmp_path / "record", SaveOptions(after=After.CONTINUE))
    assert [found.about.file for found in Journals(world.host.journals).found()] == [
        f"{tmp_path}/elsewhere"
    ]
    (done,) = recover(world.host)
    assert (done.complete, draft.exists()) == (True, False)
    assert Journals(world.host.journals).found() == []


def test_a_draft_that_cannot_be_removed_is_tried_again_until_it_is_to_be_forgotten(stuck, world):
    (draft,) = stuck.drafts()
    why = f"could not remove {draft.name}: [Errno 30] Read-only file system"
    for _time in range(2):
        (done,) = recover(world.host)
        assert (done.complete, done.trouble) == (False, (why,))
    (done,) = recover(world.host, "sample", forget=True)
    assert done.complete
    assert done.trouble == (why, f"{draft} is forgotten: remove it by hand")
    assert Journals(world.host.journals).found() == []
    assert draft.exists()


def test_nothing_else_is_forgotten(world, tmp_path, monkeypatch):
    killed(world, tmp_path / "record", Phase.SAVE)

    def refuse(domid):
        raise HostError("Xen refuses")

    with monkeypatch.context() as patch:
        patch.setattr(world.host.hypervisor, "resume", refuse)
        (done,) = recover(world.host, forget=True)
        assert not done.complete
    assert recover(world.host)[0].complete
    assert world.running() == [1]


def test_only_what_is_asked_for(world, tmp_path):
    killed(world, tmp_path / "record", Phase.SAVE)
    assert recover(world.host, "other") == []
    assert [each.about.domid for each in unfinished(world.host, "sample")] == [1]
    assert unfinished(world.host, "2") == []
    (done,) = recover(world.host, "1")
    assert done.complete


def test_what_goes_on_is_left_alone(world):
    about = About("save", 1, "sample", UUID, "/record")
    with Operation.begin(world.host, about) as job:
        job.undo(steps.Resume(1, UUID))
        assert recover(world.host) == []
    assert world.acts() == []


def test_what_was_left_waits_for_what_goes_on_with_the_same_guest(world):
    about = About("save", 1, "sample", UUID, "/record")
    job = Operation.begin(world.host, about)
    job.undo(steps.WithdrawSuspend(1, UUID))
    job.log.unfinished = True
    job.log.close()
    with Operation.begin(world.host, about):  # takes it over
        assert [found.running for found in Journals(world.host.journals).found()] == [True]
        assert recover(world.host) == []


def test_recovery_that_is_killed_is_recovered(world, tmp_path):
    killed(world, tmp_path / "record", Phase.SAVE)

    def observe(event):
        if event.kind is Kind.DONE:
            world.die()

    assert world.outlive(lambda: recover(world.host, observe=observe))
    (done,) = recover(world.host)
    assert done.complete
    assert world.running() == [1]
    assert world.guests[1].tick == 41
    assert device_state(41)
