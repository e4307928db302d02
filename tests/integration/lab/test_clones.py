"""Clones of a save file: guests with its memory, which each changes for itself."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.integration.lab.guests import CFG, TICK, Guest, Host, at, wait
from tests.integration.moments import DIE

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]


def clones(host: Host, save_file: Path, *options: object) -> list[Guest]:
    """Make clones and return them."""
    done = host.run("restore", "--clone", "--json", *options, save_file).good()
    made = [Guest(host, each["clone"], each["domid"]) for each in done.lines if "clone" in each]
    return sorted(made, key=lambda each: each.name)  # they are told of as they are made


def go_on(guest: Guest) -> None:
    """Wait until a clone has counted on: its console begins with the clone."""
    wait(lambda: len(TICK.findall(guest.said)) >= 3, lambda: f"it said {guest.said[-300:]!r}")


def numbers(guest: Guest) -> list[int]:
    return [int(number) for number, _nonce in TICK.findall(guest.said)]


def configs(host: Host) -> list[dict[str, Any]]:
    return [json.loads(file.read_bytes()) for file in host.lab.guests.glob("*/config.json")]


def assert_counts(guest: Guest, after: int) -> None:
    """Assert that it counted on without a gap, from where the save file was."""
    found = numbers(guest)
    assert found == list(range(after + 1, after + 1 + len(found)))


def test_clones_beside_their_original(seed, guest, one, two, folder):
    before = max(int(number) for number, _nonce in TICK.findall(seed.said))
    made = clones(one, seed.record, "--count", 3)
    assert [each.name for each in made] == ["web-clone-1", "web-clone-2", "web-clone-3"]
    for each in made:
        go_on(each)
        assert_counts(each, before)
    assert len({each.ram.stat().st_ino for each in made}) == 1
    assert made[0].ram.stat().st_nlink == 3
    assert len({each["c_info"]["uuid"] for each in configs(one)}) == 4
    guest.wait_tick()
    one.must("verify", seed.record)
    # A clone is a guest like others: it is saved as it is now, again and again, and moves.
    one.must("save", "-c", made[0].name, folder / "first")
    go_on(made[0])
    one.must("save", "-p", made[1].name, folder / "paused")
    assert one.status(made[1].name)["state"] == "paused"
    one.must("lab", "unpause", made[1].name)
    one.must("save", made[0].name, folder / "second")
    here = numbers(made[2])
    for name in ("first", "second"):
        there = two.restore(folder / name)
        there.wait_tick()
        assert numbers(there)[0] > before + 1
        assert numbers(there) == list(range(numbers(there)[0], numbers(there)[-1] + 1))
        two.must("lab", "destroy", there.name)
    wait(lambda: len(numbers(made[2])) > len(here), lambda: "the last clone stands still")
    for each in made[1:]:
        one.must("lab", "destroy", each.name)
    guest.wait_tick()


def test_a_clone_that_rewrites_its_memory(busy_seed, one, two, folder):
    (made,) = clones(one, busy_seed.record, "--name", "copy")
    assert made.name == "copy"
    made.wait_rewritten(3)
    told = json.loads(
        one.must("save", "-c", "--live", "--json", "copy", folder / "live").splitlines()[-1]
    )
    assert told["way"] == "background snapshot"
    made.wait_rewritten()
    two.restore(folder / "live").wait_rewritten(3)
    one.must("save", "copy", folder / "still")
    one.restore(folder / "still").wait_rewritten(3)


def test_a_clone_cannot_be_saved_in_iterations(tiny, firmware_record, one, folder):
    (made,) = clones(one, firmware_record)
    done = one.run("save", "-c", "--live", "--precopy", made.name, folder / "save")
    assert done.code == 3
    assert "cannot be saved while it runs" in done.err
    assert one.status(made.name)["running"]


def test_a_save_that_is_paused_gives_paused_clones(tiny, one, folder):
    one.must("lab", "pause", "tiny")
    one.must("save", "tiny", folder / "save")
    for each in clones(one, folder / "save", "--count", 2):
        assert one.status(each.name)["state"] == "paused"


def test_one_of_several_fails_and_the_others_stay(firmware_record, one):
    clones(one, firmware_record, "--name", "x-2")
    done = one.run("restore", "--clone", "--count", 3, "--name", "x", firmware_record)
    assert done.code == 3
    told = sorted(line.split(":")[0] for line in done.out.splitlines())
    assert told == ["cloned x-1", "cloned x-3"]
    assert "x-2: " in done.err
    assert "is named x-2 already" in done.err
    assert "1 of 3 clones were not made" in done.err
    assert sorted(each["name"] for each in one.list()) == ["x-1", "x-2", "x-3"]
    assert all(one.status(each["name"])["running"] for each in one.list())


@pytest.fixture
def with_disk(one: Host, folder: Path) -> tuple[Path, Path]:
    """A save file of a guest with a disk that it writes, and the disk."""
    image = folder / "disk.raw"
    image.write_bytes(bytes(1 << 20))
    text = (
        CFG.format(name="disky", memory=16)
        + f'disk = ["{image},raw,hda,w"]\nvif = ["model=e1000"]\n'
    )
    one.create(text)
    one.must("save", "disky", folder / "disky.save")
    return folder / "disky.save", image


def test_a_disk_that_is_written_is_never_shared(with_disk, one, folder):
    save_file, image = with_disk
    for options, words in (
        ([], "disky-clone and disky would share"),
        ([f"--disk=hda={image}"], "disky-clone and disky would share"),
        (
            ["--count=2", f"--disk=hda={folder}/other"],
            "disky-clone-2 and disky-clone-1 would share",
        ),
        ([f"--disk=hda={folder}/none"], f"needs {folder}/none"),
        (["--disk=hdb=/x"], "has no disk hdb: it has hda"),
        (["--disk=hda"], "expected VDEV=FILE"),
    ):
        (folder / "other").write_bytes(bytes(1 << 20))
        done = one.run("restore", "--clone", *options, save_file)
        assert done.code in (3, 64)
        assert words in done.err
        assert one.list() == []
    for number in (1, 2):
        shutil.copy(image, folder / f"c-{number}.raw")
    made = clones(
        one, save_file, "--name", "c", "--count", 2, "--disk", f"hda={folder}/{{name}}.raw"
    )
    assert [each.name for each in made] == ["c-1", "c-2"]
    files = {each["disks"][0]["pdev_path"] for each in configs(one)}
    assert files == {f"{folder}/c-1.raw", f"{folder}/c-2.raw"}
    addresses = {each["nics"][0]["mac"] for each in configs(one)}
    assert len(addresses) == 2
    one.restore(save_file)  # the original can run beside them


def test_the_generation_id_is_a_new_one(one, folder):
    one.create(CFG.format(name="gen", memory=16) + 'ms_vm_genid = "generate"\n')

    def number(name: str) -> str:
        with one.lab.device_model(int(one.status(name)["domid"])) as device_model:
            answer = device_model.execute("query-vm-generation-id")
            assert isinstance(answer, dict)
            return str(answer["guid"])

    own = number("gen")
    one.must("save", "gen", folder / "save")
    one.restore(folder / "save")
    assert number("gen") == own
    made = clones(one, folder / "save", "--count", 2)
    assert len({own, *(number(each.name) for each in made)}) == 3


@pytest.mark.parametrize(
    "moment", ["build progress", "build started", "build done", "release done"]
)
def test_it_is_killed(firmware_record, one, moment):
    done = at(one, moment, DIE, "restore", "--clone", "--count", 3, firmware_record)
    assert done.code == -signal.SIGKILL
    assert one.run("recover").code == 0
    names = {each["name"] for each in one.list()}
    # Those that ran already are guests; of the others nothing is left.
    assert bool(names) == (moment == "release done")
    assert all(one.status(name)["running"] for name in names)
    for name in names:
        one.must("lab", "destroy", name)
    assert one.empty()
    clones(one, firmware_record, "--count", 2)


def test_qemu_of_a_clone_dies(firmware_record, one):
    first, second = clones(one, firmware_record, "--count", 2)
    first.machine.process.end()
    wait(lambda: len(one.list()) == 1, lambda: "it is still there")
    assert one.status(second.name)["running"]
