"""Keys for xenqemu in guests' own xl.cfg files: xl ignores keys that it does not know."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from xenqemu.errors import FormatError
from xenqemu.settings.guest_config import read_guest

KEY = "on_host_shutdown"


class Choice(Enum):
    """What happens to a guest when its host shuts down, as its file writes it."""

    SAVE = "save"
    SHUT_DOWN = "shutdown"
    LEAVE = "leave"


def own_choices(folder: Path) -> tuple[dict[str, Choice], list[str]]:
    """Return what the files in a folder choose, by the names of their guests, and complaints.

    A file that xl would refuse is ignored; so is a missing folder.
    """
    choices: dict[str, Choice] = {}
    complaints = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            guest = read_guest(path)
        except (FormatError, OSError):
            continue
        said = guest.unknown.get(KEY, "")
        if said in [choice.value for choice in Choice]:
            choices[guest.name] = Choice(said)
        elif said:
            complaints.append(f"{path}: {KEY}: expected save, shutdown or leave, got {said!r:.80}")
    return choices, complaints
