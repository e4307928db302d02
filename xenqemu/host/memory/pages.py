"""Guest pages in a buffer: which are zeros, and the PAGE_DATA entries of the others.

Work per page stays out of Python: of each page two words are looked at, all of them in one call,
and only pages where both are zero are compared whole, many at once.  Tables of page numbers come of
one sum: 1024 numbers side by side in one long integer.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator, Sequence

from xenqemu.formats.stream.framing import HEADER
from xenqemu.formats.stream.libxc_records import PAGE_SIZE
from xenqemu.formats.stream.page_data import COUNT, ENTRY, XALLOC

BATCH = 1024
"""Most pages in a record, as libxc's own writer has it (MAX_BATCH_SIZE)."""

FRAME = 1 << 16
"""Bytes of an image beside its pages, rounded up: headers, and the state of vcpus."""

WINDOW = BATCH * PAGE_SIZE
"""Bytes of pages in a record at most."""

POPULATE_READ = 22
"""MADV_POPULATE_READ of Linux 5.14: map what is there in one call, not a fault a page."""

BLOCK = 16
"""Pages that are compared with zeros at once: so many stay in the cache of a processor."""

Span = tuple[int, int]
"""From … up to …, as indices of pages."""

_BLOCK = bytes(BLOCK * PAGE_SIZE)
_WORD = bytes(8)
_WORDS = PAGE_SIZE // len(_WORD)
_ZEROS = re.compile(rb"\0+")
_ONES = int.from_bytes(bytes([1, *bytes(ENTRY.size - 1)]) * BATCH, "little")
_COUNTING = int.from_bytes(array("Q", range(BATCH)).tobytes(), "little")


def zero_pages(pages: memoryview) -> list[Span]:
    """Return which of `pages` (bytes, whole pages) are zeros: spans, in order, of indices."""
    words = pages.cast("Q")
    first = words[::_WORDS].tobytes()
    if _WORD not in first:
        return []
    middle = words[_WORDS // 2 :: _WORDS].tobytes()
    either = (int.from_bytes(first) | int.from_bytes(middle)).to_bytes(len(first))
    found: list[Span] = []
    for match in _ZEROS.finditer(bytes(map(bool, memoryview(either).cast("Q")))):
        start, end = match.span()
        # `startswith` compares with pages where they are; `==` would take them to pieces.
        if end - start <= BLOCK and _BLOCK.startswith(pages[start * PAGE_SIZE : end * PAGE_SIZE]):
            found.append((start, end))
        else:
            found.extend(_compared(pages, start, end))
    return found


def _compared(pages: memoryview, start: int, end: int) -> list[Span]:
    """Return what of some pages is zeros: block by block, page by page in a block that is not."""
    found: list[Span] = []
    step = BLOCK if end - start > BLOCK else 1
    for place in range(start, end, step):
        after = min(place + step, end)
        if _BLOCK.startswith(pages[place * PAGE_SIZE : after * PAGE_SIZE]):
            parts = [(place, after)]
        else:
            parts = _compared(pages, place, after) if after - place > 1 else []
        if parts and found and found[-1][1] == parts[0][0]:
            parts[0] = found.pop()[0], parts[0][1]
        found.extend(parts)
    return found


def in_all(spans: Iterable[Span]) -> int:
    """Return how many pages are in `spans`."""
    return sum(end - start for start, end in spans)


def page_entries(pfn: int, count: int, zeros: Sequence[Span]) -> array[int]:
    """Return the PAGE_DATA entries of `count` pages from `pfn` on, those of zeros as XALLOC."""
    entries = array("Q", range(pfn, pfn + count))
    for start, end in zeros:
        entries[start:end] = array("Q", range(XALLOC | pfn + start, (XALLOC | pfn + end - 1) + 1))
    return entries


def stretches(pages: memoryview, zeros: Sequence[Span]) -> Iterator[memoryview]:
    """Yield the stretches of pages between those of zeros."""
    after = 0
    for start, end in [*zeros, (len(pages) // PAGE_SIZE, 0)]:
        if start > after:
            yield pages[after * PAGE_SIZE : start * PAGE_SIZE]
        after = end


def page_numbers(first: int) -> bytes:
    """Return 1024 consecutive page numbers from `first` on (less than 2 ** 52), as u64."""
    return (_COUNTING + first * _ONES).to_bytes(BATCH * ENTRY.size, "little")


def page_table(pfns: bytes, types: bytes | bytearray) -> bytes:
    """Return the PAGE_DATA entries of some pages, given a table of their numbers (u64).

    `types` has the highest byte of each entry, the type << 4.
    """
    table = bytearray(pfns)
    table[ENTRY.size - 1 :: ENTRY.size] = types
    return bytes(table)


def image_space(pages: int, zeros: int = 0) -> int:
    """Return how many bytes an image of so many pages has at most, and of so many of zeros.

    Pages far from each other have records of their own, or what is laid out on multiples of 4096
    has padding: up to 4 KiB for 256 pages.
    """
    each = HEADER.size + COUNT.size + 2 * ENTRY.size
    return FRAME + (pages + zeros) * each + pages * PAGE_SIZE
