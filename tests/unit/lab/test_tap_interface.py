"""Taps of a namespace."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from tests.doubles.system.network import ip, namespace, vif
from xenqemu.errors import HostError, InUse
from xenqemu.lab import tap_interface
from xenqemu.system import links

NAME = "vif5.0-emu"


@pytest.fixture(autouse=True)
def inside() -> Iterator[None]:
    with namespace():
        yield


def test_whole_frames_go_both_ways():
    mac = bytes.fromhex("00163e000001")
    frame = b"\xff" * 6 + mac + b"\x88\xb5" + b"hello".ljust(46, b".")
    with (
        tap_interface.opened(NAME) as descriptor,
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire,
    ):
        assert links.find(NAME).kind == "tun"
        ip(f"link set {NAME} up")
        wire.bind((NAME, 0x88B5))  # of all that the kernel says there, only this (IEEE 802, local)
        wire.settimeout(10)
        wire.send(frame)
        while os.read(descriptor, 2000) != frame:
            pass
        os.write(descriptor, frame)
        assert wire.recv(2000) == frame
    assert links.find(NAME) is None


def test_it_lives_as_long_as_anybody_has_it_open():
    with tap_interface.opened(NAME) as descriptor:
        other = os.dup(descriptor)
    assert links.find(NAME) is not None
    os.close(other)
    assert links.find(NAME) is None


def test_a_name_that_is_taken():
    vif("vif5.0")
    with pytest.raises(InUse, match=r"an interface vif5\.0 exists already"):
        with tap_interface.opened("vif5.0"):
            pytest.fail("opened")
    with (
        tap_interface.opened(NAME),
        pytest.raises(InUse, match="an interface vif5.0-emu exists already"),
    ):
        with tap_interface.opened(NAME):
            pytest.fail("opened")


def test_without_the_privilege():
    pid = os.fork()
    if pid == 0:
        os.setresuid(65534, 65534, 65534)
        try:
            with tap_interface.opened(NAME):
                os._exit(1)
        except HostError as error:
            os._exit(0 if "Operation not permitted" in str(error) else 2)
        os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
