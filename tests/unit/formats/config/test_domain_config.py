"""The JSON of libxl_domain_config: byte for byte, viewed, and changed."""

import json
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenqemu.errors import BadRecord, FormatError, TooBig
from xenqemu.formats.config.domain_config import MAX_JSON, Disk, DomainConfig, Nic

GOLDEN = Path(__file__).parents[3] / "golden"
SAVED = ("hvm", "hvm-cfg", "hvm-xen4.20", "vga")
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=8,
)


def saved(name):
    return (GOLDEN / "domain_config" / f"{name}.json").read_bytes()


def minimal(**c_info):
    """Return the least object that is a configuration."""
    return {"c_info": {"type": "hvm", "name": "g", "uuid": str(UUID(int=1))} | c_info, "b_info": {}}


def outcome(data):
    """Return the configuration that bytes are, or the error of the format."""
    try:
        return DomainConfig.parse(data)
    except FormatError as error:
        return error


def refused(tree, match):
    with pytest.raises(BadRecord, match=match):
        DomainConfig.parse(json.dumps(tree).encode())


@pytest.mark.parametrize("name", SAVED)
def test_what_was_read_is_written_again(name):
    data = saved(name)
    assert DomainConfig.parse(data).dump() == data
    assert DomainConfig.parse(data + b"\0").dump() == data


def test_views_of_the_devices_of_an_xl_cfg():
    config = DomainConfig.parse((GOLDEN / "xlcfg" / "full.json").read_bytes())
    vdevs = ["hda", "xvdb", "hdb", "xvdc", "xvdd", "hdc", "hdd", "sda"]
    assert [disk.vdev for disk in config.disks] == vdevs
    assert config.disks[1] == Disk("/img/a,b.qcow2", "xvdb", "qcow2", False, "qdisk")
    assert config.disks[5] == Disk("", "hdc", "empty", False, None, None, True, True)
    assert config.disks[7] == Disk(
        "x", "sda", script="block-x", backend="storage", direct_io_safe=True, discard=True
    )
    assert [nic.devid for nic in config.nics] == [0, 1, 2]
    assert config.nics[0] == Nic(
        0,
        "00:16:3e:01:02:0a",
        "xenbr0",
        "e1000",
        "vif_ioemu",
        rate_bytes_per_interval=25000,
        rate_interval_usecs=20000,
    )
    assert config.nics[1].gatewaydev == "eth0"


def test_views_of_a_saved_guest():
    config = DomainConfig.parse(saved("vga"))
    assert (config.name, config.type, config.domid) == ("vga", "hvm", 0)
    assert config.uuid == "18be6b66-e6e1-11f1-bc13-830b39936407"
    assert (config.max_vcpus, config.max_memkb, config.target_memkb) == (2, 32768, 32768)
    assert (config.kernel, config.ramdisk, config.cmdline) == (None, None, None)
    assert (config.vga, config.serial, config.extra) == ("std", ("null",), {})
    assert config.disks == (Disk("/tmp/disk.img", "hda", backendtype="qdisk"),)
    assert config.nics == (Nic(0, "00:16:3e:00:00:01", "xenbr0", "e1000", "vif_ioemu", "vif-none"),)


@pytest.mark.parametrize(
    ("listed", "online"), [([0], 1), ([0, 2], 2), ([0, 1, 2, 3], 4), ([0, 9], 1), ([], 4)]
)
def test_vcpus_that_are_online_of_those_there_could_be(listed, online):
    tree = minimal()
    b_info = {**tree["b_info"], "max_vcpus": 4, "avail_vcpus": listed}
    assert DomainConfig({**tree, "b_info": b_info}).vcpus == online


def test_views_of_what_is_left_out_are_libxls_defaults():
    config = DomainConfig.parse(json.dumps(minimal()).encode())
    assert (config.max_vcpus, config.max_memkb, config.target_memkb) == (1, 32768, 32768)
    assert (config.vga, config.serial, config.disks, config.nics) == ("cirrus", (), (), ())
    assert DomainConfig(minimal(type="pv")).vga == "none"
    disk = DomainConfig({**minimal(), "disks": [{"vdev": "hda"}]}).disks[0]
    assert disk == Disk(None, "hda", "unknown", readwrite=False)


def test_views_of_a_booted_kernel_and_one_serial_port():
    b_info = {"kernel": "/k", "ramdisk": "/r", "cmdline": "c", "type.hvm": {"serial": "pty"}}
    config = DomainConfig({**minimal(), "b_info": b_info})
    assert (config.kernel, config.ramdisk, config.cmdline) == ("/k", "/r", "c")
    assert config.serial == ("pty",)


@pytest.mark.parametrize("name", ["hvm", "vga"])
def test_a_listed_guest_is_its_saved_one_but_for_the_domid(name):
    [listed] = json.loads(saved(f"list-{name}"))
    config = DomainConfig(listed["config"])
    assert config.domid == 0xFFFFFFFF
    assert config.with_domid(0).dump() == saved(name)
    assert config.with_domid(0).with_domid(0xFFFFFFFF).dump() == config.dump()


def test_with_name_changes_the_name_alone():
    config = DomainConfig.parse(saved("vga"))
    named = config.with_name("other")
    assert named.dump() == saved("vga").replace(b'"name": "vga"', b'"name": "other"')
    assert config.name == "vga"
    with pytest.raises(BadRecord, match="c_info name"):
        config.with_name("")


def test_extra_is_under_our_key():
    extra = {"machine": "pc-i440fx-7.2", "deep": [{}, [], None, True, 1.5]}
    config = DomainConfig(minimal()).with_extra(extra)
    assert DomainConfig.parse(config.dump()).extra == extra
    assert list(config.tree)[-1] == "xenqemu"
    assert "xenqemu" not in config.with_extra({}).tree


def test_the_form_is_yajls():
    """Each of these bytes went through libxl_domain_config_from_json and _to_json of Xen 4.17."""
    config = DomainConfig(minimal(name='\x01\x1f\x7fé/\\"\t\b\f\r\n'))
    assert (
        config.dump()
        == (
            '{\n    "c_info": {\n        "type": "hvm",\n'
            '        "name": "\\u0001\\u001F\x7fé/\\\\\\"\\t\\b\\f\\r\\n",\n'
            '        "uuid": "00000000-0000-0000-0000-000000000001"\n    },\n'
            '    "b_info": {\n\n    }\n}\n'
        ).encode()
    )


@given(st.dictionaries(TEXT, JSON, min_size=1), TEXT.filter(bool))
def test_any_configuration_is_read_back(extra, name):
    config = DomainConfig(minimal(name=name)).with_extra(extra)
    data = config.dump()
    assert DomainConfig.parse(data) == config
    assert DomainConfig.parse(data).dump() == data
    assert json.loads(data)["xenqemu"] == extra


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_what_is_no_configuration_is_refused(data):
    with pytest.raises(FormatError, match="domain config"):
        DomainConfig.parse(data)


@given(st.data())
def test_any_damage_reads_or_is_refused(data):
    whole = bytearray(saved("vga"))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    config = outcome(bytes(whole))
    if isinstance(config, FormatError):
        assert 0 <= config.offset <= len(whole)
    else:
        assert DomainConfig.parse(config.dump()) == config


def test_json_cut_anywhere_is_refused():
    data = saved("hvm").rstrip()
    for size in range(len(data)):
        with pytest.raises(BadRecord):
            DomainConfig.parse(data[:size])


@pytest.mark.parametrize(
    ("data", "offset", "match"),
    [
        (b"", 0, "JSON"),
        (b"\0", 0, "JSON"),
        (b'{"a": 1}\0\0', 8, "JSON"),
        ('{"é": x}'.encode(), 7, "JSON"),
        (b'{"a": "\xff"}', 7, "UTF-8"),
        (b"[]", 0, "an object, got an array"),
        (b"1", 0, "an object, got 1"),
        (b"{}", 0, "c_info at offset 0x0: expected an object, got nothing"),
        (b'{"a": 1, "b": 2, "a": 3}', 0, "each key once, got 'a'"),
        (b'{"a": ' + b"1" * 5000 + b"}", 0, "64 bits"),
    ],
)
def test_bad_bytes(data, offset, match):
    with pytest.raises(BadRecord, match=match) as caught:
        DomainConfig.parse(data)
    assert caught.value.offset == offset


@pytest.mark.parametrize(
    "value", ["NaN", "Infinity", "-Infinity", "1e999", str(1 << 64), r'"\ud800"', r'"a\u0000"']
)
def test_values_that_libxl_cannot_hold_are_refused(value):
    whole = json.dumps(minimal())[:-1] + f', "x": [{value}]}}'
    with pytest.raises(BadRecord, match="expected text"):
        DomainConfig.parse(whole.encode())


def test_depth_and_size_are_bounded():
    deep = {**minimal(), "x": eval("[" * 32 + "]" * 32)}
    assert DomainConfig.parse(DomainConfig(deep).dump()).tree == deep
    with pytest.raises(TooBig):
        DomainConfig({**minimal(), "x": eval("[" * 33 + "]" * 33)})
    with pytest.raises(TooBig):
        DomainConfig.parse(b"[" * 100_000)
    with pytest.raises(TooBig):
        DomainConfig.parse(b" " * (MAX_JSON + 1))


@pytest.mark.parametrize(
    ("section", "key", "value", "match"),
    [
        ("c_info", "name", None, "c_info name .* got nothing"),
        ("c_info", "name", 5, "c_info name .* a string, got 5"),
        ("c_info", "uuid", "x", "c_info uuid .* a UUID"),
        ("c_info", "uuid", "", "c_info uuid .* not empty"),
        ("c_info", "domid", -1, "c_info domid .* an integer from 0 to 4294967295"),
        ("c_info", "domid", True, "c_info domid .* got True"),
        ("c_info", "type", "vm", "c_info type .* one of hvm, pv, pvh"),
        ("c_info", "type", {}, "c_info type .* got an object"),
        ("b_info", "max_vcpus", 1.5, "b_info max_vcpus .* got 1.5"),
        ("b_info", "max_vcpus", 1 << 20, "b_info max_vcpus .* 8192"),
        ("b_info", "avail_vcpus", [0, "1"], "b_info avail_vcpus .* an array of integers"),
        ("b_info", "avail_vcpus", [True], "b_info avail_vcpus .* an array of integers"),
        ("b_info", "max_memkb", "1", "b_info max_memkb"),
        ("b_info", "target_memkb", [], "b_info target_memkb .* got an array"),
        ("b_info", "kernel", 1, "b_info kernel"),
        ("b_info", "type.hvm", [], "b_info type.hvm .* an object"),
        ("b_info", "type.hvm", {"vga": 1}, "type.hvm vga .* an object"),
        ("b_info", "type.hvm", {"serial_list": "pty"}, "serial_list .* an array"),
        ("b_info", "type.hvm", {"serial_list": [1]}, "serial_list .* an array of strings"),
    ],
)
def test_wrong_types_in_sections(section, key, value, match):
    tree = minimal()
    tree[section] = tree[section] | {key: value}
    refused(tree, match)


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("b_info", 1, "b_info .* an object"),
        ("disks", {}, "disks .* an array, got an object"),
        ("disks", [1], r"disks\[0\] .* an object"),
        ("disks", [{"vdev": "a"}, {}], r"disks\[1\] vdev"),
        ("disks", [{"vdev": "a", "readwrite": True}], "readwrite .* an integer"),
        ("disks", [{"vdev": "a", "direct_io_safe": "x"}], "direct_io_safe .* one of"),
        ("disks", [{"vdev": "a", "discard_enable": "Yes"}], "discard_enable .* one of"),
        ("nics", [{"devid": "0"}], r"nics\[0\] devid"),
        ("nics", [{"mac": 1}], r"nics\[0\] mac"),
        ("xenqemu", 1, "xenqemu .* an object"),
    ],
)
def test_wrong_types_at_the_top(key, value, match):
    refused({**minimal(), key: value}, match)
