"""The bed itself: both hosts boot, and stock `xl` brings every saved guest back as it was."""

from __future__ import annotations

import re

import pytest

from tests.integration.xen.bed import ROOT, Bed, record, saved_ticks
from tests.integration.xen.hosts import ON_417, goes_on

pytestmark = pytest.mark.xen


def test_host_is_the_version_it_says(bed: Bed) -> None:
    info = dict(re.findall(r"^(\w+) *: (.*)$", bed.must("xl info"), re.MULTILINE))
    assert f"{info['xen_major']}.{info['xen_minor']}" == bed.version


def test_dom0_has_the_checkout_and_its_tools(bed: Bed) -> None:
    imports = "import xenqemu, pyxs, qemu.qmp, tenacity; print(xenqemu.__file__)"
    where = bed.must(f"python3 -c '{imports}'")
    assert where == "/src/xenqemu/__init__.py\n"
    bed.must("touch /src/written-in-dom0")
    assert not (ROOT / "written-in-dom0").exists()
    assert bed.must("which strace xl xenstore-ls verify-stream-v2 | wc -l") == "4\n"


def test_commands_have_a_status_and_an_end(bed: Bed) -> None:
    assert bed.run("echo out; echo err >&2; exit 7") == (7, "out\n", "err\n")
    assert bed.run("echo begun; sleep 100", timeout=1) == (124, "begun\n", "")


def test_commands_run_side_by_side(bed: Bed) -> None:
    process = bed.start("echo begun; sleep 100")
    assert bed.must("echo beside") == "beside\n"
    assert process.poll() is None
    with pytest.raises(TimeoutError):
        process.wait(0.2)
    process.kill("TERM")
    assert process.wait(10) == (-15, "begun\n", "")


def test_files_go_both_ways(bed: Bed) -> None:
    content = bytes(range(256)) * 5000
    assert bed.get(bed.put("file", content)) == content


@ON_417
@pytest.mark.long
def test_guests_go_on_side_by_side(bed: Bed) -> None:
    kinds = ("hvm", "firmware", "pvh", "pv")
    for name in kinds:
        bed.restore(name)
    for name in kinds:
        goes_on(bed, name, saved_ticks(name))


@ON_417
@pytest.mark.long
def test_xen_accepts_the_records(bed: Bed) -> None:
    for name in ("firmware", "pv"):
        bed.must(f"verify-stream-v2 -f xl -i {record(name)}", timeout=120)


@pytest.mark.long
def test_cleaning_leaves_an_idle_host(bed: Bed) -> None:
    process = bed.start("sleep 100")
    bed.restore("pv")
    bed.must("touch /tmp/file")
    bed.clean()
    assert process.rc == -9
    assert len(bed.must("xl list").splitlines()) == 2
    assert bed.must("ls /tmp") == ""
    assert bed.ticks("pv") == []
