r"""The output of `xl info` and `xl list -v`, for hosts that have only xl.

::

    xen_major              : 4                               a line a fact
    free_memory            : 1024                            MiB

    Name      ID   Mem VCPUs      State   Time(s)  UUID                                  …
    guest      1  2048     2     -b----    12.3    9233e52c-49ca-454f-96be-f53e22f3994d  …

What is not understood is ignored: the output is for people, and has no specified format.
Sources: output_xeninfo in xl_info.c, list_domains in xl_list.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_NUMBER = re.compile(r"(\w+)\s+: ([0-9]{1,18})(?!\S)")
_DOMAIN = re.compile(  # possessive where blanks come: lines of blanks would take too long
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
    """Return the numbers in the output of `xl info`."""
    facts = filter(None, map(_NUMBER.match, text.splitlines()))
    return {fact[1]: int(fact[2]) for fact in facts}


def domains(text: str) -> Iterator[Listed]:
    """Yield the domains in the output of `xl list -v`."""
    for found in filter(None, map(_DOMAIN.match, text.splitlines())):
        yield Listed(found["name"], int(found["domid"]), found["uuid"], int(found["memory"]))
