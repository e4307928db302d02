"""Device state: real, cut and hostile streams, and those of unknown devices."""

import json
import os
import threading
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.doubles.qemu.section_oracle import as_tuples, cuts_by_footers
from tests.golden.save_files import FOLDER, SAVES, unpacked
from xenqemu.errors import BadRecord, FormatError, TooBig, Truncated, Unsupported
from xenqemu.formats.device_state import device_stream
from xenqemu.formats.device_state.device_stream import Evidence, Section
from xenqemu.formats.device_state.section_header import pack_footer, pack_header
from xenqemu.formats.device_state.section_search import MOST_SECTIONS, MOST_SHAPES
from xenqemu.formats.stream.source import Source

PLAIN = ("hvm.qevm", "vga.qevm", "hvm-qemu10.qevm")
FOOTED = (
    *("vga-with-footers.qevm", "q35-with-footers.qevm"),
    *("virtio-with-footers.qevm", "cards-with-footers.qevm", "express-with-footers.qevm"),
)
START = b"QEVM\0\0\0\3"

TIMER = Section(0, "timer", 0, 2, bytes(24))
PORT92 = Section(9, "port92", 0, 1, b"\1")
STRANGER = Section(3, "0000:00:05.0/stranger", 0, 1, b"abc" * 9)


def summary(state: device_stream.DeviceState) -> list[dict[str, object]]:
    keys = ("idstr", "instance_id", "version_id", "offset", "length")
    return [{key: getattr(section, key) for key in keys} for section in state.sections]


def fake(section_id: int, idstr: str = "port92", data: bytes = b"\0", version_id: int = 1) -> bytes:
    return pack_header(section_id, idstr, 0, version_id) + data


def emulator_context(name: str) -> bytes:
    """Return the device state in a save file: between its subheader and the END record."""
    data = unpacked(name)
    start = data.rindex(START)
    length = int.from_bytes(data[start - 12 : start - 8], "little")
    return data[start : start + length - 8]


class TestRealStreams:
    @pytest.mark.parametrize("name", PLAIN)
    def test_all_devices_are_found_for_certain(self, name: str) -> None:
        state = device_stream.read(unpacked(name))
        assert summary(state) == json.loads((FOLDER / f"{name}.json").read_text())
        assert {section.evidence for section in state.sections} == {Evidence.LAYOUT}
        assert all(section.certain for section in state.sections)
        assert (state.ambiguities, state.footers, state.trailing) == ((), False, b"")

    @pytest.mark.parametrize("name", SAVES)
    def test_so_are_those_in_save_files(self, name: str) -> None:
        twin = {"vga.save": "vga.qevm", "hvm-xen4.20.save": "hvm-qemu10.qevm"}.get(name, "hvm.qevm")
        expected = json.loads((FOLDER / f"{twin}.json").read_text())
        if name == "vga.save":  # its firmware has asked the drive for its 512 bytes of identity
            expected[21]["length"] += 512
            for row in expected[22:]:
                row["offset"] += 512
        state = device_stream.read(emulator_context(name))
        assert summary(state) == expected
        assert state.ambiguities == ()

    @pytest.mark.parametrize("name", FOOTED)
    def test_footers_and_layouts_agree(self, name: str) -> None:
        data = unpacked(name)
        truth = cuts_by_footers(data)
        with_footers = device_stream.read(data)
        assert as_tuples(with_footers) == truth
        assert with_footers.footers
        assert {section.evidence for section in with_footers.sections} == {Evidence.FOOTER}
        without = device_stream.read(device_stream.write(with_footers.sections))
        assert as_tuples(without) == truth
        assert not without.footers
        assert without.ambiguities == ()

    def test_footers_are_all_that_they_add(self) -> None:
        footed = device_stream.read(unpacked("vga-with-footers.qevm"))
        stripped = device_stream.write(footed.sections)
        assert summary(device_stream.read(stripped)) == summary(
            device_stream.read(unpacked("vga.qevm"))
        )

    @pytest.mark.parametrize("name", PLAIN + FOOTED)
    def test_written_again_they_are_the_same(self, name: str) -> None:
        state = device_stream.read(unpacked(name))
        assert device_stream.write(state.sections, state.footers) == unpacked(name)

    @pytest.mark.parametrize("name", PLAIN + FOOTED)
    def test_bytes_after_the_end_are_kept(self, name: str) -> None:
        state = device_stream.read(unpacked(name) + b"\0after")
        assert state == device_stream.read(unpacked(name)).but(trailing=b"\0after")

    def test_bytes_after_the_end_may_have_another_end(self) -> None:
        """A later QEMU could have given the last device four more bytes."""
        state = device_stream.read(device_stream.write([TIMER, PORT92]) + b"xyz\0")
        assert [s.data for s in state.sections] == [TIMER.data, PORT92.data]
        assert state.trailing == b"xyz\0"
        (ambiguity,) = state.ambiguities
        assert ambiguity.reason == "several lengths of port92 version 1 fit"

    def test_a_pipe_is_read_to_its_end(self) -> None:
        data = unpacked("vga.qevm")
        reading, writing = os.pipe()

        def feed() -> None:
            with open(writing, "wb", buffering=0) as pipe:
                pipe.writelines(data[start : start + 777] for start in range(0, len(data), 777))

        feeder = threading.Thread(target=feed)
        feeder.start()
        with open(reading, "rb", buffering=0) as pipe:
            state = device_stream.read(Source(pipe))
        feeder.join(timeout=10)
        assert state == device_stream.read(data)


class TestCutStreams:
    def test_at_every_offset(self) -> None:
        data = unpacked("hvm.qevm")
        for size in range(len(data)):
            with pytest.raises(Truncated) as caught:
                device_stream.read(data[:size])
            assert 0 <= caught.value.offset <= size

    @pytest.mark.parametrize("name", ["vga.qevm", "hvm-qemu10.qevm", "vga-with-footers.qevm"])
    def test_at_offsets_around_each_cut(self, name: str) -> None:
        data = unpacked(name)
        for section in device_stream.read(data).sections:
            for size in range(section.offset - 6, section.offset + 40):
                with pytest.raises(Truncated):
                    device_stream.read(data[:size])

    def test_the_error_says_where_and_what(self) -> None:
        with pytest.raises(Truncated) as caught:
            device_stream.read(unpacked("hvm.qevm")[:1500])
        error = caught.value
        assert (error.record, error.offset) == ("apic", 1465)
        assert error.expected == "the state of apic version 3"
        assert error.got == "35 bytes"

    def test_without_a_footer(self) -> None:
        data = device_stream.write([TIMER, PORT92], footers=True)
        broken = data.replace(pack_footer(PORT92.id), pack_footer(77))
        with pytest.raises(BadRecord) as caught:
            device_stream.read(broken)
        assert caught.value.offset == len(data) - 6
        assert caught.value.got == "7e0000004d00"


class TestPlantedHeaders:
    """What a guest can write into the buffers of its devices."""

    def planted(self, device: str, at: int, what: bytes, footers: bool = False) -> None:
        state = device_stream.read(unpacked("vga.qevm"))
        changed = list(state.sections)
        (index,) = (n for n, s in enumerate(changed) if s.idstr.endswith(device))
        data = changed[index].data
        assert at + len(what) <= len(data)
        data = data[:at] + what + data[at + len(what) :]
        changed[index] = changed[index].but(data=data)
        read = device_stream.read(device_stream.write(changed, footers))
        assert as_tuples(read) == [(s.idstr, s.instance_id, s.version_id, s.data) for s in changed]
        assert read.ambiguities == ()
        assert all(section.certain for section in read.sections)

    @pytest.mark.parametrize("footers", [False, True])
    @pytest.mark.parametrize("device", ["/e1000", "/usb-ptr", "/vga", "/ide", "/uhci"])
    def test_do_not_split_known_devices(self, device: str, footers: bool) -> None:
        for fakes in (fake(40), fake(40, "stranger"), fake(40) + fake(41, "fdc")):
            self.planted(device, 100, fakes, footers)

    def test_nor_does_a_whole_chain_with_footers_and_an_end(self) -> None:
        footers = [pack_footer(number) for number in (39, 40, 41)]
        chain = footers[0] + fake(40) + footers[1] + fake(41) + footers[2] + b"\0"
        self.planted("/e1000", 3000, chain, footers=True)
        self.planted("/e1000", 3000, chain)

    def test_nor_a_stream_in_a_buffer(self) -> None:
        self.planted("/e1000", 5000, unpacked("hvm.qevm"))
        self.planted("/e1000", 5000, unpacked("hvm.qevm"), footers=True)

    def test_in_an_unknown_device_are_reported(self) -> None:
        planted = b"xyz" + fake(5) + b"xyz"
        state = device_stream.read(device_stream.write([TIMER, STRANGER.but(data=planted), PORT92]))
        (ambiguity,) = state.ambiguities
        assert ambiguity.reason == "the length of 0000:00:05.0/stranger version 1 is unknown"
        assert [header.idstr for header in ambiguity.headers] == [
            *("0000:00:05.0/stranger", "port92", "port92"),
        ]
        assert [section.certain for section in state.sections] == [True, False, False, False]
        assert ambiguity.offset == state.sections[1].offset
        assert ambiguity.end == len(device_stream.write(state.sections)) - 1

    def test_with_a_footer_in_an_unknown_device_are_reported(self) -> None:
        planted = b"xyz" + pack_footer(STRANGER.id) + fake(5) + pack_footer(5) + b"xyz"
        sections = [TIMER, STRANGER.but(data=planted), PORT92]
        state = device_stream.read(device_stream.write(sections, footers=True))
        assert [s.certain for s in state.sections][:2] == [True, False]
        assert len(state.ambiguities) == 1

    def test_at_the_end_of_a_shorter_layout_are_reported(self) -> None:
        """A cpu is 1313 or 1817 bytes long: by a 32-bit QEMU, or by a 64-bit one."""
        state = bytes(1313) + fake(2, "stranger", b"")
        cpu = Section(1, "cpu", 0, 12, state.ljust(1817, b"x"))
        read = device_stream.read(device_stream.write([TIMER, cpu, PORT92]))
        (ambiguity,) = read.ambiguities
        assert ambiguity.reason == "several lengths of cpu version 12 fit"
        assert [header.idstr for header in ambiguity.headers] == ["cpu", "stranger", "port92"]
        assert [s.idstr for s in read.sections if s.certain] == ["timer"]


class TestUnknownDevices:
    def test_without_followers_reach_to_the_end(self) -> None:
        state = device_stream.read(device_stream.write([TIMER, STRANGER]))
        assert state.sections[1].data == STRANGER.data
        assert state.sections[1].certain
        assert state.sections[1].evidence is Evidence.SHAPE

    def test_with_footers_are_certain(self) -> None:
        state = device_stream.read(device_stream.write([STRANGER, PORT92], footers=True))
        assert as_tuples(state)[0][3] == STRANGER.data
        assert state.footers
        assert state.ambiguities == ()

    def test_that_stand_first_and_alone_have_footers_too(self) -> None:
        state = device_stream.read(device_stream.write([STRANGER], footers=True))
        assert state.footers
        assert state.sections[0].data == STRANGER.data

    def test_make_what_follows_uncertain(self) -> None:
        state = device_stream.read(device_stream.write([TIMER, STRANGER, PORT92]))
        assert [s.idstr for s in state.sections] == ["timer", STRANGER.idstr, "port92"]
        assert [s.certain for s in state.sections] == [True, False, False]
        assert [s.evidence for s in state.sections] == [
            *(Evidence.LAYOUT, Evidence.SHAPE, Evidence.LAYOUT),
        ]

    def test_do_not_follow_higher_ids(self) -> None:
        sections = [TIMER, STRANGER.but(data=b"xyz" + fake(2) + b"xyz"), PORT92]
        state = device_stream.read(device_stream.write(sections))
        assert [(s.id, s.idstr) for s in state.sections] == [(s.id, s.idstr) for s in sections]
        assert not state.sections[1].certain

    def test_of_high_priority_may_come_before_lower_ids(self) -> None:
        iommu = Section(30, "iommu-intel", 0, 99, b"xyz")
        state = device_stream.read(device_stream.write([iommu, TIMER, PORT92]))
        assert [s.idstr for s in state.sections] == ["iommu-intel", "timer", "port92"]

    def test_that_may_be_measured_in_one_way_only_are_not_believed(self) -> None:
        """A cpu of 64 bits with something new, and a header where one of 32 bits would end."""
        new = b"\5\x07cpu/new\0\0\0\1" + bytes(8)
        state = (bytes(1313) + fake(2)).ljust(1817, b"x") + new
        read = device_stream.read(
            device_stream.write([TIMER, Section(1, "cpu", 0, 12, state), PORT92])
        )
        (ambiguity,) = read.ambiguities
        assert ambiguity.reason == "the length of cpu version 12 is unknown"
        assert [header.id for header in ambiguity.headers] == [1, 2, 9]
        assert [s.idstr for s in read.sections if s.certain] == ["timer"]

    def test_in_another_version_are_said_to_be_so(self) -> None:
        longer = PORT92.but(id=1, data=b"xyz")
        state = device_stream.read(device_stream.write([TIMER, longer, PORT92]))
        (ambiguity,) = state.ambiguities
        assert ambiguity.reason == "the state of port92 version 1 is not as in QEMU 7.2"
        assert [s.data for s in state.sections] == [TIMER.data, b"xyz", b"\1"]

    def test_full_of_headers_are_not_guessed_at(self) -> None:
        crowd = b"".join(fake(number) for number in range(4, MOST_SHAPES + 5))
        state = device_stream.read(device_stream.write([TIMER, STRANGER.but(data=crowd), PORT92]))
        (ambiguity,) = state.ambiguities
        assert ambiguity.reason.startswith("more than 512 places look like headers after 0000:")
        assert [s.certain for s in state.sections] == [True, False]

    def test_whose_end_is_missing(self) -> None:
        with pytest.raises(Truncated) as caught:
            device_stream.read(device_stream.write([STRANGER])[:-1])
        assert caught.value.expected == "0x00 at the end of the stream"
        assert caught.value.got == "0x63 as the last byte"


class TestBadInput:
    @pytest.mark.parametrize(
        ("data", "error", "offset", "got"),
        [
            (b"", Truncated, 0, "0 and then the end"),
            (b"QEVM\0\0\0", Truncated, 0, "7 and then the end"),
            (b"QEVN\0\0\0\3\0", BadRecord, 0, "b'QEVN'"),
            (b"QEVM\0\0\0\2\0", Unsupported, 4, "2"),
            (b"QEVM\3\0\0\0\0", Unsupported, 4, "50331648"),
            (START + b"\7\0\0\0\4pc-i\0", Unsupported, 8, "QEMU_VM_CONFIGURATION"),
            (START + b"\1\0\0\0\2\3ram\0", Unsupported, 8, "QEMU_VM_SECTION_START"),
            (START, Truncated, 8, "nothing and then the end"),
            (START + b"\4\0\0", Truncated, 8, "040000 and then the end"),
            (START + b"\x55\0\0", BadRecord, 8, "550000"),
            (START + b"\4\0\0\0\1\0" + bytes(9), BadRecord, 8, "040000000100"),
            (START + b"\4\0\0\0\1\3a\nb" + bytes(9), BadRecord, 8, "040000000103"),
            (device_stream.write([TIMER])[:-1] + b"\x55", BadRecord, 51, "55"),
        ],
    )
    def test_says_where_it_is_wrong(
        self, data: bytes, error: type[FormatError], offset: int, got: str
    ) -> None:
        with pytest.raises(error) as caught:
            device_stream.read(data)
        assert (caught.value.offset, caught.value.got) == (offset, got)

    def test_too_much_is_refused(self) -> None:
        with pytest.raises(TooBig):
            device_stream.read(START + bytes(device_stream.MAX_SIZE))
        with pytest.raises(TooBig):
            device_stream.read(Source.of(START + bytes(device_stream.MAX_SIZE)))

    def test_too_many_sections_are_refused(self) -> None:
        many = b"".join(fake(number) for number in range(MOST_SECTIONS + 1))
        with pytest.raises(TooBig) as caught:
            device_stream.read(START + many + b"\0")
        assert caught.value.expected == f"at most {MOST_SECTIONS} sections"

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b"\4\0\0" * (8 << 20), id="starts of headers"),
            pytest.param(fake(1, "stranger", b"\4\0\0\0\0\xffaa" * (2 << 20)), id="tries"),
            pytest.param(fake(1, "stranger", b"") * (1 << 20), id="strangers"),
            pytest.param(
                b"".join(fake(n, "stranger", b"") for n in range(MOST_SHAPES)), id="a choice each"
            ),
            pytest.param(
                fake(1, "stranger")
                + b"".join(
                    fake(n, "0000:00:04.0/virtio-console", bytes(304) + b"\0\0\2" + bytes(6000), 3)
                    for n in range(2, MOST_SHAPES)
                ),
                id="long walks",
            ),
        ],
    )
    def test_hostile_streams_take_no_time(self, body: bytes) -> None:
        start = time.process_time()
        try:
            state = device_stream.read(START + body + b"\0")
        except FormatError:  # refused is as good as uncertain: what counts is the time
            pass
        else:
            assert state.ambiguities
        assert time.process_time() - start < 10

    @settings(deadline=None, max_examples=150)
    @given(st.sampled_from(PLAIN + FOOTED), st.data())
    def test_changed_bytes_give_an_error_or_a_value(self, name: str, data: st.DataObject) -> None:
        stream = bytearray(unpacked(name)[: data.draw(st.integers(2000, 20000))])
        for _ in range(data.draw(st.integers(1, 4))):
            offset = data.draw(st.integers(0, len(stream) - 1))
            stream[offset] = data.draw(st.sampled_from([0, 1, 4, 5, 0x7E, 0xFF]))
        try:
            state = device_stream.read(bytes(stream))
        except FormatError:
            return
        assert device_stream.write(state.sections, state.footers) + state.trailing == stream

    @settings(deadline=None)
    @given(st.binary(max_size=300))
    @example(b"\0" * 9)
    def test_random_bytes_give_an_error_or_a_value(self, body: bytes) -> None:
        try:
            state = device_stream.read(START + body)
        except FormatError:
            return
        assert device_stream.write(state.sections, state.footers) + state.trailing == START + body


class TestWriting:
    def test_nothing(self) -> None:
        assert device_stream.write([]) == START + b"\0"
        assert device_stream.read(START + b"\0") == device_stream.DeviceState(())

    def test_one_section(self) -> None:
        head = b"\4\0\0\0\x09\x06port92\0\0\0\0\0\0\0\1\1"
        assert device_stream.write([PORT92]) == START + head + b"\0"
        assert device_stream.write([PORT92], footers=True) == START + head + b"\x7e\0\0\0\x09\0"

    @pytest.mark.parametrize(
        ("section", "expected"),
        [
            (PORT92.but(idstr=""), "1 to 255 ASCII letters"),
            (PORT92.but(idstr="x" * 256), "1 to 255 ASCII letters"),
            (PORT92.but(idstr="ü"), "1 to 255 ASCII letters"),
            (PORT92.but(id=-1), "32 bits of id"),
            (PORT92.but(instance_id=1 << 32), "32 bits of instance_id"),
            (PORT92.but(version_id=1 << 32), "32 bits of version_id"),
        ],
    )
    def test_what_no_stream_can_hold_is_refused(self, section: Section, expected: str) -> None:
        with pytest.raises(BadRecord) as caught:
            device_stream.write([TIMER, section])
        assert caught.value.expected == expected
        assert caught.value.offset == 51

    def test_too_much_is_refused(self) -> None:
        with pytest.raises(TooBig):
            device_stream.write([STRANGER.but(data=bytes(device_stream.MAX_SIZE))])
        with pytest.raises(TooBig):
            device_stream.write([PORT92] * (MOST_SECTIONS + 1))

    @settings(deadline=None)
    @given(
        st.lists(st.sampled_from([TIMER, PORT92, STRANGER.but(idstr="i8259", data=bytes(16))])),
        st.booleans(),
    )
    def test_what_is_written_is_read(self, sections: list[Section], footers: bool) -> None:
        numbered = [s.but(id=number) for number, s in enumerate(sections)]
        state = device_stream.read(device_stream.write(numbered, footers))
        assert as_tuples(state) == [
            (s.idstr, s.instance_id, s.version_id, s.data) for s in sections
        ]
        assert state.ambiguities == ()

    @settings(deadline=None)
    @given(st.lists(st.binary(max_size=60), min_size=1, max_size=6))
    def test_what_is_unknown_is_never_split_silently(self, states: list[bytes]) -> None:
        sections = [STRANGER.but(id=n, data=data) for n, data in enumerate(states)]
        state = device_stream.read(device_stream.write([TIMER, *sections]))
        offered = {h.offset for a in state.ambiguities for h in a.headers}
        certain = {s.offset for s in state.sections if s.certain}
        offset = len(device_stream.write([TIMER])) - 1
        for section in sections:
            assert offset in offered | certain
            offset += len(device_stream.write([section])) - len(START) - 1
