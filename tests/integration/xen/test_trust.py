"""What a save file would have root of a real Xen host do: under stock xl, and under us."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from tests.integration.xen.bed import GUESTS, Bed, assert_goes_on
from tests.integration.xen.hosts import (
    FILE,
    ON_417,
    XENQEMU,
    XENSTOREDS,
    begin,
    goes_on,
    on,
    saved_ticks,
)
from xenqemu.formats.stream import xl
from xenqemu.formats.stream.source import Source

pytestmark = [pytest.mark.xen, pytest.mark.long, pytest.mark.timeout(600)]

PROGRAM = "/tmp/program"
RAN = "/tmp/ran"
NAMED = {"b_info": {"device_model": PROGRAM}}
DISK = {"pdev_path": "/etc/shadow", "vdev": "xvda", "format": "raw", "readwrite": 1}


def naming(bed: Bed, name: str, changes: dict[str, Any]) -> str:
    """Return the save file of a guest whose config has other settings; its path in dom0."""
    with (GUESTS / f"{name}.save").open("rb") as file:
        header = xl.read(Source(file))
    config = header.value.json()
    for key, value in changes.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    head = bed.put("head", xl.XlHeader.of_json(json.dumps(config)).pack())
    bed.must(f"cat {head} <(tail -c +{header.size + 1} /guests/{name}.save) >{FILE}", timeout=60)
    return FILE


def program(bed: Bed, then: str) -> None:
    """Write the program; it leaves a trace of having run, and goes on with `then`."""
    text = f"#!/bin/sh\n: >{RAN}\n{then}\n"
    bed.must(f"echo {shlex.quote(text)} >{PROGRAM} && chmod 755 {PROGRAM}")


def device_model(bed: Bed, name: str) -> str:
    """Return the path of the QEMU of a guest that runs."""
    pid = bed.must(f"xenstore-read /local/domain/{bed.domid(name)}/image/device-model-pid")
    return bed.must(f"readlink /proc/{pid.strip()}/exe").strip()


@pytest.mark.parametrize("xen_host", on(*XENSTOREDS), indirect=True)
def test_a_program_runs_under_xl_and_under_us_only_where_that_is_allowed(bed: Bed) -> None:
    begin(bed, "hvm")
    qemu = device_model(bed, "hvm")
    bed.must("xl destroy hvm")
    file = naming(bed, "hvm", NAMED)
    program(bed, "exit 1")

    assert bed.run(f"xl restore {file}", timeout=120).rc != 0
    bed.must(f"rm {RAN}; xl list hvm && xl destroy hvm; :")

    shown = bed.must(f"{XENQEMU} inspect {file}")
    assert f"b_info.device_model={PROGRAM}" in shown
    done = bed.run(f"{XENQEMU} restore {file}", timeout=120)
    assert done.rc == 3
    assert f"names what is not allowed here: b_info.device_model={PROGRAM} (a program)" in done.err
    assert bed.run(f"ls {RAN}").rc == 2
    assert bed.must("xl list | wc -l") == "2\n"

    program(bed, f'exec {qemu} "$@"')
    conf = bed.put("conf", f'[trust]\nallow = ["b_info.device_model={PROGRAM}"]\n')
    heard = bed.ticks("hvm")
    bed.must(f"{XENQEMU} --conf {conf} restore {file}", timeout=180)
    bed.must(f"ls {RAN}")
    assert_goes_on(saved_ticks("hvm"), bed.wait_ticks("hvm", beyond=heard))


@ON_417
@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"disks": [DISK]}, "disks.pdev_path=/etc/shadow"),
        ({"disks": [{**DISK, "script": PROGRAM}]}, f"disks.script={PROGRAM}"),
        ({"nics": [{"script": PROGRAM}]}, f"nics.script={PROGRAM}"),
        ({"pcidevs": [{"dev": 3}]}, "pcidevs=0000:00:03.0"),
        ({"p9s": [{"path": "/etc", "tag": "t"}]}, "p9s.path=/etc"),
        (
            {"b_info": {"extra_hvm": ["-chardev", "pipe,id=x,path=/tmp/x"]}},
            "b_info.extra_hvm=-chardev",
        ),
    ],
)
def test_what_else_a_save_file_may_name(bed: Bed, changes: dict[str, Any], named: str) -> None:
    file = naming(bed, "hvm", changes)
    program(bed, "exit 1")
    done = bed.run(f"{XENQEMU} restore {file}", timeout=120)
    assert done.rc == 3
    assert "names what is not allowed here: " in done.err
    assert named in done.err
    assert bed.run(f"ls {RAN}").rc == 2
    assert bed.must("xl list | wc -l") == "2\n"


@ON_417
def test_a_save_file_that_others_could_have_written(bed: Bed) -> None:
    bed.must("install -d -o nobody /tmp/theirs && cp /guests/pvh.save /tmp/theirs/x")
    bed.must(f"cp /guests/pvh.save {FILE} && chmod g+w {FILE}")
    for file, why in (
        ("/tmp/theirs/x", "/tmp/theirs is owned by user 65534"),
        (FILE, f"others may write to {FILE} "),
    ):
        done = bed.run(f"{XENQEMU} restore {file}", timeout=60)
        assert done.rc == 3
        assert why in done.err
    assert bed.must("xl list | wc -l") == "2\n"
    bed.must(f"chmod g-w {FILE} && {XENQEMU} restore {FILE}", timeout=180)
    goes_on(bed, "pvh", saved_ticks("pvh"))
