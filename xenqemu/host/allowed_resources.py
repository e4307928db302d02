"""Whether a host allows what the config of a save file, or of a guest from elsewhere, names.

The rules below allow what stock Xen writes for ordinary guests: Xen's own programs, scripts and
firmware, kernels, disks that are files or block devices, bridges, ptys.  What `Trust.allow` names
is allowed beyond that.  A config that an administrator gives by name is their own, and is not
asked about.

Values that libxl puts into a command line or into a shell script as they are must look like what
they are for: a comma in one would be the next option of QEMU's, a "-" at the start an option.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from xenqemu.errors import Forbidden, HostError
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.config.host_resources import Kind, Resource, host_resources
from xenqemu.host.disk.backing import Backing
from xenqemu.host.trust import Trust

MOST = 8
"""Resources that one error names."""


class Refusal(NamedTuple):
    """A resource that is not allowed, and why not."""

    resource: Resource
    why: str

    def __str__(self) -> str:
        """As errors name it."""
        return f"{self.resource} ({self.why})"


def refusals(trust: Trust, config: DomainConfig) -> Iterator[Refusal]:
    """Yield what a config names and is not allowed here."""
    for resource in host_resources(config):
        why = _RULES[resource.kind](resource, config)
        if why and not any(_matches(resource, pattern) for pattern in trust.allow):
            yield Refusal(resource, why)


def require_allowed(trust: Trust, config: DomainConfig, instead: str = "") -> None:
    """Raise `Forbidden`, which names what of a config is refused.

    `instead` says what can be done in place of a change of the settings.
    """
    complaint = why_refused(trust, config)
    if complaint:
        raise Forbidden(f"{complaint}{instead}")


def why_refused(trust: Trust, config: DomainConfig) -> str:
    """Return what of a config is refused, for people; "" if nothing is."""
    found = list(refusals(trust, config))
    if not found:
        return ""
    named = [str(refusal) for refusal in found[:MOST]]
    more = [f"{len(found) - MOST} more"] if len(found) > MOST else []
    return (
        f"the config of {config.name} names what is not allowed here: "
        f"{'; '.join(named + more)}; [trust] in xenqemu.conf can allow it"
    )


def _matches(resource: Resource, pattern: str) -> bool:
    """Return whether a pattern allows a resource; * never leads out of a folder by "..".

    Brackets and question marks, which values have too, mean themselves.
    """
    text = f"{resource.key}={resource.value}"
    if "*" in pattern and _climbs(resource.value):
        return False
    return fnmatchcase(text, re.sub(r"[\[?]", lambda found: f"[{found[0]}]", pattern))


def _climbs(path: str) -> bool:
    return ".." in re.split("[/:]", path)


Rule = Callable[[Resource, DomainConfig], str]
"""Returns why a resource of a config is refused, "" if it is not."""


def _never(resource: Resource, _config: DomainConfig) -> str:
    return resource.kind.value


def _like(pattern: str) -> Rule:
    """Return the rule that a value has to match all of a pattern."""

    def rule(resource: Resource, _config: DomainConfig) -> str:
        matches = re.fullmatch(pattern, resource.value, re.ASCII)
        return "" if matches else resource.kind.value

    return rule


_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"
_XEN = r"/usr(?:/local)?/lib(?:exec|64)?/(?:x86_64-linux-gnu/)?xen(?:-[0-9.]+)?"
"""Xen's own folders: of Debian (with the release), of the others, and of xen.git."""

_FIRMWARE = (
    rf"(?:{_XEN}/boot|/usr/share/(?:xen|qemu|ovmf|OVMF|edk2|seabios|ipxe)(?:/{_NAME})?)/{_NAME}"
)
_FOR_GUESTS = ("/boot", "/var/lib/xen/images", "/var/lib/xen/boot")
"""Folders for kernels, which a guest may have though not everyone may read them."""

_STATE = (
    *("/etc", "/proc", "/run", "/sys", "/var/lib/dpkg", "/var/lib/rpm"),
    *("/var/lib/systemd", "/var/lib/xen/save", "/var/lib/xenstored", "/var/log", "/var/spool"),
)
"""Folders of what this host is and does: no guest reads that."""

_PROGRAMS = ("/bin", "/boot", "/lib", "/lib32", "/lib64", "/libx32", "/sbin", "/usr")
"""Folders of the packages of this host: everyone may read them, no guest is to write there."""


_KEYS = re.compile(r".*/\.(?:ssh|gnupg)(?=/)")
"""Folders of users' keys."""


def _within(path: str, folders: Collection[str]) -> str:
    """Return which of some folders a path is in, "" if in none."""
    return next((folder for folder in folders if path.startswith(f"{folder}/")), "")


def _own(path: str, folders: Collection[str]) -> str:
    """Return in which folder of this host's own, or of keys, a path is, "" if in none."""
    keys = _KEYS.match(path)
    return keys[0] if keys else _within(path, folders)


def _status(path: str) -> os.stat_result | None:
    """Return what a path names, None if nothing: then whoever needs it says so."""
    try:
        return Path(path).stat()
    except (OSError, ValueError):
        return None


def _file(resource: Resource, _config: DomainConfig) -> str:
    """Refuse to give a guest what not everyone on this host may read."""
    path = resource.value
    if not path.startswith("/") or _climbs(path):
        return "not a whole path"
    real = os.path.realpath(path)
    if re.fullmatch(_FIRMWARE, real, re.ASCII) or _within(real, _FOR_GUESTS):
        return ""
    own = _own(real, _STATE)
    if own:
        return f"a file of this host, in {own}"
    found = _status(real)
    if found and not stat.S_ISREG(found.st_mode):
        return "not a file"
    return "not everyone may read it" if found and not found.st_mode & stat.S_IROTH else ""


def _disk(resource: Resource, config: DomainConfig) -> str:
    """Refuse what is neither a file nor a block device, or is this host's own."""
    path = resource.value
    if _climbs(path) or not re.match("[/A-Za-z0-9_]", path):
        return "not a whole path"
    emulated = config.type == "hvm" and config.extra.get("host") != "lab"  # which escapes it
    if emulated and "," in path:
        return "a comma begins an option of QEMU's"
    if not path.startswith("/"):
        if ":" in path.partition("/")[0] or resource.inside.get("script"):
            return "not a file or a block device"
        path = path if _status(path) else f"/dev/{path}"
    real = os.path.realpath(path)
    found = _status(real)
    if found and stat.S_ISBLK(found.st_mode):
        return _used_here(found.st_rdev, writable=bool(resource.inside.get("readwrite")))
    image = real.startswith("/usr/share/") and not resource.inside.get("readwrite")
    own = _own(real, _STATE if image else (*_STATE, *_PROGRAMS))
    if own:
        return f"a file of this host, in {own}"
    return "neither a file nor a block device" if found and not stat.S_ISREG(found.st_mode) else ""


def _used_here(device: int, *, writable: bool) -> str:
    """Return how this host uses a block device itself, "" if a guest may have it."""
    try:
        return Backing.of_device(device).used_here(writable=writable)
    except HostError as error:
        return str(error)


_RULES: Mapping[Kind, Rule] = {
    Kind.PROGRAM: _like(
        rf"pygrub|(?:{_XEN}/bin|/usr/bin)/(?:pygrub|qemu-system-(?:i386|x86_64))"
        "|/usr/libexec/xen-qemu-system-i386"
    ),
    Kind.ARGUMENT: _never,
    Kind.SCRIPT: _like(r"(?:/etc/xen/scripts/)?(?:xenqemu-)?(?:block|vif)(?:-[A-Za-z0-9_-]+)?"),
    Kind.FILE: _file,
    Kind.FIRMWARE: _like(rf"{_NAME}|{_FIRMWARE}"),  # libxl looks there for a mere name
    Kind.DISK: _disk,
    Kind.FOLDER: _never,
    Kind.CHARDEV: _like(rf"pty|none|null|vc|file:/var/log/xen/{_NAME}"),
    Kind.ADDRESS: _like(r"(?!unix:|fd:)[A-Za-z0-9.:\[\]%_-]*"),
    Kind.INTERFACE: _like(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*"),
    Kind.NETWORKS: _like(r"[0-9A-Fa-f.:/]+(?: +[0-9A-Fa-f.:/]+)*"),
    Kind.DEVICE: _never,
    Kind.USB: _like("tablet|mouse|keyboard"),
    Kind.DOMAIN: _like("0|Domain-0"),
    Kind.USER: _like(r"root|nobody|xen-qemuuser[a-z0-9-]*"),
    Kind.LABEL: _never,
    Kind.STORE: _never,
    Kind.SERVICE: _never,
    Kind.WORD: _like(r"[A-Za-z0-9_][A-Za-z0-9_.:+-]*"),
    Kind.SECRET: _like(r"[^,]*"),
    Kind.UNKNOWN: _like(r"-?[0-9.e+-]+|True"),  # numbers and switches name no file or program
}
