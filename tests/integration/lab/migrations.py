"""Migrations between lab hosts: the commands, ways that break, and what has to hold behind them."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.doubles.peers import relay
from tests.integration.lab.guests import PROGRAM, TIMEOUT, Guest, Host, ticks, wait
from xenqemu.formats.migration.handshake import WORDS, Message
from xenqemu.operations.journal.folder import Journals

AWAY = "--migratedaway"


def receiver(host: Host, *options: str) -> str:
    """Return the command that has a host receive a guest."""
    return shlex.join([*PROGRAM, "--host", host.option, "migrate-receive", *options])


def moved(guest: Guest, to: Host, *words: object) -> Guest:
    """Migrate a guest and return it on the other host."""
    with (guest.folder / "console.log").open("rb") as console:  # the file's name goes away
        done = guest.host.run("migrate", *words)
        assert done.code == 0, done.err
        said = guest.earlier + console.read()
    arrived = to.guest(guest.name)
    arrived.earlier = said
    return arrived


def assert_goes_on(guest: Guest) -> None:
    before = ticks(guest.said)
    guest.wait_tick(3)
    assert ticks(guest.said) >= before + 2


BACK = {message: len(words) for message, (_role, words) in WORDS.items()}
BANNER = BACK[Message.BANNER]
UP_TO_READY = BANNER + BACK[Message.READY]
UP_TO_REPORT = UP_TO_READY + BACK[Message.REPORT]

CUTS_BACK = {
    "in the banner": 20,
    "before the ready message": BANNER,
    "in the ready message": BANNER + 3,
    "before the report": UP_TO_READY,
    "in the report": UP_TO_READY + 5,
    "before the status": UP_TO_REPORT,
}
ACTS = ("cut", "kill-receiver", "kill-sender")


@dataclass
class Broken:
    """A migration from `one` to `two` over a way that broke, and what the sender said of it."""

    one: Host
    two: Host
    code: int
    words: str

    def settle(self) -> None:
        """Do what a user has to do, and assert that there is one guest in the end."""
        assert len([*running(self.one), *running(self.two)]) <= 1, self.words
        self.two.must("recover")
        there = running(self.two)
        if self.in_doubt:
            assert [each["name"] for each in self.one.list()] == [f"tiny{AWAY}"]
            assert running(self.one) == []
            self.one.must("recover", "tiny", "--moved" if there else "--stayed")
        else:
            assert self.code != 13
            self.one.must("recover")
        assert [*running(self.one), *running(self.two)] == ["tiny"], self.words
        for host in (self.one, self.two):
            assert Journals(host.lab.journals).found() == []
            assert all(each["running"] for each in host.list())

    @property
    def in_doubt(self) -> bool:
        """Whether the sender left a doubt behind."""
        found = Journals(self.one.lab.journals).found()
        return any(line.get("doubt") for each in found for line in each.lines[-1:])


def running(host: Host) -> list[str]:
    """Return the names of the guests that run on a host."""
    return [each["name"] for each in host.list() if each["running"]]


def nothing_goes_on(host: Host) -> bool:
    return not any(each.running for each in Journals(host.lab.journals).found())


WAY = """\
#!/bin/sh
shift 2  # the host's name and the program's
case "$*" in
*{marked}*) {changed} ;;
*) exec {plain} "$@" ;;
esac
"""


def way(host: Host, folder: Path, marked: str, changed: str) -> Path:
    """Make a command in ssh's place that leads to a host otherwise where its words are `marked`."""
    script = folder / "way"
    plain = shlex.join(host.command())
    script.write_text(WAY.format(marked=shlex.quote(marked), changed=changed, plain=plain))
    script.chmod(0o755)
    return script


def relayed(command: str, act: str, out: int, back: int = -1) -> str:
    """Return the command that leads to another one over a way that breaks."""
    words = [sys.executable, relay.__file__, str(out), str(back), act]
    return f"exec {shlex.join(words)} {command}"


@dataclass
class BreakOff:
    """Migrates `tiny` from `one` to `two` over a way that breaks, until both sides have ended."""

    one: Host
    two: Host
    folder: Path

    def __call__(
        self, act: str, *options: str, out: int = -1, back: int = -1, stream: int = 0
    ) -> Broken:
        """Break with an act behind so many bytes; with `stream` only this one of three breaks."""
        sender = self.folder / "sender"
        route = ["-s", "", "tiny", relayed(shlex.quote(receiver(self.two)), act, out, back)]
        if stream:
            command = f'"exec {shlex.join(self.two.command())} $*"'
            broken = relayed(command, act, out)
            ssh = way(self.two, self.folder, f"--stream {stream} ", broken)
            route = ["--streams", "3", "-s", str(ssh), "tiny", "two"]
        process = subprocess.Popen(
            self.one.command("migrate", *options, *route),
            env={**os.environ, "SENDER": str(sender)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        sender.write_text(str(process.pid))
        _, words = process.communicate(timeout=TIMEOUT)
        wait(lambda: all(map(nothing_goes_on, (self.one, self.two))), lambda: words)
        return Broken(self.one, self.two, process.returncode, words)


def record_size(host: Host, folder: Path) -> int:
    """Return how many bytes a migration of `tiny` sends before its last word.

    What is sent has neither a seal nor aligned pages.
    """
    file = folder / "counted.save"
    options = ("-c", "--json", "--no-seal", "--layout", "xl")
    lines = host.must("save", *options, "tiny", file).splitlines()
    return int(json.loads(lines[-1])["size"])
