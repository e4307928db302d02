"""The commands of a move: what they pass on, what stays off the wire, what an order to end does."""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
import sys
from subprocess import PIPE

import pytest

from tests.doubles.qemu.lab_guest import config
from tests.doubles.system.commands import PROGRAM, answer, spawn
from tests.golden import save_files
from xenqemu.formats.migration.handshake import WORDS, Message
from xenqemu.formats.migration.preflight_messages import PreflightAnswer, PreflightQuestion
from xenqemu.formats.migration.stream_chunks import READY
from xenqemu.host import domain_state
from xenqemu.host.domain import Domain
from xenqemu.lab.lab_host import Lab
from xenqemu.operations.events import Event, Kind, Phase
from xenqemu.operations.journal.folder import Journals
from xenqemu.operations.options import MigrateOptions
from xenqemu.version import VERSION

BANNER = WORDS[Message.BANNER][1]
TOKEN = "0123abcd"
WEB = Domain(5, "c52dca42-e6df-11f1-a061-0df29b9903a9", "web", "hvm")


MOVED = (
    Event(Phase.SAVE, Kind.STARTED),
    *(Event(Phase.SAVE, Kind.PROGRESS, done << 20, 32 << 20) for done in (16, 32)),
    Event(Phase.SAVE, Kind.PROGRESS, 8 << 20, 8 << 20),  # another iteration
    Event(Phase.QUIESCE, Kind.STARTED),
    Event(Phase.HANDOVER, Kind.DONE),
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch):
    """What `migrate` asks of the operation, where there is a domain 5."""
    seen = []

    def migrate(_host, domain, to, options, *, observe, on_stderr):
        seen.append((domain, to, options))
        for event in MOVED:
            observe(event)
        on_stderr("said \x1b there")

    monkeypatch.setattr("xenqemu.operations.migrate.migrate", migrate)
    monkeypatch.setattr(domain_state, "find", lambda _host, who: {"web": WEB}[who])
    return seen


@pytest.mark.parametrize(
    ("words", "to", "options"),
    [
        (("web", "there"), "there", MigrateOptions()),
        (("-s", "", "web", "nc there 9"), "nc there 9", MigrateOptions(command="")),
        (("-e", "-p", "web", "there"), "there", MigrateOptions(monitor=False, paused=True)),
        (("--no-live", "web", "there"), "there", MigrateOptions(precopy=None)),
        (("--timeout", "9", "web", "there"), "there", MigrateOptions(timeout=9.0)),
    ],
)
def test_what_is_asked_for(run, asked, words, to, options):
    done = run("--host", "lab:/nowhere", "migrate", *words)
    assert (done.code, done.err) == (0, "said \\x1b there\n")
    said = f"migrated web to {to}: 40.0 MiB; [0-9.]+ m?s, [0-9.]+ [MGT]iB/s; downtime 0 ms\n"
    assert re.fullmatch(said, done.out)
    assert asked == [(WEB, to, options)]


def test_a_config_of_its_own_and_an_answer_for_programs(run, asked, tmp_path):
    cfg = tmp_path / "cfg"
    cfg.write_text('name = "other"\ntype = "hvm"\n')
    done = run("--host", "lab:/nowhere", "migrate", "--json", "-C", cfg, "web", "there")
    last = answer(done.out.splitlines()[-1])
    assert (last["migrated"], last["to"], last["size"]) == ("web", "there", 40 << 20)
    assert asked[0][2].config.name == "other"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("migrate", "web"), "the following arguments are required: HOST"),
        (("migrate-receive", "-r"), "unrecognized arguments: -r"),
        (("migrate-receive", "--colo"), "unrecognized arguments: --colo"),
        (("migrate-receive", "--with", "digest,magic"), "--with digest,magic: magic is not known"),
        (("migrate", "--streams", "0", "web", "there"), "'0' is no number from 1 to 16"),
        (("migrate", "--no-live", "--iterations", "2", "web", "there"), "--iterations goes with"),
        (("save", "--compact", "web", "file"), "--compact goes with --live"),
        (("migrate", "--streams", "17", "web", "there"), "'17' is no number from 1 to 16"),
        (("migrate-receive", "--streams", "1"), "'1' is no number from 2 to 16"),
        (("migrate-receive", "--stream", "16"), "'16' is no number from 1 to 15"),
        (("migrate-receive", "--stream", "²"), "'²' is no number from 1 to 15"),
        (("migrate-receive", "--streams", "2"), "--token goes with --streams or --stream"),
        (("migrate-receive", "--stream", "1"), "--token goes with --streams or --stream"),
        (("migrate-receive", "--token", TOKEN), "--token goes with --streams or --stream"),
        (("migrate-receive", "--token", "0123abcd/"), "--token 0123abcd/: expected 8 hexadecimal"),
        (("migrate-receive", "--token", "../../ab"), "--token ../../ab: expected 8 hexadecimal"),
        (("migrate-receive", "--token", "0123ABCD"), "--token 0123ABCD: expected 8 hexadecimal"),
        (("migrate-receive", "--streams", "2", "--stream", "1"), "not allowed with argument"),
        (("recover", "--moved"), "--moved and --stayed are about one domain: name it"),
        (("recover", "--moved", "--stayed", "web"), "not allowed with argument --moved"),
    ],
)
def test_usage(run, words, why):
    done = run("--host", "lab:/nowhere", *words)
    assert (done.code, done.out) == (64, "")
    assert why in done.err


@pytest.fixture
def host(tmp_path_factory):
    lab = Lab(tmp_path_factory.mktemp("l"))
    lab.folder.chmod(0o700)
    lab.up()
    yield lab
    lab.down()


def on(lab: Lab, *words: str) -> tuple[str, ...]:
    return ("--host", f"lab:{lab.folder}", "migrate-receive", *words)


def test_preflight(host):
    question = PreflightQuestion(config().with_extra({}), "xen:there", 3)
    done = spawn(*on(host, "--preflight"), data=question.dump())
    assert (done.returncode, done.stderr) == (0, b"")
    answer = PreflightAnswer.parse(done.stdout)
    assert answer.xenqemu == VERSION
    assert "small is a guest of Xen: the lab cannot run it" in answer.objections


@pytest.mark.parametrize("data", [b"", b"hello", b"{}", b"[" * 99999])
def test_preflight_of_nothing(host, data):
    done = spawn(*on(host, "--preflight"), data=data)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"xenqemu: preflight question")


def test_preflight_without_end(host, tmp_path):
    """The question has as long to come as its sender waits for the answer."""
    conf = tmp_path / "conf"
    conf.write_text("[deadlines]\npeer_answer = 0.5\n")
    words = [sys.executable, "-m", "xenqemu", "--conf", str(conf), *on(host, "--preflight")]
    with subprocess.Popen(words, stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:
        process.stdin.write(b"{")
        process.stdin.flush()
        assert process.wait(60) == 3
        assert b"the other host sent nothing" in process.stderr.read()


RECEIVED = {
    "nothing": (b"", 2, "xl header at offset 0x0: expected 48 bytes, got 0 and then the end"),
    "no record": (b"hello" * 99, 2, "xl header at offset 0x0: expected the magic"),
    "a guest of Xen": (
        *(save_files.unpacked("hvm.save"), 3),
        "is a guest of Xen: the lab cannot run it",
    ),
    "half a header": (save_files.unpacked("hvm.save")[:60], 2, "xl optional data at offset 0x30"),
}


@pytest.mark.parametrize(("data", "code", "why"), RECEIVED.values(), ids=RECEIVED.keys())
@pytest.mark.parametrize("options", [(), ("-e", "-p", "-d", "-F")], ids=["plain", "options"])
def test_what_is_no_guest_for_us(host, data, code, why, options):
    """The banner is all that goes out; the reason is said aside."""
    done = spawn(*on(host, *options), data=data)
    assert (done.returncode, done.stdout) == (code, BANNER)
    assert why in done.stderr.decode()
    assert host.domains() == []
    assert Journals(host.journals).found() == []


def test_what_comes_by_two_streams(host):
    """A second command with the same token gives its input to the first, and tells how it went."""
    pipe = subprocess.PIPE
    receiver = subprocess.Popen(
        [*PROGRAM, *on(host, "--streams", "2", "--token", TOKEN)],
        **dict.fromkeys(("stdin", "stdout", "stderr"), pipe),
    )
    assert receiver.stdout.read(len(BANNER)) == BANNER
    joining = [*PROGRAM, *on(host, "--stream", "1", "--token", TOKEN)]
    with subprocess.Popen(joining, stdin=pipe, stdout=pipe, stderr=pipe) as stream:
        assert stream.stdout.read(len(READY)) == READY
        receiver.stdin.write(struct.pack("<I", 5) + save_files.unpacked("hvm.save")[:5])
        receiver.stdin.flush()
        stream.stdin.write(struct.pack("<I", 55) + b"not what follows" * 4)
        stream.stdin.flush()
        _, words = receiver.communicate(timeout=60)
        assert receiver.returncode == 2
        assert b"xl header at offset 0x0: expected the magic" in words
        assert stream.communicate(timeout=60) == (b"", b"xenqemu: the receiver gave up\n")
        assert stream.returncode == 3
    assert [path.name for path in (host.folder / "operations").iterdir()] == ["lock"]


def test_a_stream_to_nobody(host):
    done = spawn(*on(host, "--stream", "1", "--token", TOKEN), data=b"")
    assert (done.returncode, done.stdout) == (3, b"")
    assert done.stderr.startswith(b"xenqemu: there is no receiver for stream 1: ")


def test_a_sender_that_is_gone(host):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*PROGRAM, *on(host)],
        stdin=subprocess.DEVNULL,
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(writing)
    assert done.returncode == 3
    assert done.stderr == b"xenqemu: sending the banner: the other host closed the connection\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_what_ends_a_receiver_is_that_its_sender_hangs_up(host, number):
    pipe = subprocess.PIPE
    receiver = subprocess.Popen([*PROGRAM, *on(host)], stdin=pipe, stdout=pipe, stderr=pipe)
    assert receiver.stdout.read(len(BANNER)) == BANNER
    receiver.send_signal(number)
    with pytest.raises(subprocess.TimeoutExpired):
        receiver.wait(0.5)
    _, words = receiver.communicate(timeout=60)
    assert receiver.returncode == 2
    assert b"and then the end" in words
