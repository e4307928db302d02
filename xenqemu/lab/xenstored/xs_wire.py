"""The wire protocol of xenstore: framing, operations, bounds.

::

    u32 type      one of `Op`; a reply repeats it, or is ERROR
    u32 req_id    repeated in the reply; 0 in a WATCH_EVENT
    u32 tx_id     the transaction, 0 for none; repeated in the reply
    u32 length    bytes of payload, at most 4096 in both directions
    payload       strings that end with NUL; a value comes last and has no end mark

From docs/misc/xenstore.txt and xen/include/public/io/xs_wire.h of Xen 4.17.  The numbers are in
the byte order of the host, little-endian on x86.
"""

from __future__ import annotations

from dataclasses import dataclass

from xenqemu.errors import StoreError, TooBig
from xenqemu.formats.xenstore import HEADER, PAYLOAD_MAX, Op


@dataclass(frozen=True)
class Packet:
    """One request, reply or event; `op` is a bare number because a client may send any."""

    op: int
    req_id: int
    tx_id: int
    payload: bytes

    def pack(self) -> bytes:
        """Return the bytes of the message."""
        header = HEADER.pack(self.op, self.req_id, self.tx_id, len(self.payload))
        return header + self.payload

    def reply(self, payload: bytes) -> Packet:
        """Return the answer to this request."""
        return Packet(self.op, self.req_id, self.tx_id, payload)

    def refusal(self, code: str) -> Packet:
        """Return the ERROR that answers this request; `code` is an errno name."""
        return Packet(Op.ERROR, self.req_id, self.tx_id, join(code))


def take(inbox: bytearray) -> Packet | None:
    """Remove the first whole message from `inbox` and return it, None if there is none yet.

    Raises `TooBig` at a length above `PAYLOAD_MAX`.
    """
    if len(inbox) < HEADER.size:
        return None
    op, req_id, tx_id, length = HEADER.unpack_from(inbox)
    if length > PAYLOAD_MAX:
        raise TooBig("xenstore message", 12, f"length of at most {PAYLOAD_MAX}", str(length))
    end = HEADER.size + length
    if len(inbox) < end:
        return None
    payload = bytes(inbox[HEADER.size : end])
    del inbox[:end]
    return Packet(op, req_id, tx_id, payload)


def join(*words: str) -> bytes:
    """Return `words` as a payload, each with its NUL."""
    return b"".join(word.encode("ascii") + b"\0" for word in words)


def split(payload: bytes) -> list[bytes]:
    """Return the NUL-terminated strings of a payload; bytes after the last NUL are dropped."""
    return payload.split(b"\0")[:-1]


def words(payload: bytes, least: int, most: int | None = None) -> list[str]:
    """Return the strings of a payload as text; raise `StoreError` EINVAL at too few or many."""
    pieces = split(payload)
    if len(pieces) < least or (most is not None and len(pieces) > most):
        raise StoreError(f"{len(pieces)} strings, expected {least} to {most}", "EINVAL")
    return [text(piece) for piece in pieces]


def text(piece: bytes) -> str:
    """Return an ASCII string of a payload; raise `StoreError` EINVAL for other bytes."""
    try:
        return piece.decode("ascii")
    except UnicodeDecodeError as error:
        raise StoreError(f"not ASCII: {piece!r}", "EINVAL") from error


def number(text: str) -> int:
    """Return the unsigned decimal `text`; raise `StoreError` EINVAL if it is none."""
    if not text.isdecimal() or len(text) > 20:
        raise StoreError(f"{text!r:.20}: not a number", "EINVAL")
    return int(text)
