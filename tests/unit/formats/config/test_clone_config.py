"""The config of a clone: what is another one, and that all else stays."""

from __future__ import annotations

import pytest

from tests.doubles.in_memory.save_files import config, config_with
from xenqemu.errors import BadRecord, UsageError
from xenqemu.formats.config.clone_config import cloned

NICS = [{"devid": 0, "mac": "00:16:3e:00:00:01", "bridge": "br0"}, {"devid": 1}]
DISKS = [
    {"pdev_path": "/img/a", "vdev": "hda", "format": "raw", "readwrite": 1},
    {"pdev_path": "/img/b", "vdev": "hdb", "format": "raw"},
]


def test_what_is_another_one():
    own = config_with(nics=NICS, disks=DISKS).with_domid(7)
    made = cloned(own, "copy", {"hda": "/img/copy"})
    assert (made.name, made.domid) == ("copy", 0)
    assert made.uuid != own.uuid
    assert [disk.target for disk in made.disks] == ["/img/copy", "/img/b"]
    addresses = {nic.mac for nic in (*own.nics, *made.nics)}
    assert len(addresses) == 4
    assert all(nic.mac and nic.mac.startswith("00:16:3e:") for nic in made.nics)
    assert made.nics[0].bridge == "br0"
    changed = {"c_info", "nics", "disks"}
    assert {key: made.tree[key] for key in made.tree if key not in changed} == {
        key: own.tree[key] for key in own.tree if key not in changed
    }
    assert own.tree["nics"] == NICS
    again = cloned(own, "copy", {})
    assert again.uuid != made.uuid
    assert again.nics != made.nics


def test_a_generation_id_is_a_new_one_where_there_is_one():
    own = config_with(b_info={"type.hvm": {"ms_vm_genid": list(range(16))}})
    assert own.generation_id == bytes(range(16))
    new = cloned(own, "copy", {}).generation_id
    assert new not in (None, own.generation_id)
    assert cloned(config(), "copy", {}).generation_id is None
    none = config_with(b_info={"type.hvm": {"ms_vm_genid": [0] * 16}})
    assert cloned(none, "copy", {}).tree["b_info"] == none.tree["b_info"]


@pytest.mark.parametrize("wrong", [[1] * 15, ["1"] * 16, [300] + [1] * 15, 5])
def test_a_generation_id_that_is_none(wrong):
    with pytest.raises(BadRecord, match="ms_vm_genid"):
        config_with(b_info={"type.hvm": {"ms_vm_genid": wrong}})


def test_a_disk_that_is_not_there():
    with pytest.raises(UsageError, match="has no disk hdc: it has hda, hdb"):
        cloned(config_with(disks=DISKS), "copy", {"hdc": "/x"})
