"""The form in which a save file is written: sealed as it passes, compressed, or as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.stream.pieces import Pieces
from xenqemu.formats.stream.seal_passing import SealedOutlet
from xenqemu.formats.stream.sink import Outlet
from xenqemu.operations.journal.operation import Operation
from xenqemu.operations.options import SaveOptions
from xenqemu.operations.sealing import TOO_BIG, Sealing, about_passing


def packed_space(size: int) -> int:
    """Return how many bytes a compressed file has at most, with so many in it."""
    return size + (size >> 12) + (1 << 12)


@dataclass(frozen=True)
class Form:
    """How a save file is written: at which `level` it is compressed, if at all, and its seal.

    One that is compressed is sealed as it passes; `about` returns what its seal says then.  `note`
    is told why it is not.
    """

    level: int | None
    sealing: Sealing | None
    about: Callable[[], dict[str, Any]] = dict
    note: Callable[[str], None] = lambda _text: None

    @property
    def pieces(self) -> Pieces | None:
        """What gets the digests of a file that can be sealed once it is whole."""
        return self.sealing.pieces if self.sealing and self.level is None else None

    @contextmanager
    def written(self, file: BinaryIO) -> Iterator[BinaryIO | Outlet]:
        """Yield where to write what gets into `file`; after the block all of it is written."""
        if self.level is None:
            yield file
        else:
            with self.passing(file) as out:
                yield out

    @contextmanager
    def passing(self, out: BinaryIO | Outlet) -> Iterator[BinaryIO | Outlet]:
        """Yield where to write what passes into `out`, sealed; after the block it has passed."""
        with compressed(out, self.level) as packed:
            if self.sealing is None:
                yield packed
                return
            assert isinstance(packed, Outlet)  # files are compressed, or sealed once whole
            sealed = SealedOutlet(packed, self.sealing.key)
            yield sealed
            if sealed.finish(self.about()) is None:
                self.note(TOO_BIG)


UNSEALED = Form(None, None)
"""As it is."""


def form_for(options: SaveOptions, key: bytes | None, config: DomainConfig, job: Operation) -> Form:
    """Return the form of a save file with such a config, sealed by `key` if there is one.

    Raises `HostError` if it is to be compressed, and nobody here can; notes who does it slowly.
    """
    if options.compress is not None:
        from xenqemu.system.zstd.codec import is_program  # noqa: PLC0415  few are compressed

        if is_program():
            job.note("python3-zstandard is not installed: the program zstd compresses, more slowly")
    sealing = Sealing(key) if options.seal else None
    return Form(options.compress, sealing, lambda: about_passing(config, job.phases), job.note)


@contextmanager
def compressed(out: BinaryIO | Outlet, level: int | None) -> Iterator[BinaryIO | Outlet]:
    """Yield where to write what gets compressed into `out`, or `out` itself without a level.

    After the block all of it is written.  Level 0 is as the target's pace has it (`Pace`).
    """
    if level is None:
        yield out
        return
    from xenqemu.system.zstd.codec import codec  # noqa: PLC0415  few are compressed
    from xenqemu.system.zstd.frame_outlet import FrameOutlet  # noqa: PLC0415  they start threads

    with FrameOutlet(out, codec(), level) as outlet:
        yield outlet
        outlet.finish()
