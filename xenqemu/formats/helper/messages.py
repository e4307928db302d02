"""What libxl and its save helper say to each other.

::

    helper -> libxl, on the helper's standard output
        u16 length
        u16 msgnum              counted in `length`, as all that follows
        arguments               packed without gaps
            u32, int, unsigned      4 bytes
            unsigned long, pfn      8 bytes
            STRING                  u32 size, `size` bytes of which the last is NUL
    libxl -> helper, on its standard input
        int32                   the answer, to those messages that ask for one

All in the byte order of the host, which on x86 is little-endian.  Which number a message has
depends on the version of Xen: see `xenqemu.formats.helper.dialects`.
Sources: tools/libs/light/libxl_save_msgs_gen.pl, libxl_save_callout.c, libxl_save_helper.c.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import ClassVar

from xenqemu.errors import BadRecord, TooBig
from xenqemu.frozen import Frozen

LENGTH = struct.Struct("<H")
NUMBER = struct.Struct("<H")
ANSWER = struct.Struct("<i")
SIZE = struct.Struct("<I")
MAX_LENGTH = 0xFFFF
NO_ERRNO = 0xFFFFFFFF
"""The `errnoval` of a log message that has none; 0 would be shown as "Success"."""

MAX_ERRNO = 4095
"""The highest error number of Linux (include/linux/err.h)."""

DEBUG, INFO, ERROR = 1, 5, 8
"""Levels of log messages (xentoollog.h); libxl asserts that they are from 1 to 9."""

_NUMBERS = {"I": struct.Struct("<I"), "i": struct.Struct("<i"), "Q": struct.Struct("<Q")}


class HelperMessage(Frozen):
    """Base of the messages: `LAYOUT` has a letter an argument, "s" being STRING."""

    NAME: ClassVar[str]
    LAYOUT: ClassVar[str] = ""
    ANSWERED: ClassVar[bool] = False


class Log(HelperMessage):
    """Something for the log; `errnoval` may be `NO_ERRNO`."""

    NAME = "log"
    LAYOUT = "IIss"
    level: int
    errnoval: int
    context: str
    text: str


class Progress(HelperMessage):
    """Progress of a step; both numbers are 0 where one is only announced."""

    NAME = "progress"
    LAYOUT = "ssQQ"
    context: str
    what: str
    done: int
    total: int


class Suspend(HelperMessage):
    """Suspend the guest: answered by 1 once it is, 0 if it could not be."""

    NAME = "suspend"
    ANSWERED = True


class Postcopy(HelperMessage):
    """Resume the guest after a checkpoint: answered by 1 or 0."""

    NAME = "postcopy"
    ANSWERED = True


class Checkpoint(HelperMessage):
    """A checkpoint is written: answered by 1 to continue, 0 to stop, 2 to fail over."""

    NAME = "checkpoint"
    ANSWERED = True


class WaitCheckpoint(HelperMessage):
    """Wait for the next checkpoint (COLO)."""

    NAME = "wait_checkpoint"
    ANSWERED = True


class SwitchQemuLogdirty(HelperMessage):
    """Switch QEMU's log of dirty pages on or off: answered by 0, or -1."""

    NAME = "switch_qemu_logdirty"
    LAYOUT = "II"
    ANSWERED = True
    domid: int
    enable: int


class StaticDataDone(HelperMessage):
    """All static data is read; bit 0: CPUID is missing, bit 1: MSRs are.  Answered by 0."""

    NAME = "static_data_done"
    LAYOUT = "I"
    ANSWERED = True
    missing: int


class RestoreResults(HelperMessage):
    """Where the restored guest's ring pages lie."""

    NAME = "restore_results"
    LAYOUT = "QQ"
    store_gfn: int
    console_gfn: int


class Complete(HelperMessage):
    """The end: `retval` is 0 if all went well.  Any answer lets the helper exit."""

    NAME = "complete"
    LAYOUT = "ii"
    ANSWERED = True
    retval: int
    errnoval: int


def pack(number: int, message: HelperMessage) -> bytes:
    """Return the bytes of `message` as number `number`, its length before it.

    Raises `TooBig` for what is too long for a u16 length, `BadRecord` for what fits no field.
    """
    where = f"save helper {message.NAME}"
    try:
        arguments = [
            _packed(letter, value)
            for letter, value in zip(message.LAYOUT, vars(message).values(), strict=True)
        ]
    except (struct.error, ValueError) as error:
        raise BadRecord(where, 0, "arguments that fit their places", str(error)) from error
    body = b"".join([NUMBER.pack(number), *arguments])
    if len(body) > MAX_LENGTH:
        raise TooBig(where, 0, f"at most {MAX_LENGTH} bytes", str(len(body)))
    return LENGTH.pack(len(body)) + body


def _packed(letter: str, value: int | str) -> bytes:
    if isinstance(value, int):
        return _NUMBERS[letter].pack(value)
    if "\0" in value:
        raise ValueError("a NUL in a STRING")
    text = value.encode(errors="backslashreplace") + b"\0"
    return SIZE.pack(len(text)) + text


class Reader:
    """Reads messages from the helper's output, which comes in pieces of any size.

    `classes` are the messages by number, 1 first.  `offset` is where the message in hand starts.
    """

    def __init__(self, classes: tuple[type[HelperMessage], ...]) -> None:
        self._classes = classes
        self._data = b""
        self._at = 0
        self.offset = 0

    def feed(self, data: bytes) -> Iterator[HelperMessage]:
        """Yield the messages that `data` completes; raise `FormatError` for what is none."""
        self._data = self._data[self._at :] + data
        self._at = 0
        while (body := self._next()) is not None:
            message = self._message(body)
            self._at += LENGTH.size + len(body)
            yield message
            self.offset += LENGTH.size + len(body)

    def _next(self) -> bytes | None:
        """Return the body of the first message, if all of it is here."""
        start = self._at + LENGTH.size
        if len(self._data) < start:
            return None
        (length,) = LENGTH.unpack_from(self._data, self._at)
        body = self._data[start : start + length]
        return body if len(body) == length else None

    def _message(self, body: bytes) -> HelperMessage:
        if len(body) < NUMBER.size:
            raise self.bad("message", "at least 2 bytes", f"{len(body)}")
        number: int = NUMBER.unpack_from(body)[0]
        if not 1 <= number <= len(self._classes):
            raise self.bad("message", f"a number from 1 to {len(self._classes)}", str(number))
        cls = self._classes[number - 1]
        values: list[int | str] = []
        at = NUMBER.size
        for letter in cls.LAYOUT:
            value, at = self._argument(cls.NAME, letter, body, at)
            values.append(value)
        if at != len(body):
            raise self.bad(cls.NAME, f"{at} bytes", str(len(body)))
        return cls(*values)

    def _argument(self, name: str, letter: str, body: bytes, at: int) -> tuple[int | str, int]:
        """Return the argument `at` bytes into the body, and where the next one starts."""
        layout = SIZE if letter == "s" else _NUMBERS[letter]
        if at + layout.size > len(body):
            raise self.bad(name, f"an argument at {at}", f"{len(body)} bytes in all")
        (value,) = layout.unpack_from(body, at)
        at += layout.size
        if letter != "s":
            return value, at
        text = body[at : at + value]
        if not 0 < value == len(text) or text.find(b"\0") != value - 1:
            raise self.bad(name, f"a STRING of {value} bytes that ends in its NUL", ascii(text))
        return text[:-1].decode(errors="backslashreplace"), at + value

    def bad(self, name: str, expected: str, got: str) -> BadRecord:
        """Return the error that the message at `offset` is not as `expected`."""
        return BadRecord(f"save helper {name}", self.offset, expected, got[:80])
