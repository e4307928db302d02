"""Save files that are compressed, and that go through commands and pipes, of real guests."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from tests.integration.lab.guests import (
    TIMEOUT,
    Guest,
    Host,
    assert_same_memory,
    at,
    ticks,
)
from tests.integration.moments import DIE

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]


CONTENTS = ("config", "image", "devices")
"""What is told of a compressed file as of another; its seal only by who reads all of it."""


def through(guest: Guest, *options: str) -> bytes:
    """Save a guest by these options, and return what it has said until then."""
    with (guest.folder / "console.log").open("rb") as console:
        done = guest.host.run("save", *options, guest.name)
        assert done.code == 0, done.err
        return guest.earlier + console.read()


def restored(host: Host, *words: object) -> Guest:
    done = host.run("restore", "--json", *words)
    assert done.code == 0, done.err
    found = json.loads(done.out.splitlines()[-1])
    return Guest(host, found["name"], found["domid"])


@pytest.mark.parametrize("level", ["--compress", "--compress=3"])
def test_a_compressed_save_file_is_a_save_file(guest, one, two, folder, level):
    record = folder / "web.zst"
    one.must("save", "-p", level, guest.name, record)
    plain = folder / "plain"
    with plain.open("wb") as out:
        subprocess.run(["zstd", "-dc", record], stdout=out, check=True)
    assert_same_memory(guest.ram, plain)
    if level == "--compress=3":
        assert record.stat().st_size < 0.7 * plain.stat().st_size
    for verb in ("verify", "inspect"):
        first, second = (json.loads(one.must(verb, "--json", file)) for file in (record, plain))
        assert [first[key] for key in CONTENTS] == [second[key] for key in CONTENTS]
    assert json.loads(one.must("verify", "--json", record))["sealed"]
    one.must("lab", "destroy", guest.name)
    there = two.restore(record)
    there.wait_tick(3)


def test_compressed_and_decompressed_later(guest, one, two, folder):
    record = folder / "web.save"
    guest.save(record)
    one.must("compress", record)
    data = record.read_bytes()
    record.unlink()
    one.must("decompress", f"{record}.zst")
    assert record.read_bytes() == data
    two.restore(Path(f"{record}.zst")).wait_tick(3)


@pytest.mark.parametrize("options", [[], ["--compress"], ["--live", "--compress=1"]])
def test_there_and_back_through_commands(guest, one, two, folder, options):
    copy = shlex.quote(str(folder / "copy"))
    earlier = through(guest, *options, "--to", f"cat > {copy}")
    assert one.empty()
    there = restored(two, "--from", f"cat {copy}")
    there.earlier = earlier
    there.wait_tick(3)
    assert ticks(there.said) > ticks(earlier)


def test_encrypted_by_age(guest, one, two, folder):
    key = folder / "key"
    subprocess.run(["age-keygen", "-o", key], check=True, capture_output=True)
    recipient = subprocess.run(
        ["age-keygen", "-y", key], check=True, capture_output=True, text=True
    ).stdout.strip()
    copy = folder / "web.age"
    through(guest, "--compress", "--to", f"age -r {recipient} -o {copy}")
    assert copy.read_bytes().startswith(b"age-encryption.org/")
    whole = copy.read_bytes()
    copy.write_bytes(whole[:-1000])
    broken = two.run("restore", "--from", f"age -d -i {key} {copy}")
    assert broken.code in (2, 10), broken.err
    assert two.empty()
    copy.write_bytes(whole)
    restored(two, "--from", f"age -d -i {key} {copy}").wait_tick(3)


def test_a_pipe_from_one_host_to_another(guest, one, two):
    words = one.command("save", guest.name, "-")
    sender = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    taker = subprocess.run(
        two.command("restore", "--json", "-"),
        stdin=sender.stdout,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert sender.stdout is not None
    sender.stdout.close()
    assert sender.stderr is not None
    said = sender.stderr.read().decode()
    assert sender.wait(TIMEOUT) == 0, said
    assert f"saved {guest.name} to -" in said
    assert taker.returncode == 0, taker.stderr
    found = json.loads(taker.stdout.splitlines()[-1])
    Guest(two, found["name"], found["domid"]).wait_tick(3)
    assert one.empty()


def test_a_command_that_fails_costs_nothing(guest, one, folder):
    done = one.run("save", guest.name, "--to", "head -c 5000000 > /dev/null; echo full >&2; exit 1")
    assert done.code == 10
    assert "full" in done.err
    assert "the guest is as it was" in done.err
    guest.wait_tick(2)
    done = one.run("save", "-c", guest.name, "--to", "cat > /dev/null")
    assert done.code == 0, done.err
    guest.wait_tick(2)


def test_killed_while_the_command_ends(guest, one, folder):
    """Nobody knows whether the copy counts: the one who looks at it says so."""
    copy = folder / "copy"
    done = at(one, "publish started", DIE, "save", guest.name, "--to", f"cat > {copy}")
    assert done.code == -signal.SIGKILL
    told, _end = json.JSONDecoder().raw_decode(one.run("recover", "--json").out)
    (left,) = told["recovered"]
    assert left["in_doubt"]
    assert one.run("verify", copy).code in (0, 2)
    assert one.run("recover", "--stayed", guest.name).code == 0
    guest.wait_tick(2)
    assert [each.name for each in folder.iterdir()] == ["copy"]
