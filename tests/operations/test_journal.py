"""Undos run in reverse; what they achieve decides which error is raised."""

import pytest

from xenqemu.errors import HostError, PastReturn, RolledBack, Stranded
from xenqemu.operations.events import Event, Kind, Phase
from xenqemu.operations.journal import Journal


class Acts(list):
    """Records what was done; `refuse` names acts that fail."""

    def __init__(self, refuse=()):
        self.refuse = refuse

    def __call__(self, name):
        def act():
            self.append(name)
            if name in self.refuse:
                raise HostError(f"{name} refused")

        return act


def run(acts, *, error=None, commit=False):
    with Journal("save", "domain 1", lambda event: None) as job:
        with job.phase(Phase.QUIESCE):
            job.undo("resume the guest", acts("resume"))
            job.undo("restart the device model", acts("cont"))
        if commit:
            job.commit("the record is the guest now")
        with job.phase(Phase.SAVE):
            if error:
                raise error


def test_nothing_is_undone_when_all_goes_well():
    acts = Acts()
    run(acts)
    assert acts == []


def test_error_before_anything_was_touched_passes_as_it_is():
    error = HostError("no such domain")
    with pytest.raises(HostError) as caught, Journal("save", "domain 1") as job:
        with job.phase(Phase.CHECK):
            raise error
    assert caught.value is error


def test_undos_run_in_reverse_and_the_first_error_is_the_cause():
    acts, error = Acts(), HostError("disk full")
    with pytest.raises(RolledBack) as caught:
        run(acts, error=error)
    assert acts == ["cont", "resume"]
    assert caught.value.__cause__ is error
    assert caught.value.phase == "save"
    assert str(caught.value) == (
        "save of domain 1 failed (save): disk full; the guest is as it was"
    )


def test_failed_undo_strands_but_the_others_still_run():
    acts = Acts(refuse=["cont"])
    with pytest.raises(Stranded) as caught:
        run(acts, error=HostError("disk full"))
    assert acts == ["cont", "resume"]
    assert "left to do: 1. could not restart the device model: cont refused" in str(caught.value)
    assert caught.value.__notes__ == ["could not restart the device model: cont refused"]


def test_after_commit_nothing_is_undone():
    acts = Acts()
    with pytest.raises(PastReturn) as caught:
        run(acts, error=HostError("xl destroy failed"), commit=True)
    assert acts == []
    assert str(caught.value).endswith("the record is the guest now")


def test_take_back_runs_now_and_never_again():
    acts = Acts()
    with pytest.raises(RolledBack), Journal("save", "domain 1") as job:
        resume = job.undo("resume the guest", acts("resume"))
        job.take_back(resume)
        assert acts == ["resume"]
        raise HostError("later")
    assert acts == ["resume"]


def test_failed_take_back_is_tried_once_more():
    acts = Acts(refuse=["resume"])
    with pytest.raises(Stranded), Journal("save", "domain 1") as job:
        job.take_back(job.undo("resume the guest", acts("resume")))
    assert acts == ["resume", "resume"]


def test_interrupt_undoes_and_goes_on_as_what_it_is():
    acts = Acts()
    with pytest.raises(KeyboardInterrupt) as caught:
        run(acts, error=KeyboardInterrupt())
    assert acts == ["cont", "resume"]
    assert caught.value.__notes__ == [
        "save of domain 1 failed (save): KeyboardInterrupt; the guest is as it was"
    ]


def test_interrupt_while_undoing_does_not_stop_the_other_undos():
    acts = Acts()

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(Stranded, match="could not cont: KeyboardInterrupt"):
        with Journal("save", "domain 1") as job:
            job.undo("resume", acts("resume"))
            job.undo("cont", interrupted)
            raise HostError("disk full")
    assert acts == ["resume"]


def test_events_tell_the_story_in_order():
    told = []
    with pytest.raises(RolledBack), Journal("save", "domain 1", told.append) as job:
        with job.phase(Phase.QUIESCE):
            job.undo("resume the guest", lambda: None)
        with job.phase(Phase.SAVE):
            job.progress(1, 2)
            raise HostError("disk full")
    assert told == [
        Event(Phase.QUIESCE, Kind.STARTED),
        Event(Phase.QUIESCE, Kind.DONE),
        Event(Phase.SAVE, Kind.STARTED),
        Event(Phase.SAVE, Kind.PROGRESS, 1, 2),
        Event(Phase.SAVE, Kind.FAILED, text="disk full"),
        Event(Phase.UNDO, Kind.STARTED),
        Event(Phase.UNDO, Kind.DONE),
    ]
