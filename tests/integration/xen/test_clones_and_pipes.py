"""Clones of a save file, and compressed ones, on a real host: by us and by stock xl."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.xen.bed import Bed
from tests.integration.xen.hosts import FILE, ON_417, XENQEMU, begin, goes_on

pytestmark = [pytest.mark.xen, pytest.mark.long, pytest.mark.timeout(900)]


def uuid(bed: Bed, name: str) -> str:
    return bed.must(f"xl domid {name} | xargs xl list -v | tail -1").split()[6]


@ON_417
@pytest.mark.parametrize("name", ["pvh", "pv"])
def test_clones_run_beside_their_original(bed: Bed, name: str) -> None:
    before = begin(bed, name)
    bed.must(f"{XENQEMU} save -c {name} {FILE}", timeout=180)
    made = bed.must(f"{XENQEMU} restore --clone --name copy --count 2 {FILE}", timeout=300)
    assert [line.split(":")[0] for line in made.splitlines()] == [
        "cloned copy-1",
        "cloned copy-2",
    ]
    names = (name, "copy-1", "copy-2")
    assert len({uuid(bed, each) for each in names}) == 3
    nonces = {tick.nonce for each in names for tick in bed.wait_ticks(each)}
    assert nonces == {before[-1].nonce}  # which each keeps in its memory alone


@ON_417
def test_clones_of_a_guest_with_a_device_model(bed: Bed) -> None:
    """Its serial port has a terminal of its own, where that of our other guests is one file."""
    bed.must(
        "sed 's/^serial.*/serial = \"pty\"/' /src/scripts/xenbed.d/guests/hvm.cfg >/tmp/pty.cfg"
    )
    bed.must("xl create /tmp/pty.cfg", timeout=180)
    before = bed.wait_ticks("hvm")
    bed.must(f"{XENQEMU} save -c hvm {FILE}", timeout=180)
    bed.must(f"{XENQEMU} restore --clone --name copy {FILE}", timeout=300)
    assert {tick.nonce for tick in bed.wait_ticks("copy")} == {before[-1].nonce}
    assert uuid(bed, "hvm") != uuid(bed, "copy")


@ON_417
def test_a_clone_that_cannot_be_leaves_nothing(bed: Bed) -> None:
    begin(bed, "hvm")
    bed.must(f"{XENQEMU} save -c hvm {FILE}", timeout=180)
    for options, why in (
        ("--name hvm", "hvm"),
        ("", "clones of hvm would share its serial port file:"),
    ):
        done = bed.run(f"{XENQEMU} restore --clone {options} {FILE}", timeout=180)
        assert done.rc == 3, done
        assert why in done.err
        assert len(bed.must("xl list").splitlines()) == 3  # a head, dom0, and the guest itself


@ON_417
@pytest.mark.parametrize(
    "restore", ["zstd -dc {} | xl restore /dev/stdin", XENQEMU + " restore {}"]
)
def test_a_compressed_save_file(bed: Bed, tmp_path: Path, restore: str) -> None:
    """Compressed elsewhere; this host has the program zstd, and not the Python module."""
    begin(bed, "hvm")
    bed.must(f"{XENQEMU} save hvm {FILE}", timeout=180)
    before = bed.ticks("hvm")
    (tmp_path / "save").write_bytes(bed.get(FILE))
    words = [sys.executable, "-m", "xenqemu", "compress", str(tmp_path / "save")]
    subprocess.run(words, check=True, capture_output=True)
    packed = bed.put("save.zst", tmp_path / "save.zst")
    bed.must(f"rm {FILE}")
    bed.must(restore.format(packed), timeout=300)
    goes_on(bed, "hvm", before)


@ON_417
def test_a_save_that_is_compressed_here(bed: Bed) -> None:
    begin(bed, "pvh")
    said = bed.run(f"{XENQEMU} save --compress=1 pvh {FILE}.zst", timeout=300)
    assert said.rc == 0, said
    assert "the program zstd compresses" in said.err
    before = bed.ticks("pvh")
    assert "sound and sealed" in bed.must(f"{XENQEMU} verify {FILE}.zst", timeout=180)
    bed.must(f"zstd -dc {FILE}.zst | xl restore /dev/stdin", timeout=180)
    goes_on(bed, "pvh", before)
