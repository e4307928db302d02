"""A libxc image that another program writes, on its way into a save file that is to be sealed."""

from __future__ import annotations

from xenqemu.formats.stream.buffers import Buffer
from xenqemu.formats.stream.page_data import PageData
from xenqemu.formats.stream.record_scan import PAGES, RecordScan
from xenqemu.formats.stream.sink import Sink


class PassedImage:
    """Writes an image to `out` as it comes, and has pieces end where its PAGE_DATA records do.

    All of a record's header comes before any of it is written.
    """

    def __init__(self, out: Sink) -> None:
        self._out = out
        self._name = ""
        self._scan = RecordScan(self, image=True)
        self.write = self._scan.feed if out.digests else out.write

    def passes(self, data: Buffer) -> None:
        """Write bytes."""
        self._out.write(data)

    def begins(self, name: str, size: int) -> None:  # noqa: ARG002 - Passing's
        """Cut before a PAGE_DATA record, and behind one."""
        if PAGES in (name, self._name):
            self._out.cut()
        self._name = name

    def pages(self, pages: PageData) -> None:
        """Take no note of them."""
