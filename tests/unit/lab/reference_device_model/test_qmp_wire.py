from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenqemu.lab.reference_device_model import qmp_wire
from xenqemu.lab.reference_device_model.qmp_wire import LIMIT, Framer, Gone, QmpClient

STREAMS = [
    (b'{"execute":"stop"}', [b'{"execute":"stop"}']),
    (b'{"a":1}{"b":2} [3]', [b'{"a":1}', b'{"b":2}', b"[3]"]),
    (b' \r\n{"a":\n{"b":[]}}\r\n', [b'{"a":\n{"b":[]}}']),
    (rb'{"a":"}\"{\\"}{}', [rb'{"a":"}\"{\\"}', b"{}"]),
    (b'"a\nb"\n{}', [b'"a\nb"', b"{}"]),
    (b"}{}", [b"}", b"{}"]),
    (b"nonsense\n{}", [b"nonsense", b"{}"]),
    (b'{"a":', []),
]


@pytest.mark.parametrize(("stream", "texts"), STREAMS)
def test_texts_are_cut_however_they_arrive(stream: bytes, texts: list[bytes]) -> None:
    assert list(Framer().feed(stream)) == texts
    framer = Framer()
    assert [text for byte in stream for text in framer.feed(bytes([byte]))] == texts


@given(st.lists(st.dictionaries(st.text(), st.text() | st.lists(st.integers()))))
def test_any_objects_come_out_as_they_went_in(messages: list[dict[str, object]]) -> None:
    stream = b"".join(json.dumps(message).encode() for message in messages)
    assert [json.loads(text) for text in Framer().feed(stream)] == messages


def test_a_request_without_an_end_is_not_kept() -> None:
    framer = Framer()
    assert list(framer.feed(b"[" * LIMIT)) == []
    with pytest.raises(Gone):
        list(framer.feed(b"["))


@pytest.fixture
def pair() -> Iterator[tuple[QmpClient, socket.socket]]:
    ours, theirs = socket.socketpair()
    client = QmpClient(ours)
    yield client, theirs
    client.close()
    theirs.close()


def test_the_last_descriptor_counts_and_is_taken_once(
    pair: tuple[QmpClient, socket.socket],
) -> None:
    client, theirs = pair
    reader, writer = os.pipe()
    other = os.memfd_create("other")
    socket.send_fds(theirs, [b"{}"], [other, writer])
    assert client.receive() == [b"{}"]
    taken = client.take_fd()
    assert taken is not None
    assert os.path.samestat(os.fstat(taken), os.fstat(writer))
    assert client.take_fd() is None
    socket.send_fds(theirs, [b"{}"], [other])
    client.receive()
    client.close()
    for fd in (reader, writer, other, taken):
        os.close(fd)


def test_a_client_that_left_is_gone(pair: tuple[QmpClient, socket.socket]) -> None:
    client, theirs = pair
    theirs.close()
    with pytest.raises(Gone, match="closed the conn"):
        client.receive()
    with pytest.raises(Gone):
        client.send({})
    client.close()
    with pytest.raises(Gone):
        client.receive()


def test_a_client_that_does_not_read_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qmp_wire, "SEND_TIMEOUT", 0.1)
    ours, theirs = socket.socketpair()
    client = QmpClient(ours)
    with pytest.raises(Gone, match="timed out"):
        client.send_raw(bytes(8 << 20))
    client.close()
    theirs.close()
