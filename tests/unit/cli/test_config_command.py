"""`xenqemu config show`."""

import json
import re

import pytest

from tests.golden.save_files import unpacked
from tests.golden.xl_answers import UUID, answers, cases
from xenqemu.formats.stream.xl import XlHeader

CASE = "hvm-spice"


@pytest.fixture
def cfg(tmp_path):
    file = tmp_path / "k.cfg"
    file.write_bytes(cases()[CASE])
    return file


@pytest.fixture
def show(run, tmp_path):
    """A function that runs the command, on a host that need not be up."""
    return lambda *words: run("--host", f"lab:{tmp_path}/lab", "config", "show", *words)


def test_an_xl_cfg_is_shown_as_xl_does(show, cfg):
    done = show("--json", cfg)
    assert (done.code, done.err) == (0, "")
    assert json.dumps(json.loads(done.out)) == json.dumps(answers("4.17")[CASE].tree)


def test_as_the_xl_of_a_release(show, cfg):
    name = "pv-channel-pty"
    cfg.write_bytes(cases()[name])
    for release in ("4.17", "4.20"):
        assert (
            json.loads(show("--json", "--release", release, cfg).out) == answers(release)[name].tree
        )
    assert json.loads(show("--json", cfg).out) == answers("4.17")[name].tree
    assert show("--release", "4.1", cfg).code == 64


def test_for_people_each_value_has_a_line(show, cfg):
    done = show(cfg)
    assert done.code == 0
    lines = [line.split(maxsplit=1) for line in done.out.splitlines()]
    assert ["c_info.uuid", UUID] in lines
    assert ["b_info.avail_vcpus[0]", "0"] in lines
    assert ["b_info.type.hvm.spice.enable", "True"] in lines
    assert ["b_info.type.hvm.spice.host", '""'] in lines
    longest = max(len(name) for name, _ in lines)
    assert all(line[longest : longest + 2] == "  " for line in done.out.splitlines())


def test_what_xl_warns_of_and_passes_over_goes_to_stderr(show, cfg):
    cfg.write_bytes(cases()["hvm-memory-string-bad"] + b"on_host_shutdown = 'leave'\n")
    done = show("--json", cfg)
    assert done.code == 0
    assert "target_memkb" not in json.loads(done.out)["b_info"]
    why = "xl.cfg line 6: memory: '512MB', which is no number, is ignored, as by xl"
    ignored = "ignored, as by xl: on_host_shutdown"
    assert done.err == f"xenqemu: {cfg}: {why}\nxenqemu: {cfg}: {ignored}\n"


def test_of_a_save_file_what_is_in_it(show, tmp_path):
    file = tmp_path / "vga.save"
    file.write_bytes(unpacked("vga.save"))
    assert json.loads(show("--json", file).out)["disks"][0]["pdev_path"] == "/tmp/disk.img"
    assert "c_info.name" in show(file).out
    file.write_bytes(file.read_bytes()[:8192])  # the header is enough
    assert show(file).code == 0


@pytest.mark.parametrize(
    ("data", "code", "why"),
    [
        (b'vga = "ega"\nname = "g"\ntype = "hvm"\n', 2, "xl.cfg line 1 .* vga: one of stdvga"),
        (b"\0\xff", 2, "xl.cfg line 1"),
        (XlHeader(2, b"name = 'g'").pack(), 2, "expected a config in JSON, got none"),
        (XlHeader(3, None).pack(), 2, "xl header at offset 0x30: expected a config"),
        (XlHeader(3, b"{}\0").pack()[:50], 2, "xl "),
    ],
)
def test_what_cannot_be_shown(show, cfg, data, code, why):
    cfg.write_bytes(data)
    done = show(cfg)
    assert (done.code, done.out) == (code, "")
    assert re.search(why, done.err)


def test_a_file_that_is_not_there(show, tmp_path):
    done = show(tmp_path / "none")
    assert (done.code, done.err) == (1, f"xenqemu: {tmp_path}/none: No such file or directory\n")
