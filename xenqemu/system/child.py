"""Programs of this host that do one thing and end."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from xenqemu.errors import HostError, HostTimeout
from xenqemu.system.process import last_words


def run(what: str, words: Sequence[str], timeout: float, given: str = "") -> str:
    """Run a program with `given` as its input and return what it prints; `what` names it in errors.

    Raises `HostError` with its last words if it fails or cannot be run, `HostTimeout` if it is not
    done within `timeout` seconds: then it is killed.
    """
    try:
        done = subprocess.run(
            words, input=given.encode(), capture_output=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise HostTimeout(f"{what} is not done within {timeout:g} s") from error
    except OSError as error:
        raise HostError(f"cannot run {what}: {error}") from error
    if done.returncode:
        raise HostError(f"{what} failed ({done.returncode}): {last_words(done.stderr)}")
    return done.stdout.decode(errors="backslashreplace")
