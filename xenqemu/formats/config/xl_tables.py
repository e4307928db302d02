r"""What `xl info` and `xl list -v` print, for hosts that are known by xl alone.

::

    xen_major              : 4                               a line a fact
    free_memory            : 1024                            MiB

    Name      ID   Mem VCPUs      State   Time(s)  UUID                                  …
    guest      1  2048     2     -b----    12.3    9233e52c-49ca-454f-96be-f53e22f3994d  …

What is not understood is passed over: it is a help, not a format.
Sources: output_xeninfo in xl_info.c, list_domains in xl_list.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_NUMBER = re.compile(r"(\w+)\s+: ([0-9]{1,18})(?!\S)")
_DOMAIN = re.compile(  # possessive where blanks come: lines of nothing else would take for ever
    r"(?P<name>\S++(?:\s++\S++)*?)\s++(?P<domid>[0-9]{1,5}+)\s++(?P<memory>[0-9]{1,12}+)\s++"
    r"[0-9]++\s++\S{6}\s++[0-9]++\.[0-9]\s++(?P<uuid>[0-9a-f-]{36})\b"
)


class Listed(NamedTuple):
    """A domain in a list; `memory` is in MiB."""

    name: str
    domid: int
    uuid: str
    memory: int


def numbers(text: str) -> dict[str, int]:
    """Return what `xl info` says in numbers."""
    facts = filter(None, map(_NUMBER.match, text.splitlines()))
    return {fact[1]: int(fact[2]) for fact in facts}


def domains(text: str) -> Iterator[Listed]:
    """Yield what `xl list -v` lists."""
    for found in filter(None, map(_DOMAIN.match, text.splitlines())):
        yield Listed(found["name"], int(found["domid"]), found["uuid"], int(found["memory"]))
