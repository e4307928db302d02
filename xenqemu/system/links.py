"""Network interfaces, by iproute2.

A renamed interface keeps its former name as an alternative one (Linux 5.5), so that it is found by
both: whoever has only the former asks again later, or asks for its removal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from xenqemu.errors import HostError
from xenqemu.system import child
from xenqemu.system.undo import undo_on_failure

TIMEOUT = 10.0
"""Seconds for one act of iproute2."""

MTUS = range(68, 65536)
"""From what IPv4 needs to the most an interface can have (if_link.h, netdevice.h)."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,14}", re.ASCII)
"""The names that the kernel takes (dev_valid_name), without those that a program may misread."""

_GONE = ("does not exist", "Cannot find device", "No such device")
"""What iproute2 says of an interface that is not there."""


@dataclass(frozen=True)
class Interface:
    """An interface as it is: `kind` is the driver's word, `master` what it is a port of."""

    name: str
    mac: str
    mtu: int
    up: bool
    kind: str = ""
    master: str = ""


def is_name(name: str) -> bool:
    """Return whether an interface can have this name."""
    return _NAME.fullmatch(name) is not None


def checked_name(name: str, what: str) -> str:
    """Return a name that an interface can have; raise `HostError` with `what` it was meant for."""
    if not is_name(name):
        raise HostError(f"{what} {name!r:.80} is not a valid name of a network interface")
    return name


def find(name: str) -> Interface | None:
    """Return the interface of this name, or that once had it; None if there is none."""
    try:
        (found,) = _asked("-details", "link", "show", "dev", name)
    except HostError as error:
        if _is_gone(error):
            return None
        raise
    return _link(found)


def require(name: str, what: str) -> Interface:
    """Return the interface of this name; raise `HostError`, saying `what` it is, if none has it."""
    found = find(checked_name(name, what))
    if found is None:
        raise HostError(f"there is no {what} {name}")
    return found


def addresses(name: str) -> list[str]:
    """Return the IPv4 addresses of an interface, the first one first."""
    found = _asked("-4", "address", "show", "dev", name)
    return [entry["local"] for link in found for entry in link.get("addr_info", ())]


def change(*lines: str) -> None:
    """Do what the lines say, as ip-batch(8) has them; the first that fails is the last.

    Names in them are to be `checked_name`s.
    """
    child.run("ip -batch", ["ip", "-batch", "-"], TIMEOUT, "".join(f"{line}\n" for line in lines))


def change_if_there(*lines: str) -> None:
    """Do what the lines say of one interface; nothing if it is gone, or goes meanwhile."""
    try:
        change(*lines)
    except HostError as error:
        if not _is_gone(error):
            raise


@contextmanager
def renamed(link: Interface, name: str) -> Iterator[str]:
    """Yield an interface that is down another name, unless it has it; give what it has.

    It keeps that after the block, unless that fails.  Raises `HostError` if another one has it.
    """
    former = link.name
    if former == name:
        yield name
        return
    if find(name) is not None:
        raise HostError(f"cannot rename {former}: an interface {name} exists already")
    with undo_on_failure(f"give {name} its name back", lambda: _take_name_back(name, former)):
        change(
            f"link set dev {former} name {name}",
            f"link property add dev {name} altname {former}",
        )
        yield name


def _take_name_back(name: str, former: str) -> None:
    if find(name) is not None:
        change(
            f"link property del dev {name} altname {former}",
            f"link set dev {name} down",
            f"link set dev {name} name {former}",
        )


def forget(bridge: str, mac: str) -> None:
    """Have a bridge forget behind which of its ports it has last seen an address."""
    listed = child.run("bridge fdb", ["bridge", "-json", "fdb", "show", "br", bridge], TIMEOUT)
    for entry in json.loads(listed):
        if entry.get("mac") == mac and entry.get("state") != "permanent" and "master" in entry:
            words = ["bridge", "fdb", "del", mac, "dev", entry["ifname"], "master"]
            child.run("bridge fdb del", words, TIMEOUT)


def _asked(*words: str) -> Sequence[Any]:
    answer: Sequence[Any] = json.loads(child.run("ip", ["ip", "-json", *words], TIMEOUT))
    return answer


def _link(found: Any) -> Interface:
    return Interface(
        name=found["ifname"],
        mac=found.get("address", ""),
        mtu=found["mtu"],
        up="UP" in found["flags"],
        kind=found.get("linkinfo", {}).get("info_kind", ""),
        master=found.get("master", ""),
    )


def _is_gone(error: HostError) -> bool:
    return any(words in str(error) for words in _GONE)
