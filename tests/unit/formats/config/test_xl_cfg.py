"""The text of xl.cfg: grammar, device specs, and what the keys mean."""

from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenqemu.errors import BadRecord, FormatError, TooBig, Unsupported
from xenqemu.formats.config.xl_cfg import (
    MAX_TEXT,
    Disk,
    GuestConfig,
    Nic,
    XlCfgSettings,
    long_value,
    parse_disk,
    parse_nic,
)

GOLDEN = Path(__file__).parents[3] / "golden" / "xlcfg"
NAMES = st.from_regex(r"[a-z][._0-9a-z]{0,8}", fullmatch=True)
PLAIN_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\n"))

# libxlu of Xen 4.17 was given each of these texts; `name = 5` and `name = "5"` are one to it.
READ = [
    ("", {}),
    ("a=1\n", {"a": 1}),
    ("a=1", {"a": 1}),
    ("a = 0x1f ; b = 012 ; c = 0", {"a": 31, "b": 10, "c": 0}),
    ("a=12ab\nb=08\nc=0x\n", {"a": "12ab", "b": "08", "c": "0x"}),
    ("a=9223372036854775807", {"a": (1 << 63) - 1}),
    ("a=9223372036854775808", {"a": "9223372036854775808"}),
    ("a='1'", {"a": "1"}),
    ("a=''", {"a": ""}),
    ('a="it\'s"\nb=\'say "x"\'', {"a": "it's", "b": 'say "x"'}),
    (r"a='\'\"\\\a\b\f\n\r\t\v'", {"a": "'\"\\\a\b\f\n\r\t\v"}),
    ("a='é'", {"a": "é"}),
    ("a=[]", {"a": []}),
    ("a=[1,'x',[2,],\n3\n,4,\n]", {"a": [1, "x", [2], 3, 4]}),
    ("a=[\n# one\n1, # two\n]\n", {"a": [1]}),
    (";;;a=1;;\n\n\t b=2\n# end\n", {"a": 1, "b": 2}),
    ("a=1\na='x'", {"a": "x"}),
    ("a='x'\na+='y'\na+=2", {"a": "xy2"}),
    ("a=1\na+=2", {"a": "12"}),
    ("a=[1]\na+=[2,\n3]\na+=[]", {"a": [1, 2, 3]}),
    ("a+='x'\nb+=[1]", {"a": "x", "b": [1]}),
    ("device_model.x_1='y'", {"device_model.x_1": "y"}),
]

# (text, line, offset): libxlu refuses each of them too, but for "\101", which it drops unseen.
REFUSED = [
    ("a", 1, 1),
    ("a\n", 1, 1),
    ("a=", 1, 2),
    ("a=\n1", 1, 2),
    ("a=-1", 1, 2),
    ("a=1 b=2", 1, 4),
    ("a=12z", 1, 4),
    ("A=1", 1, 0),
    ("a=1\r\n", 1, 3),
    ("a=1\fb=2", 1, 3),
    ("a=1 # no newline", 1, 4),
    ("a=1\nb=[,]", 2, 7),
    ("a=[1,,2]", 1, 5),
    ("a=[1 2]", 1, 5),
    ("a=[1", 1, 4),
    ("a=[a]", 1, 3),
    ("a='x", 1, 2),
    ("a='x\ny'", 1, 2),
    ("a='x\0'", 1, 2),
    ("é='x'", 1, 0),
    ("\n\nb='é\\q'", 3, 7),
    (r"a='\x41'", 1, 3),
    (r"a='\101'", 1, 3),
    ("a=[1]\na+='2'", 2, 9),
    ("a='1'\na+=[2]", 2, 9),
    ("a+=+=1", 1, 3),
    ("=1", 1, 0),
]


@pytest.mark.parametrize(("text", "values"), READ)
def test_a_text_reads_as_its_values(text, values):
    assert XlCfgSettings(text).plain() == values
    assert XlCfgSettings(text.encode()).plain() == values


@pytest.mark.parametrize(("text", "line", "offset"), REFUSED)
def test_what_xl_refuses_is_refused_with_its_place(text, line, offset):
    with pytest.raises(BadRecord) as caught:
        XlCfgSettings(text)
    assert (caught.value.record, caught.value.offset) == (f"xl.cfg line {line}", offset)


def test_text_is_utf8_of_a_bounded_size():
    with pytest.raises(BadRecord, match="offset 0x3: expected UTF-8"):
        XlCfgSettings(b"a='\xff'")
    with pytest.raises(BadRecord, match="offset 0x3: expected UTF-8"):
        XlCfgSettings("a='\ud800'")
    assert XlCfgSettings("#" * (MAX_TEXT - 1) + "\n").plain() == {}
    with pytest.raises(TooBig):
        XlCfgSettings("#" * MAX_TEXT + "\n")


def test_lists_nest_to_a_bounded_depth():
    assert XlCfgSettings("a=" + "[" * 16 + "]" * 16).plain()["a"] == eval("[" * 16 + "]" * 16)
    with pytest.raises(TooBig) as caught:
        XlCfgSettings("a=" + "[" * 100_000)
    assert caught.value.offset == len("a=") + 16


def test_long_texts_are_read_in_linear_time():
    values = XlCfgSettings("a+=[1]\n" * 100_000 + "b+='x'\n" * 40_000).plain()
    assert values == {"a": [1] * 100_000, "b": "x" * 40_000}


def outcome(read):
    """Return what `read` returns, or its error of the format."""
    try:
        return read()
    except FormatError as error:
        return error


def spelled(value, draw):
    """Return one of the spellings of a value."""
    if isinstance(value, int):
        return draw(st.sampled_from([str(value), hex(value), f"0{value:o}"]))
    if isinstance(value, str):
        quote = draw(st.sampled_from("'\""))
        return quote + value.replace("\\", "\\\\").replace(quote, "\\" + quote) + quote
    gaps = st.sampled_from(["", " ", "\n", "\t# c\n "])
    items = [spelled(item, draw) + draw(gaps) for item in value]
    last = "," + draw(gaps) if items and draw(st.booleans()) else ""
    return "[" + draw(gaps) + ("," + draw(gaps)).join(items) + last + "]"


@st.composite
def texts_with_values(draw):
    atoms = st.integers(0, (1 << 63) - 1) | PLAIN_TEXT
    values = draw(st.dictionaries(NAMES, st.recursive(atoms, st.lists, max_leaves=8)))
    ends = st.sampled_from(["\n", ";", " ;\n", " # c\n"])
    lines = [f"{name} = {spelled(value, draw)}{draw(ends)}" for name, value in values.items()]
    return "".join(lines), values


@given(texts_with_values())
def test_any_spelling_of_values_reads_as_those_values(case):
    text, values = case
    assert XlCfgSettings(text).plain() == values


@given(st.text() | st.text("ab=+'\"\\[],;#\n 01x") | st.binary())
def test_any_text_reads_or_is_refused(text):
    values = outcome(lambda: XlCfgSettings(text).plain())
    if isinstance(values, FormatError):
        assert values.record.startswith("xl.cfg")
        assert 0 <= values.offset <= 4 * len(text)
    else:
        assert all(isinstance(value, str | int | list) for value in values.values())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10),
        ("  +0x10", 16),
        ("-010", -8),
        ("0", 0),
        ("-9223372036854775808", -(1 << 63)),
        ("0x8000000000000000", None),
        ("1" * 5000, None),
        ("0x" + "f" * 5000, None),
        ("", None),
        ("1 ", None),
        ("08", None),
        ("٣", None),
    ],
)
def test_numbers_are_those_of_strtol(text, value):
    assert long_value(text) == value


DISKS = [
    ("/a.img,raw,hda,rw", Disk("/a.img", "hda")),
    ("/a.img,raw,hda,w", Disk("/a.img", "hda")),
    ("/a.img,qcow2,hda,ro", Disk("/a.img", "hda", "qcow2", readwrite=False)),
    ("/a.img,,hda", Disk("/a.img", "hda")),
    ("/a.img,,hda,", Disk("/a.img", "hda")),
    (" /a.img, vdev=hda, access=r", Disk("/a.img", "hda", readwrite=False)),
    ("/a.img,format=vhd,hda", Disk("/a.img", "hda", "vhd")),
    ("vdev=hda,target=/a,b=c, d", Disk("/a,b=c, d", "hda")),
    ("vdev=hda,target=/a,", Disk("/a", "hda")),
    ("file:/a.img,hda,w", Disk("/a.img", "hda")),
    ("qcow2:/a.img,hda,r", Disk("/a.img", "hda", "qcow2", readwrite=False)),
    ("tap2:aio:/a.img,hda", Disk("/a.img", "hda")),
    ("phy:vg/x,sda:cdrom,w", Disk("vg/x", "sda", readwrite=False, cdrom=True, removable=True)),
    ("enbd:x,hda", Disk("x", "hda", script="block-enbd")),
    (",hdc:cdrom,r", Disk("", "hdc", "empty", False, None, None, True, True)),
    ("cdrom,vdev=hdc", Disk(None, "hdc", "empty", False, None, None, True, True)),
    ("/a.iso,raw,hdc,devtype=cdrom", Disk("/a.iso", "hdc", "raw", False, None, None, True, True)),
    ("/a,raw,hdc,cdrom,devtype=disk", Disk("/a", "hdc")),
    ("/a,backendtype=phy,vdev=xvda,script=s", Disk("/a", "xvda", "raw", True, "phy", "s")),
    (
        "/a,vdev=x,backend=d,direct-io-safe,no-discard",
        Disk("/a", "x", backend="d", direct_io_safe=True, discard=False),
    ),
]

BAD_DISKS = [
    ("", 0, "a vdev"),
    ("/a", 2, "a vdev"),
    ("/a,raw,", 7, "a vdev"),
    ("vdev=hda", 8, "a target"),
    ("/a,raw,hda,x", 11, "one of rw, w, ro, r"),
    ("/a,raw,hda,w,w", 13, "at most target, format, vdev, access"),
    ("/a,hda", 3, "one of raw, qcow"),
    ("é,raw,format=vhd", 7, "one format"),
    ("/a,vdev=hda,vdev=hdb", 12, "one vdev"),
    ("/a,raw,hda:tape", 7, "one of cdrom, disk"),
    ("/a,raw,hda,devtype=tape", 11, "one of cdrom, disk"),
    ("/a,backendtype=file", 3, "one of phy, tap"),
    ("/a,backendtype=phy,backendtype=tap", 19, "one backendtype"),
    ("raw:qcow:/a,hda", 4, "one format"),
    ("http://a,raw,hda", 0, "a prefix that xl knows"),
]


@pytest.mark.parametrize(("spec", "disk"), DISKS)
def test_disk_specs(spec, disk):
    assert parse_disk(spec) == disk


@pytest.mark.parametrize(("spec", "offset", "expected"), BAD_DISKS)
def test_bad_disk_specs(spec, offset, expected):
    with pytest.raises(BadRecord, match=expected) as caught:
        parse_disk(spec)
    assert (caught.value.record, caught.value.offset) == ("disk spec", offset)


@given(st.text(), st.text("a:,=rwhd/ "))
def test_any_disk_spec_reads_or_is_refused(one, other):
    for spec in (one, other):
        disk = outcome(lambda spec=spec: parse_disk(spec))
        if isinstance(disk, FormatError):
            assert disk.record == "disk spec"
        else:
            assert disk.vdev
            assert disk.removable or disk.target is not None


NICS = [
    ("", Nic(0)),
    (" , ,", Nic(0)),
    ("mac=0:16:3E:a:B:ff", Nic(0, "00:16:3e:0a:0b:ff")),
    ("bridge=b0, model=e1000,type=ioemu", Nic(0, None, "b0", "e1000", "vif_ioemu")),
    ("type=vif,script=s,ip=1 2,vifname=v", Nic(0, nictype="vif", script="s", ip="1 2", ifname="v")),
    ("devid=4,mtu=9000,netdev=n,backend=d", Nic(4, mtu=9000, gatewaydev="n", backend="d")),
    ("mtu=0", Nic(0)),
    ("mtu=" + "0" * 5000, Nic(0)),
    ("devid=" + "0" * 5000 + "999999999", Nic(999999999)),
    ("bridge=a,bridge=", Nic(0, bridge="")),
]


@pytest.mark.parametrize(("spec", "nic"), NICS)
def test_nic_specs(spec, nic):
    assert parse_nic(spec) == nic
    if "devid" not in spec:
        assert parse_nic(spec, 3) == replace(nic, devid=3)


@pytest.mark.parametrize(
    ("rate", "size", "usecs"),
    [
        ("10Mb/s@20ms", 25_000, 20_000),
        ("1GB/s", 50_000_000, 50_000),
        ("300KB/s@5s", 1_500_000, 5_000_000),
        ("12B/s@3", 36, 3_000_000),
        ("8000000b/s@1us", 1, 1),
        ("7b/s@9u", None, 9),
    ],
)
def test_nic_rates(rate, size, usecs):
    nic = Nic(0, rate_bytes_per_interval=size, rate_interval_usecs=usecs)
    assert parse_nic(f"rate={rate}") == nic


@pytest.mark.parametrize(
    ("spec", "offset"),
    [
        ("é=1", 0),
        ("mac=00:16:3e:00:00", 0),
        ("bridge=é,mac=00:16:3e:00:00:100", 10),
        ("type=pv", 0),
        ("mtu=x", 0),
        ("bridge", 0),
        ("devid=-1", 0),
        ("devid=1000000000", 0),
        ("rate=", 0),
        ("rate=10", 0),
        ("rate=0MB/s", 0),
        ("rate=4294967296B/s", 0),
        ("rate=1MB/s@4295", 0),
        ("rate=1MB/s@4294967296us", 0),
        ("rate=4294967295GB/s@4294s", 0),
        ("ip=1,colo_checkpoint_port=1", 5),
    ],
)
def test_bad_nic_specs(spec, offset):
    with pytest.raises(FormatError) as caught:
        parse_nic(spec)
    assert (caught.value.record, caught.value.offset) == ("vif spec", offset)


def guest(text):
    """Return the guest of a text that need not say name and uuid."""
    return GuestConfig.from_cfg(f'name="g"\nuuid="{UUID(int=1)}"\ntype="hvm"\n{text}')


PLAIN = GuestConfig("g", str(UUID(int=1)), "hvm")
MEANINGS = [
    ("", {}),
    ("memory=64", {"memory": 64, "maxmem": 64}),
    ("maxmem='0x80'", {"memory": 128, "maxmem": 128}),
    ("memory=64;maxmem=128", {"memory": 64, "maxmem": 128}),
    ("vcpus=2", {"vcpus": 2, "maxvcpus": 2}),
    ("maxvcpus=4", {"vcpus": 1, "maxvcpus": 4}),
    ("builder='generic';type='pv';kernel='/k'", {"type": "pv", "kernel": "/k"}),
    ("type='pvh';firmware='pvgrub64'", {"type": "pvh", "unknown": {"firmware": "pvgrub64"}}),
    ("name=007", {"name": "007"}),
    ("kernel='/x/hvmloader'", {}),
    ("kernel='/k';ramdisk='/r'", {"kernel": "/k", "ramdisk": "/r"}),
    ("root='/dev/x'", {"cmdline": "root=/dev/x"}),
    ("extra='q'", {"cmdline": "q"}),
    ("root='/dev/x';extra='q'", {"cmdline": "root=/dev/x q"}),
    ("root='/dev/x';extra='q';cmdline=''", {"cmdline": ""}),
    ("serial='pty'", {"serial": ("pty",)}),
    ("serial=['pty',4]", {"serial": ("pty", "4")}),
    ("usb=2;usbdevice='tablet'", {"usb": True, "usbdevice": ("tablet",)}),
    ("vga='stdvga';vnc='0';sdl=1", {"vga": "std", "vnc": False, "sdl": True}),
    ("tsc_mode=2", {"tsc_mode": "native"}),
    ("tsc_mode='always_emulate'", {"tsc_mode": "always_emulate"}),
    ("on_crash='rename-restart'", {"on_crash": "restart_rename"}),
    ("on_reboot='soft-reset';boot='dc'", {"on_reboot": "soft_reset", "boot": "dc"}),
    ("disk=['/a,raw,hda']", {"disks": (Disk("/a", "hda"),)}),
    ("vif=['','bridge=b']", {"nics": (Nic(0), Nic(1, bridge="b"))}),
    ("nomigrate=1;cpuid=['x']", {"unknown": {"nomigrate": 1, "cpuid": ["x"]}}),
]


@pytest.mark.parametrize(("text", "fields"), MEANINGS)
def test_keys_mean_what_they_mean_to_xl(text, fields):
    assert guest(text) == replace(PLAIN, **fields)


def test_a_uuid_is_made_where_none_is_given_and_lowered_where_one_is():
    one, other = (GuestConfig.from_cfg("name='g'\ntype='hvm'") for _ in range(2))
    assert UUID(one.uuid).version == 4
    assert one.uuid != other.uuid
    assert guest(f"uuid='{str(UUID(int=0xABC)).upper()}'").uuid == str(UUID(int=0xABC))


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("name=''", 4, "name: a name"),
        ("name=['x']", 4, "name: one value"),
        ("uuid='{1}'", 4, "uuid: a UUID"),
        ("\nmemory='much'", 5, "memory: a number from 1"),
        ("memory=0", 4, "memory: a number"),
        ("memory=[64]", 4, "memory: one value"),
        ("memory=6\nmemory+=4", 5, "memory: a number"),
        ("memory=64;maxmem=32", 4, "maxmem: at least memory, 64"),
        ("vcpus=8193", 4, "vcpus: a number from 1 to 8192"),
        ("vcpus=2;maxvcpus=1", 4, "maxvcpus: at least vcpus, 2"),
        ("type='vm'", 4, "type: one of hvm, pv, pvh"),
        ("builder='generic'", 4, "builder: what type says, hvm"),
        ("type='pvh'", 4, "kernel: a kernel or a bootloader"),
        ("vga='ega'", 4, "vga: one of stdvga"),
        ("vnc='yes'", 4, "vnc: a number"),
        ("tsc_mode=4", 4, "tsc_mode: one of default"),
        ("on_crash='explode'", 4, "on_crash: one of destroy"),
        ("serial=[['pty']]", 4, "serial: a list of strings"),
        ("disk='/a,raw,hda'", 4, "disk: a list of strings"),
        ("disk=[\n'/a,raw,hda',\n'/b']", 4, "disk: a vdev"),
        ("vif=['mac=1']", 4, "vif: a mac"),
    ],
)
def test_wrong_values_are_refused_with_their_line(text, line, expected):
    with pytest.raises(BadRecord, match=expected) as caught:
        guest(text)
    assert caught.value.record == f"xl.cfg line {line}"


def test_what_is_legal_but_not_known_keeps_its_kind_of_error():
    with pytest.raises(Unsupported, match=r"xl.cfg line 4 .* disk: a known key, got 'colo-host'"):
        guest("disk=['/a,raw,hda,colo-host=x']")


def test_a_name_is_required():
    with pytest.raises(BadRecord, match="xl.cfg line 2 at offset 0xa: expected name"):
        GuestConfig.from_cfg("memory=64\n")


VDEVS = ["hda", "xvdb", "hdb", "xvdc", "xvdd", "hdc", "hdd", "sda"]


def test_a_whole_file():
    config = GuestConfig.from_cfg((GOLDEN / "full.cfg").read_bytes())
    assert (config.name, config.type, config.memory, config.maxmem) == ("full", "hvm", 128, 256)
    assert config.cmdline == "root=/dev/xvda1 console=ttyS0 quiet"
    assert [disk.vdev for disk in config.disks] == VDEVS
    assert [disk.target for disk in config.disks][1] == "/img/a,b.qcow2"
    assert [nic.devid for nic in config.nics] == [0, 1, 2]
    assert config.unknown == {}
