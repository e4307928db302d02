"""Damaged samples: only values, or errors that say what is wrong, in bounded time and memory.

The long run is scripts/fuzz; what it once found stands in corpus/ and is run here for ever.
"""

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from tests.fuzz.__main__ import TARGETS, main, table
from tests.fuzz.engine import VALUE, outcome
from tests.fuzz.workers import Work

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())
INPUTS = {"big-save-file": 2, "device-state": 100, "store": 100, "inspect": 100}
"""For the slow ones; the others get `OTHERS`."""
OTHERS = 200

ONLY_ERRORS = {"restore"}
"""These have no outcome that is a value: restore stops before anything is built."""

ONLY_VALUES = {"stderr", "xl-tables"}
"""These ignore what they do not understand."""


def test_damaged_samples_give_values_or_errors_that_say_what_is_wrong(capsys):
    works = [Work(target, range(INPUTS.get(name, OTHERS))) for name, target in TARGETS.items()]
    for work in works:
        for seed in work.seeds:
            work.judge(seed)
    with capsys.disabled():
        print(f"\n{table(works)}")
    failures = [failure for work in works for failure in work.failures]
    assert [f"{each.target} {each.seed}: {each.what}" for each in failures] == []
    for work in works:
        assert work.outcomes.total() == work.inputs == len(work.seeds)
        if work.inputs >= 100:  # enough to tell that the damage is neither nothing nor too much
            assert work.outcomes[VALUE] < work.inputs or work.target.name in ONLY_VALUES
            assert VALUE in work.outcomes or work.target.name in ONLY_ERRORS


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_minute_of_inputs_that_nobody_has_tried():
    """What fails is printed with the command that gives it again."""
    assert main(["60", "--jobs", "1"]) == 0


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_what_once_failed(path):
    target = path.name.partition("+")[0]
    assert outcome(TARGETS[target], path.read_bytes())


NOT_ALL = {"helper-arguments", "helper-messages", "verify", "xlcfg-devices"}
"""Their samples are legal, but not all of them for each of the readers that they are given to."""


@pytest.mark.parametrize("name", TARGETS)
def test_samples_are_sound(name):
    target = TARGETS[name]
    outcomes = {outcome(target, sample) for sample in target.samples()}
    if name in ONLY_ERRORS:
        assert {each.partition(":")[0] for each in outcomes} >= {"Admitted"}
    else:
        assert VALUE in outcomes
        assert outcomes == {VALUE} or name in NOT_ALL


PRINT_INPUTS = """
from hashlib import sha256
from tests.fuzz.__main__ import TARGETS
for target in TARGETS.values():
    if target.name != "big-save-file":
        print(target.name, *(sha256(target.input(seed)).hexdigest() for seed in range(20)))
"""


def test_a_seed_is_the_same_input_everywhere():
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PRINT_INPUTS], env=environment, capture_output=True, check=True
    )
    for line in done.stdout.decode().splitlines():
        name, *digests = line.split()
        inputs = [TARGETS[name].input(seed) for seed in range(20)]
        assert digests == [sha256(data).hexdigest() for data in inputs]
        assert len(set(digests)) > 10
