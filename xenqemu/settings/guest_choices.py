"""Keys for xenqemu in guests' own xl.cfg files: xl ignores keys that it does not know."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from xenqemu.formats.config.xl_cfg_syntax import MAX_TEXT, decoded, parse_leniently
from xenqemu.settings.choice import Choice
from xenqemu.settings.guest_config import read_text
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
            name, choice, complaint = own_choice(read_text(path))
        except OSError as error:
            passed_over.append(f"{path} is passed over: {error.strerror}")
            continue
        if not name:
            passed_over.append(f"{path} is passed over: {complaint}")
        elif name in choices:
            passed_over.append(f"{path} is passed over: a file before it is of {name} too")
        else:
            choices[name] = choice
            complaints += [f"{path}: {complaint}"] if complaint else []
    return choices, complaints + passed_over


def own_choice(text: bytes) -> tuple[str, Choice, str]:
    """Return the name of the guest of a file, what that chooses for it, and a complaint.

    Two keys are read, whatever the others are, and what stands in faulty lines.  The name is "" for
    a text that names no guest, be it an xl.cfg or not; the complaint is "" where there is none.
    """
    if len(text) > MAX_TEXT:
        return "", Choice.SAVE, f"it has more than {MAX_TEXT >> 20} MiB"
    settings, wrong = parse_leniently(decoded(text))
    if wrong:  # lines that end in CRLF are faulty ones to xl
        settings, _ = parse_leniently(decoded(text.replace(b"\r\n", b"\n")))
    name, said = (settings[key].value if key in settings else "" for key in ("name", KEY))
    if not isinstance(name, str) or not name:
        return "", Choice.SAVE, "it names no guest"
    if said in [choice.value for choice in Choice]:
        return str(name), Choice(said), f"xl refuses the file: {wrong}" if wrong else ""
    if said:
        shown = str(said).encode(errors="surrogateescape").decode(errors="backslashreplace")
        expected = f"{KEY}: expected save, shutdown or leave"
        return str(name), Choice.SAVE, f"{expected}, got {shown!r:.80}"
    unheeded = f"{KEY} is not heeded" if KEY.encode() in text else "xl refuses the file"
    return str(name), Choice.SAVE, f"{unheeded}: {wrong}" if wrong else ""


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files of guests, in order, and links that lead nowhere."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not is_beside(path.name) and (path.is_file() or not path.exists()):
            yield path
