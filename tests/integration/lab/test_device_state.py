"""Device state freshly written by real QEMU: every cut is right, checked against footers.

Each machine runs its firmware for a moment and saves with footers on.  The footers say where the
sections end; without them the stream must be split at the same places.
"""

import json
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.doubles.qemu.section_oracle import as_tuples, cuts_by_footers
from tests.parts import shortened
from xenqemu.formats.device_state import device_stream
from xenqemu.formats.device_state.section_header import pack_header

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]

NULL_DISK = "file=null-co://,format=raw,file.read-zeroes=on"
XENFV = [
    *["-M", "pc-i440fx-3.1", "-global", "PIIX4_PM.acpi-pci-hotplug-with-bridge-support=off"],
    *["-global", "PIIX4_PM.acpi-root-pci-hotplug=off"],
]
USUAL = [
    *["-vga", "std", "-usb", "-device", "usb-tablet", "-device", "e1000", "-device", "rtl8139"],
    *["-drive", f"{NULL_DISK},if=ide", "-device", "ide-cd", "-serial", "null"],
]
SOUND = ["-audiodev", "none,id=a"]
MACHINES = {
    "pc without vga": ["-M", "pc"],
    "pc as usual, 2 vcpus": ["-M", "pc", "-smp", "2", *USUAL],
    "as xenfv, 4 vcpus": [*XENFV, "-smp", "4", *USUAL],
    "32-bit, as Xen's own QEMU": [*XENFV, "-smp", "2", *USUAL],
    "pc, cirrus, floppy, sound": [
        *["-M", "pc", "-vga", "cirrus", "-device", "floppy", "-parallel", "null", *SOUND],
        *["-device", "AC97,audiodev=a", "-device", "intel-hda", "-device", "hda-duplex,audiodev=a"],
        *["-device", "sb16,audiodev=a", "-device", "es1370,audiodev=a", "-device", "pcnet"],
        *["-usb", "-device", "usb-kbd", "-device", "usb-mouse", "-device", "ne2k_pci"],
    ],
    "pc, scsi and virtio": [
        *["-M", "pc", "-device", "lsi,id=lsi", "-drive", f"{NULL_DISK},if=none,id=d0"],
        *["-device", "scsi-hd,drive=d0,bus=lsi.0", "-drive", f"{NULL_DISK},if=none,id=d1"],
        *["-device", "virtio-scsi-pci,id=vs", "-device", "scsi-hd,drive=d1,bus=vs.0"],
        *["-device", "virtio-net-pci", "-device", "virtio-net-pci,disable-modern=on"],
        *["-device", "virtio-net-pci,ctrl_guest_offloads=off", "-drive", f"{NULL_DISK},if=virtio"],
        *["-device", "virtio-balloon-pci", "-device", "virtio-rng-pci"],
        *["-device", "virtio-serial-pci", "-device", "virtconsole"],
    ],
    "q35": [
        *["-M", "q35", "-vga", "std", "-device", "e1000e", "-drive", f"{NULL_DISK},if=none,id=h"],
        *["-device", "ide-hd,drive=h", "-device", "ide-cd,bus=ide.1", "-device", "intel-iommu"],
        *["-device", "nec-usb-xhci,id=x", "-device", "usb-tablet,bus=x.0", *SOUND],
        *["-device", "pcie-root-port,id=rp,chassis=1", "-device", "virtio-net-pci,bus=rp"],
        *["-drive", f"{NULL_DISK},if=none,id=u", "-device", "usb-storage,drive=u,bus=x.0"],
        *["-device", "ich9-intel-hda", "-device", "hda-output,audiodev=a", "-smp", "4"],
    ],
    "pc, Express cards on its bus": [
        *["-M", "pc", "-device", "nec-usb-xhci,id=x", "-device", "usb-tablet,bus=x.0"],
        *["-device", "qemu-xhci", "-device", "vmxnet3", "-device", "pvscsi"],
        *["-device", "megasas-gen2"],
    ],
    "pc, rare cards": [
        *["-M", "pc", "-device", "i82550", "-device", "i82557b", "-device", "i82801"],
        *["-device", "tulip", "-device", "bochs-display", "-device", "pvpanic-pci"],
        *["-device", "pci-serial-4x", "-device", "ati-vga", "-usb", "-device", "usb-ccid"],
        *["-chardev", "null,id=c", "-device", "usb-redir,chardev=c"],
    ],
    "isapc": ["-M", "isapc", "-cpu", "486"],
}
XEN_SHAPE = ["-global", "migration.store-global-state=off"]
XEN_SHAPE += ["-global", "migration.send-configuration=off"]


class Qemu:
    """A QEMU, its monitor and, if asked for, its test socket for port input and output."""

    def __init__(self, arguments: list[str], footers: bool, program: str) -> None:
        shape = [] if footers else ["-global", "migration.send-section-footer=off"]
        ours, theirs = socket.socketpair()
        command = [program, "-nodefaults", "-no-user-config", "-display", "none", "-m", "16"]
        command += ["-accel", "tcg", *XEN_SHAPE, *shape, *arguments]
        command += ["-chardev", f"socket,id=q,fd={theirs.fileno()}", "-mon", "q,mode=control"]
        with theirs:
            self.process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stderr=subprocess.DEVNULL
            )
        ours.settimeout(30)
        self.socket = ours
        self.answers = ours.makefile("r")
        self.answers.readline()
        self.run("qmp_capabilities")

    def run(self, command: str, **arguments: object) -> object:
        self.socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        for line in self.answers:
            answer = json.loads(line)
            if "return" in answer or "error" in answer:
                return answer["return"]
        raise EOFError(command)

    def saved(self, folder: Path) -> bytes:
        """Return the device state of the stopped machine."""
        file = folder / "devices"
        self.run("stop")
        self.run("xen-save-devices-state", filename=str(file), live=False)
        return file.read_bytes()


@contextmanager
def qemu(
    *arguments: str, footers: bool = True, program: str = "qemu-system-x86_64"
) -> Iterator[Qemu]:
    started = Qemu(list(arguments), footers, program)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.wait(timeout=30)
        started.answers.close()
        started.socket.close()


@pytest.mark.parametrize("name", shortened(MACHINES, "as xenfv, 4 vcpus", "pc, scsi and virtio"))
def test_streams_split_where_the_footers_are(name: str, tmp_path: Path) -> None:
    program = "qemu-system-i386" if name.startswith("32") else "qemu-system-x86_64"
    with qemu(*MACHINES[name], program=program) as machine:
        time.sleep(0.7)
        data = machine.saved(tmp_path)
    truth = cuts_by_footers(data)

    with_footers = device_stream.read(data)
    assert as_tuples(with_footers) == truth
    assert with_footers.footers
    assert device_stream.write(with_footers.sections, footers=True) == data

    plain = device_stream.write(with_footers.sections)
    without = device_stream.read(plain)
    assert as_tuples(without) == truth
    assert not without.footers
    assert [(s.idstr, s.evidence) for s in without.sections if not s.certain] == []
    assert without.ambiguities == ()


def boot_disk(file: Path, sector: bytes) -> None:
    """Make a disk whose boot sector asks for the next one by PIO and then halts.

    So `sector` lies in the buffer of the IDE drive, with a subsection that holds all of it.
    """
    ports = [(0x1F6, 0xE0), (0x1F2, 1), (0x1F3, 1), (0x1F4, 0), (0x1F5, 0), (0x1F7, 0x20)]
    code = b"\xfa"
    for port, value in ports:
        code += b"\xba" + struct.pack("<H", port) + bytes([0xB0, value, 0xEE])
    code += b"\xf4\xeb\xfd"
    file.write_bytes(code.ljust(510, b"\0") + b"\x55\xaa" + sector.ljust(512 * 63, b"\0"))


def test_headers_that_a_guest_reads_into_a_drive_do_not_split_it(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    fakes = b"".join(pack_header(n, "port92", 0, 1) + b"\0" for n in range(20, 41))
    boot_disk(disk, fakes)
    drive = ["-drive", f"file={disk},format=raw,if=ide,file.locking=off"]
    with qemu("-M", "pc", *drive) as machine:
        for _ in range(40):
            time.sleep(0.25)
            data = machine.saved(tmp_path)
            if fakes in data:
                break
            machine.run("cont")
    assert fakes in data
    truth = cuts_by_footers(data)
    plain = device_stream.write(device_stream.read(data).sections)

    state = device_stream.read(plain)
    assert as_tuples(state) == truth
    assert state.ambiguities == ()

    ide = next(s for s in state.sections if s.idstr.endswith("/ide"))
    other = ide.but(version_id=99)
    unknown = device_stream.read(
        device_stream.write(other if s is ide else s for s in state.sections)
    )
    (ambiguity,) = unknown.ambiguities
    assert ambiguity.offset == ide.offset
    assert ambiguity.reason == f"the length of {ide.idstr} version 99 is unknown"
    real = {s.offset for s in state.sections if s.offset >= ide.offset}
    assert real < {header.offset for header in ambiguity.headers}
    assert [s for s in unknown.sections if s.certain] == [
        s for s in state.sections if s.offset < ide.offset
    ]


def test_a_device_of_unknown_layout_makes_what_follows_uncertain(tmp_path: Path) -> None:
    with qemu("-M", "pc", "-netdev", "user,id=n", "-device", "e1000,netdev=n") as machine:
        time.sleep(0.5)
        data = machine.saved(tmp_path)
    truth = cuts_by_footers(data)
    footed = device_stream.read(data)
    assert as_tuples(footed) == truth
    assert footed.ambiguities == ()

    state = device_stream.read(device_stream.write(footed.sections))
    assert as_tuples(state) == truth
    (ambiguity,) = state.ambiguities
    assert ambiguity.reason.startswith("the length of slirp version ")
    slirp = next(s for s in state.sections if s.idstr == "slirp")
    assert [s.certain for s in state.sections] == [s.offset < slirp.offset for s in state.sections]
