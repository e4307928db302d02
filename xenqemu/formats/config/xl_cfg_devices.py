"""One string of `disk = […]` or `vif = […]` in an xl.cfg, and the device it names.

::

    disk    parameter { "," parameter }        xl-disk-configuration(5), libxlu_disk_l.l
            target, format, vdev, access       by position, or key=value, or a bare word
            target=…                           takes the rest, commas and all
            raw: qcow: phy: file: tap: …       deprecated prefixes of the target
    vif     key=value { "," key=value }        xl-network-configuration(5), libxlu_vif.c
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from xenqemu.errors import BadRecord, Unsupported
from xenqemu.formats.config.domain_devices import Disk, Nic

T = TypeVar("T")


_FORMATS = {name: name for name in ("raw", "qcow", "qcow2", "vhd", "empty", "qed")} | {"": "raw"}
_ACCESS = {"": True, "rw": True, "w": True, "ro": False, "r": False}
_BACKENDS = {name: name for name in ("phy", "tap", "qdisk", "standalone")}
_DEVTYPES = {"cdrom": True, "disk": False}
_DISK_WORDS: dict[str, tuple[str, bool]] = {
    "cdrom": ("cdrom", True),
    "direct-io-safe": ("direct_io_safe", True),
    "discard": ("discard", True),
    "no-discard": ("discard", False),
}
_PREFIX = re.compile(
    r"(?:(?P<format>raw|qcow2?|vhd)|(?P<script>iscsi|e?nbd|drbd)"
    r"|tapdisk|tap2?|aio|ioemu|file|phy):"
)
_UNKNOWN_PREFIX = re.compile(r"[a-z][a-z0-9]*:(?![a-z0-9])")
_NO_BLANK = re.compile(r"[^ \t\n]")


class _DiskSpec:
    """One spec being read, as libxlu_disk_l.l reads it: each parameter in its turn.

    `_at` is where the present one starts; what is left is not copied for each of them.
    """

    def __init__(self, spec: str) -> None:
        self._spec = spec
        self._at = 0
        self._fields: dict[str, Any] = {}
        self._prefixed = False
        self._access_given = False

    def disk(self) -> Disk:
        while start := _NO_BLANK.search(self._spec, self._at):
            self._at = start.start()
            self._at = self._parameter()
        fields = self._fields
        if fields.get("cdrom"):
            fields |= {"removable": True, "readwrite": False}
            if not fields.get("target"):
                fields["format"] = "empty"
        if not fields.get("vdev"):
            raise self._wrong("a vdev", "none")
        if fields.setdefault("target") is None and not fields.get("removable"):
            raise self._wrong("a target", "none")
        return Disk(**fields)

    def _parameter(self) -> int:
        """Read the parameter at `at` and return where it ends."""
        spec, at = self._spec, self._at
        if prefix := _PREFIX.match(spec, at):
            self._deprecated(prefix)
            return prefix.end()
        if _UNKNOWN_PREFIX.match(spec, at):
            raise self._wrong("a prefix that xl knows", repr(spec[at : at + 40]))
        if spec.startswith("target=", at):  # the target may have commas
            self._text("target", spec[at:].removeprefix("target=").removesuffix(","))
            return len(spec)
        comma = spec.find(",", at)
        word = spec[at:comma] if comma >= 0 else spec[at:]
        key, equals, value = word.partition("=")
        if equals:
            self._keyed(key, value)
        elif word in _DISK_WORDS:
            name, truth = _DISK_WORDS[word]
            self._fields[name] = truth
        else:
            self._positional(word)
        return at + len(word) + 1

    def _deprecated(self, prefix: re.Match[str]) -> None:
        self._prefixed = True
        if prefix["format"]:
            self._format(prefix["format"])
        if prefix["script"]:
            self._text("script", f"block-{prefix['script']}")

    def _keyed(self, key: str, value: str) -> None:
        if key in ("vdev", "script", "backend"):
            self._text(key, value)
        elif key == "format":
            self._format(value)
        elif key == "access":
            self._fields["readwrite"] = self._choice(value, _ACCESS)
        elif key == "devtype":
            self._fields["cdrom"] = self._choice(value, _DEVTYPES)
        elif key == "backendtype":
            self._once(key, self._choice(value, _BACKENDS))
        else:
            raise Unsupported("disk spec", self._offset(), "a known key", repr(key[:40]))

    def _positional(self, word: str) -> None:
        fields = self._fields
        if "target" not in fields:
            self._text("target", word)
        elif not self._prefixed and "format" not in fields:
            if fields["target"] or not self._vdev_and_devtype(word):
                self._format(word)
            else:
                fields["format"] = "empty"
        elif "vdev" not in fields:
            if not self._vdev_and_devtype(word):
                self._text("vdev", word)
        elif not self._access_given:
            self._access_given = True
            fields["readwrite"] = self._choice(word, _ACCESS)
        else:
            raise self._wrong("at most target, format, vdev, access by position", repr(word[:40]))

    def _vdev_and_devtype(self, word: str) -> bool:
        """Take `vdev:devtype`; return False and do nothing where there is no colon."""
        vdev, colon, devtype = word.rpartition(":")
        if colon:
            self._text("vdev", vdev)
            self._fields["cdrom"] = self._choice(devtype, _DEVTYPES)
        return bool(colon)

    def _format(self, word: str) -> None:
        self._once("format", self._choice(word, _FORMATS))

    def _text(self, name: str, value: str) -> None:
        if self._fields.get(name):
            raise self._wrong(f"one {name}", "another")
        self._fields[name] = value

    def _once(self, name: str, value: str) -> None:
        if self._fields.setdefault(name, value) != value:
            raise self._wrong(f"one {name}", "another")

    def _choice(self, word: str, words: Mapping[str, T]) -> T:
        if word not in words:
            raise self._wrong("one of " + ", ".join(filter(None, words)), repr(word[:40]))
        return words[word]

    def _offset(self) -> int:
        return len(self._spec[: self._at].encode())

    def _wrong(self, expected: str, got: str) -> BadRecord:
        return BadRecord("disk spec", self._offset(), expected, got)


def parse_disk(spec: str, _place: int = 0) -> Disk:
    """Return what one string of `disk = […]` names (xl-disk-configuration(5)).

    Raises `BadRecord` where xl would refuse it, `Unsupported` for keys that only COLO and virtio
    disks use.
    """
    return _DiskSpec(spec).disk()


_NIC_TEXTS = {
    "bridge": "bridge",
    "model": "model",
    "script": "script",
    "ip": "ip",
    "vifname": "ifname",
    "gatewaydev": "gatewaydev",
    "netdev": "gatewaydev",
    "backend": "backend",
}
_NICTYPES = {"ioemu": "vif_ioemu", "vif": "vif"}
_MAC = re.compile(r"[0-9a-f]{1,2}(:[0-9a-f]{1,2}){5}", re.IGNORECASE | re.ASCII)
_COUNT = re.compile(r"0*[0-9]{1,9}", re.ASCII)
"""The last nine digits have its value; Python refuses numbers of thousands of digits."""
_RATE = re.compile(
    r"(?P<count>[1-9][0-9]{0,9})(?P<unit>[GMK]?)(?P<bits>[Bb])/s"
    r"(?:@(?P<time>[1-9][0-9]{0,9})(?P<scale>[mu]?)s?)?",
    re.ASCII,
)
_UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3}
_USECS = {"": 1000**2, "m": 1000, "u": 1}


def _mac(text: str) -> dict[str, Any] | None:
    if not _MAC.fullmatch(text):
        return None
    return {"mac": ":".join(f"{int(byte, 16):02x}" for byte in text.split(":"))}


def _rate(text: str) -> dict[str, Any] | None:
    """Read `10Mb/s@20ms` as libxlu_vif.c does; without `@…` the interval is 50 ms."""
    match = _RATE.fullmatch(text)
    if match is None or int(match["count"]) >= 1 << 32:
        return None
    per_second = int(match["count"]) * _UNITS[match["unit"]] // (8 if match["bits"] == "b" else 1)
    usecs = int(match["time"]) * _USECS[match["scale"]] if match["time"] else 50_000
    if usecs >= 1 << 32 or per_second * usecs >= 1 << 64:
        return None
    per_interval = per_second * usecs // 1000**2 or None  # libxl does not limit to zero
    return {"rate_bytes_per_interval": per_interval, "rate_interval_usecs": usecs}


_NIC_READERS: dict[str, Callable[[str], dict[str, Any] | None]] = {
    "type": lambda text: {"nictype": _NICTYPES[text]} if text in _NICTYPES else None,
    "mac": _mac,
    "rate": _rate,
    "devid": lambda text: {"devid": int(text[-9:])} if _COUNT.fullmatch(text) else None,
    "mtu": lambda text: {"mtu": int(text[-9:]) or None} if _COUNT.fullmatch(text) else None,
}


def _nic_parameter(word: str, offset: int) -> dict[str, Any]:
    key, equals, value = word.partition("=")
    if equals and key in _NIC_TEXTS:
        return {_NIC_TEXTS[key]: value}
    if key not in _NIC_READERS:
        raise Unsupported("vif spec", offset, "a known key", repr(word[:40]))
    found = _NIC_READERS[key](value)
    if found is None:
        raise BadRecord("vif spec", offset, f"a {key}", repr(value[:40]))
    return found


def parse_nic(spec: str, devid: int = 0) -> Nic:
    """Return what one string of `vif = […]` names; `devid` is its place in the list.

    Raises `BadRecord` for bad values and `Unsupported` for unknown keys, of which xl would only
    warn: a guest without the network its file asks for is of no use.
    """
    fields: dict[str, Any] = {"devid": devid}
    offset = 0
    for word in spec.split(","):
        if word.strip(" "):
            fields |= _nic_parameter(word.lstrip(" "), offset)
        offset += len(word.encode()) + 1
    return Nic(**fields)
