"""Keys for xenqemu in guests' own xl.cfg files: xl ignores keys that it does not know."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from xenqemu.formats.config.xl_cfg_syntax import MAX_TEXT, decoded, parse_leniently
from xenqemu.settings.guest_config import read_text

KEY = "on_host_shutdown"


class Choice(Enum):
    """What happens to a guest when its host shuts down, as its file writes it."""

    SAVE = "save"
    SHUT_DOWN = "shutdown"
    LEAVE = "leave"


def own_choices(folder: Path) -> tuple[dict[str, Choice], list[str]]:
    """Return what the files in a folder choose, by the names of their guests, and complaints.

    A missing folder chooses nothing.
    """
    choices: dict[str, Choice] = {}
    complaints = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            name, choice, complaint = own_choice(read_text(path))
        except OSError:
            continue
        if choice:
            choices[name] = choice
        if complaint:
            complaints.append(f"{path}: {complaint}")
    return choices, complaints


def own_choice(text: bytes) -> tuple[str, Choice | None, str]:
    """Return the name of the guest of a file, what that chooses for it, and a complaint.

    Two keys are read, whatever the others are, and what stands in faulty lines.  A text without
    the key, be it an xl.cfg or not, chooses nothing.
    """
    if KEY.encode() not in text:
        return "", None, ""
    if len(text) > MAX_TEXT:
        return "", None, f"{KEY} is not heeded: the file has more than {MAX_TEXT >> 20} MiB"
    settings, wrong = parse_leniently(decoded(text))
    if wrong:  # lines that end in CRLF are faulty ones to xl
        settings, _ = parse_leniently(decoded(text.replace(b"\r\n", b"\n")))
    values = [settings[key].value if key in settings else "" for key in ("name", KEY)]
    name, said = values
    if not said:
        return "", None, f"{KEY} is not heeded: {wrong}" if wrong else ""
    if said not in [choice.value for choice in Choice]:
        shown = str(said).encode(errors="surrogateescape").decode(errors="backslashreplace")
        return "", None, f"{KEY}: expected save, shutdown or leave, got {shown!r:.80}"
    if not isinstance(name, str) or not name:
        return "", None, f"{KEY} is not heeded: the file names no guest"
    return str(name), Choice(said), f"xl refuses the file: {wrong}" if wrong else ""
