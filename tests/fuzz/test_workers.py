"""Children: what they find, what is reported of those that die or hang, and the command."""

import os
import signal
import time

import pytest

from tests.fuzz import __main__ as command
from tests.fuzz import workers
from tests.fuzz.engine import Target
from tests.fuzz.noise import changed
from tests.fuzz.workers import Work, run
from xenqemu.errors import BadRecord

INPUTS = 25
BAD = 7
"""The seed whose input does what a test wants."""


def target(act, name: str = "test") -> Target:
    """Return a target that does `act` at one input, and else gives a value or an error."""

    def read(data):
        if data == bad:
            act()
        if len(data) % 2:
            raise BadRecord("here", 0, "even", "odd")

    made = Target(name, lambda: [bytes(range(200))], [changed], read)
    bad = made.input(BAD)
    return made


def all_of(work: Work, seconds: float = 60.0) -> None:
    for done in run([work], 2, seconds):
        assert done is work


def fails():
    raise KeyError("key")


def hangs():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPROF])
    time.sleep(60)


def test_every_seed_is_done_once():
    work = Work(target(fails), range(INPUTS))
    all_of(work)
    (failure,) = work.failures
    assert (failure.seed, failure.what) == (BAD, "KeyError: 'key'")
    assert work.outcomes.total() == INPUTS - 1
    assert {"a value", "BadRecord: here: even"} == set(work.outcomes)
    assert (work.inputs, work.seeds) == (INPUTS, range(INPUTS, INPUTS))


def test_it_is_the_same_here_and_there():
    here, there = (Work(target(fails), range(INPUTS)) for _ in range(2))
    all_of(there)
    for seed in here.seeds:
        here.judge(seed)
    assert (here.outcomes, here.inputs) == (there.outcomes, there.inputs)
    assert here.failures[0].where == there.failures[0].where


@pytest.mark.parametrize(
    ("act", "status"),
    [(lambda: os._exit(3), 3), (lambda: os.kill(os.getpid(), signal.SIGKILL), -signal.SIGKILL)],
)
def test_a_death_is_a_failure_of_the_seed_it_came_at(act, status):
    work = Work(target(act), range(INPUTS))
    all_of(work)
    (failure,) = work.failures
    assert (failure.seed, failure.what) == (BAD, f"the process ended with status {status}")
    assert work.inputs == INPUTS


def test_so_is_what_no_timer_ends(monkeypatch):
    monkeypatch.setattr(workers, "STUCK", 1.0)
    monkeypatch.setattr(workers, "LOOK", 0.1)
    work = Work(target(hangs), range(INPUTS))
    all_of(work)
    found = {failure.seed: failure.what for failure in work.failures}
    assert found[BAD] == "the process ended with status -9"  # a busy machine may stop others too
    assert work.inputs == INPUTS


def test_it_ends_when_the_time_is_over():
    work = Work(target(lambda: None), range(1 << 40))
    all_of(work, 0.2)
    assert 0 < work.inputs < 1 << 20
    assert work.inputs + len(work.seeds) == 1 << 40


@pytest.fixture
def targets(monkeypatch):
    known = {"good": target(lambda: None, "good"), "bad": target(fails, "bad")}
    monkeypatch.setattr(command, "TARGETS", known)
    return known


def test_a_failure_is_told_once_with_its_seed_and_kept(targets, tmp_path, capsys):
    folder = tmp_path / "found"
    assert command.main(["--inputs", "9", "--seed", "0", "--into", str(folder)]) == 1
    said = capsys.readouterr().out
    assert said.count("fails: ") == said.count("bad fails: KeyError: 'key'") == 1
    assert f"again: scripts/fuzz --inputs 1 --seed {BAD} bad" in said
    assert [path.read_bytes() for path in folder.iterdir()] == [targets["bad"].input(BAD)]


def test_a_run_that_finds_nothing(targets, capsys):
    assert command.main(["--seed", "5", "--jobs", "1", "good", "0.2"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head == "seeds from 5 on"
    assert [row.split()[0] for row in rows] == ["TARGET", "good", "all"]
    assert int(rows[1].split()[1]) > 0


@pytest.mark.parametrize("word", ["walked", "-1", "1.2.3"])
def test_words_that_mean_nothing(word, capsys):
    with pytest.raises(SystemExit):
        command.main([word])
    assert "error" in capsys.readouterr().err
