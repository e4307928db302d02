"""What an xl.cfg makes of a guest, beside what stock xl makes of it."""

import json
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest

from tests.golden.xl_answers import RELEASES, answers, cases
from tests.property.strategies import outcome
from xenqemu.errors import BadRecord, FormatError, TooBig
from xenqemu.formats.config.xl_cfg import GuestConfig
from xenqemu.formats.config.xl_cfg_settings import XEN_4_17, XEN_4_20, XlHost

GOLDEN = Path(__file__).parents[3] / "golden" / "xlcfg"
HOSTS = {"4.17": XlHost(8, XEN_4_17), "4.20": XlHost(8, XEN_4_20)}

NEWER = (
    *("llc_colors", "bootloader_restrict", "bootloader_user", "hvm_pirq", "smbios", "sve"),
    *("nr_spis", "virtio", "vif-vlan", "disk-trusted", "disk-grant_usage", "tee-ffa"),
    "cpuid-4.20-names",
)
"""What only the xl of 4.20 knows (`trusted` also that of 4.17, but not Debian's): it is kept."""
NOT_CARRIED = ("name-empty", "uuid-nil", "memory-minus")
"""What xl takes, and no save file can hold."""
NO_WARNING = "got a tsc mode string"
BY_CHANCE = (
    *("rdm-strategy", "rdm-junk-policy", "rdm-host-junk", "rdm-pci"),
    *("vif-short-mac", "ms_vm_genid-generate"),
)
"""What xl takes from memory that it has not set, or at random."""


def named(case: str, names: tuple[str, ...]) -> bool:
    """Return whether a case is one of those, in whatever type of guest."""
    name = case.partition("-")[2]
    return name != "smbios_firmware" and name.startswith(names)


def xl_of(case: str, release: str) -> str:
    """Return the release whose xl says what is expected of our tables for another."""
    return "4.20" if named(case, NEWER) else release


COMPARED = [
    (case, release)
    for release in RELEASES
    for case in cases()
    if not named(case, (*NOT_CARRIED, *BY_CHANCE))
]


def guest(text: str, host: XlHost = HOSTS["4.17"]) -> GuestConfig:
    """Return the guest of lines that need not say name, uuid and type."""
    return GuestConfig.from_cfg(f'name="g"\nuuid="{UUID(int=1)}"\ntype="hvm"\n{text}', host)


@pytest.mark.parametrize("release", RELEASES)
def test_every_key_becomes_what_xl_makes_of_it(release):
    wrong = []
    for case, its_release in COMPARED:
        if its_release == release:
            answer = answers(xl_of(case, release))[case]
            made = outcome(partial(GuestConfig.from_cfg, host=HOSTS[release]), cases()[case])
            refused = isinstance(made, FormatError)
            same = refused if answer.status else not refused and _same(made, answer.tree)
            wrong += [] if same else [(case, made, answer)]
    assert wrong == []
    assert len(COMPARED) > 3000


def complaints(made: GuestConfig) -> tuple[str, ...]:
    """Return what is said of a file: keys that are for other types of guests are ignored."""
    return made.warnings + made.ignored


def _same(made: GuestConfig, tree: object) -> bool:
    """Return whether it is the same JSON, key by key and in order."""
    return json.dumps(made.config.tree) == json.dumps(tree)


@pytest.mark.parametrize("release", RELEASES)
def test_of_what_xl_warns_we_do_too(release):
    silent = [
        case
        for case, its_release in COMPARED
        if its_release == release
        and xl_of(case, release) == release
        and answers(release)[case].status == 0
        and answers(release)[case].said
        and not answers(release)[case].said.startswith(NO_WARNING)
        and not complaints(GuestConfig.from_cfg(cases()[case], HOSTS[release]))
    ]
    assert silent == []


@pytest.mark.parametrize("name", NOT_CARRIED)
def test_what_no_save_file_can_hold_is_refused_by_name(name):
    [(case, text)] = [(c, t) for c, t in cases().items() if c in (f"none-{name}", f"hvm-{name}")]
    assert answers("4.17")[case].status == 0
    with pytest.raises(BadRecord, match=f"xl.cfg line . .* {name.partition('-')[0]}: "):
        GuestConfig.from_cfg(text)


def test_what_xl_has_by_chance_is_left_out():
    rdm = guest('rdm = "strategy=host"').config.tree["b_info"]["type.hvm"]["rdm"]
    assert rdm == {"strategy": "host"}
    assert guest('rdm = "policy=junk"').config.tree["b_info"]["type.hvm"]["rdm"] == {}
    (nic,) = guest("vif = ['mac=00:16:3e,bridge=b']").config.tree["nics"]
    assert nic == {"devid": 0, "mac": "00:16:3e:00:00:00", "bridge": "b"}


def test_a_vm_generation_id_is_a_new_one_each_time():
    made = [guest('ms_vm_genid = "generate"').config.tree for _ in range(2)]
    one, other = (tree["b_info"]["type.hvm"]["ms_vm_genid"] for tree in made)
    assert one != other
    assert len(one) == 16
    assert all(0 <= byte < 256 for byte in one)


@pytest.mark.parametrize("name", ["linux", "full", "pv", "pvh"])
def test_a_whole_file_becomes_what_xl_makes_of_it(name):
    made = GuestConfig.from_cfg((GOLDEN / f"{name}.cfg").read_bytes(), XlHost(64))
    assert made.config.dump() == (GOLDEN / f"{name}.json").read_bytes()
    assert made.ignored == ()


def test_a_uuid_is_made_where_none_is_given():
    one, other = (GuestConfig.from_cfg("name='g'\ntype='hvm'").config for _ in range(2))
    assert UUID(one.uuid).version == 4
    assert one.uuid != other.uuid


def test_what_nobody_reads_is_named():
    made = guest("on_host_shutdown='leave';foo=1;memory=64;vnc=1")
    assert made.ignored == ("on_host_shutdown", "foo")
    assert made.names[3:] == ("on_host_shutdown", "foo", "memory", "vnc")
    assert GuestConfig.from_cfg("name='g';type='pvh';kernel='/k';vnc=1").ignored == ("vnc",)


def test_a_list_that_xl_reads_in_part_is_complained_of():
    made = guest("disk = [ '/a,raw,hda', ['/b,raw,hdb'], '/c,raw,hdc' ]")
    assert [disk.vdev for disk in made.config.disks] == ["hda"]
    why = "disk: item 2 and what follows, which is no string, is ignored, as by xl"
    assert made.warnings == (f"xl.cfg line 4: {why}",)


def test_the_cpus_are_those_of_the_host():
    def chosen(cpus: int, selection: str) -> list[list[int]]:
        tree = guest(f"cpus = '{selection}'\nvcpus = 1", XlHost(cpus)).config.tree
        return tree["b_info"]["vcpu_hard_affinity"]

    assert chosen(1, "all") == [[0, 1, 2, 3, 4, 5, 6, 7]]
    assert chosen(9, "all,^0-7") == [[8, 9, 10, 11, 12, 13, 14, 15]]
    assert chosen(3, "nodes:0") == chosen(3, "node:0") == [[0, 1, 2]]
    assert chosen(3, "all,^node:0") == [[3, 4, 5, 6, 7]]
    with pytest.raises(BadRecord, match="cpus: at least one CPU of this host"):
        chosen(3, "nodes:1")


def test_text_that_is_not_utf8_may_stand_where_nobody_reads():
    assert guest("# Größe\nfoo = 'ü'").config == guest("").config
    text = f'name="g"\nuuid="{UUID(int=1)}"\ntype="hvm"\n# Größe\nfoo = ["ü"]\n'
    assert GuestConfig.from_cfg(text.encode("latin-1")).config == guest("").config
    with pytest.raises(BadRecord, match=r"xl.cfg line 1 .* name: UTF-8, got 'Gr\\udcf6"):
        GuestConfig.from_cfg('name = "Größe"'.encode("latin-1"))
    with pytest.raises(BadRecord, match=r"xl.cfg line 1 .* vif: UTF-8"):
        GuestConfig.from_cfg('vif = [ "bridge=ö" ];name="g";type="hvm"'.encode("latin-1"))


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("name=['x']", 4, "name: a name"),
        ("uuid='{1}'", 4, "uuid: a UUID"),
        ("type='vm'", 4, "type: one of hvm, pv, pvh"),
        ("builder='generic'", 4, "builder: what type says, hvm"),
        ("type='pvh'", 4, "kernel: a kernel or a bootloader"),
        ("vcpus=8193", 4, "vcpus: a number from 0 to 8192"),
        ("vcpus=2;maxvcpus=1", 4, "maxvcpus: at least vcpus, 2"),
        ("\nvga='ega'", 5, "vga: one of stdvga"),
        ("tsc_mode=4", 4, "tsc_mode: one of default"),
        ("on_crash='explode'", 4, "on_crash: one of destroy"),
        ("disk=[\n'/a,raw,hda',\n'/b']", 4, "disk: a vdev"),
        ("vif=['rate=x']", 4, "vif: a rate"),
        ("vnuma=[" + "['size=1']," * 65 + "]", 4, "vnuma: at most 64 nodes"),
        ("vnuma=[['vcpus=0-8192']]", 4, "vnuma: at most 8192 vcpus"),
        ("vnuma=[['vcpus=0-8']]", 4, "vnuma: at most 8 vcpus, the host's CPUs, or maxvcpus"),
        ("llc_colors=['0-65535','7']", 4, "llc_colors: numbers"),
        ("max_grant_frames=['1']", 4, "max_grant_frames: a number from 0"),
    ],
)
def test_what_is_refused_is_refused_with_its_line(text, line, expected):
    with pytest.raises(FormatError, match=expected) as caught:
        guest(text)
    assert caught.value.record == f"xl.cfg line {line}"


def test_text_is_of_a_bounded_size():
    with pytest.raises(TooBig):
        GuestConfig.from_cfg("#" * (1 << 20) + "\n")
