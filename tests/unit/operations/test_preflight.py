"""What another host is asked before a guest is touched: real commands, an ssh of our own."""

import re
import shlex
from dataclasses import replace

import pytest

from tests.doubles.in_memory.save_files import config, config_with
from tests.doubles.in_memory.world import World
from tests.doubles.xen.xl_prints import INFO, LIST
from xenqemu.errors import HostError, HostTimeout, ProtocolError, UsageError
from xenqemu.formats.migration import wrapping
from xenqemu.formats.migration.preflight_messages import PreflightAnswer, PreflightQuestion
from xenqemu.formats.migration.stream_chunks import MOST, STREAMS
from xenqemu.host.findings import Finding, Severity
from xenqemu.host.party_deadlines import Deadlines
from xenqemu.host.peer.route import Route
from xenqemu.host.protocol import Needs
from xenqemu.host.trust import Trust
from xenqemu.operations.preflight import Agreement, MigrationPlan, agree, answer, found_there

REFUSAL, WARNING = Severity.REFUSAL, Severity.WARNING
UUID = config().uuid
NEEDS = Needs(config(), 3, {2: 1032, 5: 24})
YES = PreflightAnswer(("digest", "zstd")).dump().decode()


@pytest.fixture
def host():
    return World().host


@pytest.fixture
def ssh(tmp_path):
    """Make a command in ssh's place; `programs` are shell scripts by their names."""
    asked = tmp_path / "asked"

    def make(**programs):
        cases = "".join(f"{name}) shift; {body} ;;\n" for name, body in programs.items())
        script = tmp_path / "ssh"
        script.write_text(
            f'#!/bin/sh\necho "$*" >> {asked}\nshift\ncase $1 in\n{cases}'
            '*) echo "$1: not found" >&2; exit 127 ;;\nesac\n'
        )
        script.chmod(0o755)
        return Route("there", str(script))

    make.asked = lambda: asked.read_text().splitlines()
    return make


def says(text, status=0):
    return f"cat >/dev/null; printf %s {shlex.quote(text)}; exit {status}"


def settled(host, route, **options):
    return agree(host, MigrationPlan(NEEDS, route, **options), lambda _line: None)


def test_a_xenqemu_that_takes_it(host, ssh, tmp_path):
    route = ssh(xenqemu=f"cat > {tmp_path}/question; printf %s {shlex.quote(YES)}")
    agreed = settled(host, route, options=("-p",))
    rune = f"exec {route.command} there xenqemu migrate-receive -p --with digest"
    assert agreed == Agreement(rune, frozenset({"digest"}))
    question = PreflightQuestion.parse((tmp_path / "question").read_bytes())
    assert question == PreflightQuestion(NEEDS.config, host.identity, 3, NEEDS.context)
    assert ssh.asked() == ["there xenqemu migrate-receive --preflight"]


def test_compressed_if_that_is_wanted(host, ssh):
    route = ssh(xenqemu=says(YES))
    agreed = settled(host, route, compress=True)
    assert agreed.features == {"digest", "zstd"}
    assert agreed.rune.endswith("xenqemu migrate-receive --with digest,zstd")


def test_a_xenqemu_that_knows_nothing_more(host, ssh):
    route = ssh(xenqemu=says(PreflightAnswer(("later",)).dump().decode()))
    agreed = settled(host, route)
    assert agreed == Agreement(f"exec {route.command} there xenqemu migrate-receive")
    with pytest.raises(HostError, match="there cannot take a compressed save file$"):
        settled(host, route, compress=True)


def test_without_zstandard_here(host, ssh, monkeypatch):
    monkeypatch.setattr(wrapping, "known", lambda: ("digest",))
    with pytest.raises(HostError, match="this host cannot compress: its Python has no zstandard"):
        settled(host, ssh(xenqemu=says(YES)), compress=True)


def test_several_streams_if_they_are_wanted(host, ssh):
    route = ssh(xenqemu=says(PreflightAnswer(("digest", STREAMS)).dump().decode()))
    agreed = settled(host, route, options=("-p",), streams=3)
    receiver = f"exec {route.command} there xenqemu migrate-receive"
    token = re.fullmatch(
        f"{receiver} -p --with digest --streams 3 --token ([0-9a-f]{{8}})", agreed.rune
    )[1]
    assert agreed.extra == tuple(f"{receiver} --stream {k} --token {token}" for k in (1, 2))
    assert settled(host, route, streams=3).rune != agreed.rune
    assert settled(host, route).extra == ()


@pytest.mark.parametrize("program", [{"xenqemu": says(YES)}, {"xl": "exit 1"}])
def test_several_streams_to_one_that_does_not_know_them(host, ssh, program):
    with pytest.raises(HostError, match="there cannot take a save file over 2 streams$"):
        settled(host, ssh(**program), streams=2)


@pytest.mark.parametrize("streams", [0, -1, MOST + 1])
def test_no_number_of_streams(host, streams):
    with pytest.raises(UsageError, match=f"^streams: expected 1 to 16, got {streams}$"):
        settled(host, Route("there"), streams=streams)


def test_every_reason_is_given(host, ssh):
    route = ssh(xenqemu=says(PreflightAnswer((), ("no memory", "no bridge")).dump().decode()))
    with pytest.raises(HostError, match="there cannot take sample: 1. no memory; 2. no bridge"):
        settled(host, route)


@pytest.mark.parametrize(
    ("body", "error", "why"),
    [
        ("echo no such host >&2; exit 255", HostError, "there cannot be asked: .*no such host"),
        ("exit 3", HostError, "there cannot be asked: .* status 3"),
        ("kill -9 $$", HostError, "there cannot be asked: .* signal 9"),
        (says("Welcome!\n" + YES), ProtocolError, r"answer of xenqemu, got 'Welcome!\\n"),
        (says(""), ProtocolError, "expected an answer of xenqemu, got ''"),
        (says('{"xenqemu": 1}'), ProtocolError, "preflight answer xenqemu"),
        ("head -c 1100000 /dev/zero", ProtocolError, "an answer of more than 1048576 bytes"),
        ("exec sleep 60", HostTimeout, "no answer within 0.5 s"),
    ],
)
def test_a_xenqemu_that_does_not_answer(host, ssh, body, error, why):
    host.deadlines = Deadlines(peer_answer=0.5 if "sleep" in body else 30, peer_end=0.3)
    with pytest.raises(error, match=why):
        settled(host, ssh(xenqemu=body))


XL = "case $1 in info) echo {info};; list) echo {list};; *) exit 9;; esac"


def stock(info=INFO, listed=LIST):
    return XL.format(info=shlex.quote(info), list=shlex.quote(listed))


def test_a_stock_xl_that_can_take_it(host, ssh):
    route = ssh(xl=stock())
    assert settled(host, route, options=("-e", "-p")) == Agreement(
        f"exec {route.command} there xl migrate-receive -e -p"
    )
    assert ssh.asked() == [
        "there xenqemu migrate-receive --preflight",
        "there xl info",
        "there xl list -v",
    ]


@pytest.mark.parametrize(
    ("needs", "why"),
    [
        (Needs(config(), 4), "1. libxc image header .*version 3 at most, for Xen 4.17, got 4"),
        (Needs(config(), 3, {5: 32}), "1. HVM_CONTEXT LAPIC"),
        (Needs(config(host="lab"), 3), "1. sample is a guest of the lab"),
        (
            Needs(config().with_name("(null)"), 3),
            r"1. domain 7 \(\(null\)\) has the name or the uuid of \(null\)",
        ),
    ],
)
def test_what_a_stock_xl_tells_against_it(host, ssh, needs, why):
    with pytest.raises(HostError, match=f"there cannot take .*: {why}"):
        agree(host, MigrationPlan(needs, ssh(xl=stock())), lambda _line: None)


def test_memory_and_uuid_by_a_stock_xl(host, ssh):
    small = INFO.replace(": 1234", ": 0"), LIST.replace("   700 ", "   128 ")
    with pytest.raises(HostError, match="sample needs 0 MiB: 0 MiB are free"):
        settled(host, ssh(xl=stock(*small)))
    other = LIST.replace("9233e52c-49ca-454f-96be-f53e22f3994d", UUID)
    with pytest.raises(HostError, match="domain 2 .a name with 3 blanks. has the name or the uuid"):
        settled(host, ssh(xl=stock(listed=other)))
    itself = other.replace("a name with 3 blanks", "sample")
    settled(host, ssh(xl=stock(listed=itself)))


def test_a_stock_xl_that_tells_nothing(host, ssh):
    assert settled(host, ssh(xl="exit 1")).rune.endswith("there xl migrate-receive")
    with pytest.raises(HostError, match="there cannot take a compressed save file$"):
        settled(host, ssh(xl="exit 1"), compress=True)


def test_a_whole_command_that_leads_to_whatever_is_not_asked(host):
    def refuse(*_):
        raise HostError("no other host takes our guests")

    host.findings_elsewhere = refuse
    assert settled(host, Route("exec nc there 99", "")) == Agreement("exec nc there 99")


def test_a_whole_command_that_leads_to_us(host, tmp_path):
    program = tmp_path / "xenqemu"
    program.write_text(f'#!/bin/sh\necho "$*" > {tmp_path}/words; {says(YES)}\n')
    program.chmod(0o755)
    agreed = settled(host, Route(f"{program} migrate-receive", ""), options=("-e",))
    assert agreed.rune == f"{program} migrate-receive -e --with digest"
    assert (tmp_path / "words").read_text() == "migrate-receive --preflight\n"
    program.unlink()
    with pytest.raises(HostError, match="there is no xenqemu at the end of '.*migrate-receive'"):
        settled(host, Route(f"{program} migrate-receive", ""))


def test_our_own_answer(host, monkeypatch):
    seen = []

    def refuse(needs, *, quick):
        seen.append(needs)
        return iter([Finding.refusal("host", HostError(why)) for why in ("no", "never")])

    question = PreflightQuestion(config(), "fake:elsewhere", 3, {5: 24})
    known = (*wrapping.known(), STREAMS)
    assert answer(host, question) == PreflightAnswer(known)
    monkeypatch.setattr(host, "findings", refuse)
    assert answer(host, question) == PreflightAnswer(known, ("no", "never"))
    warning = Finding.warning("xen", "an older one")
    monkeypatch.setattr(host, "findings", lambda _needs, *, quick: iter([warning]))
    assert answer(host, question) == PreflightAnswer(known)
    monkeypatch.setattr(host, "findings", refuse)
    answer(host, PreflightQuestion(config(), host.identity, 3))
    assert seen == [Needs(config(), 3, {5: 24}), Needs(config(), 3, moving=True)]


def test_our_own_answer_says_what_of_the_host_the_guest_may_not_have(host):
    asked = PreflightQuestion(config_with(pcidevs=[{"bus": 3}]), "fake:elsewhere", 3)
    (objection,) = answer(host, asked).objections
    assert "pcidevs=0000:03:00.0 (a device of the host)" in objection
    host.trust = Trust(("pcidevs=0000:03:*",))
    assert answer(host, asked).objections == ()


def there(host, route):
    found = found_there(host, NEEDS, route, lambda _line: None)
    return [(each.severity, each.what, str(each)) for each in found]


def test_what_another_host_has_against_a_guest(host, ssh):
    assert there(host, ssh(xenqemu=says(YES))) == []
    answer = PreflightAnswer((), ("no memory", "no \x1b bridge")).dump().decode()
    assert there(host, ssh(xenqemu=says(answer))) == [
        (REFUSAL, "elsewhere", "there: no memory"),
        (REFUSAL, "elsewhere", "there: no \\x1b bridge"),
    ]
    assert ssh.asked() == ["there xenqemu migrate-receive --preflight"] * 2


def test_what_stock_xl_tells_against_a_guest(host, ssh):
    warning = (
        WARNING,
        "elsewhere",
        "there is no xenqemu on there: only what xl lists there is checked",
    )
    assert there(host, ssh(xl=stock())) == [warning]
    small = INFO.replace(": 1234", ": 0"), LIST.replace("   700 ", "   128 ")
    told, memory = there(host, ssh(xl=stock(*small)))
    assert told == warning
    assert memory[:2] == (REFUSAL, "memory")
    assert memory[2].startswith("there: sample needs 0 MiB: 0 MiB are free")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("echo no such host >&2; exit 255", "there cannot be asked: .*no such host"),
        (says(""), "expected an answer of xenqemu, got ''"),
    ],
)
def test_another_host_that_cannot_be_asked(host, ssh, body, why):
    ((severity, what, text),) = there(host, ssh(xenqemu=body))
    assert (severity, what) == (REFUSAL, "elsewhere")
    assert re.search(why, text)


def test_a_whole_command_is_asked_only_if_it_leads_to_us(host, tmp_path):
    gone = f"{tmp_path}/xenqemu migrate-receive"
    assert there(host, Route(gone, "")) == [
        (REFUSAL, "elsewhere", f"there is no xenqemu at the end of {gone!r}")
    ]
    assert there(host, Route("exec nc there 99", "")) == [
        (WARNING, "elsewhere", "nobody can tell what 'exec nc there 99' leads to")
    ]


def test_the_states_of_devices_are_told(host, ssh, tmp_path):
    route = ssh(xenqemu=f"cat > {tmp_path}/question; printf %s {shlex.quote(YES)}")
    list(found_there(host, replace(NEEDS, devices={"vga": 2}), route, lambda _line: None))
    question = PreflightQuestion.parse((tmp_path / "question").read_bytes())
    assert question.devices == {"vga": 2}
    seen = []
    host.findings = lambda needs, *, quick: seen.append(needs) or iter(())
    answer(host, question)
    assert seen == [replace(NEEDS, devices={"vga": 2}, moving=True)]


def test_lines_of_the_other_host_are_passed_on(host, ssh):
    lines = []
    route = ssh(xenqemu=f"echo 'a warning' >&2; {says(YES)}")
    agree(host, MigrationPlan(NEEDS, route), lines.append)
    assert lines == ["a warning"]
