#!/usr/bin/env python3
"""Make xenqemu/formats/device_state/layouts.json: how many bytes each QEMU device writes.

Usage: make_vmstate_table.py [--merge] [--qemu BINARY]... OUTPUT

Machines with many devices are started; each runs its firmware for a second and is migrated into a
file.  Plain QEMU ends such a stream with a description of every field it wrote; the sizes come
from there.  Subsections that no machine wrote come from `-dump-vmstate`, which names them all, and
from `BY_HAND` where their size cannot be read off.  `--merge` keeps what OUTPUT already knows, so
that the tables of several QEMU versions come together.  Xen's own QEMU is a 32-bit one, so both
are asked.  The language of the patterns is that of xenqemu/formats/device_state/layouts.py.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Pattern = list[Any]
Json = dict[str, Any]

DISK = "file=null-co://,format=raw,file.read-zeroes=on,"
AUDIO = ["-audiodev", "none,id=a"]
PLAIN = ["-vga", "std", "-device", "e1000", "-device", "rtl8139", "-usb", "-device", "usb-tablet"]
PLAIN += ["-drive", f"{DISK}if=ide", "-device", "virtio-net-pci", "-serial", "null", "-smp", "2"]

NO_HOTPLUG = ["-global", "PIIX4_PM.acpi-pci-hotplug-with-bridge-support=off"]
NO_HOTPLUG += ["-global", "PIIX4_PM.acpi-root-pci-hotplug=off"]

INTEL = [f"i825{n}" for n in ("50", "51", "57a", "57b", "57c", "58a", "58b", "59a", "59b", "59c")]
INTEL += ["i82562", "i82801"]

MACHINES: dict[str, list[str]] = {
    "bare pc": ["-M", "pc"],
    "pc, two legacy buses full": [
        *["-M", "pc", "-smp", "2", "-serial", "null", "-parallel", "null", *PLAIN[:-2]],
        *["-device", "usb-kbd", "-device", "usb-mouse", "-device", "usb-hub"],
        *["-device", "ide-cd", "-device", "floppy"],
    ],
    "pc, scsi and virtio": [
        *["-M", "pc", "-vga", "cirrus", "-smp", "4", *AUDIO, "-device", "lsi,id=lsi"],
        *["-drive", f"{DISK}if=none,id=d0", "-device", "scsi-hd,drive=d0,bus=lsi.0"],
        *["-drive", f"{DISK}if=none,id=d1", "-device", "virtio-scsi-pci,id=vs"],
        *["-device", "scsi-hd,drive=d1,bus=vs.0", "-device", "scsi-cd,bus=vs.0"],
        *["-device", "virtio-net-pci", "-device", "virtio-net-pci,disable-modern=on"],
        *["-device", "virtio-net-pci,ctrl_guest_offloads=off", "-drive", f"{DISK}if=virtio"],
        *["-device", "virtio-balloon-pci", "-device", "virtio-rng-pci"],
        *["-device", "virtio-serial-pci", "-device", "virtconsole"],
        *["-device", "virtio-keyboard-pci", "-device", "virtio-vga"],
        *["-device", "AC97,audiodev=a", "-device", "intel-hda", "-device", "hda-duplex,audiodev=a"],
    ],
    "pc, rare cards": [
        *["-M", "pc", "-vga", "qxl", *AUDIO, "-device", "ne2k_pci", "-device", "pcnet"],
        *["-device", "i82559er", "-device", "vmxnet3", "-device", "sb16,audiodev=a"],
        *["-device", "ES1370,audiodev=a", "-device", "megasas", "-device", "pvscsi"],
        *["-device", "usb-ehci,id=ehci", "-device", "usb-storage,drive=u0,bus=ehci.0"],
        *["-drive", f"{DISK}if=none,id=u0", "-device", "sdhci-pci", "-device", "i6300esb"],
        *["-chardev", "null,id=n", "-device", "pci-serial,chardev=n", "-device", "pci-ohci"],
        *["-device", "adlib,audiodev=a", "-device", "gus,audiodev=a", "-device", "vmcoreinfo"],
        *["-device", "cs4231a,audiodev=a", "-device", "ne2k_isa", "-device", "pvpanic"],
        *["-device", "vmgenid", "-device", "am53c974", "-device", "tpci200", "-device", "ib700"],
    ],
    "pc, vmware": ["-M", "pc", "-vga", "vmware", "-device", "secondary-vga", "-cpu", "max"],
    "q35": [
        *["-M", "q35", "-vga", "std", "-smp", "4", *AUDIO, "-device", "e1000e"],
        *["-drive", f"{DISK}if=none,id=h", "-device", "ide-hd,drive=h"],
        *["-device", "ide-cd,bus=ide.1", "-device", "nec-usb-xhci,id=x"],
        *["-device", "usb-tablet,bus=x.0", "-device", "qemu-xhci,id=y", "-device", "intel-iommu"],
        *["-drive", f"{DISK}if=none,id=u0", "-device", "usb-storage,drive=u0,bus=y.0"],
        *["-device", "pcie-root-port,id=rp,chassis=1", "-device", "virtio-net-pci,bus=rp"],
        *["-device", "pcie-pci-bridge", "-device", "pci-bridge,chassis_nr=2"],
        *["-device", "ich9-intel-hda", "-device", "hda-output,audiodev=a"],
        *["-device", "virtio-gpu-pci", "-device", "ahci", "-device", "ich9-usb-ehci1,id=e"],
        *["-device", "ich9-usb-uhci1,masterbus=e.0,firstport=0", "-device", "i82801b11-bridge"],
    ],
    "q35, ports": [
        *["-M", "q35", "-device", "pcie-root-port,id=rp,chassis=1"],
        *["-device", "x3130-upstream,id=up,bus=rp", "-device", "pcie-pci-bridge,id=b"],
        *["-device", "xio3130-downstream,bus=up,chassis=2,slot=1", "-device", "ioh3420,chassis=3"],
        *["-device", "qemu-xhci,bus=b,addr=1", "-device", "e1000e,bus=b,addr=2"],
    ],
    "pc, Intel's and other cards": [
        *["-M", "pc", *(word for n in INTEL for word in ("-device", n)), "-device", "tulip"],
        *["-device", "bochs-display", "-device", "pvpanic-pci", "-device", "megasas-gen2"],
        *["-device", "pci-serial-4x"],  # QEMU 7.2 crashes when it saves pci-serial-2x
    ],
    "pc, usb": [
        *["-M", "pc", "-usb", "-device", "usb-hub", "-device", "usb-ccid,port=1.1"],
        *["-device", "usb-host,port=1.2", "-chardev", "null,id=a"],
        *["-device", "usb-redir,chardev=a,port=1.3"],
    ],
    "pc, ati": ["-M", "pc", "-device", "ati-vga"],
    "pc, cirrus of the ISA bus": ["-M", "pc", "-device", "isa-cirrus-vga"],
    "pc, xhci": ["-M", "pc", "-device", "nec-usb-xhci,p2=8,p3=8", "-device", "qemu-xhci"],
    "pc 2.8": ["-M", "pc-i440fx-2.8,suppress-vmdesc=off", *PLAIN],
    "pc 3.1, as xenfv": ["-M", "pc-i440fx-3.1,suppress-vmdesc=off", *PLAIN, *NO_HOTPLUG],
    "pc 4.2, as xenfv": ["-M", "pc-i440fx-4.2,suppress-vmdesc=off", *PLAIN, *NO_HOTPLUG],
    "isapc": ["-M", "isapc,suppress-vmdesc=off", "-cpu", "486"],
}

PCI_CONFIG = 256
"""Bytes of the configuration of a conventional PCI device."""

OPEN = "@open"
SETTLED: dict[tuple[str, str], tuple[str, Pattern]] = {
    ("PCIBUS", "nirq"): ("irq_count", [{"count": 4, "of": [4]}]),
    ("hpet", "num_timers"): ("timer", [{"count": 1, "of": [42]}]),
    ("ide_drive", "identify_set"): ("identify_data", [{"count": 4, "of": [512]}]),
    ("xhci-core", "ports"): ("", [{"up_to": 30, "of": [4]}]),
    ("vmxnet3", "mcast_list_buff_size"): ("", ["@keep4"]),
}
"""Fields whose size hangs on the guest or the set-up: (structure, field) to their pattern, and to
the name of a next field that the pattern covers too."""
TYPES: dict[str, Pattern] = {
    "pci config": ["@config"],
    "msix state": ["@msix"],
    "scsi-requests": ["@zero1"],
    "virtio-gpu": ["@zero4", 48],
    "usb-redir-parser": [{"count": 4, "of": [1]}],
    "usb-redir-bufpq": ["@zero4"],
    "usb-redir-packet-id-q": ["@zero4"],
    "qtailq": [OPEN],
    "qlist": [OPEN],
    "gtree": [OPEN],
}
"""Types of fields that vary.  Lists of what is under way are known only where they are empty."""
PCI_DEVICE: Pattern = [4, "@config", 16]
VIRTIO: Pattern = [
    *[*PCI_DEVICE, "@msix", {"msix": [2]}, 1 + 1 + 2 + 4],
    *[{"count": 4, "of": [1]}, {"count": 4, "of": [14, {"msix": [2]}]}],
]
"""How virtio_save of hw/virtio/virtio.c begins for a PCI device: configuration and queues."""
VIRTIO_CLASS: dict[str, Pattern] = {
    "virtio-net": [18, {"count": 4, "of": [6]}, 512 + 11, {"any": [[], [8]]}],
    "virtio-blk": ["@zero1"],
    "virtio-balloon": [8],
    "virtio-console": [12, {"count": 4, "of": [6, "@zero4"]}],
    "virtio-rng": [],
    "virtio-scsi": [],
    "virtio-gpu": [],
    "virtio-input": [],
}
"""What it then lets the class of the device write."""
CPU_HOTPLUG: Pattern = [5, {"up_to": 1024, "of": ["@bool", "@bool", 8]}]
MEMORY_HOTPLUG: Pattern = [4, {"up_to": 256, "of": ["@bool", "@bool", 8]}]
BY_HAND: dict[str, dict[str, Pattern]] = {
    "apic": {"apic_sipi": [8]},
    "cpu": {
        "cpu/exception_info": [11],
        "cpu/efer32": [8],
        "cpu/fpop_ip_dp": [18],
        "cpu/mpx": [88],
        "cpu/msr_ia32_feature_control": [8],
        "cpu/msr_ia32_misc_enable": [8],
        "cpu/msr_tsc_adjust": [8],
        "cpu/msr_tscdeadline": [8],
        "cpu/pkru": [4],
        "cpu/spec_ctrl": [8],
        "cpu/svn_npt": [12],
        "cpu/tsc_khz": [8],
        "cpu/virt_ssbd": [8],
        "cpu/xss": [8],
    },
    "cpu_common": {"cpu_common/exception_index": [4], "cpu_common/crash_occurred": [1]},
    "ich9_pm": {"ich9_pm/cpuhp": CPU_HOTPLUG, "ich9_pm/memhp": MEMORY_HOTPLUG},
    "ide_drive": {"ide_drive/pio_state": [4 + 256 * 512 + 4 + 4 + 4 + 1 + 4 + 4]},
    "piix4_pm": {"piix4_pm/cpuhp": CPU_HOTPLUG, "piix4_pm/memhp": MEMORY_HOTPLUG},
    "SCSIDevice": {"SCSIDevice/sense": [252 - 96]},
    "serial": {"serial/recv_fifo": [16 + 8], "serial/xmit_fifo": [16 + 8]},
    "virtio": {
        "virtio/64bit_features": [8],
        "virtio/virtqueues": [1024 * 16],
        "virtio/ringsize": [1024 * 4],
        "virtio/broken": [1],
        "virtio/started": [1],
        "virtio/disabled": [1],
        "virtio/device_endian": [1],
        "virtio/extra_state": ["virtio_pci"],
    },
    "vmxnet3": {"vmxnet3/mcast_list": ["@kept"]},
    "virtio_pci": {"virtio_pci/modern_state": [16 + 1024 * 28]},
}
"""Subsections whose arrays or lists the dump leaves uncounted (sizes: QEMU's own sources)."""
DEVICES_BY_HAND: Json = {"platform": {"4": [[*PCI_DEVICE, 1]]}}
"""Devices that only exist under Xen."""


class Table:
    """The layouts gathered so far; each list of patterns holds each of them once."""

    def __init__(self, known: Json) -> None:
        self.qemu: list[str] = known.get("qemu", [])
        self.devices: Json = known.get("devices", {}) | DEVICES_BY_HAND
        self.subsections: Json = known.get("subsections", {})
        self.conventional = False
        for parent, subsections in BY_HAND.items():
            for name, pattern in subsections.items():
                self.subsections.setdefault(parent, {})[name] = {"1": [pattern]}

    def add_machine(self, devices: list[Json], *, conventional: bool) -> None:
        """Add the devices of a description; `conventional` is a machine without PCI Express."""
        self.conventional = conventional
        for state in devices:
            self.add_device(state)

    def add_device(self, state: Json) -> None:
        """Add one device of the description that ends a migration."""
        if "vmsd_name" in state:
            name, version = state["vmsd_name"], str(state["version"])
            remember(self.devices.setdefault(name, {}), version, self.pattern(state, name))

    def pattern(self, state: Json, device: str) -> Pattern:
        """Return the pattern of a device, a structure or a subsection as it was written."""
        items: Pattern = []
        covered = ""
        for field in state["fields"]:
            if (state["vmsd_name"], field["name"]) in SETTLED:
                covered, pattern = SETTLED[state["vmsd_name"], field["name"]]
                items += pattern
            elif field["name"] != covered:
                items += self.element(field, device) * field.get("array_len", 1)
        for subsection in state.get("subsections", []):
            self.add_subsection(state["vmsd_name"], subsection, device)
        return [*items, state["vmsd_name"]]

    def add_subsection(self, parent: str, state: Json, device: str) -> None:
        """Add a subsection that was written; what is known by hand stays."""
        pattern = self.pattern(state, device)
        if state["vmsd_name"] not in BY_HAND.get(parent, {}):
            known = self.subsections.setdefault(parent, {}).setdefault(state["vmsd_name"], {})
            remember(known, str(state["version"]), pattern)

    def element(self, field: Json, device: str) -> Pattern:
        """Return the pattern of one element of a field."""
        if "struct" in field:
            return self.pattern(field["struct"], device)
        if field["type"] == "pci config" and field["size"] > PCI_CONFIG and self.conventional:
            return ["@express"]
        if field["type"] == "virtio":
            return [*VIRTIO, *VIRTIO_CLASS.get(device, [OPEN]), "virtio"]
        return TYPES.get(field["type"], [field["size"]])

    def add_dump(self, description: Json) -> None:
        """Add the subsections of plain fields that `-dump-vmstate` names and nobody wrote."""
        for field in description.get("Fields", []):
            self.add_dump(field.get("Description", {}))
        for subsection in description.get("Subsections", []):
            fields = subsection.get("Fields", [])
            known = self.subsections.setdefault(description["name"], {})
            sizes = [field["size"] for field in fields]
            flat = all(sizes) and not any("Description" in field for field in fields)
            if flat and subsection["name"] not in known:
                known[subsection["name"]] = {str(subsection["version_id"]): [sizes]}
            self.add_dump(subsection)

    def finished(self) -> Json:
        """Return the table as it is written."""
        subsections = {
            parent: {name: self.versions(versions) for name, versions in known.items()}
            for parent, known in self.subsections.items()
            if known
        }
        devices = {name: self.versions(versions) for name, versions in self.devices.items()}
        return {"qemu": self.qemu, "devices": devices, "subsections": subsections}

    def versions(self, versions: Json) -> Json:
        """Join the patterns of each version, and drop those that are then the same."""
        result: Json = {}
        for version, patterns in versions.items():
            for pattern in patterns:
                remember(result, version, self.joined(pattern))
            found = result.get(version, [])
            result[version] = [each for each in found if always_express(each) not in found]
        return result

    def joined(self, pattern: Pattern) -> Pattern:
        """Add up neighbouring sizes; leave out structures that never have subsections."""
        items: Pattern = []
        for item in pattern:
            if isinstance(item, int) and items and isinstance(items[-1], int):
                items[-1] += item
            elif item and not (is_name(item) and item in items[-1:]) and self.matters(item):
                items.append(item)
        return items

    def matters(self, item: Any) -> bool:
        """Return whether a pattern needs the item: the name of a structure only for subsections."""
        return not is_name(item) or bool(self.subsections.get(item))


def is_name(item: Any) -> bool:
    """Return whether an item is the name of a structure."""
    return isinstance(item, str) and not item.startswith("@")


def always_express(pattern: Pattern) -> Pattern | None:
    """Return the pattern of the same device if it is an Express one on any bus, else None."""
    on_any_bus = ["@express" if item == "@config" else item for item in pattern]
    return on_any_bus if on_any_bus != pattern else None


def remember(versions: Json, version: str, pattern: Pattern) -> None:
    """Add a pattern to those of a version, once."""
    patterns = versions.setdefault(version, [])
    if pattern not in patterns:
        patterns.append(pattern)


class Machine:
    """A QEMU that runs its firmware, spoken to over QMP."""

    def __init__(self, qemu: str, arguments: list[str], folder: Path) -> None:
        self.folder = folder
        common = ["-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg", "-m", "32"]
        ours, theirs = socket.socketpair()
        monitor = ["-chardev", f"socket,id=qmp,fd={theirs.fileno()}", "-mon", "qmp,mode=control"]
        with theirs:
            self.process = subprocess.Popen(
                [qemu, *common, *monitor, *arguments], pass_fds=[theirs.fileno()]
            )
        ours.settimeout(60)
        self.socket = ours
        self.answers = ours.makefile("r")
        self.answers.readline()
        self.run("qmp_capabilities")

    def run(self, command: str, **arguments: object) -> Json:
        """Run a command; return what it answers."""
        message = json.dumps({"execute": command, "arguments": arguments})
        self.socket.sendall(message.encode())
        for line in self.answers:
            answer: Json = json.loads(line)
            if "error" in answer:
                raise RuntimeError(f"{command}: {answer['error']}")
            if "return" in answer:
                return answer["return"] or {}
        raise RuntimeError(f"QEMU ended before it answered {command}")

    def description(self) -> Json:
        """Return the description at the end of a migration."""
        file = self.folder / "migration"
        self.run("migrate", uri=f"exec:cat > {file}")
        for _ in range(600):
            if self.run("query-migrate").get("status") == "completed":
                break
            time.sleep(0.05)
        data = file.read_bytes()
        start = data.rindex(b'{"page_size"')
        described: Json = json.JSONDecoder().raw_decode(data[start:].decode())[0]
        return described


@contextlib.contextmanager
def machine(qemu: str, arguments: list[str]) -> Iterator[Machine]:
    """Start a machine that has run its firmware for a second and is stopped."""
    with tempfile.TemporaryDirectory() as folder:
        started = Machine(qemu, arguments, Path(folder))
        try:
            time.sleep(1)
            started.run("stop")
            yield started
        finally:
            started.process.kill()
            started.process.wait(timeout=30)
            started.socket.close()


def dump(qemu: str, arguments: list[str]) -> Json:
    """Return what `-dump-vmstate` says of all devices that QEMU has."""
    with tempfile.NamedTemporaryFile() as file:
        subprocess.run([qemu, *arguments, "-dump-vmstate", file.name], check=True, timeout=60)
        dumped: Json = json.loads(Path(file.name).read_bytes())
        return dumped


def written(table: Json) -> str:
    """Return the table as JSON, a device a line."""
    parts = []
    for part in ("devices", "subsections"):
        lines = [f"    {json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(table[part].items())]
        parts.append(f'  "{part}": {{\n' + ",\n".join(lines) + "\n  }")
    return f'{{\n  "qemu": {json.dumps(table["qemu"])},\n' + ",\n".join(parts) + "\n}\n"


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--qemu", action="append", help="as often as wanted")
    parser.add_argument("--merge", action="store_true", help="keep what OUTPUT already knows")
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    table = Table(json.loads(options.output.read_bytes()) if options.merge else {})
    for qemu in options.qemu or ["qemu-system-x86_64", "qemu-system-i386"]:
        for arguments in MACHINES.values():
            with machine(qemu, arguments) as started:
                version = started.run("query-version")["qemu"]
                devices = started.description()["devices"]
                table.add_machine(devices, conventional="q35" not in arguments)
        for kind in ("pc", "q35"):
            for device in dump(qemu, ["-M", kind]).values():
                table.add_dump(device.get("Description", {}))
        table.qemu = sorted({*table.qemu, f"{version['major']}.{version['minor']}"})
    options.output.write_text(written(table.finished()))


if __name__ == "__main__":
    main()
