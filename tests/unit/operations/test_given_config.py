"""Configs that are given for a guest, and what a restore by them would refuse."""

import pytest

from xenqemu.errors import HostError
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.config.xl_cfg import GuestConfig
from xenqemu.operations.given_config import require_fit

GUEST = """
name = "g"
type = "hvm"
memory = 128
vcpus = 2
serial = "pty"
vga = "stdvga"
vif = [ "model=e1000", "model=e1000", "type=vif" ]
disk = [ "/a,raw,hda", "/b,raw,sda", "/c,raw,xvdb" ]
"""
MIB = 1 << 20


def config(text: str = GUEST, **extra: str) -> DomainConfig:
    return GuestConfig.from_cfg(text).config.with_extra(extra)


def changed(old: str, new: str = "") -> DomainConfig:
    assert old in GUEST
    return config(GUEST.replace(old, new))


OWN = config()

FIT = [
    ("memory = 128", "memory = 256"),
    ("memory = 128", "memory = 128\nmaxmem = 512"),
    ('serial = "pty"', 'serial = [ "file:/log", "null" ]'),
    ('name = "g"', 'name = "other"\nuuid = "00000000-0000-4000-8000-00000000000a"'),
    ("/a,raw,hda", "/elsewhere,qcow2,hda"),
    ('"/a,raw,hda", ', ""),
    (', "/c,raw,xvdb"', ""),
    (', "type=vif"', ""),
    ('"type=vif"', '"model=rtl8139"'),
]

REFUSED = [
    ("memory = 128", "memory = 64", "it has 64 MiB of memory, the guest 128"),
    ("memory = 128", "memory = 64\nmaxmem = 128", "it has 64 MiB of memory, the guest 128"),
    ("memory = 128", "memory = '128MB'", "it has 32 MiB of memory, the guest 128"),
    ("vcpus = 2", "vcpus = 1", "it has 1 vcpus, the guest 2"),
    ("vcpus = 2", "vcpus = 4", "it has 4 vcpus, the guest 2"),
    ('type = "hvm"', 'type = "pvh"\nkernel = "/k"', "its type is pvh, the guest's hvm"),
    ('serial = "pty"', "", "it lacks serial port 0"),
    ('serial = "pty"', 'serial = "none"', "it lacks serial port 0"),
    ('vga = "stdvga"', "", "it lacks vga=std"),
    ('vga = "stdvga"', 'vga = "none"', "it lacks vga=std"),
    ('"model=e1000", "model=e1000"', '"model=e1000"', "it lacks a network card e1000"),
    ('"model=e1000"', '"model=virtio-net"', r"it lacks a network card e1000 \(2 of them\)"),
    ("/b,raw,sda", "/b,raw,hdb", "it lacks disk sda"),
]


@pytest.mark.parametrize(("old", "new"), FIT)
def test_what_a_restore_takes_fits(old, new):
    require_fit(changed(old, new), OWN, 128 * MIB)
    require_fit(changed(old, new), OWN)


@pytest.mark.parametrize(("old", "new", "why"), REFUSED)
def test_what_a_restore_refuses_is_named(old, new, why):
    for memory in (None, 128 * MIB):
        with pytest.raises(HostError, match=f"the given config does not fit g: {why}$"):
            require_fit(changed(old, new), OWN, memory)


def test_all_that_does_not_fit_is_named_at_once():
    given = config('name="g"\ntype="hvm"\nmemory=64\nvga="none"')
    with pytest.raises(HostError) as caught:
        require_fit(given, OWN)
    assert str(caught.value) == (
        "the given config does not fit g: it has 1 vcpus, the guest 2; it has 64 MiB of memory, "
        "the guest 128; it lacks serial port 0; it lacks vga=std; "
        "it lacks a network card e1000 (2 of them); it lacks disk sda"
    )


def test_the_memory_is_what_the_guest_has_now():
    require_fit(OWN, OWN, 129 * MIB)  # as much as libxl lets it have
    require_fit(changed("memory = 128", "memory = 64"), OWN, 64 * MIB)  # ballooned down
    with pytest.raises(HostError, match="128 MiB of memory, the guest 256"):
        require_fit(OWN, OWN, 256 * MIB)


def test_a_guest_of_the_lab_has_all_of_its_memory():
    given = changed("memory = 128", "memory = 64\nmaxmem = 128")
    require_fit(given, config(host="lab"), 128 * MIB)


def test_a_pv_guest_may_have_more_vcpus_and_has_no_emulated_devices():
    own = config('name="g"\ntype="pv"\nkernel="/k"\nvcpus=2\nvif=[""]\ndisk=["/b,raw,sda"]')
    require_fit(config('name="g"\ntype="pv"\nkernel="/k"\nvcpus=4'), own)
    with pytest.raises(HostError, match="it has 1 vcpus, the guest 2"):
        require_fit(config('name="g"\ntype="pv"\nkernel="/k"'), own)
