"""A record as another xenqemu sends it: by an outlet, with what they agreed on around it."""

from __future__ import annotations

from xenqemu.formats.migration.wrapping import DIGEST, ZSTD, Wrapper
from xenqemu.formats.stream.sink import Sink

SETS = [frozenset(), frozenset({DIGEST}), frozenset({ZSTD}), frozenset({DIGEST, ZSTD})]
NAMES = ["nothing", DIGEST, ZSTD, "both"]


class Out:
    """An outlet that takes at most `most` bytes a write."""

    def __init__(self, most=1 << 30):
        self.data = bytearray()
        self.most = most

    def writev(self, buffers):
        piece = b"".join(buffers)[: self.most]
        self.data += piece
        return len(piece)


def wrapped(record, features, most=1 << 30, pieces=1000):
    out = Out(most)
    wrapper = Wrapper(out, features)
    sink = Sink(wrapper)
    parts = [memoryview(record)[at : at + pieces] for at in range(0, len(record), pieces)]
    sink.writev(parts)
    assert sink.offset == len(record)
    wrapper.finish()
    return bytes(out.data)
