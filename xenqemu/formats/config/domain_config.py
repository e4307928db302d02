r"""The libxl_domain_config of a domain, as the JSON that libxl writes and reads.

::

    {
        "c_info": { "type": "hvm" | "pv" | "pvh", "name", "domid", "uuid", … },
        "b_info": { "max_vcpus", "avail_vcpus": [ … ], "max_memkb", "target_memkb", …,
                    "type.hvm": { … } },
        "disks":  [ { "pdev_path", "vdev", "backend", "format", "readwrite", … }, … ],
        "nics":   [ { "devid", "model", "mac", "bridge", "nictype", … }, … ],
        "on_reboot": …,
        "xenqemu": { … }                 ours; libxl looks keys up by name and ignores it
    }

Keys are in the order of libxl_types.idl; what has its default value is left out.  The object
is kept whole, so that a writer writes what a reader read, byte for byte: yajl's beautified
form (libxl of Xen 4.20 and before), four spaces a level, an empty line in empty objects and
arrays, \u001F for control characters, LF at the end.  Inside a save file a NUL follows, which
xl counts; `DomainConfig.parse` takes the bytes with or without it, `dump` leaves it to xl's layer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from xenqemu.formats.config.domain_devices import DISK, NIC, Disk, Nic, read
from xenqemu.formats.config.libxl_json import (
    MAX_JSON,
    U32,
    WHERE,
    JsonObject,
    check,
    dumped,
    loaded,
)
from xenqemu.frozen import Frozen

__all__ = ["DEFAULT_MIB", "MAX_JSON", "MAX_VCPUS", "OURS", "UUID", "Disk", "DomainConfig", "Nic"]

MAX_KB = 1 << 44
MAX_VCPUS = 8192
"""MAX_VIRT_CPUS of Xen's public headers."""

DEFAULT_MIB = 32
"""Memory of a guest whose configuration has neither memory nor maxmem, as libxl has it."""

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
OURS = "xenqemu"
"""The top-level key that is not libxl's."""

_TYPES = ("hvm", "pv", "pvh")


class DomainConfig(Frozen):
    """A libxl_domain_config: `tree` is the whole JSON object, the properties are views of it.

    It cannot be made of an object whose views have wrong types: `BadRecord` says which.  Nor of
    text with NUL or half a surrogate pair, or of more than 32 levels (`TooBig`).
    """

    tree: Mapping[str, Any]

    def __init__(self, tree: Mapping[str, Any]) -> None:
        super().__init__(tree)
        check(tree, 0)
        for view in _VIEWS:
            getattr(self, view)

    @classmethod
    def parse(cls, data: bytes) -> DomainConfig:
        """Read the JSON of one domain, with or without the NUL that ends it in a save file.

        Raises `TooBig` above 1 MiB or 32 levels, else `BadRecord`: bad UTF-8 or JSON, a key that
        occurs twice, NaN, no c_info or b_info, wrong types.
        """
        return cls(JsonObject.of(WHERE, loaded(data.removesuffix(b"\0"))).fields)

    def dump(self) -> bytes:
        """Return the JSON as libxl's writer lays it out, with its LF and without a NUL."""
        return f"{dumped(self.tree)}\n".encode()

    @property
    def _c_info(self) -> JsonObject:
        return JsonObject.of(WHERE, self.tree).section("c_info")

    @property
    def _b_info(self) -> JsonObject:
        return JsonObject.of(WHERE, self.tree).section("b_info")

    @property
    def _hvm(self) -> JsonObject:
        return self._b_info.optional("type.hvm")

    @property
    def name(self) -> str:
        """The domain's name."""
        return self._c_info.required("name")

    @property
    def uuid(self) -> str:
        """The domain's UUID, 36 characters."""
        value = self._c_info.required("uuid")
        if not UUID.fullmatch(value):
            raise self._c_info.wrong("uuid", "a UUID", value)
        return value

    @property
    def domid(self) -> int:
        """The domid that a restore asks for: 0 is any, and so is 0xffffffff in xl's lists."""
        return self._c_info.number("domid", U32) or 0

    @property
    def type(self) -> str:
        """The kind of guest: "hvm", "pv" or "pvh"."""
        return str(self._c_info.choice("type", _TYPES))

    @property
    def max_vcpus(self) -> int:
        """The number of vcpus the guest can have."""
        return self._b_info.number("max_vcpus", MAX_VCPUS) or 1

    @property
    def vcpus(self) -> int:
        """The number of vcpus that are online when the guest starts; without a list, all."""
        listed = self._b_info.array("avail_vcpus")
        if not all(type(vcpu) is int for vcpu in listed):
            raise self._b_info.wrong("avail_vcpus", "an array of integers", listed)
        online = {vcpu for vcpu in listed if 0 <= vcpu < self.max_vcpus}
        return len(online) or self.max_vcpus

    @property
    def max_memkb(self) -> int:
        """The memory the guest can have, in KiB."""
        value = self._b_info.number("max_memkb", MAX_KB)
        return DEFAULT_MIB * 1024 if value is None else value

    @property
    def target_memkb(self) -> int:
        """The memory the guest is to balloon to, in KiB."""
        value = self._b_info.number("target_memkb", MAX_KB)
        return self.max_memkb if value is None else value

    @property
    def kernel(self) -> str | None:
        """The path of a kernel to boot directly."""
        return self._b_info.text("kernel")

    @property
    def ramdisk(self) -> str | None:
        """The path of that kernel's initial ramdisk."""
        return self._b_info.text("ramdisk")

    @property
    def cmdline(self) -> str | None:
        """That kernel's command line."""
        return self._b_info.text("cmdline")

    @property
    def vga(self) -> str:
        """The emulated adapter: "std", "cirrus", "none" or "qxl"; libxl's default is cirrus."""
        if self.type != "hvm":
            return "none"
        kind = self._hvm.optional("vga").text("kind")
        return "cirrus" if kind in (None, "unknown") else str(kind)

    @property
    def serial(self) -> tuple[str, ...]:
        """The emulated serial ports, each in QEMU's words; xl wrote one as `serial` alone."""
        one = self._hvm.text("serial")
        return self._hvm.texts("serial_list") if one is None else (one,)

    @property
    def generation_id(self) -> bytes | None:
        """The VM generation id, 16 bytes; None where the guest has none."""
        numbers = self._hvm.array("ms_vm_genid")
        if numbers and not (len(numbers) == 16 and all(type(n) is int for n in numbers)):
            raise self._hvm.wrong("ms_vm_genid", "16 integers", numbers)
        if not any(numbers):
            return None
        if not all(0 <= number < 256 for number in numbers):
            raise self._hvm.wrong("ms_vm_genid", "bytes", numbers)
        return bytes(numbers)

    @property
    def disks(self) -> tuple[Disk, ...]:
        """The disks, in the configuration's order."""
        sections = JsonObject.of(WHERE, self.tree).sections("disks")
        return tuple(Disk(**read(DISK, section)) for section in sections)

    @property
    def nics(self) -> tuple[Nic, ...]:
        """The network interfaces, in the configuration's order."""
        sections = JsonObject.of(WHERE, self.tree).sections("nics")
        return tuple(Nic(**read(NIC, section)) for section in sections)

    @property
    def extra(self) -> Mapping[str, Any]:
        """What xenqemu keeps here for itself; empty in a configuration of libxl's alone."""
        return JsonObject.of(f"{WHERE} {OURS}", self.tree.get(OURS, {})).fields

    def with_extra(self, extra: Mapping[str, Any]) -> DomainConfig:
        """Return the same configuration with other data of xenqemu's; with none if empty."""
        tree = {key: value for key, value in self.tree.items() if key != OURS}
        return DomainConfig({**tree, OURS: dict(extra)} if extra else tree)

    def with_name(self, name: str) -> DomainConfig:
        """Return the same configuration under another name."""
        return self._with_c_info({**self._c_info.fields, "name": name})

    def with_domid(self, domid: int) -> DomainConfig:
        """Return the same configuration asking for `domid`; with 0 it asks for none."""
        fields = [(key, value) for key, value in self._c_info.fields.items() if key != "domid"]
        if domid:
            after_name = [key for key, _ in fields].index("name") + 1
            fields.insert(after_name, ("domid", domid))
        return self._with_c_info(dict(fields))

    def _with_c_info(self, c_info: dict[str, Any]) -> DomainConfig:
        return DomainConfig({**self.tree, "c_info": c_info})


_VIEWS = tuple(name for name, view in vars(DomainConfig).items() if isinstance(view, property))
