"""A whole guest as one file: the one place where records get their order.

::

    xl header and config, NULs │ libxl header, LIBXC_CONTEXT, libxc image, EMULATOR_CONTEXT, END

The device model's state is taken before the memory, or the last of it, is written, as libxl does,
since what a device still has to write to memory must be there; it is put behind it, where readers
want it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from xenqemu.errors import BadRecord, HostError, HostTimeout
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.device_state import device_stream
from xenqemu.formats.stream import libxl, xl
from xenqemu.formats.stream.framing import Record
from xenqemu.formats.stream.layout import tail_for
from xenqemu.formats.stream.libxl_records import QEMU_UPSTREAM, EmulatorContext, End, LibxcContext
from xenqemu.formats.stream.pieces import Pieces
from xenqemu.formats.stream.sink import Outlet, Sink
from xenqemu.formats.stream.source import Source
from xenqemu.host.guest_memory import GuestMemory, Progress
from xenqemu.host.memory.pages import image_space
from xenqemu.system.cancellation import Cancellation, cancellable
from xenqemu.system.deadline import Deadline

FRAME = 1 << 17
"""Bytes for all headers and small records of an image, and for a seal, generously."""

SEAL_SHARE = 1 << 10
"""One of so many bytes of an image is added for its seal."""

DEVICE_STATE = 1 << 20
"""Bytes assumed for a device model's state before it is known; it has some tens of KiB."""


def space_for(config: DomainConfig, image: int, device_state: bytes | None = None) -> int:
    """Return how many bytes a save file has at most, with an image of so many."""
    state = DEVICE_STATE if device_state is None else len(device_state)
    return FRAME + len(config.dump()) + image + image // SEAL_SHARE + state


def fit_space(
    memory: GuestMemory,
    config: DomainConfig,
    space: int,
    fit: Callable[[int], None],
    *,
    progress: Progress,
    device_state: bytes | None = None,
) -> None:
    """Have `fit` take the size of a save file, with an image of `space` bytes.

    Where that raises `HostError`, pages of zeros are counted, and what is left is tried.
    """
    try:
        fit(space_for(config, space, device_state))
    except HostError:
        fit(space_for(config, memory.counted_space(progress), device_state))


def space_for_rest(pages: int) -> int:
    """Return how many bytes the rest of a save file has at most, with so many pages to write."""
    return image_space(pages) + DEVICE_STATE


PAUSED = "paused"
"""The key of `DomainConfig.extra` that says that a guest was paused when it was saved."""


def was_paused(config: DomainConfig) -> bool:
    """Return whether a guest was paused when it was saved, so that it is to come back paused."""
    return config.extra.get(PAUSED) is True


def with_paused(config: DomainConfig, paused: bool) -> DomainConfig:
    """Return the config of a save file that says whether its guest was paused."""
    rest = {key: value for key, value in config.extra.items() if key != PAUSED}
    return config.with_extra({**rest, PAUSED: True} if paused else rest)


Image = Callable[[Sink], bytes | None]
"""Writes a guest's libxc image and returns its device model's state, None if it has none."""


def suspended_image(memory: GuestMemory, device_state: bytes | None, progress: Progress) -> Image:
    """Return what writes the image of a suspended guest."""

    def image(sink: Sink) -> bytes | None:
        memory.save(sink, progress)
        return device_state

    return image


def write_save_file(
    out: BinaryIO | Outlet,
    config: DomainConfig,
    image: Image,
    pieces: Pieces | None = None,
    *,
    size_before_pages: int | None = None,
    before_end: Callable[[], None] = lambda: None,
) -> None:
    """Write an xl save file that stock `xl restore` reads; a file for it is unbuffered.

    Pages are aligned, from the first on, if the image's `size_before_pages` is given; `pieces` get
    the digests of all that is written.  `before_end` is called before its END is written: until
    then nobody can restore it.  Raises `FormatError` for device state that is none: what is not
    verified has it checked here.
    """
    header = xl.XlHeader.of_json(config.dump().decode())
    if size_before_pages is not None:
        before = len(header.pack()) + libxl.SIZE_BEFORE_IMAGE + size_before_pages
        header = header.but(tail=tail_for(before))
    sink = Sink(out, pieces, align_pages=size_before_pages is not None)
    xl.write(sink, header)
    stream = libxl.StreamWriter(sink)
    stream.write(LibxcContext())
    device_state = image(sink)
    stream.image_written()
    if device_state is not None:
        device_stream.read(device_state)  # of a QEMU that its guest may have taken over
        stream.write(EmulatorContext(QEMU_UPSTREAM, 0, device_state))
    before_end()
    stream.write(End())


@dataclass(frozen=True)
class Parts:
    """What of a save file is not memory."""

    config: DomainConfig
    device_state: bytes | None


def read_save_file(
    source: Source, memory_for: Callable[[DomainConfig], GuestMemory], progress: Progress
) -> Parts:
    """Read a save file into the memory that `memory_for` makes for its config."""
    config = _config(xl.read(source))
    memory = memory_for(config)

    def image(inner: Source) -> Iterator[Record]:
        memory.load(inner, progress)
        return iter(())

    state = None
    for record in libxl.read(source, image):
        if isinstance(record.value, EmulatorContext):
            state = record.value.state
    return Parts(config, state)


def peek_config(source: Source) -> DomainConfig:
    """Return the config of a save file without consuming its header."""
    return _config(xl.ahead(source))


def config_within(source: Source, seconds: float) -> DomainConfig:
    """Return the config that a save file begins with, as `peek_config`.

    Raises `HostTimeout` after so many seconds: there is no operation yet that has a deadline, and
    each byte may come just in time.
    """
    deadline = Deadline.after(seconds)

    def check() -> None:
        if deadline.passed:
            raise HostTimeout(f"the header of the save file did not come within {seconds:g} s")

    with cancellable(Cancellation(check, deadline)):
        return peek_config(source)


def _config(header: Record) -> DomainConfig:
    match header.value:
        case xl.XlHeader(is_json=True, config=bytes(data)):
            return DomainConfig.parse(data)
    raise BadRecord("xl header", xl.HEADER.size, "a config in JSON", "none")
