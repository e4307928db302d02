"""What of a host a domain's config names: programs, files, devices, words of command lines.

libxl does as root what the config of a save file says.  `CONFIG` is libxl_domain_config key by key:
what each key may name, or `None` where it names nothing of the host (numbers, modes, what only the
guest sees).  It has the keys of libxl_types.idl from Xen 4.13 to 4.22; what it does not have is
libxl's of another release, and `UNKNOWN`.

A resource is written as KEY=VALUE, where KEY is the path in the JSON without the indexes::

    b_info.bootloader=pygrub
    b_info.type.hvm.serial_list=pty
    disks.pdev_path=/dev/vg/web
    pcidevs=0000:03:00.0
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from xenqemu.formats.config.domain_config import OURS, DomainConfig
from xenqemu.shown_text import shown

DEFAULTS = ("False", "<default>")
"""A defbool that is not switched on."""

SHOWN = 120
"""Characters of a value that are shown."""


class Kind(Enum):
    """What a resource is; the value completes "it names …"."""

    PROGRAM = "a program"
    ARGUMENT = "an argument of a program"
    SCRIPT = "a hotplug script"
    FILE = "a file that the guest is given"
    FIRMWARE = "a file of Xen's own"
    DISK = "a disk"
    FOLDER = "a folder that the guest is given"
    CHARDEV = "a character device"
    ADDRESS = "an address to listen on"
    INTERFACE = "a network interface"
    NETWORKS = "networks to route"
    DEVICE = "a device of the host"
    USB = "a USB device"
    DOMAIN = "another domain"
    USER = "a user"
    LABEL = "a security label"
    STORE = "a node in xenstore"
    SERVICE = "a service of dom0 or another host"
    WORD = "a word in a command line"
    SECRET = "a password"
    UNKNOWN = "what this xenqemu does not know"


class Structure(NamedTuple):
    """An object that is one resource, as a whole, and how it is written."""

    kind: Kind
    written: Callable[[Mapping[str, Any]], str]


Node = None | Kind | Structure | Mapping[str, Any]
"""What a key may name; for an array, what each item may."""


@dataclass(frozen=True)
class Resource:
    """Something of the host; `inside` is the object in which the config names it."""

    kind: Kind
    key: str
    value: str
    inside: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def shown(self) -> str:
        """The value for people: in one line, cut, and no password."""
        if self.kind is Kind.SECRET:
            return "***"
        return shown(self.value, SHOWN)

    def __str__(self) -> str:
        """As inspect and errors write it; a key that is unknown is its writer's."""
        return f"{shown(self.key, SHOWN)}={self.shown}"


def host_resources(config: DomainConfig) -> tuple[Resource, ...]:
    """Return all that a config names, in its order, but what is empty or switched off."""
    return tuple(_found(CONFIG, "", config.tree, {}))


def _found(node: Node, key: str, value: object, inside: Mapping[str, Any]) -> Iterator[Resource]:
    if node is None or not value or value in DEFAULTS:
        return
    if isinstance(value, list) and node is not Kind.UNKNOWN:
        for item in value:
            yield from _item(node, key, item, inside)
    else:
        yield from _item(node, key, value, inside)


def _item(node: Node, key: str, value: object, inside: Mapping[str, Any]) -> Iterator[Resource]:
    """Yield what one value names, even if that is number 0."""
    if isinstance(value, Mapping) and isinstance(node, Structure):
        yield Resource(node.kind, key, node.written(value), value)
    elif isinstance(value, Mapping) and node is not Kind.UNKNOWN:
        for name, item in value.items():
            below = node.get(name, Kind.UNKNOWN) if isinstance(node, Mapping) else node
            yield from _found(below, f"{key}.{name}" if key else name, item, value)
    elif isinstance(node, Kind) and not isinstance(value, Mapping | list):
        yield Resource(node, key, str(value), inside)
    else:  # unknown, or not of the type that libxl reads there
        yield Resource(Kind.UNKNOWN, key, json.dumps(value), inside)


def _plain(*names: str) -> dict[str, Node]:
    """Return keys that name nothing of the host."""
    return dict.fromkeys(" ".join(names).split())


def _range(start: str, count: str) -> Callable[[Mapping[str, Any]], str]:
    """Return how a range is written: its first number and how many, in hexadecimal."""
    return lambda found: f"{_hex(found.get(start))}+{_hex(found.get(count))}"


def _hex(value: object) -> str:
    return f"{value:x}" if isinstance(value, int) else ascii(value)


def _pci(found: Mapping[str, Any]) -> str:
    """Return a PCI function as `xl pci-list` does, and what it is allowed beyond that."""
    domain, bus, device, function = (found.get(key, 0) for key in ("domain", "bus", "dev", "func"))
    numbers = (domain, bus, device, function)
    if not all(isinstance(number, int) and number >= 0 for number in numbers):
        return json.dumps(found)
    more = [key for key in ("permissive", "seize") if found.get(key)]
    return ",".join([f"{domain:04x}:{bus:02x}:{device:02x}.{function:x}", *more])


def _usb(found: Mapping[str, Any]) -> str:
    """Return a USB device as xl.cfg(5) has it."""
    place = found.get("type.hostdev")
    if not isinstance(place, Mapping):
        return json.dumps(found)
    return f"hostbus={place.get('hostbus')},hostaddr={place.get('hostaddr')}"


_BACKEND: dict[str, Node] = {"backend_domid": Kind.DOMAIN, "backend_domname": Kind.DOMAIN}
_VNC = _plain("enable passwd display findunused") | {"listen": Kind.ADDRESS}
_SDL = _plain("enable opengl") | {"display": Kind.WORD, "xauthority": Kind.FILE}
_SPICE = _plain("enable port tls_port disable_ticketing agent_mouse vdagent clipboard_sharing") | {
    "host": Kind.ADDRESS,
    "passwd": Kind.SECRET,
    "usbredirection": None,
    "image_compression": Kind.WORD,
    "streaming_video": Kind.WORD,
}
_CREATE_INFO = _plain(
    "type hap oos name domid uuid poolid run_hotplug_scripts passthrough",
    "xend_suspend_evtchn_compat",
) | {
    "ssidref": Kind.LABEL,
    "ssid_label": Kind.LABEL,
    "xsdata": Kind.STORE,
    "platformdata": Kind.STORE,
    "pool_name": Kind.WORD,
    "driver_domain": Kind.SERVICE,
}
_HVM = _plain(
    "bios pae apic acpi acpi_s3 acpi_s4 acpi_laptop_slate nx viridian viridian_enable",
    "viridian_disable timeoffset hpet vpt_align mmio_hole_memkb timer_mode nested_hvm altp2m",
    "smbios hdtype nographic vga gfx_passthru_kind usb usbversion vkb_device xen_platform_pci",
    "xen_platform_pci_bar_uc vendor_device ms_vm_genid rdm rdm_mem_boundary_memkb mca_caps pirq",
) | {
    "firmware": Kind.FIRMWARE,
    "system_firmware": Kind.FILE,
    "smbios_firmware": Kind.FILE,
    "acpi_firmware": Kind.FILE,
    "vnc": _VNC,
    "keymap": Kind.WORD,
    "sdl": _SDL,
    "spice": _SPICE,
    "gfx_passthru": Kind.DEVICE,
    "serial": Kind.CHARDEV,
    "serial_list": Kind.CHARDEV,
    "boot": Kind.WORD,
    "usbdevice": Kind.USB,
    "usbdevice_list": Kind.USB,
    "soundhw": Kind.WORD,
}
_BOOT: dict[str, Node] = {
    "kernel": Kind.FILE,
    "ramdisk": Kind.FILE,
    "cmdline": None,
    "bootloader": Kind.PROGRAM,
    "bootloader_args": Kind.ARGUMENT,
}
"""What a guest boots; xl's daemon does it again when a restored guest reboots."""

_BUILD_INFO = (
    _BOOT
    | _plain(
        "max_vcpus avail_vcpus cpumap nodemap vcpu_hard_affinity vcpu_soft_affinity",
        "numa_placement tsc_mode max_memkb target_memkb video_memkb shadow_memkb iommu_memkb",
        "rtc_timeoffset localtime disable_migrate cpuid vnuma_nodes max_grant_frames",
        "max_maptrack_frames max_grant_version device_model_version device_model_stubdomain",
        "stubdomain_memkb stubdomain_cmdline sched_params llc_colors claim_mode event_channels",
        "acpi bootloader_restrict timer_mode nested_hvm apic dm_restrict tee type.invalid",
        "arch_arm arch_x86 altp2m altp2m_count vmtrace_buf_kb vpmu trap_unmapped_accesses",
        "xenstore_feature_mask xenstore_quota",
    )
    | {
        "exec_ssidref": Kind.LABEL,
        "exec_ssid_label": Kind.LABEL,
        "device_model_ssidref": Kind.LABEL,
        "device_model_ssid_label": Kind.LABEL,
        "blkdev_start": Kind.WORD,
        "stubdomain_kernel": Kind.FIRMWARE,
        "stubdomain_ramdisk": Kind.FIRMWARE,
        "device_model": Kind.PROGRAM,
        "device_model_user": Kind.USER,
        "bootloader_user": Kind.USER,
        "extra": Kind.ARGUMENT,
        "extra_pv": Kind.ARGUMENT,
        "extra_hvm": Kind.ARGUMENT,
        "ioports": Structure(Kind.DEVICE, _range("first", "number")),
        "irqs": Kind.DEVICE,
        "iomem": Structure(Kind.DEVICE, _range("start", "number")),
        "device_tree": Kind.FILE,
        "type.hvm": _HVM,
        "type.pv": _BOOT | _plain("slack_memkb features e820_host"),
        "type.pvh": _plain("pvshim pvshim_cmdline pvshim_extra") | {"pvshim_path": Kind.FIRMWARE},
    }
)
_DISK = (
    _BACKEND
    | _plain(
        "vdev backend format removable readwrite is_cdrom direct_io_safe discard_enable",
        "specification transport irq base colo_enable colo_restore_enable trusted grant_usage",
    )
    | {"pdev_path": Kind.DISK, "script": Kind.SCRIPT}
    | dict.fromkeys(
        ("colo_host", "colo_port", "colo_export", "active_disk", "hidden_disk"), Kind.SERVICE
    )
)
_COLO = (  # chardevs and filters of QEMU, for a copy of the guest on another host
    *("coloft_forwarddev", "colo_checkpoint_host", "colo_checkpoint_port"),
    *("colo_compare_pri_in", "colo_compare_sec_in", "colo_compare_out", "colo_compare_notify_dev"),
    *("colo_filter_mirror_queue", "colo_filter_mirror_outdev", "colo_filter_sec_rewriter0_queue"),
    *(
        f"colo_sock_{name}_{part}"
        for name in (
            *("mirror", "compare_pri_in", "compare_sec_in", "compare_notify"),
            *("redirector0", "redirector1", "redirector2", "sec_redirector0", "sec_redirector1"),
        )
        for part in ("id", "ip", "port")
    ),
    *(
        f"colo_filter_{name}_{part}"
        for name in ("redirector0", "redirector1", "sec_redirector0", "sec_redirector1")
        for part in ("queue", "indev", "outdev")
    ),
)
_NIC = (
    _BACKEND
    | _plain("devid mtu mac nictype rate_bytes_per_interval rate_interval_usecs trusted")
    | {
        "vlan": Kind.WORD,
        "model": Kind.WORD,
        "ip": Kind.NETWORKS,
        "bridge": Kind.INTERFACE,
        "ifname": Kind.INTERFACE,
        "script": Kind.SCRIPT,
        "gatewaydev": Kind.INTERFACE,
    }
    | dict.fromkeys(_COLO, Kind.SERVICE)
)
_P9 = (
    _BACKEND
    | _plain("tag security_model devid type max_space max_files max_open_files auto_delete")
    | {"path": Kind.FOLDER}
)
_VKB = _BACKEND | _plain(
    "devid backend_type unique_id feature_disable_keyboard feature_disable_pointer",
    "feature_abs_pointer feature_raw_pointer feature_multi_touch width height multi_touch_width",
    "multi_touch_height multi_touch_num_contacts",
)

CONFIG: Mapping[str, Node] = _plain(
    "rdms on_poweroff on_reboot on_watchdog on_crash on_soft_reset", OURS
) | {
    "c_info": _CREATE_INFO,
    "b_info": _BUILD_INFO,
    "disks": _DISK,
    "nics": _NIC,
    "pcidevs": Structure(Kind.DEVICE, _pci),
    "dtdevs": {"path": Kind.DEVICE},
    "vfbs": _BACKEND | {"devid": None, "vnc": _VNC, "sdl": _SDL, "keymap": Kind.WORD},
    "vkbs": _VKB,
    "virtios": _BACKEND | _plain("transport grant_usage devid irq base") | {"type": Kind.WORD},
    "vtpms": _BACKEND | _plain("devid uuid"),
    "p9s": _P9,
    "pvcallsifs": Structure(Kind.SERVICE, lambda found: f"pvcalls {found.get('devid', 0)}"),
    "vdispls": _BACKEND | _plain("devid be_alloc connectors"),
    "vsnds": _BACKEND | _plain("devid short_name long_name params pcms"),
    "channels": _BACKEND
    | _plain("devid name connection.unknown connection.pty")
    | {"connection.socket": {"path": Kind.CHARDEV}},
    "usbctrls": _BACKEND | _plain("type devid version ports"),
    "usbdevs": Structure(Kind.USB, _usb),
}
"""libxl_domain_config; the key that is ours is read by the lab, which checks it itself."""
