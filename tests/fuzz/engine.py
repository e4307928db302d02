"""One input: made of its target and its seed, given to the target, judged."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import xenqemu
from tests.fuzz import noise
from tests.fuzz.limits import TooSlow, limited
from tests.fuzz.noise import Mutator
from tests.fuzz.pieces import MOST
from xenqemu.errors import FormatError

SECONDS, SECONDS_A_BYTE = 1.0, 4e-6
MEMORY, MEMORY_A_BYTE = 64 << 20, 64
"""Both grow with the input, and not faster."""

LONGEST_TEXT = 1000
"""Characters that a `FormatError` may have: it is shown on a terminal."""

VALUE = "a value"
PACKAGE = str(Path(xenqemu.__file__).parent)


@dataclass(frozen=True)
class Target:
    """A reader: `run` takes an input, and returns a value or raises one of `errors`.

    `samples` are sound inputs, or nearly; each of `mutators` is as likely as the others.
    `most` bounds an input, `memory` what may be taken for one, both in bytes.
    """

    name: str
    samples: Callable[[], Sequence[bytes]]
    mutators: Sequence[Mutator]
    run: Callable[[bytes], object]
    errors: tuple[type[Exception], ...] = (FormatError,)
    most: int = MOST
    memory: int = MEMORY

    def input(self, seed: int) -> bytes:
        """Return the input of that number, on every machine the same."""
        chance = Random(f"{self.name} {seed}")
        data = chance.choice(self.samples())
        for _ in range(noise.few(chance)):
            data = chance.choice(self.mutators)(chance, data)[: self.most]
        return data


@dataclass(frozen=True)
class Failure:
    """What an input did that it may not do: `what` in one line, `where` tells such apart."""

    target: str
    seed: int
    what: str
    where: str
    details: str = ""


def outcome(target: Target, data: bytes) -> str:
    """Return the outcome of an input, in words that are the same for inputs of a kind.

    Whatever else than a value or a legal error comes of it is raised.
    """
    seconds = SECONDS + SECONDS_A_BYTE * len(data)
    memory = target.memory + MEMORY_A_BYTE * len(data)
    try:
        with limited(seconds, memory):
            target.run(data)
    except target.errors as error:
        text = str(error)
        if isinstance(error, FormatError) and len(text) > LONGEST_TEXT:
            raise AssertionError(f"an error of {len(text)} characters: {text[:200]}") from error
        return f"{type(error).__name__}: {_kind(error, text)}"
    return VALUE


def judge(target: Target, seed: int) -> str | Failure:
    """Make the input of that number, and return its outcome."""
    try:
        return outcome(target, target.input(seed))
    except (Exception, TooSlow) as error:  # noqa: BLE001  whatever it is, it is a finding
        what = f"{type(error).__name__}: {error}"[:LONGEST_TEXT]
        return Failure(target.name, seed, what, _where(error), traceback.format_exc(limit=-12))


def _kind(error: Exception, text: str) -> str:
    """Return what the error says but for numbers, paths and words in it, and for what it got."""
    words = f"{error.record}: {error.expected}" if isinstance(error, FormatError) else text
    return re.sub(r"(0x)?[0-9a-f]*[0-9][0-9a-f]*|'.*'|\S*/\S*", "…", words)[:120]


def _where(error: BaseException) -> str:
    """Return the kind of error and the line of xenqemu that it was met in.

    Where limits are the error, that is the first function: the line was met by chance.
    """
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith(PACKAGE)]
    at = f"{ours[-1].filename}:{ours[-1].lineno}" if ours else "nowhere in xenqemu"
    if isinstance(error, (TooSlow, MemoryError, RecursionError)) and ours:
        at = f"{ours[0].filename}:{ours[0].name}"
    return f"{type(error).__name__} {at.removeprefix(PACKAGE)}"
