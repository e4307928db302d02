"""/etc/default/xendomains: settings of Xen's own script, which that script has the shell read.

::

    # text
    XENDOMAINS_SAVE=/var/lib/xen/save       one assignment a line, quoted as for a shell

Nothing is executed here: a value that a shell would have to compute is an error.
"""

from __future__ import annotations

import re

from xenqemu.errors import UsageError

MAX_TEXT = 1 << 16
"""Bytes of the file at most; Debian's has 3000."""

_ASSIGNMENT = re.compile(r"[ \t]*(?:export[ \t]+)?(XENDOMAINS_[A-Z_]+)=(.*)")
_VALUE = re.compile(
    r"""(?:'(?P<quoted>[^']*)'|"(?P<double>[^"$`\\]*)"|(?P<bare>[^\s'"$`\\;&|<>()#~*?]*))"""
    r"[ \t]*(?:(?<=[ \t])#.*)?"
)


def read(text: bytes, where: str) -> dict[str, str]:
    """Return what the text sets; of a name that is set twice, the last value.

    Raises `UsageError` with the name and what was expected; `where` names the text there.
    """
    if len(text) > MAX_TEXT:
        raise UsageError(f"{where}: expected at most {MAX_TEXT} bytes, got more")
    lines = text.decode(errors="surrogateescape").splitlines()
    found = [match for line in lines if (match := _ASSIGNMENT.fullmatch(line))]
    return {match[1]: _value(match[1], match[2], where) for match in found}


def _value(name: str, text: str, where: str) -> str:
    match = _VALUE.fullmatch(text)
    if match is None:
        raise UsageError(f"{where}: {name}: expected one plain word, got {text!r:.80}")
    return match["quoted"] or match["double"] or match["bare"] or ""
