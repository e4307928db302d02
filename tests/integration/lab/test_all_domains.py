"""A lab host that goes down with its guests and comes back with them."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.lab.guests import CFG, Guest, Host, Seed, ticks, wait
from tests.parts import shortened

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

TINY = ("mail", "old")
"""Guests that have firmware alone."""


class Site:
    """A host with a counting guest and two others, and the settings to save and restore them by."""

    def __init__(self, host: Host, folder: Path, seed: Seed) -> None:
        self.host = host
        self.records = folder / "records"
        self.conf = folder / "conf"
        self.set()
        self.guest = seed.on(host)
        for name in TINY:
            host.create(CFG.format(name=name, memory=16))
        self.guest.wait_tick()

    def set(self, **more: str) -> None:
        """Write the settings; `more` are values of TOML by their keys' names, with __ for a dot."""
        chosen = {
            "xendomains": '""',
            "save_all__folder": f'"{self.records}"',
            "save_all__parallel": "3",
            "restore_all__proof": "1",
        }
        lines = [f"{key.replace('__', '.')} = {value}" for key, value in (chosen | more).items()]
        self.conf.write_text("\n".join(lines))

    def run(self, verb: str) -> tuple[int, dict[str, str], str]:
        """Run save-all or restore-all; return its status, what became of whom, and its errors."""
        done = self.host.run("--conf", self.conf, verb, "--json")
        return done.code, {each["name"]: each["outcome"] for each in done.lines}, done.err

    def start(self, verb: str) -> subprocess.Popen[bytes]:
        """Start save-all or restore-all."""
        command = self.host.command("--conf", self.conf, verb)
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def states(self) -> dict[str, str]:
        return {found["name"]: found["state"] for found in self.host.list()}

    def files(self) -> list[str]:
        return sorted(path.name for path in self.records.iterdir())


@pytest.fixture
def site(one: Host, folder: Path, seed: Seed) -> Site:
    return Site(one, folder, seed)


def assert_goes_on(site: Site, said: bytes) -> None:
    """Wait for more of the guest that counts: the same memory, no tick lost."""
    guest = Guest(site.host, "web", site.host.guest("web").domid, said)
    guest.wait_tick(5)
    assert ticks(guest.said) >= ticks(said) + 5


def test_a_host_goes_down_and_comes_back(site: Site) -> None:
    console = (site.guest.folder / "console.log").open("rb")
    assert site.run("save-all") == (0, dict.fromkeys(["web", *TINY], "saved"), "")
    said = site.guest.earlier + console.read()
    assert site.files() == ["mail", "old", "web"]
    assert site.host.empty()
    site.host.lab.down()
    site.host.lab.up()
    assert site.run("restore-all") == (0, dict.fromkeys(["web", *TINY], "restored"), "")
    assert site.files() == []
    assert site.states() == dict.fromkeys(["web", *TINY], "running")
    assert_goes_on(site, said)


@pytest.mark.long
def test_a_record_is_damaged_in_between(site: Site) -> None:
    console = (site.guest.folder / "console.log").open("rb")
    site.run("save-all")
    said = site.guest.earlier + console.read()
    damaged = bytearray((site.records / "mail").read_bytes())
    damaged[len(damaged) // 2 :] = b""
    (site.records / "mail").write_bytes(damaged)
    code, became, err = site.run("restore-all")
    assert (code, became) == (3, {"mail": "failed", "old": "restored", "web": "restored"})
    assert err.endswith(": mail\n")
    assert site.files() == ["mail"]
    assert (site.records / "mail").read_bytes() == damaged
    assert site.states() == {"old": "running", "web": "running"}
    assert_goes_on(site, said)


def test_who_is_left_alone_and_who_does_not_listen(site: Site) -> None:
    site.set(
        save_all__leave='["old"]', save_all__shut_down='["mail"]', save_all__shutdown_deadline="1"
    )
    code, became, _err = site.run("save-all")
    assert (code, became) == (3, {"old": "left alone", "mail": "failed", "web": "saved"})
    assert site.states() == {"mail": "running", "old": "running"}


@pytest.mark.parametrize("number", shortened([signal.SIGTERM, signal.SIGINT], signal.SIGTERM))
def test_an_interrupt_takes_back_what_goes_on(site: Site, number: int) -> None:
    site.set(save_all__parallel="1")
    process = site.start("save-all")

    def begun() -> bool:
        return site.records.exists() and any(name.startswith(".") for name in site.files())

    wait(begun, lambda: "it saves nobody")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err.partition(b";")[0]) == (130, b"xenqemu: interrupted\n"), err
    states = site.states()
    saved = [line.partition(":")[0] for line in out.decode().splitlines()]
    assert site.files() == sorted(saved)  # who had been saved by then
    assert {*saved, *states} == {"web", *TINY}
    assert set(states.values()) == {"running"}


@pytest.mark.long
def test_nobody_is_brought_back_twice(site: Site) -> None:
    """A restore-all that is killed, once when guests ran and once more on a host without them."""
    site.run("save-all")
    site.set(restore_all__proof="600")
    process = site.start("restore-all")
    wait(lambda: site.files() == [".mail.ran", ".old.ran", ".web.ran"], lambda: str(site.files()))
    wait(lambda: site.states().get("web") == "running", lambda: str(site.states()))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    site.set()
    site.host.must("lab", "destroy", "old")
    code, became, _err = site.run("restore-all")
    assert (code, became) == (3, {"mail": "restored", "old": "failed", "web": "restored"})
    assert site.files() == [".old.ran"]
    assert site.states() == {"mail": "running", "web": "running"}


def test_no_room_for_a_record(site: Site, folder: Path) -> None:
    """What cannot be saved is asked to shut down, and told if it does not."""
    site.records.mkdir()
    mount: list[Any] = ["mount", "-t", "tmpfs", "-o", "size=1m", "full", site.records]
    subprocess.run(mount, check=True)
    try:
        site.set(save_all__shutdown_deadline="1")
        code, became, _err = site.run("save-all")
        assert (code, became) == (3, dict.fromkeys(["web", *TINY], "failed"))
        assert site.files() == []
    finally:
        subprocess.run(["umount", site.records], check=True)
    assert site.states() == dict.fromkeys(["web", *TINY], "running")
    before = ticks(site.guest.said)
    site.guest.wait_tick()
    assert ticks(site.guest.said) > before
