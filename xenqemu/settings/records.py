"""What is kept of operations that have ended: a line in the system's log, details, metrics."""

from __future__ import annotations

import json
import os
import pwd
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from xenqemu.host.ended_operation import EndedOperation, Result
from xenqemu.settings.metrics_file import count
from xenqemu.settings.xenqemu_conf import Log, Metrics
from xenqemu.shown_text import printable
from xenqemu.system import syslog
from xenqemu.system.syslog import Severity

_SEVERITIES = {Result.DONE: Severity.INFO, Result.CANCELLED: Severity.NOTICE}
_GRAVE = (Result.STRANDED, Result.PAST_RETURN, Result.IN_DOUBT)


def keep(log: Log, metrics: Metrics, ended: EndedOperation) -> None:
    """Keep an operation where the settings say; raise the first `OSError` once all were tried."""
    acts = [partial(_to_syslog, ended)] if log.syslog else []
    acts += [partial(_to_file, ended, log.file)] if log.file else []
    acts += [partial(count, metrics.file, ended)] if metrics.file else []
    errors: list[OSError] = []
    for act in acts:
        try:
            act()
        except OSError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def _to_syslog(ended: EndedOperation) -> None:
    grave = Severity.ERROR if ended.result in _GRAVE else Severity.WARNING
    syslog.log(_SEVERITIES.get(ended.result, grave), line(ended))


def _to_file(ended: EndedOperation, file: Path) -> None:
    packed = f"{json.dumps(fields(ended))}\n".encode()
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        os.write(descriptor, packed)  # in one piece: others append too
    finally:
        os.close(descriptor)


def line(ended: EndedOperation) -> str:
    """Return one line of words as name=value: what, which guest, how it ended, who wanted it."""
    told = {
        "verb": ended.verb,
        "guest": ended.name,
        "domid": ended.domid,
        "uuid": ended.uuid,
        "file": ended.file,
        "result": ended.result.value,
        "seconds": f"{ended.seconds:.3f}",
        "bytes": ended.size,
        "downtime": f"{ended.downtime:.3f}",
        "user": user(),
        "id": ended.id,
        "error": ended.error,
    }
    return " ".join(f"{name}={_word(value)}" for name, value in told.items() if value != "")


def fields(ended: EndedOperation) -> dict[str, object]:
    """Return all that is known, for a program."""
    phases = [
        {"phase": name, "began": _rfc3339(began), "seconds": round(seconds, 3)}
        for name, began, seconds in ended.phases
    ]
    times = {"began": _rfc3339(ended.began), "seconds": round(ended.seconds, 3)}
    rest = {"downtime": round(ended.downtime, 3), "result": ended.result.value, "user": user()}
    return {"version": 1, **vars(ended), **times, **rest, "phases": phases}


def user() -> str:
    """Return the user who wanted it: who called sudo, or our own."""
    if name := os.environ.get("SUDO_USER"):
        return name
    with suppress(KeyError):  # a user without a name
        return pwd.getpwuid(os.getuid()).pw_name
    return str(os.getuid())


def _word(value: object) -> str:
    """Return a value without blanks, or in quotes as JSON has them; no line ends within it."""
    text = printable(str(value))
    plain = text.isascii() and not set(text) & set(' "=\\')
    return text if plain else json.dumps(text, ensure_ascii=False)


def _rfc3339(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")
