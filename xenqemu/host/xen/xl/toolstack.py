"""libxl, by way of xl.

::

    xl list -l DOMID       what libxl has stored of the domain (userdata-d.DOMID.UUID.libxl-json),
                           with what has changed since: memory, vcpus, scheduling, devices, name;
                           it is what `xl save` puts into a save file
    xl shutdown -F DOMID   asks the guest, and does not wait for it
    xl destroy DOMID       ends it, and all that libxl has set up for it
    xl info                free_memory, in MiB

Sources: libxl_retrieve_domain_configuration (libxl_domain.c),
save_domain_core_begin (xl_saverestore.c).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xenqemu.errors import HostError, HostTimeout
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.config.libxl_json import loaded
from xenqemu.formats.config.xl_tables import numbers
from xenqemu.host.party_deadlines import DEFAULT_DEADLINES, Deadlines
from xenqemu.system import child

XL = ("xl",)
"""The program; Debian's picks the one that is the hypervisor's version."""

GONE = "does not exist"
"""What `xl list` says of a domain that is not there."""


def listed_config(
    domid: int, deadlines: Deadlines = DEFAULT_DEADLINES, xl: Sequence[str] = XL
) -> DomainConfig:
    """Return the present configuration of a domain, as `xl save` would store it.

    Raises `HostError` with xl's error, `FormatError` for output that is not a list of domains.
    """
    listed = loaded(run_xl("list", "-l", str(domid), deadlines=deadlines, xl=xl).encode())
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, Mapping) and entry.get("domid") == domid:
            return DomainConfig(entry.get("config") or {})
    raise HostError(f"xl list -l does not list domain {domid}")


def destroy(domid: int, deadlines: Deadlines = DEFAULT_DEADLINES, xl: Sequence[str] = XL) -> None:
    """End a domain and all that libxl has set up for it; nothing if it is gone."""
    try:
        run_xl("destroy", str(domid), deadlines=deadlines, xl=xl)
    except HostTimeout:
        raise
    except HostError:
        if exists(domid, deadlines, xl):
            raise


def shut_down(domid: int, deadlines: Deadlines = DEFAULT_DEADLINES, xl: Sequence[str] = XL) -> None:
    """Ask a guest to power off: by its PV drivers or else, as with a button, by ACPI."""
    run_xl("shutdown", "-F", str(domid), deadlines=deadlines, xl=xl)


def exists(domid: int, deadlines: Deadlines = DEFAULT_DEADLINES, xl: Sequence[str] = XL) -> bool:
    """Return whether libxl knows the domain."""
    try:
        run_xl("list", str(domid), deadlines=deadlines, xl=xl)
    except HostError as error:
        if GONE in str(error):
            return False
        raise
    return True


def free_memory(deadlines: Deadlines = DEFAULT_DEADLINES, xl: Sequence[str] = XL) -> int:
    """Return how many bytes of the host's memory are free."""
    facts = numbers(run_xl("info", deadlines=deadlines, xl=xl))
    if "free_memory" not in facts:
        raise HostError("xl info does not say how much memory is free")
    return facts["free_memory"] << 20


def run_xl(*words: str, deadlines: Deadlines = DEFAULT_DEADLINES, xl: Sequence[str] = XL) -> str:
    """Run xl and return what it prints; raise `HostError` with its error if it fails."""
    return child.run(f"xl {words[0]}", [*xl, *words], deadlines.xl_command)
