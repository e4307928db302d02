"""Keys for xenqemu in guests' own xl.cfg files: xl ignores keys that it does not know."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from xenqemu.errors import FormatError
from xenqemu.settings.choice import Choice
from xenqemu.settings.guest_config import read_guest
from xenqemu.system.edited_folder import is_beside

KEY = "on_host_shutdown"


def own_choices(folder: Path) -> tuple[dict[str, Choice], list[str]]:
    """Return what the files in a folder choose, by the names of their guests, and complaints.

    Of files for one guest the first by name counts: of that xl makes the guest, and passes over
    those that come later.  A guest whose file chooses nothing is saved.  There need be no folder.
    """
    choices: dict[str, Choice] = {}
    complaints, passed_over = [], []
    for path in _files(folder):
        try:
            guest = read_guest(path)
        except (FormatError, OSError) as error:
            passed_over.append(f"{path} is passed over: {getattr(error, 'strerror', error)}")
            continue
        if guest.name in choices:
            passed_over.append(f"{path} is passed over: a file before it is of {guest.name} too")
            continue
        said = guest.unknown.get(KEY, "")
        known = said in [choice.value for choice in Choice]
        choices[guest.name] = Choice(said) if known else Choice.SAVE
        if said and not known:
            complaints.append(f"{path}: {KEY}: expected save, shutdown or leave, got {said!r:.80}")
    return choices, complaints + passed_over


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files of guests, in order, and links that lead nowhere."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not is_beside(path.name) and (path.is_file() or not path.exists()):
            yield path
