"""A configuration as QEMU's command line, word by word."""

from itertools import pairwise
from pathlib import Path

import pytest

from tests.doubles.qemu.lab_guest import UUID, config
from xenqemu.errors import BadRecord, UsageError
from xenqemu.formats.config.domain_config import OURS, DomainConfig
from xenqemu.formats.config.xl_cfg import GuestConfig
from xenqemu.lab.command_line import Hardware, Place, command, mac_of
from xenqemu.lab.plain_qemu import escape

PLACE = Place(7, Path("/lab/guests/7"), Path("/lab/run"))


def words(text: str = "", *, incoming: bool = False, place: Place = PLACE) -> list[str]:
    found = config(text)
    return command(found, Hardware.of(found), place, incoming=incoming)


def options(arguments: list[str], name: str) -> list[str]:
    """Return what follows each `name`."""
    return [after for word, after in pairwise(arguments) if word == name]


def test_the_whole_command_line_of_a_small_guest():
    assert words() == [
        *("qemu-system-x86_64", "-no-user-config", "-nodefaults", "-S"),
        *("-name", "guest=small", "-uuid", UUID),
        "-machine",
        "pc-i440fx-7.2,accel=tcg,suppress-vmdesc=on,max-ram-below-4g=3221225472,memory-backend=ram",
        *("-cpu", "qemu64", "-smp", "1", "-m", "8192K"),
        "-object",
        "memory-backend-file,id=ram,size=8388608,mem-path=/lab/guests/7/ram,share=on",
        *("-display", "none", "-vga", "none"),
        "-chardev",
        "socket,id=libxl-cmd,path=/lab/run/qmp-libxl-7,server=on,wait=off",
        *("-mon", "chardev=libxl-cmd,mode=control"),
        "-chardev",
        "socket,id=libxenstat-cmd,path=/lab/run/qmp-libxenstat-7,server=on,wait=off",
        *("-mon", "chardev=libxenstat-cmd,mode=control"),
        *("-global", "migration.store-global-state=off"),
        *("-global", "migration.send-configuration=off"),
        *("-global", "migration.send-section-footer=off"),
    ]


def test_a_restored_guest_waits_for_its_state():
    assert words(incoming=True) == [*words(), "-incoming", "defer"]


def test_processor_memory_and_adapter():
    found = words('vcpus = 4\nmemory = 64\nvga = "stdvga"')
    assert options(found, "-smp") == ["4"]
    assert options(found, "-m") == ["65536K"]
    assert options(found, "-vga") == ["std"]


def test_memory_and_vcpus_that_a_guest_starts_with_and_those_it_could_have():
    found = words("vcpus = 2\nmaxvcpus = 4\nmemory = 64\nmaxmem = 128")
    assert options(found, "-smp") == ["2,maxcpus=4"]
    assert options(found, "-m") == ["65536K"]
    assert "size=67108864" in options(found, "-object")[0]


def test_kvm_has_the_processor_of_the_host():
    kvm = Hardware("pc-i440fx-7.2", "kvm")
    found = command(config(), kvm, PLACE, incoming=False)
    assert options(found, "-cpu") == ["host"]
    assert "accel=kvm" in options(found, "-machine")[0]


def test_a_kernel_is_booted_directly():
    found = words('kernel = "/k,1"\nramdisk = "/r"\ncmdline = "a=1,2 b"')
    assert options(found, "-kernel") == ["/k,1"]
    assert options(found, "-initrd") == ["/r"]
    assert options(found, "-append") == ["a=1,2 b"]
    assert not {"-kernel", "-initrd", "-append"} & set(words())


def test_the_first_serial_port_is_logged():
    found = words('serial = ["pty", "pty", "null"]')
    assert options(found, "-chardev")[2:] == [
        "pty,id=serial0,logfile=/lab/guests/7/console.log,logappend=on",
        "pty,id=serial1",
    ]
    assert options(found, "-serial") == ["chardev:serial0", "chardev:serial1", "null"]


def test_disks_are_where_their_names_say():
    found = words(
        'disk = ["/a,raw,hda,w", "/b.qcow2,qcow2,sdb,w", "/c.iso,raw,hdc,r,cdrom", '
        '"/d,raw,xvdd,r", ",,hdb,cdrom"]'
    )
    assert options(found, "-drive") == [
        "id=disk0,if=none,readonly=off,file=/a,format=raw",
        "id=disk1,if=none,readonly=off,file=/b.qcow2,format=qcow2",
        "id=disk2,if=none,readonly=on,file=/c.iso,format=raw",
        "id=disk3,if=none,readonly=on,file=/d,format=raw",
        "id=disk4,if=none,readonly=on",
    ]
    assert options(found, "-device") == [
        "lsi53c895a,id=scsi",
        "ide-hd,drive=disk0,bus=ide.0,unit=0",
        "scsi-hd,drive=disk1,bus=scsi.0,scsi-id=1",
        "ide-cd,drive=disk2,bus=ide.1,unit=0",
        "ide-hd,drive=disk3,bus=ide.1,unit=1",
        "ide-cd,drive=disk4,bus=ide.0,unit=1",
    ]


@pytest.mark.parametrize("vdev", ["hde", "xvde", "sdh", "hdaa", "hda1", "d0p0", "xvd", "sd"])
def test_disks_that_have_no_place(vdev):
    tree = config('disk = ["/a,raw,hda,w"]').tree
    moved = DomainConfig({**tree, "disks": [{**tree["disks"][0], "vdev": vdev}]})
    with pytest.raises(UsageError, match=rf"vdev='{vdev}': the lab has hda-hdd"):
        command(moved, Hardware.of(moved), PLACE, incoming=False)


def test_network_cards():
    found = words('vif = ["mac=00:16:3e:00:00:01,model=e1000", "bridge=br0"]')
    assert options(found, "-netdev") == ["user,id=net0", "user,id=net1"]
    assert options(found, "-device") == [
        "e1000,netdev=net0,mac=00:16:3e:00:00:01",
        "rtl8139,netdev=net1",
    ]


def test_network_cards_on_taps():
    found = config('vif = ["mac=00:16:3e:00:00:01,model=e1000,bridge=br0", "bridge=br0", ""]')
    arguments = command(found, Hardware.of(found), PLACE, incoming=False, taps={0: 17, 1: 18})
    assert options(arguments, "-netdev") == [
        *("tap,fd=17,id=net0", "tap,fd=18,id=net1", "user,id=net2")
    ]
    assert options(arguments, "-device") == [
        "e1000,netdev=net0,mac=00:16:3e:00:00:01",
        f"rtl8139,netdev=net1,mac={mac_of(found, 1)}",
        "rtl8139,netdev=net2",
    ]


@pytest.mark.parametrize("vga", ['vga = "qxl"', 'vga = "cirrus"', 'vga = "none"'])
def test_only_some_adapters_are_there(vga):
    if "qxl" in vga:
        with pytest.raises(UsageError, match="vga='qxl': the lab has none, std, cirrus"):
            words(vga)
    else:
        assert options(words(vga), "-vga") == [vga.split('"')[1]]


def test_commas_stay_within_their_option():
    name = "a,process=b"
    place = Place(7, Path("/l,b/guests/7"), Path("/l,b/run"))
    found = words(f'name = "{name}"\nserial = "pty"\ndisk = ["/x,raw,hda,w"]', place=place)
    assert options(found, "-name") == ["guest=a,,process=b"]
    assert "mem-path=/l,,b/guests/7/ram," in options(found, "-object")[0]
    assert all("/l,," in word for word in options(found, "-chardev"))
    assert escape("a,b,,c") == "a,,b,,,,c"


def test_hardware_is_kept_in_the_configuration():
    found = config(machine="pc-q35-9")
    assert Hardware.of(found) == Hardware("pc-q35-9", "tcg")
    assert found.extra == {"host": "lab", "machine": "pc-q35-9", "accel": "tcg"}
    assert DomainConfig.parse(found.dump()) == found


@pytest.mark.parametrize(
    "ours",
    [
        {},
        {"machine": "pc"},
        {"accel": "tcg"},
        {"machine": 7, "accel": "tcg"},
        {"machine": "pc", "accel": "xen"},
        {"machine": "pc", "accel": ["tcg"]},
    ],
)
def test_what_is_no_hardware(ours):
    found = DomainConfig({**config().tree, OURS: ours})
    with pytest.raises(BadRecord, match="expected machine and accel"):
        Hardware.of(found)


def test_the_files_of_a_domain():
    assert PLACE.ram == Path("/lab/guests/7/ram")
    assert PLACE.log == Path("/lab/guests/7/qemu.log")
    assert PLACE.console == Path("/lab/guests/7/console.log")
    assert PLACE.socket("libxl") == Path("/lab/run/qmp-libxl-7")


def test_what_libxl_takes_for_granted_is_cirrus():
    plain = GuestConfig.from_cfg('name = "x"\ntype = "hvm"').config
    found = command(plain, Hardware("pc", "tcg"), PLACE, incoming=False)
    assert options(found, "-vga") == ["cirrus"]
