"""What a guest's file says, and what is said of it."""

import os
from uuid import UUID

import pytest

from tests.doubles.xen.xl_peer import write_xl
from xenqemu.errors import BadRecord, FormatError, TooBig
from xenqemu.host.xen.xen_host import XenHost
from xenqemu.lab.lab_host import Lab
from xenqemu.settings.guest_config import read_config, read_guest

TEXT = f'name="g"\nuuid="{UUID(int=1)}"\ntype="hvm"\n'


@pytest.fixture
def cfg(tmp_path):
    return tmp_path / "g.cfg"


def test_no_file_is_no_config():
    assert read_config(None) is None


def test_what_xl_warns_of_and_passes_over_is_said(cfg):
    cfg.write_text(TEXT + 'memory = "512MB"\non_host_shutdown = "leave"\nfoo = 1\n')
    said = []
    config = read_config(cfg, complain=said.append)
    assert config.max_memkb == 32 << 10
    assert said == [
        f"{cfg}: xl.cfg line 4: memory: '512MB', which is no number, is ignored, as by xl",
        f"{cfg}: ignored, as by xl: on_host_shutdown, foo",
    ]
    with pytest.warns(UserWarning, match=str(cfg)) as noted:
        read_config(str(cfg))
    assert [str(each.message) for each in noted] == said


def test_the_cpus_are_those_of_this_machine(cfg, tmp_path):
    cfg.write_text(TEXT + 'vcpus=1\ncpus = "nodes:0"\n')
    mask = read_guest(cfg, Lab(tmp_path)).config.tree["b_info"]["vcpu_hard_affinity"]
    assert mask == [list(range(os.cpu_count()))]


def test_the_release_of_xl_may_be_named(cfg):
    cfg.write_text(TEXT + 'channel = [ "connection=pty,name=a" ]\n')
    old, new = (read_guest(cfg, release=release).config for release in ((4, 17), (4, 20)))
    assert old.tree["channels"] == [{"devid": 0, "name": "a", "connection.pty": {}}]
    assert new.tree["channels"] == [{"name": "a", "connection.pty": {}}]


def test_a_file_that_is_too_long_or_none(cfg):
    cfg.write_bytes(b"#" * (2 << 20))
    with pytest.raises(TooBig):
        read_guest(cfg)
    cfg.write_bytes(b"name = 'g'\r\n")
    with pytest.raises(FormatError, match=rf"{cfg}: xl.cfg line 1 .* lines that end in CRLF"):
        read_guest(cfg)
    with pytest.raises(FileNotFoundError):
        read_guest(cfg.with_name("none"))


def test_on_a_xen_host_xl_itself_is_asked(cfg, tmp_path, monkeypatch):
    cfg.write_text(TEXT)
    write_xl(tmp_path / "xl", "fail('x.cfg: what xl says', 1)")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadRecord, match="a file that xl takes, got x.cfg: what xl says"):
        read_guest(cfg, XenHost())
    assert read_guest(cfg, XenHost(), (4, 17)).config.name == "g"
