"""Where another host passes the point of no return: nothing is done until somebody can tell."""

from dataclasses import replace

import pytest

from tests.doubles.in_memory.faults import text
from tests.doubles.in_memory.journals import ABOUT, left, working
from tests.doubles.in_memory.recorded_steps import Do
from xenqemu.errors import HostError, OutcomeUnknown, PastReturn, RolledBack, Stranded
from xenqemu.operations.events import Phase, unobserved
from xenqemu.operations.journal.folder import Journals
from xenqemu.operations.journal.operation import Operation
from xenqemu.operations.journal.steps import Commit

DOUBT = "nobody can tell"
ELSEWHERE = Commit(None, "the guest is elsewhere now", (Do("destroy domain 1"),))


def doubting(host, then, observe=unobserved):
    with working(host, observe) as job, job.phase(Phase.HANDOVER):
        job.undo(Do("resume the guest"))
        job.doubt(ELSEWHERE, DOUBT)
        then(job)


def test_in_doubt_nothing_is_done_and_all_of_it_is_kept(host, acts):
    def lose(job):
        raise HostError("no answer")

    with pytest.raises(OutcomeUnknown) as caught:
        doubting(host, lose)
    assert acts == []
    assert str(caught.value) == (
        "save of domain 1 (sample) failed (handover): no answer; nobody can tell"
    )
    assert left(host) == ["save"]


def test_interrupt_in_doubt_says_so(host, acts):
    def interrupt(job):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        doubting(host, interrupt)
    assert acts == []
    assert "interrupted; nobody can tell" in text(caught.value)
    assert left(host) == ["save"]


def test_doubt_that_was_for_nothing_leads_back(host, acts):
    def return_(job):
        job.resolve(passed=False)
        raise HostError("it came back")

    with pytest.raises(RolledBack, match="it came back; the guest is as it was"):
        doubting(host, return_)
    assert acts == ["resume the guest"]
    assert left(host) == []


def test_doubt_that_was_removed_leads_on(host, acts):
    def move(job):
        job.resolve(passed=True)
        assert job.state.committed
        job.finish()

    doubting(host, move)
    assert acts == ["destroy domain 1"]
    assert left(host) == []


def test_what_fails_behind_the_doubt_is_past_the_return(host, acts):
    def move(job):
        job.resolve(passed=True)
        raise HostError("nobody reads")

    with pytest.raises(PastReturn, match="nobody reads; the guest is elsewhere now"):
        doubting(host, move)
    assert acts == ["destroy domain 1"]


def test_cancel_and_deadline_come_too_late_in_doubt(host, acts):
    def go_on(job):
        Journals(host.journals).cancel(Journals(host.journals).found()[0])
        job.progress(1, 2)
        job.resolve(passed=True)
        job.finish()

    doubting(host, go_on)
    assert acts == ["destroy domain 1"]


def test_a_commit_that_nobody_here_can_see_was_not_passed_before_the_doubt(host, acts):
    """Between its line and the doubt's, the other host has not been told yet."""
    with pytest.raises(RolledBack), working(host) as job:
        job.undo(Do("resume the guest"))
        job.prepare_commit(ELSEWHERE)
        raise HostError("killed, as it were")
    assert acts == ["resume the guest"]


def test_undone_is_what_was_taken_back(host, acts):
    acts.refuse["b"] = HostError("refused")
    for name, undone in (("a", True), ("b", False)):
        with pytest.raises((RolledBack, Stranded)), working(host) as job:
            job.undo(Do(name))
            assert not job.state.undone
            raise HostError("disk full")
        assert job.state.undone is undone


def test_two_sides_of_a_move_within_one_host_are_two_operations(host, acts):
    """A migration and a reception of one guest go on at once, but one does not begin after one."""
    migration, reception = (replace(ABOUT, verb=verb) for verb in ("migration", "reception"))
    sender = Operation.begin(host, migration)
    receiver = Operation.begin(host, reception)
    with pytest.raises(HostError, match="the reception of domain 1 .* is running"):
        Operation.begin(host, reception)
    receiver.log.close()
    sender.undo(Do("resume"))
    sender.log.unfinished = True
    sender.log.close()
    with pytest.raises(HostError, match="was left unfinished"):
        Operation.begin(host, reception)
