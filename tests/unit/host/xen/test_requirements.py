"""What a Xen host says of a guest that is to come to it."""

import re

import pytest

from tests.property.strategies import CPUID
from xenqemu.errors import HostError, Unsupported
from xenqemu.formats.config.xl_cfg import GuestConfig
from xenqemu.host.findings import Severity, findings
from xenqemu.host.protocol import Needs
from xenqemu.host.qemu import emulator
from xenqemu.host.xen import requirements

GIB = 1 << 30


def config(text="", kind="hvm"):
    return GuestConfig.from_cfg(f'name = "g"\ntype = "{kind}"\n{text}').config


NEEDS = Needs(config(), 3)


def texts(errors):
    return [str(error) for error in errors]


def test_a_guest_that_can_come():
    assert texts(requirements.check(NEEDS, (4, 17))) == []
    assert texts(requirements.check(Needs(config(), 3, {5: 24, 2: 9999}), (4, 17))) == []
    assert texts(requirements.check(Needs(config(), 3, {5: 32}), (4, 18))) == []


def test_a_guest_of_the_lab():
    (error,) = requirements.check(Needs(config().with_extra({"host": "lab"}), 4), (4, 17))
    assert str(error).startswith("g is a guest of the lab")


def test_an_image_of_a_newer_xen():
    (error,) = requirements.check(NEEDS, (4, 13))
    assert isinstance(error, Unsupported)
    assert "version 2 at most, for Xen 4.13, got 3" in str(error)


def test_a_context_of_a_newer_xen():
    (error,) = requirements.check(Needs(config(), 3, {2: 1, 5: 32}), (4, 17))
    assert isinstance(error, Unsupported)
    assert re.search("HVM_CONTEXT LAPIC .*at most 24 .* 4.17, got 32, as a", str(error))


def test_an_image_and_a_context_of_a_newer_xen():
    found = texts(requirements.check(Needs(config(), 4, {5: 32}), (4, 17)))
    assert ["version 3 at most" in found[0], "LAPIC" in found[1]] == [True, True]


def test_a_guest_that_was_saved_under_a_newer_xen():
    (warning,) = requirements.check(Needs(config(), 3, xen=(4, 20)), (4, 17))
    assert warning.severity is Severity.WARNING
    assert str(warning) == "g was saved under Xen 4.20, this is an older one: Xen 4.17"
    for same in ((4, 17), (4, 9), None):
        assert list(requirements.check(Needs(config(), 3, xen=same), (4, 17))) == []


@pytest.mark.parametrize("name", ["web 1", "..", "n" * 240, "ж" * 120, "a\nb", "\udcff"])
def test_names_that_libxl_can_restore(name):
    requirements.check_name(name)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../../etc/x", "it has a slash in it"),
        ("a/b", "it has a slash in it"),
        ("n" * 241, "it has 241 bytes, and 240 are the most"),
        ("ж" * 121, "it has 242 bytes, and 240 are the most"),
    ],
)
def test_names_that_libxl_cannot_restore(name, why):
    words = re.escape(f"libxl cannot restore a guest named {name!r}: {why}")
    with pytest.raises(HostError, match=words):
        requirements.check_name(name)


@pytest.mark.parametrize(
    ("disk", "why"),
    [
        ("/nowhere/a.img,raw,xvda,w", "g needs /nowhere/a.img as xvda: it cannot be read"),
        ("/dev/null,raw,xvda,w", ""),
        ("backend=storage,vdev=xvda,target=/nowhere/a.img", ""),
        (",,hdc,cdrom", ""),
    ],
)
def test_disks(disk, why):
    found = texts(requirements.check_disks(config(f'disk = ["{disk}"]')))
    assert found == ([why] if why else [])


def test_every_disk_that_is_not_there():
    disks = ", ".join(f'"/nowhere/{name}.img,raw,{name},w"' for name in ("xvda", "xvdb"))
    found = texts(requirements.check_disks(config(f"disk = [{disks}]")))
    assert [text.split()[2] for text in found] == ["/nowhere/xvda.img", "/nowhere/xvdb.img"]


@pytest.mark.parametrize(
    ("vif", "why"),
    [
        ("bridge=xenbr0", ""),
        ("bridge=xenbr1", "g needs the bridge xenbr1: there is none"),
        ("bridge=eth0", "g needs the bridge eth0: there is none"),
        ("bridge=ovs1,script=vif-openvswitch", ""),
        ("bridge=xenbr1,backend=net", ""),
    ],
)
def test_bridges(vif, why, tmp_path, monkeypatch):
    (tmp_path / "xenbr0" / "bridge").mkdir(parents=True)
    (tmp_path / "eth0").mkdir()
    monkeypatch.setattr(requirements, "NETWORK", tmp_path)
    guest = config(f'vif = ["{vif}"]')
    found = texts(requirements.check_bridges(guest))
    assert found == ([why] if why else [])


@pytest.mark.parametrize(("free", "dom0"), [(GIB, 0), (0, GIB + (128 << 20)), (GIB // 2, GIB)])
def test_memory_that_is_enough(free, dom0):
    requirements.check_memory(config("memory = 1024"), free, dom0)


def test_memory_that_is_not_enough():
    words = "g needs 1024 MiB: 100 MiB are free, and dom0 could give 800 more"
    with pytest.raises(HostError, match=words):
        requirements.check_memory(config("memory = 1024"), 100 << 20, 928 << 20)
    with pytest.raises(HostError, match="dom0 could give 0 more"):
        requirements.check_memory(config("memory = 1024"), 100 << 20, 64 << 20)


def test_a_guest_that_has_ballooned_down_needs_no_more_than_its_target():
    requirements.check_memory(config("memory = 512\nmaxmem = 4096"), 512 << 20, 0)
    with pytest.raises(HostError, match="g needs 512 MiB: 511 MiB are free"):
        requirements.check_memory(config("memory = 512\nmaxmem = 4096"), 511 << 20, 0)


def test_cpu_features_that_the_host_lacks_are_named():
    (leaf,) = CPUID.leaves
    told = leaf._replace(leaf=7, subleaf=0, a=0, b=1 << 16, c=7, d=1)
    assert texts(requirements.check_cpu(Needs(config(), 3), ())) == []
    needs = Needs(config(), 3, cpuid=(told,))
    assert texts(requirements.check_cpu(needs, (told,))) == []
    assert texts(requirements.check_cpu(needs, ())) == [
        f"g uses CPU features that this host lacks: CPUID 7.0 {gone}"
        for gone in (
            "ebx bit 16 (avx512f)",
            "ecx bit 0 (prefetchwt1), 1 (avx512-vbmi), 2 (umip)",
            "edx bit 0",
        )
    ]


@pytest.fixture
def qemu(tmp_path, monkeypatch):
    """A QEMU that knows two devices."""
    program = tmp_path / "qemu"
    text = 'Network devices:\nname "e1000", bus PCI, alias "e1000-82540em"\nname "cirrus-vga"'
    program.write_text(f"#!/bin/sh\n[ \"$*\" = '-device help' ] && echo '{text}'\n")
    program.chmod(0o755)
    monkeypatch.setattr(requirements, "QEMUS", ("/nowhere/{}", str(program)))
    return program


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", ""),
        ('vif = ["model=e1000"]', ""),
        ('vif = ["model=virtio"]', ""),
        ('vif = ["type=vif"]', ""),
        ('vif = [""]', "has no device rtl8139, which g needs"),
        ('vif = ["model=e1000e"]', "has no device e1000e, which g needs"),
        ('vga = "stdvga"', "has no device VGA, which g needs"),
        ('vga = "none"', ""),
    ],
)
def test_devices(qemu, text, why):
    assert texts(check_devices(config(text))) == ([f"{qemu} {why}"] if why else [])


def check_devices(guest, **states):
    return requirements.check_devices(Needs(guest, 3, devices=states), (4, 17))


def test_device_states_of_a_newer_qemu(qemu):
    dump = '{"VGA": {"Description": {"name": "vga", "version_id": 2, "minimum_version_id": 2}}}'
    qemu.write_text(f"{qemu.read_text()}[ $# = 7 ] && echo '{dump}'; true\n")
    assert texts(check_devices(config(), vga=2, timer=9)) == []
    assert texts(check_devices(config('vif = [""]'), vga=3)) == [
        f"{qemu} has no device rtl8139, which g needs",
        f"g has the state of vga in version 3: {qemu} loads 2 to 2",
    ]


def test_guests_without_qemu_and_hosts_whose_qemu_is_elsewhere(qemu, monkeypatch):
    assert texts(check_devices(config('kernel = "/vmlinuz"\nvif = [""]', "pvh"))) == []
    monkeypatch.setattr(requirements, "QEMUS", ())
    assert texts(check_devices(config('vga = "stdvga"'))) == []


def test_a_qemu_that_only_the_config_names_is_not_asked(qemu, tmp_path):
    other = tmp_path / "other"
    other.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    other.chmod(0o755)
    for program, lacks in ((other, 0), (qemu, 1)):
        text = f'device_model_override = "{program}"\nvga = "stdvga"'
        assert len(texts(check_devices(config(text)))) == lacks
    assert not (tmp_path / "ran").exists()


def test_a_qemu_that_tells_nothing(qemu):
    qemu.write_text("#!/bin/sh\necho 'no such library' >&2; exit 127\n")
    (found,) = findings([("devices", lambda: check_devices(config()))])
    assert "does not list its devices: no such library" in found.text


def test_real_qemu_knows_its_devices():
    known = emulator.devices("qemu-system-x86_64")
    assert {"e1000", "rtl8139", "VGA", "cirrus-vga", "ide-hd", "lsi53c895a"} < known
    assert "pc" in emulator.machines("qemu-system-x86_64").values()
