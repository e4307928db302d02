"""Where the sections of QEMU's stream begin and end, though it has no lengths.

Each place that has the bytes of a header may start a section.  Which ones do is searched: from a
header edges lead to the places where the next one may be, and each path from the first header to
the end of the stream is a reading of it.

- Where the layout of the device is known and leads to a header or to the end, the edges lead there
  and nowhere else: QEMU itself continues there, whatever a guest has put into its buffers.
- Else (unknown device, another version, requests in flight) they lead to all headers that are found
  by their shape, and to the end.  A guest can plant a header in a buffer of its own, so what is
  found by shape is not certain where there is a choice.

A section is certain if every reading has it and nothing else could have followed it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from functools import cached_property

from xenqemu.errors import BadRecord, FormatError, TooBig, Truncated
from xenqemu.formats.device_state.layouts import Extent, extent
from xenqemu.formats.device_state.section_header import (
    EOF,
    FOOTER_SIZE,
    Header,
    header_at,
    headers_by_shape,
    is_cut_short,
    pack_footer,
)
from xenqemu.frozen import Frozen

MOST_SECTIONS = 2048
"""Headers visited in one stream; real machines have up to a few hundred."""
MOST_SHAPES = 512
"""Headers found by shape; where there are more, none is used."""

FIRST_IN_STREAM = frozenset(
    {
        *("amd-iommu", "iommu-intel", "virtio-iommu", "virtio-mem"),
        *("cxl-rp", "i82801b11_bridge", "ioh-3240-express-root-port", "pci_bridge"),
        *("pcie-pci-bridge", "pcie-root-port"),
        *("xio3130-express-downstream-port", "xio3130-express-upstream-port"),
    }
)
"""Devices that QEMU may save before all others (MigrationPriority); ids ascend only after them."""


class Candidate:
    """A header that some reading may have, and the places that may follow it.

    `edges` are those places, each with the end of the state before it.
    `fits` is whether the layout led there, `choice` whether there were other places.  `onward` are
    the places from which the end of the stream can be reached.
    """

    def __init__(
        self, header: Header, extent: Extent, edges: dict[int, int], *, fits: bool, choice: bool
    ) -> None:
        self.header = header
        self.extent = extent
        self.edges = edges
        self.fits = fits
        self.choice = choice
        self.onward: list[int] = []


class Cut(Frozen):
    """A section of a reading: its node, where its state ends and where it itself ends."""

    node: Candidate
    end: int
    after: int
    certain: bool


class Search:
    """All readings of `data` from `offset` on, where its first section or its end is.

    `footers` is whether sections end with footers; `crowded`, whether too much looked like a
    header.  Raises a `FormatError` if there is no reading at all.
    """

    def __init__(self, data: bytes, offset: int) -> None:
        self.data = data
        self.offset = offset
        self.crowded = False
        self.ends: set[int] = set()
        self.nodes: dict[int, Candidate] = {}
        self.footers = self._has_footers()
        self._explore()
        for at in sorted(self.nodes, reverse=True):
            node = self.nodes[at]
            node.onward = sorted(after for after in node.edges if self._reaches_end(after))
        if not self._reaches_end(offset):
            raise self._failure()

    def finest(self) -> tuple[list[Cut], int]:
        """Return the reading with most sections, and the offset of its end."""
        cuts = []
        at = self.offset
        sure = self._on_every_path()
        while at not in self.ends:
            node = self.nodes[at]
            after = node.onward[0]
            certain = at in sure and len(node.onward) == 1 and not node.choice
            cuts.append(Cut(node, node.edges[after], after, certain))
            at = after
        return cuts, at

    def headers_between(self, start: int, end: int) -> Iterable[Header]:
        """Return the headers from `start` to before `end` that any reading has."""
        places = sorted(at for at in self.nodes if start <= at < end)
        return (self.nodes[at].header for at in places if self.nodes[at].onward)

    @cached_property
    def _shapes(self) -> list[Header]:
        found = headers_by_shape(self.data, self.offset, MOST_SHAPES)
        self.crowded = found is None
        return found or []

    def _has_footers(self) -> bool:
        first = header_at(self.data, self.offset)
        if first is None:
            return False
        ends = _extent(self.data, first).ends
        if not ends:
            following = [shape.offset for shape in self._shapes if shape.offset >= first.start]
            ends = frozenset([min(following, default=len(self.data) - 1) - FOOTER_SIZE])
        rests = (self.data[end : end + FOOTER_SIZE] for end in ends)
        return any(rest and pack_footer(first.id).startswith(rest) for rest in rests)

    def _explore(self) -> None:
        """Visit the headers that can be reached, in ascending order."""
        ahead = [self.offset]
        if self._is_end(self.offset):
            self.ends.add(self.offset)
        while ahead:
            at = heapq.heappop(ahead)
            header = None if at in self.nodes else header_at(self.data, at)
            if header is None:
                continue
            if len(self.nodes) == MOST_SECTIONS:
                raise TooBig("device state", at, f"at most {MOST_SECTIONS} sections", "more")
            self.nodes[at] = self._node(header)
            for after in self.nodes[at].edges:
                heapq.heappush(ahead, after)

    def _node(self, header: Header) -> Candidate:
        reach = _extent(self.data, header)
        if not reach.measured:
            return self._node_by_shape(header, reach)
        afters = {self._after(header, end): end for end in reach.ends}
        edges = {at: end for at, end in afters.items() if at and header_at(self.data, at)}
        if edges:
            return Candidate(header, reach, edges, fits=True, choice=False)
        edges = self._edges_to_end(header, reach)
        if edges:
            self.ends.update(edges)
            return Candidate(header, reach, edges, fits=True, choice=reach.cut)
        return self._node_by_shape(header, reach)

    def _edges_to_end(self, header: Header, reach: Extent) -> dict[int, int]:
        """Return the edges to the end of the stream that the layout leads to.

        One that leaves bytes over counts only if the layout leads nowhere else; if the last byte
        could be the end too, the stream may as well end there.
        """
        last = len(self.data) - 1
        whole = self._edge_to_last(header)
        if set(whole.values()) & reach.ends:
            return whole if all(cut > last for cut in self._cuts_after(header, reach)) else {}
        if len(reach.ends) > 1 or reach.cut:
            return {}
        afters = {self._after(header, end): end for end in reach.ends}
        edges = {at: end for at, end in afters.items() if at and self._is_end(at)}
        return edges | whole if edges else {}

    def _edge_to_last(self, header: Header) -> dict[int, int]:
        """Return an edge to the last byte, if that can be the end."""
        last = len(self.data) - 1
        end = last - (FOOTER_SIZE if self.footers else 0)
        ends = end >= header.start and self.data[last] == EOF and self._after(header, end) == last
        return {last: end} if ends else {}

    def _node_by_shape(self, header: Header, reach: Extent) -> Candidate:
        footer = FOOTER_SIZE if self.footers else 0
        least = (header.start if reach.measured or reach.ends else reach.least) + footer
        shapes = [shape for shape in self._shapes if shape.offset >= least]
        if self.footers:
            shapes = [s for s in shapes if self._after(header, s.offset - footer) is not None]
        early = header.device in FIRST_IN_STREAM
        edges = {s.offset: s.offset - footer for s in shapes if early or s.id > header.id}
        whole = self._edge_to_last(header)
        if not reach.cut and not self._cuts_after(header, reach):
            self.ends.update(whole)
            edges |= whole
        choice = self.crowded or len(shapes) + len(whole) > 1 or bool(reach.ends)
        return Candidate(header, reach, edges, fits=False, choice=choice)

    def _after(self, header: Header, end: int) -> int | None:
        """Return where the section ends whose state ends at `end`; None if its footer misses."""
        if not self.footers:
            return end
        footed = self.data.startswith(pack_footer(header.id), end)
        return end + FOOTER_SIZE if footed else None

    def _cuts_after(self, header: Header, reach: Extent) -> list[int]:
        """Return where the stream ends too early after what the layout says: offsets of the cuts.

        That is the end of the stream itself, or the footer or header that is not whole.
        """
        cuts = []
        for end in reach.ends:
            after = self._after(header, end)
            if after is not None and is_cut_short(self.data, after):
                cuts.append(after)
            if after is None and pack_footer(header.id).startswith(self.data[end:]):
                cuts.append(end)
        return cuts

    def _is_end(self, at: int) -> bool:
        """Return whether the stream can end at `at`: with a zero and no header later."""
        if at >= len(self.data) or self.data[at] != EOF:
            return False
        if at == len(self.data) - 1:
            return True
        return not any(shape.offset > at for shape in self._shapes) and not self.crowded

    def _reaches_end(self, at: int) -> bool:
        return at in self.ends or (at in self.nodes and bool(self.nodes[at].onward))

    def _on_every_path(self) -> set[int]:
        """Return the places that no edge of any reading jumps over."""
        sure = set()
        furthest = self.offset
        for at in sorted(self.nodes):
            onward = self.nodes[at].onward
            if onward and at >= furthest:
                sure.add(at)
            furthest = max([furthest, *onward[-1:]])
        return sure

    def _failure(self) -> FormatError:
        """Return why there is no reading: what is wrong at the header that was furthest."""
        size = len(self.data)
        if not self.nodes:
            cut = is_cut_short(self.data, self.offset)
            return self._no_section("device state", self.offset, cut)
        header = self.nodes[max(self.nodes)].header
        reach = self.nodes[max(self.nodes)].extent
        state = f"the state of {header.device} version {header.version_id}"
        if reach.cut:
            return Truncated(header.idstr, header.start, state, f"{size - header.start} bytes")
        if not reach.ends:
            last = f"{self.data[-1]:#04x} as the last byte"
            return Truncated(header.idstr, size - 1, "0x00 at the end of the stream", last)
        cuts = self._cuts_after(header, reach)
        offset = max(cuts or reach.ends)
        return self._no_section(header.idstr, offset, bool(cuts))

    def _no_section(self, record: str, offset: int, cut: bool) -> FormatError:
        expected = "a section (0x04) or the end (0x00)"
        got = self.data[offset : offset + 6].hex()
        if cut:
            return Truncated(record, offset, expected, f"{got or 'nothing'} and then the end")
        return BadRecord(record, offset, expected, got)


def _extent(data: bytes, header: Header) -> Extent:
    return extent(data, header.start, header.idstr, header.version_id)
