"""What commands print with --json on a real host is as the schema in docs says."""

import json
import subprocess

import pytest

from tests.doubles.answers import is_a, lines_are
from tests.integration.lab.guests import CFG, TIMEOUT, Done, wait
from tests.integration.lab.migrations import receiver

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

KILLED = "head -c 100000 >/dev/null; kill -9 $PPID"
"""Kills the save that feeds it."""


def has(done: Done, name: str) -> None:
    is_a(json.loads(done.out), name)


def test_saves_restores_and_migrations(guest, one, two, folder):
    file = folder / "web.save"
    lines_are(one.must("save", "--json", "-c", "web", file), "save")
    live = lines_are(one.must("save", "--json", "-c", "--live", "--precopy", "web", file), "save")
    assert {each.get("event") for each in live} >= {"iteration", "live", "progress", "done"}
    lines_are(one.run("migrate", "--json", "-s", "", "web", receiver(two, "-e")).out, "migrate")
    lines_are(one.must("restore", "--json", "-p", file), "restore")
    lines_are(one.must("restore", "--json", "--clone", file), "clone")
    lines_are(one.run("restore", "--json", file).out, "failure")


def test_files(tiny, one, folder):
    file = folder / "tiny.save"
    one.must("save", "tiny", file)
    for name, words in (
        ("verify", ["verify", file]),
        ("inspect", ["inspect", file]),
        ("seal a file", ["seal", file]),
        ("compress", ["compress", file]),
        ("decompress", ["decompress", "--force", f"{file}.zst"]),
    ):
        has(one.run(*words, "--json"), name)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    damaged = one.run("verify", "--json", file)
    has(damaged, "verify")
    assert json.loads(damaged.out)["places"]


def test_hosts_and_domains(tiny, one, two, folder):
    has(one.run("status", "--json", "tiny"), "status")
    has(one.run("status", "--json"), "status")
    has(one.run("job", "--json"), "job")
    has(one.run("lab", "list", "--json"), "lab list")
    has(one.run("devices", "save", "--json", "tiny", folder / "state"), "devices save")
    has(one.run("cancel", "--json", "tiny"), "failure")
    cfg = folder / "cfg"
    cfg.write_text(CFG.format(name="more", memory=16))
    has(two.run("lab", "create", "--json", cfg), "lab create")
    has(two.run("lab", "down", "--json"), "lab down")
    has(two.run("lab", "up", "--json"), "lab up")


def test_all_domains(tiny, one, folder):
    conf = folder / "conf"
    conf.write_text(f'save_all.folder = "{folder}/all"\nrestore_all.proof = 0.1\n')
    for verb in ("save-all", "restore-all"):
        has(one.run("--conf", conf, verb, "--json"), "outcome")
        has(one.run("--conf", conf, "saved", "--json", "tiny"), "saved")
        has(one.run("--conf", conf, "status", "--json"), "status")


def test_what_was_killed_and_is_recovered(guest, one):
    one.run("save", "--to", KILLED, "web")
    status = one.run("status", "--json", "web")
    has(status, "status")
    assert len(json.loads(status.out)["operations"]) == 1
    has(one.run("job", "--json"), "job")
    recovered = one.run("recover", "--json")
    has(recovered, "recover")
    assert len(json.loads(recovered.out)["recovered"]) == 1


def test_a_job_that_is_watched(guest, one, folder):
    save = subprocess.Popen(
        one.command("save", "--live", "--precopy", "--bandwidth", "30M", "web", folder / "save")
    )
    wait(lambda: bool(json.loads(one.must("job", "--json"))["jobs"]), lambda: "no job")
    lines = one.must("job", "--json", "--watch", "web").splitlines()
    assert save.wait(TIMEOUT) == 0
    for line in lines:
        is_a(json.loads(line), "job")
    assert any("rate" in job for line in lines for job in json.loads(line)["jobs"])


def test_what_is_rolled_back(guest, one):
    """Its answers are aside, as those of a save into a pipe."""
    said = one.run("save", "--json", "--to", "false", "web")
    lines = [line for line in (said.out + said.err).splitlines() if line.startswith("{")]
    *_, failed = lines_are("\n".join(lines), "failure")
    assert failed["error"]["class"] == "RolledBack"
    assert failed["error"]["cause"]["class"]
