"""Whether another host can take a guest: what is found here and what is found there, together."""

import shlex

import pytest

from tests.doubles.in_memory.save_files import config_with, save_file
from tests.doubles.in_memory.world import World
from xenqemu.errors import FormatError
from xenqemu.formats.migration.preflight_messages import PreflightAnswer, PreflightQuestion
from xenqemu.host.peer.route import Route
from xenqemu.operations.check_elsewhere import movable, restorable_there


@pytest.fixture
def world():
    return World()


@pytest.fixture
def other(tmp_path):
    """A way to another host that has two objections."""
    script = tmp_path / "ssh"
    answer = PreflightAnswer((), ("no memory", "no bridge")).dump().decode()
    script.write_text(f"#!/bin/sh\ncat > {tmp_path}/question; printf %s {shlex.quote(answer)}\n")
    script.chmod(0o755)
    return Route("there", str(script))


def silent(_line):
    """Say nothing."""


THERE = [("elsewhere", "there: no memory"), ("elsewhere", "there: no bridge")]


def test_a_guest_that_runs(world, other, tmp_path):
    world.blockers = ["nvme"]
    found = [(each.what, str(each)) for each in movable(world.host, world.domain(), other, silent)]
    words = "the device model of domain 1 cannot be saved: nvme"
    assert found == [("device-model", words), *THERE]
    assert world.acts() == []
    question = PreflightQuestion.parse((tmp_path / "question").read_bytes())
    assert (question.config, question.host) == (world.guests[1].config, world.host.identity)


def test_a_guest_that_cannot_be_described(world, other, monkeypatch):
    world.guests[1].crashed = True
    found = [each.what for each in movable(world.host, world.domain(), other, silent)]
    assert found == ["state", "elsewhere", "elsewhere"]


def test_a_paused_guest_cannot_be_migrated(world, other):
    world.guests[1].paused = True
    state, *rest = movable(world.host, world.domain(), other, silent)
    assert state.text.startswith("domain 1 is not running (hypervisor: paused")
    assert len(rest) == 2


def test_a_save_file(world, other, tmp_path):
    path = tmp_path / "record"
    path.write_bytes(save_file(config_with(b_info={"bootloader": "/tmp/loader"})))
    path.chmod(0o666)  # who writes here is no matter of that host
    found = [
        (each.what, str(each)) for each in restorable_there(world.host, path, None, other, silent)
    ]
    assert [what for what, _ in found] == ["seal", "elsewhere", "elsewhere"]
    assert found[1:] == THERE
    question = PreflightQuestion.parse((tmp_path / "question").read_bytes())
    assert question.devices == {"timer": 2}
    assert question.image == 3
    path.write_bytes(b"nonsense")
    with pytest.raises(FormatError):
        list(restorable_there(world.host, path, None, other, silent))
