"""The functions for toolstacks: all that the command has, on any host, their errors named."""

import ast
import asyncio
import io
import os
import pydoc
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import xenqemu
from tests.doubles.in_memory.guest import Guest
from tests.doubles.in_memory.save_files import device_state, save_file
from tests.doubles.in_memory.world import World
from xenqemu import api, errors
from xenqemu.errors import FormatError, HostError, RolledBack, UsageError
from xenqemu.host.xen.xen_host import XenHost
from xenqemu.lab.lab_host import Lab
from xenqemu.operations import migrate as migrating
from xenqemu.operations import receive as receiving
from xenqemu.operations.journal.folder import Journals
from xenqemu.operations.journal.log import About

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "etc" / "examples" / "save_all_guests.py"
FUNCTIONS = [name for name in api.__all__ if callable(getattr(api, name)) and name.islower()]


@pytest.fixture
def world() -> World:
    return World()


def test_public_names_are_listed() -> None:
    assert {*xenqemu.__all__} == {*api.__all__, "errors", "__version__"} == {*dir(xenqemu)}
    for name in xenqemu.__all__:
        assert getattr(xenqemu, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'suspend'"):
        xenqemu.suspend  # noqa: B018  what else would be asked
    assert xenqemu.errors is errors
    assert re.fullmatch(r"\d+\.\d+\.\d+", xenqemu.__version__)


def test_type_checkers_are_told_the_same_names() -> None:
    tree = ast.parse(Path(xenqemu.__file__).read_text())
    told = [
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    ]
    assert sorted([*told, "__version__"]) == sorted(xenqemu.__all__)


def test_help_shows_them() -> None:
    shown = pydoc.render_doc(xenqemu, renderer=pydoc.plaintext)
    for name in api.__all__:
        assert re.search(rf"\b{name}\b", shown), name
    assert "Leave domain running after creating the snapshot." in shown


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_says_what_it_raises(name: str) -> None:
    said = getattr(xenqemu, name).__doc__
    assert re.search(r"\b[Rr]aises?\b", said)
    assert any(f"`{error}`" in said for error in errors.__all__)


@pytest.mark.parametrize("who", ["sample", "1", 1])
def test_save_and_restore(world: World, tmp_path: Path, who: str | int) -> None:
    file = tmp_path / "record"
    found = xenqemu.save(who, file, host=world.host, observe=world.observe)
    assert (found.size, world.guests) == (file.stat().st_size, {})
    assert xenqemu.verify(file).config == xenqemu.inspect(str(file)).config == found.config
    options = xenqemu.RestoreOptions(paused=True)
    done = xenqemu.restore(str(file), options, host=world.host)
    assert done.domid == 2
    assert world.guests[2].paused
    assert world.events


def test_options_of_a_save(world: World, tmp_path: Path) -> None:
    options = xenqemu.SaveOptions(
        after=xenqemu.After.CONTINUE,
        precopy=xenqemu.PrecopyOptions(iterations=2),
        compact=True,
        keep_domid=True,
    )
    events: list[xenqemu.Event] = []
    found = xenqemu.save(1, tmp_path / "record", options, host=world.host, observe=events.append)
    assert found.config.domid == 1
    assert world.running() == [1]
    assert xenqemu.Kind.ITERATION in [event.kind for event in events]
    hasty = xenqemu.SaveOptions(timeout=1e-9)
    with pytest.raises(HostError, match=r"the deadline of 1e-09 s for all of it has passed"):
        xenqemu.save(1, tmp_path / "other", hasty, host=world.host)


def test_a_verdict_on_a_pipe() -> None:
    reading, writing = os.pipe()

    def write() -> None:
        with open(writing, "wb") as out:
            out.write(save_file())

    writer = threading.Thread(target=write)
    writer.start()
    with open(reading, "rb") as file:
        assert xenqemu.verify(file).kind.name == "XL"
    writer.join()
    with pytest.raises(FormatError):
        xenqemu.inspect(io.BytesIO(b"nothing of ours"))


@pytest.mark.parametrize(
    ("command", "to", "words"),
    [
        (("ssh", "-p", "22"), "there; reboot", "there; reboot"),
        ("", ["ssh", "there", "xl", "migrate-receive"], ("ssh", "there", "xl", "migrate-receive")),
        ((), ("receiver",), ("receiver",)),
        ("", "receiver", ("receiver",)),
    ],
)
def test_migrate_by_words(world: World, monkeypatch: pytest.MonkeyPatch, command, to, words):
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(migrating, "migrate", lambda *given, **_: asked.append(given))
    options = xenqemu.MigrateOptions(command=command)
    xenqemu.migrate("sample", to, options, host=world.host)
    assert asked == [(world.host, world.domain(), words, replace(options, command=tuple(command)))]


@pytest.mark.parametrize(
    ("command", "to"), [("ssh -p 22", "there"), ("", "ssh there xl migrate-receive"), ("", "a\nb")]
)
def test_a_line_for_a_shell_is_refused(world: World, command: str, to: str) -> None:
    with pytest.raises(UsageError, match="expected a list of arguments, got a line for a shell"):
        xenqemu.migrate("sample", to, xenqemu.MigrateOptions(command=command), host=world.host)


def test_migrate(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(migrating, "migrate", lambda *given, **_: asked.append(given))
    xenqemu.migrate("sample", "there", host=world.host)
    options = xenqemu.MigrateOptions(monitor=False, paused=True, streams=3)
    xenqemu.migrate(1, "there", options, host=world.host)
    assert asked == [
        (world.host, world.domain(), "there", xenqemu.MigrateOptions(command=("ssh",))),
        (world.host, world.domain(), "there", replace(options, command=("ssh",))),
    ]
    assert xenqemu.MigrateOptions().precopy == xenqemu.PrecopyOptions()


def test_receive(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the standard streams, as its sender's command has it: here nothing comes."""
    seen: list[object] = []

    def receive(host: object, _peer: object, options: object, **_: object) -> int:
        seen.append((host, options))
        return 7

    monkeypatch.setattr(receiving, "receive", receive)
    options = xenqemu.ReceiveOptions(paused=True)
    assert xenqemu.receive(options, host=world.host) == 7
    assert seen == [(world.host, options)]


def test_save_devices(world: World, tmp_path: Path) -> None:
    found = xenqemu.save_devices("sample", tmp_path / "state", host=world.host)
    assert found.kind.name == "DEVICE_STATE"
    assert (tmp_path / "state").read_bytes() == device_state(41)


def test_status_and_domains(world: World) -> None:
    world.guests[4] = Guest.running(what=world.guests[1].config.with_name("other"))
    world.guests[4].paused = True
    now = xenqemu.status("sample", host=world.host)
    assert (now.domid, now.running) == (1, True)
    assert [(each.domid, each.running) for each in xenqemu.domains(host=world.host)] == [
        (1, True),
        (4, False),
    ]
    with pytest.raises(HostError, match="there is no domain 'nobody' on this host"):
        xenqemu.status("nobody", host=world.host)


def test_recover_and_cancel(world: World) -> None:
    assert xenqemu.recover(host=world.host) == []
    with pytest.raises(HostError, match="no operation is running on 1"):
        xenqemu.cancel(1, host=world.host)
    about = About("save", 1, "sample", world.guests[1].config.uuid, "/nowhere")
    entry = Journals(world.host.journals).begin(about, lambda _other: False)
    entry.unfinished = True
    entry.close()
    assert [each.complete for each in xenqemu.recover("sample", host=world.host)] == [True]
    assert xenqemu.recover(1, moved=False, host=world.host) == []


def test_all_domains(world: World, tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    conf.write_text(
        f'xendomains = ""\nsave_all.folder = "{tmp_path}/saved"\n'
        f'save_all.configs = "{tmp_path}"\nrestore_all.proof = 0.1\n'
    )
    cfg = 'name = "x"\ntype = "hvm"\nmemory = 8\non_host_shutdown = "fly"\n'
    (tmp_path / "x.cfg").write_text(cfg)
    told: list[xenqemu.Outcome] = []
    complaints: list[str] = []

    def opened() -> World:
        return world.host

    became = xenqemu.save_all(
        conf=conf, opened=opened, observe=told.append, complain=complaints.append
    )
    assert [(each.name, each.how.value) for each in became] == [("sample", "saved")]
    assert told == became
    assert "on_host_shutdown: expected save, shutdown or leave" in complaints[0]
    assert world.guests == {}
    became = xenqemu.restore_all(conf=conf, opened=opened)
    assert [(each.name, each.how.value) for each in became] == [("sample", "restored")]
    conf.write_text(conf.read_text() + "restore_all.restore = false\n")
    assert xenqemu.restore_all(conf=conf, opened=opened) == []


def test_all_domains_by_a_key(world: World, tmp_path: Path) -> None:
    """Once the settings name a key, a save file that nobody with the key sealed is not restored."""
    key, conf = tmp_path / "key", tmp_path / "conf"
    key.write_bytes(b"secret")
    key.chmod(0o600)
    folder = tmp_path / "saved"
    plain = f'xendomains = ""\nsave_all.folder = "{folder}"\nrestore_all.proof = 0.1\n'
    by_key = f'{plain}save.key_file = "{key}"\n'

    def became(act: Any, said: str) -> str:
        conf.write_text(said)
        (done,) = act(conf=conf, opened=lambda: world.host)
        return f"{done.how.value}: {done.text}"

    assert became(xenqemu.save_all, plain).startswith("saved")
    assert "expected a seal made with the key, got one without a key" in (
        became(xenqemu.restore_all, by_key)
    )
    assert became(xenqemu.restore_all, plain).startswith("restored")
    assert became(xenqemu.save_all, by_key).startswith("saved")
    assert xenqemu.verify(next(folder.iterdir()), key_file=key).seal
    assert "sealed with a key" in became(xenqemu.restore_all, plain)
    assert became(xenqemu.restore_all, by_key).startswith("restored")


def test_a_host_is_closed_behind_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[object] = []

    def close(host: object) -> None:
        closed.append(host)

    for kind in (Lab, XenHost):
        monkeypatch.setattr(kind, "close", close)
    with xenqemu.open_host("lab:/nowhere") as lab, xenqemu.open_host("xen") as xen:
        assert (lab.kind, xen.kind) == ("lab", "xen")
    assert closed == [xen, lab]


def test_without_a_host_this_machines_own_is_opened_and_closed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[object] = []

    def close(host: object) -> None:
        closed.append(host)

    monkeypatch.setattr(api, "open_host", lambda: world.host)
    monkeypatch.setattr(type(world.host), "close", close)
    assert xenqemu.status(1).running
    assert closed == [world.host]
    xenqemu.status(1, host=world.host)
    assert closed == [world.host]


def test_what_fails_says_where_the_guest_is(world: World, tmp_path: Path) -> None:
    def observe(event: xenqemu.Event) -> None:
        if event.phase is xenqemu.Phase.SAVE:
            raise HostError("enough")

    with pytest.raises(RolledBack, match="the guest is as it was"):
        xenqemu.save(1, tmp_path / "record", host=world.host, observe=observe)


def test_the_example_is_typed_as_a_client_has_it() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", EXAMPLE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, ""), run.stdout
    assert len(EXAMPLE.read_text().splitlines()) < 50


@pytest.mark.lab
def test_the_example_and_a_call_within_an_event_loop() -> None:
    place = Path(tempfile.mkdtemp(prefix="api"))
    lab = Lab(place / "lab")
    lab.up()
    (place / "cfg").write_text('name = "web"\ntype = "hvm"\nmemory = 8\nvga = "none"\n')
    try:
        create = ["--host", f"lab:{lab.folder}", "lab", "create", place / "cfg"]
        subprocess.run([sys.executable, "-m", "xenqemu", *create], check=True, timeout=60)
        run = subprocess.run(
            [sys.executable, EXAMPLE, f"lab:{lab.folder}", place],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (run.returncode, run.stderr) == (0, "")
        (file,) = place.glob("*.save")
        assert run.stdout.splitlines()[-1] == f"web: {file.stat().st_size} bytes in {file}"

        async def within() -> int:
            xenqemu.save("web", file, host=lab)
            return xenqemu.restore(file, host=lab).domid

        assert asyncio.run(within()) == 2
        assert xenqemu.status("web", host=lab).running
    finally:
        lab.down()
        shutil.rmtree(place)
