"""One string of `disk = […]` in an xl.cfg, and the disk it names.

::

    disk    parameter { "," parameter }        xl-disk-configuration(5), libxlu_disk_l.l
            target, format, vdev, access       by position, or key=value, or a bare word
            target=…                           takes the rest, commas and all
            raw: qcow: phy: file: tap: …       deprecated prefixes of the target
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from xenqemu.errors import BadRecord, FormatError, Unsupported
from xenqemu.formats.config.xl_cfg_settings import XlCfgSettings
from xenqemu.formats.config.xl_cfg_specs import atoi, in_order

T = TypeVar("T")

ORDER = (
    *("backend_domname", "pdev_path", "vdev", "backend", "format", "script", "removable"),
    *("readwrite", "is_cdrom", "direct_io_safe", "discard_enable", "specification"),
    *("colo_enable", "colo_host", "colo_port", "colo_export", "active_disk", "hidden_disk"),
    *("trusted", "grant_usage"),
)
_FORMATS = {name: name for name in ("raw", "qcow", "qcow2", "vhd", "empty", "qed")} | {"": "raw"}
_ACCESS = {"": 1, "rw": 1, "w": 1, "ro": 0, "r": 0}
_DEVTYPES = {"cdrom": True, "disk": False}
_WORDS: Mapping[str, tuple[str, Any]] = {
    "cdrom": ("is_cdrom", True),
    "direct-io-safe": ("direct_io_safe", True),
    "discard": ("discard_enable", "True"),
    "no-discard": ("discard_enable", "False"),
    "colo": ("colo_enable", "True"),
    "no-colo": ("colo_enable", "False"),
    "trusted": ("trusted", "True"),
    "untrusted": ("trusted", "False"),
    "grant_usage=1": ("grant_usage", "True"),
    "grant_usage=0": ("grant_usage", "False"),
}
_TEXTS = {
    "vdev": "vdev",
    "script": "script",
    "backend": "backend_domname",
    "colo-host": "colo_host",
    "colo-export": "colo_export",
    "active-disk": "active_disk",
    "hidden-disk": "hidden_disk",
}
_CHOICES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "format": ("format", _FORMATS),
    "backendtype": ("backend", {name: name for name in ("phy", "tap", "qdisk", "standalone")}),
    "specification": ("specification", {"xen": "xen", "virtio": "virtio"}),
}
_SAID = {"pdev_path": "target", "backend": "backendtype", "backend_domname": "backend"}
"""What specs call fields that libxl names otherwise."""
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
        self._fields: dict[str, Any] = {"readwrite": 1}
        self._prefixed = False
        self._access_given = False

    def disk(self) -> dict[str, Any]:
        while start := _NO_BLANK.search(self._spec, self._at):
            self._at = start.start()
            self._at = self._parameter()
        fields = self._fields
        fields.setdefault("format", "raw")
        if fields.pop("is_cdrom", False):
            fields |= {"removable": 1, "readwrite": 0, "is_cdrom": 1}
            if not fields.get("pdev_path"):
                fields["format"] = "empty"
        if "vdev" not in fields:
            raise self._wrong("a vdev", "none")
        if "pdev_path" not in fields and "removable" not in fields:
            raise self._wrong("a target", "none")
        if not fields["readwrite"]:
            del fields["readwrite"]
        return in_order(ORDER, fields)

    def _parameter(self) -> int:
        """Read the parameter at `at` and return where it ends."""
        spec, at = self._spec, self._at
        if prefix := _PREFIX.match(spec, at):
            self._deprecated(prefix)
            return prefix.end()
        if _UNKNOWN_PREFIX.match(spec, at):
            raise self._wrong("a prefix that xl knows", repr(spec[at : at + 40]))
        if spec.startswith("target=", at):  # the target may have commas
            self._text("pdev_path", spec[at:].removeprefix("target=").removesuffix(","))
            return len(spec)
        comma = spec.find(",", at)
        word = spec[at:comma] if comma >= 0 else spec[at:]
        key, equals, value = word.partition("=")
        if word in _WORDS:
            name, truth = _WORDS[word]
            self._fields[name] = truth
        elif equals:
            self._keyed(key, value)
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
        if key in _TEXTS:
            self._text(_TEXTS[key], value)
        elif key in _CHOICES:
            name, words = _CHOICES[key]
            self._once(name, self._choice(value, words))
        elif key == "access":
            self._fields["readwrite"] = self._choice(value, _ACCESS)
        elif key == "devtype":
            self._fields["is_cdrom"] = self._choice(value, _DEVTYPES)
        elif key == "colo-port":
            self._fields["colo_port"] = atoi(value)
            if not self._fields["colo_port"]:
                raise self._wrong("a port", repr(value[:40]))
        else:
            raise Unsupported("disk spec", self._offset(), "a known key", repr(key[:40]))

    def _positional(self, word: str) -> None:
        fields = self._fields
        if "pdev_path" not in fields:
            self._text("pdev_path", word)
        elif not self._prefixed and "format" not in fields:
            if fields["pdev_path"] or not self._vdev_and_devtype(word):
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
            self._fields["is_cdrom"] = self._choice(devtype, _DEVTYPES)
        return bool(colon)

    def _format(self, word: str) -> None:
        self._once("format", self._choice(word, _FORMATS))

    def _text(self, name: str, value: str) -> None:
        if self._fields.get(name):
            raise self._wrong(f"one {_SAID.get(name, name)}", "another")
        self._fields[name] = value

    def _once(self, name: str, value: str) -> None:
        if self._fields.setdefault(name, value) != value:
            raise self._wrong(f"one {_SAID.get(name, name)}", "another")

    def _choice(self, word: str, words: Mapping[str, T]) -> T:
        if word not in words:
            raise self._wrong("one of " + ", ".join(filter(None, words)), repr(word[:40]))
        return words[word]

    def _offset(self) -> int:
        return len(self._spec[: self._at].encode())

    def _wrong(self, expected: str, got: str) -> BadRecord:
        return BadRecord("disk spec", self._offset(), expected, got)


def parse_disk(spec: str) -> dict[str, Any]:
    """Return the libxl_device_disk that one string of `disk = […]` names.

    Raises `BadRecord` where xl would refuse it, `Unsupported` for a key that no xl knows.
    """
    return _DiskSpec(spec).disk()


def disks(cfg: XlCfgSettings) -> list[dict[str, Any]] | None:
    """Read all disks."""
    found = []
    for spec in cfg.texts("disk") or ():
        try:
            found.append(parse_disk(spec))
        except FormatError as error:
            at = cfg.wrong("disk", error.expected, error.got)
            raise type(error)(at.record, at.offset, at.expected, at.got) from error
    return found or None
