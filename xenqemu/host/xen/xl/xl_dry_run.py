"""What xl makes of an xl.cfg: `xl -N create FILE` prints libxl's JSON and creates nothing.

::

    stdout    the JSON of a libxl_domain_config
    stderr    Parsing config from FILE
              FILE:6: warning: parameter `memory' is not a valid number

xl is the authority for its release, its host's CPUs and the defaults of its xl.conf.
Source: create_domain in xl_vmcontrol.c.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xenqemu.errors import BadRecord, FormatError
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.config.libxl_json import WHERE, JsonObject, loaded
from xenqemu.formats.config.xl_cfg import GuestConfig
from xenqemu.host.party_deadlines import DEFAULT_DEADLINES, Deadlines
from xenqemu.host.xen.xl.toolstack import XL
from xenqemu.system import child
from xenqemu.system.program_output import last_lines

GREETING = "Parsing config from "


def asked(
    file: Path,
    text: bytes,
    deadlines: Deadlines = DEFAULT_DEADLINES,
    xl: Sequence[str] = XL,
) -> GuestConfig:
    """Return what xl makes of `file`, which has `text`.

    Raises `FormatError` with xl's words if it refuses the file, and for what it cannot read back;
    `HostError` if it cannot be run, `HostTimeout` if it does not end.
    """
    words = [*xl, "-N", "create", str(file.absolute())]
    done = child.finished("xl -N create", words, deadlines.xl_command)
    said = [line for line in _lines(done.stderr) if not line.startswith(GREETING)]
    if done.status:
        reason = last_lines("\n".join(said).encode()) if said else "no reason given"
        raise BadRecord("xl.cfg", 0, "a file that xl takes", reason)
    tree = JsonObject.of(WHERE, loaded(done.stdout.encode())).fields
    return GuestConfig(DomainConfig(_without_nulls(tree)), tuple(said), _ignored(text))


def _lines(output: bytes) -> list[str]:
    return output.decode(errors="backslashreplace").splitlines()


def _without_nulls(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out nulls, which libxl refuses to read.

    xl prints one for what it never set: the policy of `rdm = "strategy=host"`.
    """
    fields = {key: _plain(value) for key, value in tree.items()}
    return {key: value for key, value in fields.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _without_nulls(value)
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _ignored(text: bytes) -> tuple[str, ...]:
    """Return the names that xl passes over in silence, as far as our tables tell."""
    try:
        return GuestConfig.from_cfg(text).ignored
    except FormatError:  # what xl takes all the same, it knows better than we
        return ()
