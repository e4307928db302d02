"""An image by another program in a save file that is sealed: the pieces are as if we wrote it."""

import io

from hypothesis import given
from hypothesis import strategies as st

from tests.property import strategies as made
from xenqemu.formats.stream import libxc
from xenqemu.formats.stream.passed_image import PassedImage
from xenqemu.formats.stream.pieces import Pieces
from xenqemu.formats.stream.sink import Sink


@given(st.integers(7, 9000))
def test_pieces_are_as_if_we_wrote_it(size: int) -> None:
    ours, passed = Pieces(), Pieces()
    out = io.BytesIO()
    sink = Sink(out, ours)
    sink.write(b"headers")
    made.put(libxc.ImageWriter(sink, made.PV_DOMAIN), made.PV_STEPS)
    sink.write(b"END")
    image = made.image(made.PV_STEPS, made.PV_DOMAIN)
    copy = io.BytesIO()
    sink = Sink(copy, passed)
    sink.write(b"headers")
    written = PassedImage(sink)
    for at in range(0, len(image), size):
        written.write(image[at : at + size])
    sink.write(b"END")
    assert copy.getvalue() == out.getvalue()
    assert passed.in_order() == ours.in_order()


def test_what_is_not_digested_is_written_as_it_comes() -> None:
    out = io.BytesIO()
    PassedImage(Sink(out)).write(b"abc")
    assert out.getvalue() == b"abc"
