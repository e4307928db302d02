"""The commands on all domains, where no guest has to run for them."""

import sys

import pytest

from tests.doubles.system.commands import answer
from xenqemu.operations.outcome import How, Outcome

OUTCOMES = [
    Outcome("web", How.SAVED, "to /there/web"),
    Outcome("mail", How.LEFT),
    Outcome("old\x1b", How.FAILED, "it hangs"),
]


@pytest.fixture
def conf(place):
    file = place / "conf"
    records = place / "records"
    file.write_text(f'xendomains = ""\nsave_all.folder = "{records}"\nrestore_all.proof = 0.1\n')
    return file


@pytest.fixture
def all_on(run, folder, conf):
    return lambda *words: run("--conf", conf, "--host", f"lab:{folder}", *words)


def test_a_host_without_guests(all_on, ended):
    assert all_on("save-all") == (0, "", "")
    assert all_on("restore-all") == (0, "", "")


def test_no_host_is_up(run, conf, place):
    done = run("--conf", conf, "--host", f"lab:{place}/none", "save-all")
    assert (done.code, done.out) == (3, "")
    assert "no lab host is up" in done.err


def test_what_cannot_be_brought_back(all_on, place):
    (place / "records").mkdir()
    (place / "records" / "web").write_text("no record")
    done = all_on("restore-all")
    assert done.code == 3
    assert done.out.startswith("web: failed (")
    assert done.out.endswith(f"; its save file is {place}/records/web)\n")
    assert done.err == "xenqemu: failed or forbidden, see above: web\n"
    told, failed = map(answer, all_on("restore-all", "--json").out.splitlines())
    assert (told["name"], told["outcome"]) == ("web", "failed")
    assert failed["error"]["exit_code"] == 3
    assert (place / "records" / "web").read_text() == "no record"


def test_a_host_that_is_not_to_restore(all_on, conf, place):
    (place / "records").mkdir()
    (place / "records" / "web").write_text("no record")
    conf.write_text(conf.read_text() + "restore_all.restore = false\n")
    assert all_on("restore-all") == (0, "", "")


@pytest.fixture
def outcomes(monkeypatch):
    def save_all(_open_host, _plan, _own, tell, **_options):
        for outcome in OUTCOMES:
            tell(outcome)

    monkeypatch.setattr("xenqemu.operations.save_all.save_all", save_all)


def test_each_outcome_is_a_line(all_on, outcomes):
    done = all_on("save-all")
    assert done.code == 3
    assert done.out.splitlines() == [
        "web: saved (to /there/web)",
        "mail: left alone",
        "old\\x1b: failed (it hangs)",
    ]
    assert done.err == "xenqemu: failed or forbidden, see above: old\\x1b\n"


def test_each_outcome_is_a_line_of_json(all_on, outcomes):
    *lines, last = map(answer, all_on("save-all", "--json").out.splitlines())
    assert lines == [
        {"name": outcome.name, "outcome": outcome.how.value, "text": outcome.text}
        for outcome in OUTCOMES
    ]
    assert last["error"]["message"] == "failed or forbidden, see above: old\x1b"


def test_nobody_has_to_hear_it(all_on, outcomes, monkeypatch):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        done = all_on("save-all")
    assert done == (3, "", "xenqemu: failed or forbidden, see above: old\\x1b\n")


def test_a_guests_file_that_makes_no_sense_is_told(all_on, conf, place, outcomes):
    configs = place / "configs"
    configs.mkdir()
    guest = 'name = "web"\ntype = "hvm"\nmemory = 8\non_host_shutdown = "fly"\n'
    (configs / "web.cfg").write_text(guest)
    conf.write_text(conf.read_text() + f'save_all.configs = "{configs}"\n')
    err = all_on("save-all").err
    why = "on_host_shutdown: expected save, shutdown or leave, got 'fly'"
    assert err.startswith(f"xenqemu: {configs}/web.cfg: {why}\n")
