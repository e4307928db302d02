"""Undos run in reverse; what they achieve decides which error is raised, and what stays on disk."""

import errno
import os
import time

import pytest

from tests.doubles.in_memory.faults import text
from tests.doubles.in_memory.journals import ABOUT, left, working
from tests.doubles.in_memory.recorded_steps import Do, Passed
from xenqemu.errors import (
    Cancelled,
    HostError,
    HostTimeout,
    PastReturn,
    RolledBack,
    Stranded,
)
from xenqemu.host.protocol import SuspendPending
from xenqemu.operations.events import Event, Kind, Phase
from xenqemu.operations.journal.folder import Journals
from xenqemu.operations.journal.log_state import LogState
from xenqemu.operations.journal.operation import Operation
from xenqemu.operations.journal.steps import Commit, Overtaken
from xenqemu.operations.recover import recover

COMMIT = Commit(Passed(), "the save file is the guest now", (Do("destroy domain 1"),))


def run(host, *, error=None, commit=None):
    with working(host) as job:
        with job.phase(Phase.QUIESCE):
            job.undo(Do("resume the guest"))
            job.undo(Do("continue the device model"))
        if commit:
            job.commit(commit, COMMIT)
        with job.phase(Phase.SAVE):
            if error:
                raise error


def test_nothing_is_undone_when_all_goes_well(host, acts):
    run(host)
    assert acts == []
    assert left(host) == []


def test_error_before_anything_was_touched_passes_as_it_is(host, acts):
    error = HostError("no such domain")
    with pytest.raises(HostError) as caught, working(host) as job:
        with job.phase(Phase.CHECK):
            job.cleanup(Do("clear"))
            raise error
    assert caught.value is error
    assert left(host) == []


def test_undos_run_in_reverse_and_the_first_error_is_the_cause(host, acts):
    error = HostError("disk full")
    with pytest.raises(RolledBack) as caught:
        run(host, error=error)
    assert acts == ["continue the device model", "resume the guest"]
    assert caught.value.__cause__ is error
    assert caught.value.phase == "save"
    assert str(caught.value) == (
        "save of domain 1 (sample) failed (save): disk full; the guest is as it was"
    )
    assert left(host) == []


def test_failed_undo_strands_but_the_others_still_run(host, acts):
    acts.refuse["continue the device model"] = HostError("refused")
    with pytest.raises(Stranded) as caught:
        run(host, error=HostError("disk full"))
    assert acts == ["continue the device model", "resume the guest"]
    note = "could not continue the device model: refused"
    assert f"left to do: 1. {note}" in str(caught.value)
    assert caught.value.__notes__ == [note]
    assert left(host) == ["save"]


def test_what_somebody_else_has_ended_is_not_left_to_do(host, acts):
    acts.refuse["resume the guest"] = Overtaken("domain 1 is gone")
    with pytest.raises(Stranded, match="could not resume the guest: domain 1 is gone"):
        run(host, error=HostError("disk full"))
    assert left(host) == []


def test_guest_that_may_suspend_yet_is_as_it_was_and_is_noted(host, acts):
    acts.refuse["resume the guest"] = SuspendPending("it may still suspend")
    error = HostError("it took too long")
    with pytest.raises(RolledBack, match="the guest is as it was"):
        run(host, error=error)
    assert error.__notes__ == ["it may still suspend"]
    assert left(host) == ["save"]


def test_after_commit_nothing_is_undone_and_what_follows_is_done(host, acts):
    with pytest.raises(PastReturn) as caught:
        run(host, error=HostError("nobody reads"), commit=lambda: acts.append("rename"))
    assert acts == ["rename", "destroy domain 1"]
    assert str(caught.value).endswith("nobody reads; the save file is the guest now")
    assert left(host) == []


def test_what_follows_the_commit_and_fails_is_left_to_do(host, acts):
    acts.refuse["destroy domain 1"] = HostError("xl destroy failed")
    with pytest.raises(PastReturn, match="left to do: 1. could not destroy domain 1: xl destroy"):
        run(host, error=HostError("nobody reads"), commit=lambda: None)
    assert left(host) == ["save"]


@pytest.mark.parametrize("passed", [True, False])
def test_commit_that_fails_is_asked_whether_it_was_passed(host, acts, passed):
    def lost():
        acts.passed = passed
        raise HostError("lost")

    with pytest.raises(PastReturn if passed else RolledBack):
        run(host, commit=lost)
    undos = ["continue the device model", "resume the guest"]
    assert acts == (["destroy domain 1"] if passed else undos)


def test_commit_that_nobody_can_tell_of_puts_the_guest_back(host, acts):
    def lost():
        raise HostError("lost")

    acts.refuse["passed"] = OSError("no stat")
    with pytest.raises(RolledBack) as caught:
        run(host, commit=lost)
    assert "could not see whether it was committed: no stat" in text(caught.value.__cause__)


def test_point_that_was_passed_after_all_is_noted(host, acts):
    """When it is recovered, nobody could tell any more: the save file may have been moved away."""

    def lost():
        acts.passed = True
        raise HostError("lost")

    acts.refuse["destroy domain 1"] = HostError("xl destroy failed")
    with pytest.raises(PastReturn):
        run(host, commit=lost)
    acts.passed = False
    acts.clear()
    (done,) = recover(host)
    assert done.committed
    assert acts == ["destroy domain 1"]
    assert not done.complete
    acts.refuse.clear()
    (done,) = recover(host)
    assert (acts, done.complete) == (["destroy domain 1"] * 2, True)


def test_point_that_recovery_finds_passed_is_noted(host, acts):
    job = Operation.begin(host, ABOUT)
    job.undo(Do("resume the guest"))
    job.prepare_commit(COMMIT)
    job.log.unfinished = True  # its process was killed behind the point of no return
    job.log.close()
    acts.passed = True
    acts.refuse["destroy domain 1"] = HostError("xl destroy failed")
    assert not recover(host)[0].complete
    acts.passed = False
    acts.refuse.clear()
    assert recover(host)[0].complete
    assert acts == ["destroy domain 1"] * 2


def test_point_that_cannot_be_noted_was_passed_all_the_same(host, acts, monkeypatch):
    def lost():
        acts.passed = True
        monkeypatch.setattr(os, "fsync", refuse)
        raise HostError("lost")

    def refuse(_descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(PastReturn) as caught:
        run(host, commit=lost)
    assert acts == ["destroy domain 1"]
    assert "could not log it" in text(caught.value.__cause__)
    assert left(host) == []


def test_interrupt_between_the_note_of_a_step_and_its_end(host, acts, monkeypatch):
    """The step is done and noted again; whoever reads the file takes that as it is meant."""
    acts.refuse["resume"] = HostError("refused")
    really = LogState.take

    def interrupted(state, line):
        if "done" in line:
            raise KeyboardInterrupt
        really(state, line)

    with pytest.raises(KeyboardInterrupt), working(host) as job:
        job.undo(Do("resume"))
        number = job.undo(Do("cont"))
        with monkeypatch.context() as patch:
            patch.setattr(LogState, "take", interrupted)
            job.perform(number)
    (found,) = Journals(host.journals).found()
    assert [line for line in found.lines if "done" in line] == [{"done": number}] * 2
    acts.refuse.clear()
    assert recover(host)[0].complete
    assert acts == ["cont", "cont", "resume", "resume"]


def test_what_follows_is_done_in_the_operation(host, acts):
    with working(host) as job:
        job.undo(Do("resume the guest"))
        job.commit(lambda: None, COMMIT)
        job.finish()
    assert acts == ["destroy domain 1"]
    assert left(host) == []


def test_step_is_performed_now_and_never_again(host, acts):
    with pytest.raises(RolledBack), working(host) as job:
        job.perform(job.undo(Do("resume the guest")))
        assert acts == ["resume the guest"]
        raise HostError("later")
    assert acts == ["resume the guest"]


def test_failed_step_is_tried_once_more(host, acts):
    acts.refuse["resume"] = HostError("refused")
    with pytest.raises(Stranded), working(host) as job:
        job.perform(job.undo(Do("resume")))
    assert acts == ["resume", "resume"]


UNKNOWN = Commit(None, "the other copy is the guest now", (Do("destroy domain 1"),))


def test_operation_is_undone_once_nothing_of_it_is_left(host, acts):
    with working(host) as job:
        assert job.state.undone
        number = job.undo(Do("resume"))
        assert not job.state.undone
        job.perform(number)
        assert job.state.undone


def test_interrupt_undoes_and_goes_on_as_what_it_is(host, acts):
    with pytest.raises(KeyboardInterrupt) as caught:
        run(host, error=KeyboardInterrupt())
    assert acts == ["continue the device model", "resume the guest"]
    assert caught.value.__notes__ == [
        "save of domain 1 (sample) failed (save): interrupted; the guest is as it was"
    ]


def test_interrupt_while_undoing_does_not_stop_the_other_undos(host, acts):
    acts.refuse["cont"] = KeyboardInterrupt()
    with pytest.raises(Stranded, match="could not cont: interrupted"), working(host) as job:
        job.undo(Do("resume"))
        job.undo(Do("cont"))
        raise HostError("disk full")
    assert acts == ["cont", "resume"]


def test_cancel_is_seen_at_the_next_progress(host, acts):
    with pytest.raises(RolledBack, match="cancelled: 1 of 2 bytes were done; the guest is as it"):
        with working(host) as job, job.phase(Phase.SAVE):
            job.undo(Do("resume"))
            job.progress(0, 2)
            Journals(host.journals).cancel(Journals(host.journals).found()[0])
            job.progress(1, 2)
    assert acts == ["resume"]
    with working(host) as job, job.phase(Phase.SAVE):
        job.progress(0, 2)  # what was asked of the one before is not of this one


def test_cancel_before_anything_was_touched(host):
    with pytest.raises(Cancelled), working(host) as job:
        Journals(host.journals).cancel(Journals(host.journals).found()[0])
        with job.phase(Phase.CHECK):
            pytest.fail("it was not cancelled")


def test_cancel_comes_too_late_behind_the_point_of_no_return(host, acts):
    with working(host) as job:
        job.undo(Do("resume"))
        job.commit(lambda: None, COMMIT)
        Journals(host.journals).cancel(Journals(host.journals).found()[0])
        with job.phase(Phase.RELEASE):
            job.finish()
    assert acts == ["destroy domain 1"]


def test_all_of_it_has_a_deadline(host, acts):
    with pytest.raises(
        RolledBack, match="the deadline of 0.5 s for all of it has passed"
    ) as caught:
        with working(host, timeout=0.5) as job, job.phase(Phase.SAVE):
            job.undo(Do("resume"))
            time.sleep(0.6)
            job.progress(0, 2)
    assert isinstance(caught.value.__cause__, HostTimeout)


def test_events_come_in_order(host, acts):
    told = []
    with pytest.raises(RolledBack), working(host, told.append) as job:
        with job.phase(Phase.QUIESCE):
            job.undo(Do("resume the guest"))
        with job.phase(Phase.SAVE):
            job.progress(1, 2)
            raise HostError("disk full")
    assert told == [
        Event(Phase.QUIESCE, Kind.STARTED),
        Event(Phase.QUIESCE, Kind.DONE),
        Event(Phase.SAVE, Kind.STARTED),
        Event(Phase.SAVE, Kind.PROGRESS, 1, 2),
        Event(Phase.SAVE, Kind.FAILED, text="disk full"),
        Event(Phase.UNDO, Kind.STARTED, text="resume the guest"),
        Event(Phase.UNDO, Kind.DONE, text="resume the guest"),
    ]
