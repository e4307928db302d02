"""A guest's configuration as a command line of plain QEMU, laid out as libxl lays out its own.

The three `migration` globals are what QEMU sets by itself under Xen (accel/xen/xen-all.c); with
them its device state has the format that it has on a Xen host.  The PCI hole is put at 3 GiB by an
option, so that guest-physical addresses do not depend on QEMU's defaults.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from uuid import UUID

from xenqemu.errors import BadRecord, UsageError
from xenqemu.formats.config.domain_config import Disk, DomainConfig
from xenqemu.lab.plain_qemu import escape
from xenqemu.lab.ram_folder import RAM

BELOW = 3 << 30
"""Bytes of RAM under the PCI hole at most."""

QEMU = "qemu-system-x86_64"

NO_TAPS: Mapping[int, int] = {}


def ram_kb(config: DomainConfig) -> int:
    """Return how much RAM a guest has here, in KiB.

    That is its `memory`: nothing balloons here, so it never gets to its `maxmem`.
    """
    return min(config.target_memkb, config.max_memkb)


_XEN_STREAM = ("store-global-state", "send-configuration", "send-section-footer")
_VGA = ("none", "std", "cirrus")
_ACCELS = ("tcg", "kvm")


@dataclass(frozen=True)
class Place:
    """Where the files of one domain are: `folder` for its own, `run` for the host's sockets.

    What a clone writes to its RAM is `private`: it is not written to the file.
    """

    domid: int
    folder: Path
    run: Path
    private: bool = False

    @property
    def ram(self) -> Path:
        """The file that is the guest's memory."""
        return self.folder / RAM

    @property
    def log(self) -> Path:
        """QEMU's standard output and error."""
        return self.folder / "qemu.log"

    @property
    def console(self) -> Path:
        """The output of the guest's first serial port."""
        return self.folder / "console.log"

    def socket(self, name: str) -> Path:
        """A QMP socket, named as libxl names it."""
        return self.run / f"qmp-{name}-{self.domid}"


@dataclass(frozen=True)
class Hardware:
    """What a lab guest must find again on restore; kept in its configuration.

    `machine` is QEMU's versioned machine type, since "pc" means another one in each release.
    """

    machine: str
    accel: str

    @classmethod
    def of(cls, config: DomainConfig) -> Hardware:
        """Return what a configuration says; raise `BadRecord` if that is no hardware."""
        machine, accel = config.extra.get("machine"), config.extra.get("accel")
        if not isinstance(machine, str) or accel not in _ACCELS:
            raise BadRecord("domain config xenqemu", 0, "machine and accel", f"{machine}, {accel}")
        return cls(machine, str(accel))

    def kept_in(self, config: DomainConfig) -> DomainConfig:
        """Return a configuration that says so."""
        return config.with_extra({"host": "lab", "machine": self.machine, "accel": self.accel})


HEEDED = frozenset(
    (
        *("name", "uuid", "type", "builder", "memory", "maxmem", "vcpus", "maxvcpus"),
        *("kernel", "ramdisk", "cmdline", "root", "extra", "disk", "vif", "serial", "vga"),
        *("boot", "vnc", "sdl", "usb", "usbdevice", "tsc_mode", "device_model_version"),
        "ms_vm_genid",
        *("on_poweroff", "on_reboot", "on_watchdog", "on_crash", "on_soft_reset"),
    )
)
"""Keys of an xl.cfg that a guest of the lab is made by, or that its QEMU has no use for.

The others are in its config, and change nothing here.
"""


def command(
    config: DomainConfig,
    hardware: Hardware,
    place: Place,
    *,
    incoming: bool,
    taps: Mapping[int, int] = NO_TAPS,
) -> list[str]:
    """Return QEMU's command line; the machine starts stopped, `incoming` waits for a state.

    `taps` has the descriptors of the taps of network cards, by the index of the card.
    """
    memory = ram_kb(config)
    arguments = [
        *(QEMU, "-no-user-config", "-nodefaults", "-S"),
        *("-name", f"guest={escape(config.name)}", "-uuid", config.uuid),
        *("-machine", _machine(hardware)),
        *("-cpu", "host" if hardware.accel == "kvm" else "qemu64"),
        *("-smp", _processors(config), "-m", f"{memory}K"),
        *("-object", _ram(place, memory << 10)),
        *("-display", "none", "-vga", _one_of(_VGA, "vga", config.vga)),
        *_monitor("libxl", place),
        *_monitor("libxenstat", place),
        *_serial(config.serial, place),
        *_kernel(config),
    ]
    for name in _XEN_STREAM:
        arguments += ["-global", f"migration.{name}=off"]
    arguments += _disks(config.disks)
    for index in range(len(config.nics)):
        arguments += _nic(config, index, taps.get(index))
    arguments += _generation_id(config)
    if incoming:
        arguments += ["-incoming", "defer"]
    return arguments


def _machine(hardware: Hardware) -> str:
    return (
        f"{escape(hardware.machine)},accel={escape(hardware.accel)},suppress-vmdesc=on,"
        f"max-ram-below-4g={BELOW},memory-backend=ram"
    )


def _processors(config: DomainConfig) -> str:
    """Return the vcpus that are online, and how many there could be."""
    online, most = config.vcpus, config.max_vcpus
    return str(most) if online == most else f"{online},maxcpus={most}"


def _ram(place: Place, size: int) -> str:
    share = "off" if place.private else "on"
    return f"memory-backend-file,id=ram,size={size},mem-path={escape(place.ram)},share={share}"


def _generation_id(config: DomainConfig) -> list[str]:
    """Return the device that tells a guest its generation id, if it has one.

    QEMU notifies the guest where it is not the one of the state that is loaded.
    """
    number = config.generation_id
    return ["-device", f"vmgenid,guid={UUID(bytes=number)}"] if number else []


def _one_of(words: tuple[str, ...], key: str, word: str) -> str:
    if word not in words:
        raise UsageError(f"{key}={word!r}: the lab has {', '.join(words)}")
    return word


def _monitor(name: str, place: Place) -> list[str]:
    chardev = f"socket,id={name}-cmd,path={escape(place.socket(name))},server=on,wait=off"
    return ["-chardev", chardev, "-mon", f"chardev={name}-cmd,mode=control"]


def _serial(ports: tuple[str, ...], place: Place) -> Iterator[str]:
    """Yield the serial ports; the first, if it is a pty, is also kept in a log."""
    for index, port in enumerate(ports):
        log = f",logfile={escape(place.console)},logappend=on" if index == 0 else ""
        if port == "pty":
            yield from ("-chardev", f"pty,id=serial{index}{log}")
            yield from ("-serial", f"chardev:serial{index}")
        else:
            yield from ("-serial", port)


def _kernel(config: DomainConfig) -> Iterator[str]:
    for option, value in (
        ("-kernel", config.kernel),
        ("-initrd", config.ramdisk),
        ("-append", config.cmdline),
    ):
        if value:
            yield from (option, value)


def _disks(disks: tuple[Disk, ...]) -> Iterator[str]:
    """Yield the emulated drives: hdX and xvdX are IDE as under libxl, sdX is SCSI."""
    if any(disk.vdev.startswith("sd") for disk in disks):
        yield from ("-device", "lsi53c895a,id=scsi")
    for index, disk in enumerate(disks):
        drive = [f"id=disk{index}", "if=none", f"readonly={'off' if disk.readwrite else 'on'}"]
        if disk.target:
            drive += [f"file={escape(disk.target)}", f"format={escape(disk.format)}"]
        kind = "cd" if disk.cdrom else "hd"
        bus, place = _place(disk.vdev)
        yield from ("-drive", ",".join(drive))
        yield from ("-device", f"{bus}-{kind},drive=disk{index},{place}")


def _place(vdev: str) -> tuple[str, str]:
    """Return the bus and the place on it that a vdev names by its letter (xen-vbd-interface(7))."""
    for prefix, bus, most in (("xvd", "ide", 4), ("hd", "ide", 4), ("sd", "scsi", 7)):
        letter = vdev.removeprefix(prefix)
        unit = ord(letter) - ord("a") if letter != vdev and len(letter) == 1 else most
        if 0 <= unit < most:
            ide = f"bus=ide.{unit // 2},unit={unit % 2}"
            return bus, ide if bus == "ide" else f"bus=scsi.0,scsi-id={unit}"
    raise UsageError(f"vdev={vdev!r}: the lab has hda-hdd, xvda-xvdd and sda-sdg")


def mac_of(config: DomainConfig, index: int) -> str:
    """Return the MAC address of a network card; one that has none gets it from the guest's uuid.

    QEMU would give the first card of every guest the same.
    """
    digest = sha256(f"{config.uuid.lower()}/{index}".encode()).digest()
    return config.nics[index].mac or f"00:16:3e:{digest[:3].hex(':')}"


def _nic(config: DomainConfig, index: int, tap: int | None) -> Iterator[str]:
    """Yield an emulated card on its tap, or else on QEMU's own network, which needs no root."""
    model = config.nics[index].model or "rtl8139"
    mac = config.nics[index].mac if tap is None else mac_of(config, index)
    backend = "user" if tap is None else f"tap,fd={tap}"
    yield from ("-netdev", f"{backend},id=net{index}")
    address = f",mac={escape(mac)}" if mac else ""
    yield from ("-device", f"{escape(model)},netdev=net{index}{address}")
