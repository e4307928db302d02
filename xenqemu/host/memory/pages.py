"""Guest pages in a buffer: which are zeros, and the PAGE_DATA entries of the others.

Work per page stays out of Python where it can: of each page one word is looked at, all of them in
one call, and only pages that begin with zeros are compared whole.  Tables of page numbers come of
one sum: 1024 numbers side by side in one long integer.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

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

_ZERO = bytes(PAGE_SIZE)
_ONES = int.from_bytes(bytes([1, *bytes(ENTRY.size - 1)]) * BATCH, "little")
_COUNTING = int.from_bytes(array("Q", range(BATCH)).tobytes(), "little")


def zero_pages(pages: memoryview) -> list[int]:
    """Return the indices of the pages of zeros in `pages` (bytes, whole pages)."""
    first_words = pages.cast("Q")[:: PAGE_SIZE // 8].tolist()
    if all(first_words):
        return []
    # `startswith` compares with the page where it is; `==` would take it to pieces, or a copy.
    return [
        index
        for index, word in enumerate(first_words)
        if not word and _ZERO.startswith(pages[index * PAGE_SIZE : (index + 1) * PAGE_SIZE])
    ]


def page_entries(pfn: int, count: int, zeros: Sequence[int]) -> array[int]:
    """Return the PAGE_DATA entries of `count` pages from `pfn` on, those of zeros as XALLOC."""
    entries = array("Q", range(pfn, pfn + count))
    for index in zeros:
        entries[index] |= XALLOC
    return entries


def stretches(pages: memoryview, zeros: Sequence[int]) -> Iterator[memoryview]:
    """Yield the stretches of pages between those of zeros."""
    start = 0
    for index in [*zeros, len(pages) // PAGE_SIZE]:
        if index > start:
            yield pages[start * PAGE_SIZE : index * PAGE_SIZE]
        start = index + 1


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
