"""The libxl stream, version 2, which carries the libxc image and the device model's state.

::

    u64 0x4C6962786C466D74 "LibxlFmt", u32 version = 2, u32 options      big-endian
                     options bit 0: big-endian records, bit 1: converted from a legacy stream
    records (module record), little-endian:

    LIBXC_CONTEXT             nothing; a libxc image follows, which no length counts
    EMULATOR_XENSTORE_DATA    u32 emulator_id  u32 index  {key NUL value NUL}...
    EMULATOR_CONTEXT          u32 emulator_id  u32 index  the emulator's own bytes
    CHECKPOINT_END            nothing
    CHECKPOINT_STATE          u32 id  u32 0
    END                       nothing

    plain          LIBXC_CONTEXT image [[EMULATOR_XENSTORE_DATA] EMULATOR_CONTEXT] END
    checkpointed   LIBXC_CONTEXT { image up to CHECKPOINT
                   [[EMULATOR_XENSTORE_DATA] EMULATOR_CONTEXT] CHECKPOINT_END }...

A checkpointed stream (Remus, COLO) has no END: it is whole where it ends after a CHECKPOINT_END,
and COLO says CHECKPOINT_STATE between two checkpoints.  libxl refuses every type it does not
know, optional bit or not, and so does this reader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import TYPE_CHECKING

from xenqemu.errors import Truncated, Unsupported
from xenqemu.formats.stream import framing, libxc, value
from xenqemu.formats.stream.framing import Order, Record
from xenqemu.formats.stream.libxc_records import Checkpoint
from xenqemu.formats.stream.libxl_records import (
    HEADER,
    NAMES,
    RECORDS,
    STATE,
    CheckpointEnd,
    CheckpointState,
    EmulatorContext,
    EmulatorXenstoreData,
    End,
    LibxcContext,
    StreamHeader,
)
from xenqemu.formats.stream.source import Source
from xenqemu.formats.stream.value import Value

if TYPE_CHECKING:
    from xenqemu.formats.stream.sink import Sink

__all__ = [
    "CheckpointEnd",
    "CheckpointState",
    "EmulatorContext",
    "EmulatorXenstoreData",
    "End",
    "LibxcContext",
    "Stream",
    "StreamHeader",
    "StreamState",
    "StreamWriter",
    "read",
]

LAYER = "libxl"


class StreamState(Enum):
    """What has been read of a stream."""

    START = auto()
    IMAGE = auto()
    PLAIN = auto()
    PLAIN_XENSTORE = auto()
    PLAIN_EMULATOR = auto()
    CHECKPOINT = auto()
    CHECKPOINT_XENSTORE = auto()
    CHECKPOINT_EMULATOR = auto()
    CHECKPOINTED = auto()
    NEXT = auto()
    DONE = auto()


ORDER: dict[Enum, dict[int, Enum]] = {
    StreamState.START: {LibxcContext.TYPE: StreamState.IMAGE},
    StreamState.PLAIN: {
        EmulatorXenstoreData.TYPE: StreamState.PLAIN_XENSTORE,
        EmulatorContext.TYPE: StreamState.PLAIN_EMULATOR,
        End.TYPE: StreamState.DONE,
    },
    StreamState.PLAIN_XENSTORE: {EmulatorContext.TYPE: StreamState.PLAIN_EMULATOR},
    StreamState.PLAIN_EMULATOR: {End.TYPE: StreamState.DONE},
    StreamState.CHECKPOINT: {
        EmulatorXenstoreData.TYPE: StreamState.CHECKPOINT_XENSTORE,
        EmulatorContext.TYPE: StreamState.CHECKPOINT_EMULATOR,
        CheckpointEnd.TYPE: StreamState.CHECKPOINTED,
    },
    StreamState.CHECKPOINT_XENSTORE: {EmulatorContext.TYPE: StreamState.CHECKPOINT_EMULATOR},
    StreamState.CHECKPOINT_EMULATOR: {CheckpointEnd.TYPE: StreamState.CHECKPOINTED},
    StreamState.CHECKPOINTED: {CheckpointState.TYPE: StreamState.NEXT},
}
"""The legal orders of libxl's own records.

In IMAGE, CHECKPOINTED and NEXT libxc's records come next; they lead to PLAIN where they close
with END, to CHECKPOINT where they close with CHECKPOINT.
"""

IMAGE_NEXT = frozenset({StreamState.IMAGE, StreamState.CHECKPOINTED, StreamState.NEXT})

NEXT_IS_STATE = framing.HEADER.pack(CheckpointState.TYPE, STATE.size)
"""The start of a CHECKPOINT_STATE: after a CHECKPOINT_END no libxc record starts so."""

ReadImage = Callable[[Source], Iterator[Record]]
"""Reads the libxc image up to its END or CHECKPOINT; one that yields nothing read up to END.

Called again after each checkpoint, where the stream is checkpointed.
"""


class Stream:
    """The walk through one stream; iterate over it once.

    `image` takes the libxc image; by default it is read, its pages skipped.  `checkpoints`
    counts the whole ones so far: above zero, the stream is a checkpointed one.
    """

    def __init__(self, source: Source, image: ReadImage | None = None) -> None:
        self._source = source
        self._image = image or libxc.Image().part
        self._order = Order(LAYER, ORDER, NAMES, StreamState.START)
        self.checkpoints = 0

    def __iter__(self) -> Iterator[Record]:
        """Yield header and records of libxl and libxc, in their order; raise `FormatError`.

        `Truncated` says how many checkpoints were whole, if the stream breaks off in a later one.
        """
        try:
            yield self._header()
            while not self._ended():
                yield from self._step()
        except Truncated as error:
            if not self.checkpoints:
                raise
            got = f"{error.got} (after {self.checkpoints} whole checkpoints)"
            raise Truncated(error.record, error.offset, error.expected, got) from error

    def _ended(self) -> bool:
        if self._order.state is StreamState.CHECKPOINTED:
            return self._source.at_end()
        return self._order.state is StreamState.DONE

    def _step(self) -> Iterator[Record]:
        if self._order.state not in IMAGE_NEXT or self._state_follows():
            yield self._record()
            return
        last = None
        for step in self._image(self._source):
            last = step
            yield step
        ended = last is not None and type(last.value) is Checkpoint
        self._order.state = StreamState.CHECKPOINT if ended else StreamState.PLAIN

    def _state_follows(self) -> bool:
        if self._order.state is not StreamState.CHECKPOINTED:
            return False
        return self._source.peek(len(NEXT_IS_STATE)) == NEXT_IS_STATE

    def _header(self) -> Record:
        offset = self._source.offset
        what = value.read_bare(self._source, HEADER.size, LAYER, StreamHeader)
        return Record(LAYER, what.NAME, offset, HEADER.size, what)

    def _record(self) -> Record:
        source = self._source
        header = framing.read_header(source, LAYER)
        if header.type not in RECORDS:
            where, got = f"{LAYER} record", f"{header.type:#x}"
            raise Unsupported(where, header.offset, "a type that is known", got)
        self._order.accept(header.type, header.offset)
        what = value.read(source, header, LAYER, RECORDS[header.type])
        self.checkpoints += header.type == CheckpointEnd.TYPE
        return Record(LAYER, what.NAME, header.offset, source.offset - header.offset, what)


def read(source: Source, image: ReadImage | None = None) -> Iterator[Record]:
    """Yield what `Stream` does."""
    yield from Stream(source, image)


SIZE_BEFORE_IMAGE = HEADER.size + framing.HEADER.size
"""Bytes of the stream's header and LIBXC_CONTEXT."""


class StreamWriter:
    """Writes one stream, with the order and the checks of the reader.

    Making it writes the header.  After `LibxcContext` the image goes to the same sink (`libxc`),
    then `image_written` is called.  Each method raises `FormatError` before it writes anything.
    """

    def __init__(self, sink: Sink, *, legacy: bool = False) -> None:
        self._sink = sink
        self._order = Order(LAYER, ORDER, NAMES, StreamState.START)
        sink.write(value.checked(StreamHeader(legacy), LAYER, sink.offset))

    def write(self, what: Value) -> None:
        """Write one record."""
        offset = self._sink.offset
        body = value.checked(what, LAYER, offset)
        self._order.accept(what.kind, offset)
        framing.write_record(self._sink, what.kind, body)

    def image_written(self, *, checkpoint: bool = False) -> None:
        """Continue after the libxc image, which is written up to END or to a CHECKPOINT."""
        if self._order.state not in IMAGE_NEXT:
            raise ValueError("no libxc image belongs here")
        self._order.state = StreamState.CHECKPOINT if checkpoint else StreamState.PLAIN
