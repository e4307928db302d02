"""Seals: their tables and JSON edited, most with a digest that is right again."""

from __future__ import annotations

from functools import cache
from random import Random

from tests.doubles.in_memory.save_files import save_file
from tests.fuzz import noise
from xenqemu.errors import Damaged
from xenqemu.formats.stream import seal as seals
from xenqemu.formats.stream.pieces import hash_maker
from xenqemu.formats.stream.seal import FOOTER, HEADER, Seal
from xenqemu.formats.stream.seal_check import damage
from xenqemu.formats.stream.seal_index import Listed
from xenqemu.formats.stream.seal_passing import Followed

DIGEST = 16
LENGTH_AT = 32


@cache
def samples() -> tuple[bytes, ...]:
    """Seals of a small save file, with and without devices."""
    made = []
    for devices in ([], [Listed(8, 16, "rtc", 7), Listed(24, 8, "cpu #1", 2**64 - 1)]):
        followed = Followed()
        followed.feed(save_file())
        assert followed.end == END
        followed.index.devices = devices
        pieces = seals.contiguous(followed.found(), END)
        made.append(Seal(END, False, pieces, followed.index, {"phases": []}).pack(None))
    return tuple(made)


END = len(save_file())


def digested(chance: Random, data: bytes) -> bytes:
    """Edit what is digested, and make length, digest and footer right again."""
    body = bytearray(noise.changed(chance, data[: -DIGEST - FOOTER.size]))
    length = len(body) + DIGEST + FOOTER.size
    if len(body) >= HEADER.size:
        body[LENGTH_AT : LENGTH_AT + 8] = length.to_bytes(8, "little")
    made = hash_maker(None)()
    made.update(body)
    return bytes(body) + made.digest() + FOOTER.pack(END, length, seals.FOOTER_MAGIC)


def read(data: bytes) -> Seal | None:
    """Read a seal behind END; all that it says can be looked up, and is written again."""
    seal = seals.behind(data, END, None, unchecked=True)
    if seal is None:
        return None
    for piece in seal.pieces[:100]:
        list(seal.index.pages_within(piece.start, piece.end))
        assert isinstance(damage(seal, [piece]), Damaged)
    seal.index.find(5)
    if not seal.keyed:
        assert seals.parse(seal.pack(None), END, None) == seal
    return seal
