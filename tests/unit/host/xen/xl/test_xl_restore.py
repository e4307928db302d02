"""Feeding `xl restore`: a peer in xl's place, a real xenstore, records of stock xl's form."""

import functools
import os
import time
from pathlib import Path

import pytest

from tests.doubles.in_memory.save_files import DEVICES, STEPS
from tests.doubles.xen.xenstored import running
from tests.doubles.xen.xl_peer import (
    CONFIG,
    DESTROY,
    IMAGE,
    SETUP,
    record,
    write_xl,
)
from tests.property import strategies as made
from xenqemu.errors import BadRecord, Cancelled, HostError, HostTimeout, Truncated, Unsupported
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.stream import xl as xl_format
from xenqemu.formats.stream.libxl_records import EmulatorXenstoreData
from xenqemu.formats.stream.source import Source
from xenqemu.formats.stream.xl import XlHeader
from xenqemu.host.party_deadlines import Deadlines
from xenqemu.host.xen.xl.xl_restore import XlRestore
from xenqemu.host.xenstore.store import Store
from xenqemu.system.cancellation import Cancellation, cancellable


@pytest.fixture
def stores(tmp_path, monkeypatch):
    """Yield connections to a xenstore of the test's own, which the peer talks to as well."""
    socket = tmp_path / "socket"
    monkeypatch.setenv("XENSTORED_PATH", str(socket))
    with running(socket):
        with Store(socket) as store:
            store.write("/local/domain/0/name", "Domain-0")
        yield functools.partial(Store, socket)


@pytest.fixture
def restore(stores, tmp_path):
    """Make an `XlRestore` whose xl does what it is told."""

    def make(body, **options):
        xl = write_xl(tmp_path / "xl", DESTROY, SETUP, body)
        options.setdefault("deadlines", Deadlines(xl_stall=5.0, xl_finish=5.0, xl_give_up=5.0))
        return XlRestore(stores, xl=xl, logs=tmp_path, **options)

    return make


def quiet(_done, _total):
    pass


def names(stores):
    """Return the names of all domains but the first."""
    with stores() as store:
        return [store.read(f"/local/domain/{n}/name") for n in store.list("/local/domain")[1:]]


def test_a_record_is_fed_as_it_is(restore, stores, tmp_path):
    builder = restore(
        f"""
        everything = b"".join(iter(lambda: data.read(100000), b""))
        open({str(tmp_path / "fed")!r}, "wb").write(everything)
        print(words); make()
        """
    )
    steps = []
    data = record()
    domid = builder.build(Source.of(data), lambda *step: steps.append(step), size=len(data))
    assert domid == 5
    assert (tmp_path / "fed").read_bytes() == data
    assert steps[-1] == (len(data), len(data))
    assert [done for done, _ in steps] == sorted({done for done, _ in steps})
    assert {total for _, total in steps} == {len(data)}


def test_a_record_from_a_pipe_with_another_configuration(restore, tmp_path):
    builder = restore(
        f"open({str(tmp_path / 'fed')!r}, 'wb').write(open(words[-1], 'rb').read()); make(6, 'g2')"
    )
    header = XlHeader(3, CONFIG.dump() + b"\0", b"tail")
    reading, writing = os.pipe()
    if os.fork() == 0:
        with open(writing, "wb") as pipe:
            pipe.write(record(header))
        os._exit(0)
    os.close(writing)
    steps = []
    with open(reading, "rb", buffering=0) as pipe:
        source = Source(pipe)
        domid = builder.build(source, lambda *step: steps.append(step), CONFIG.with_name("g2"))
    os.wait()
    assert domid == 6
    fed = Source.of((tmp_path / "fed").read_bytes())
    got = xl_format.read(fed).value
    assert isinstance(got, XlHeader)
    assert (got.mandatory_flags, got.tail) == (3, b"tail")
    assert DomainConfig.parse(got.config) == CONFIG.with_name("g2")
    assert fed.exact(len(IMAGE), "image") == IMAGE
    assert fed.at_end()
    assert steps[-1] == (len(record(header)), len(record(header)))


@pytest.mark.parametrize(("monitor", "options"), [(True, "-p"), (False, "-p -e")])
def test_the_command(restore, tmp_path, monitor, options):
    builder = restore(
        f"data.read(); open({str(tmp_path / 'words')!r}, 'w').write(' '.join(words)); make()",
        monitor=monitor,
    )
    assert builder.build(Source.of(record()), quiet) == 5
    assert (tmp_path / "words").read_text() == f"restore {options} /proc/self/fd/0"


def test_what_comes_after_the_end_is_left_where_it_is(restore, tmp_path):
    builder = restore(f"open({str(tmp_path / 'fed')!r}, 'wb').write(data.readall()); make()")
    source = Source.of(record() + b"the next message")
    assert builder.build(source, quiet) == 5
    assert (tmp_path / "fed").read_bytes() == record()
    assert source.exact(16, "message") == b"the next message"


def test_a_record_that_breaks_off_or_is_broken_is_not_built(restore, stores):
    """xl finds that it ends early, and clears up."""
    broken = bytearray(record())
    broken[-8] = 99  # the type of libxl's END
    for data, error in ((record()[:-1], Truncated), (bytes(broken), Unsupported)):
        body = "make(); data.readall(); store('rm', '/local/domain/5'); fail('early')"
        with pytest.raises(error):
            restore(body).build(Source.of(data), quiet)
        assert names(stores) == []


def test_a_daemon_that_stays_is_not_waited_for(restore):
    builder = restore(
        """
        while data.read(1 << 20): pass
        make()
        if os.fork() == 0:
            os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
            time.sleep(3)
        """
    )
    start = time.monotonic()
    assert builder.build(Source.of(record()), quiet) == 5
    assert time.monotonic() - start < 2


def test_a_name_that_is_taken(restore, stores):
    with stores() as store:
        store.write("/local/domain/4/name", "g1")
    with pytest.raises(HostError, match="domain 4 is named 'g1' already"):
        restore("make()").build(Source.of(record()), quiet)
    assert names(stores) == ["g1"]


def test_a_failure_has_libxls_and_qemus_own_words(restore, tmp_path, stores):
    builder = restore(
        f"""
        make()
        data.read(1000)
        print("libxl: error: libxl_dm.c:1: domain 5 device model: died", file=sys.stderr)
        open({str(tmp_path / "qemu-dm-g1.log")!r}, "w").write("qemu: load of migration failed\\n")
        store("rm", "/local/domain/5")
        print("closing down", file=sys.stderr)
        fail("\\n".join(f"libxl: error: libxl_create.c:{{n}}: cannot build" for n in range(2, 9)))
        """
    )
    with pytest.raises(HostError) as caught:
        builder.build(Source.of(record()), quiet)
    assert str(caught.value) == (
        "xl restore failed (1): libxl: error: libxl_dm.c:1: domain 5 device model: died; "
        "libxl: error: libxl_create.c:2: cannot build; "
        "libxl: error: libxl_create.c:3: cannot build; "
        "libxl: error: libxl_create.c:4: cannot build; "
        "QEMU: qemu: load of migration failed"
    )
    assert not getattr(caught.value, "__notes__", [])


def test_the_first_errors_of_an_xl_that_floods_are_reported(restore):
    body = "fail('libxl: error: first\\n' + 'libxl: info: more\\n' * 200000)"
    with pytest.raises(HostError) as caught:
        restore(body).build(Source.of(record()), quiet)
    assert str(caught.value) == "xl restore failed (1): libxl: error: first"


def test_a_log_of_an_earlier_life_is_not_quoted(restore, tmp_path):
    (tmp_path / "qemu-dm-g1.log").write_text("long ago")
    os.utime(tmp_path / "qemu-dm-g1.log", (1000, 1000))
    with pytest.raises(HostError) as caught:
        restore("fail('File has wrong magic number')").build(Source.of(record()), quiet)
    assert str(caught.value) == "xl restore failed (1): File has wrong magic number"


def test_only_the_end_of_a_long_log_is_quoted(restore, tmp_path):
    body = (
        f"open({str(tmp_path / 'qemu-dm-g1.log')!r}, 'w').write('x' * 99999 + '\\nend'); fail('')"
    )
    with pytest.raises(HostError) as caught:
        restore(body).build(Source.of(record()), quiet)
    assert str(caught.value).endswith("xx; end")
    assert len(str(caught.value)) < 9000


def test_what_a_failed_xl_leaves_is_destroyed(restore, stores):
    with pytest.raises(HostError, match=r"xl restore failed \(-9\)"):
        restore("make(); os.kill(os.getpid(), 9)").build(Source.of(record()), quiet)
    assert names(stores) == []


def test_a_domain_of_another_uuid_is_left_alone(restore, stores):
    body = "make(); store('write', '/local/domain/5/vm', '/vm/other'); fail('no')"
    with pytest.raises(HostError, match="no"):
        restore(body).build(Source.of(record()), quiet)
    assert names(stores) == ["g1"]


def test_what_cannot_be_cleaned_up_is_said(restore, stores):
    builder = restore("make(); os.remove(sys.argv[0]); fail('no')")
    with pytest.raises(HostError) as caught:
        builder.build(Source.of(record()), quiet)
    (note,) = caught.value.__notes__
    assert note.startswith("not all may be removed of domain 'g1': cannot run xl")


def test_an_xl_that_stops_reading(restore, stores):
    body = "make(); data.read(9); time.sleep(60)"
    builder = restore(body, deadlines=Deadlines(xl_stall=0.5, xl_give_up=0.5))
    with pytest.raises(HostTimeout, match=r"xl restore read nothing for 0\.5 s"):
        builder.build(Source.of(record()), quiet)
    assert names(stores) == []


def test_an_xl_that_does_not_come_to_an_end(restore, stores):
    body = "make()\nwhile data.read(1 << 20): pass\ntime.sleep(60)"
    builder = restore(body, deadlines=Deadlines(xl_finish=0.5, xl_give_up=0.5))
    with pytest.raises(HostTimeout, match=r"did not end within 0\.5 s after the last byte"):
        builder.build(Source.of(record()), quiet)
    assert names(stores) == []


def test_an_interrupt_lets_xl_clean_up(restore, stores, tmp_path):
    builder = restore(
        f"""
        make()
        while data.read(1 << 20): pass
        open({str(tmp_path / "cleaned")!r}, "w"); store("rm", "/local/domain/5"); sys.exit(1)
        """
    )

    def interrupt(_done, _total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        builder.build(Source.of(record()), interrupt)
    assert (tmp_path / "cleaned").exists()
    assert names(stores) == []


@pytest.mark.parametrize("reads", ["data.read(9)", "\nwhile data.read(1 << 20): pass"])
def test_an_operation_that_is_to_end_ends_an_xl_that_stalls(restore, stores, tmp_path, reads):
    """Whether it does not read on, or does not come to its end."""

    def end():
        raise Cancelled("cancelled")

    pid = tmp_path / "pid"
    builder = restore(
        f"open({str(pid)!r}, 'w').write(str(os.getpid())); make(); {reads}\ntime.sleep(60)",
        deadlines=Deadlines(xl_stall=60.0, xl_finish=60.0, xl_give_up=0.5),
    )
    with pytest.raises(Cancelled), cancellable(Cancellation(end)):
        builder.build(Source.of(record()), quiet)
    assert not Path(f"/proc/{pid.read_text()}").exists()
    assert names(stores) == []


def test_a_record_that_is_not_one(restore, stores):
    with pytest.raises(Truncated):
        restore("make()").build(Source.of(record()[:60]), quiet)
    head = len(record()) - len(IMAGE)
    with pytest.raises(BadRecord, match="libxl header"):
        restore("data.readall()").build(Source.of(record()[:head] + bytes(99)), quiet)
    for flags, config in ((2, b"name = 'g1'\n"), (2, b""), (2, None)):
        with pytest.raises(Unsupported, match="expected a config in JSON"):
            restore("make()").build(Source.of(record(XlHeader(flags, config))), quiet)
    assert names(stores) == []


def test_an_xl_that_makes_nothing(restore):
    with pytest.raises(HostError, match="no domain named 'g1'"):
        restore("data.readall()").build(Source.of(record()), quiet)


def test_an_xl_that_is_not_there(stores, tmp_path):
    builder = XlRestore(stores, xl=(str(tmp_path / "none"),))
    with pytest.raises(HostError, match="cannot run xl restore"):
        builder.build(Source.of(record()), quiet)


KEEPS = "open({fed!r}, 'wb').write(b''.join(iter(lambda: data.read(100000), b''))); make()"


@pytest.mark.parametrize("key", ["physmap/f0000000/name", "physmap/0/start_addr", "physmap/A/size"])
def test_keys_for_qemu_that_libxl_saves_are_passed_on(restore, tmp_path, key):
    fed = tmp_path / "fed"
    builder = restore(KEEPS.format(fed=str(fed)))
    data = with_keys((key, "1"))
    assert builder.build(Source.of(data), quiet) == 5
    assert fed.read_bytes() == data


@pytest.mark.parametrize(
    "key", ["state", "physmap", "physmap/../state", "physmap/1/x", "physmap/1/size/x", "abcdefg"]
)
def test_a_record_of_other_keys_never_reaches_xl_as_a_whole(restore, stores, tmp_path, key):
    fed = tmp_path / "fed"
    data = with_keys(("physmap/0/size", "1"), (key, "evil"))
    with pytest.raises(BadRecord, match="expected keys of QEMU's physmap") as caught:
        restore(KEEPS.format(fed=str(fed))).build(Source.of(data), quiet)
    size = int.from_bytes(data[caught.value.offset + 4 :][:4], "little")
    assert len(fed.read_bytes()) < caught.value.offset + 8 + size + -size % 8
    assert names(stores) == []


def with_keys(*entries):
    """Return a save file that has keys of the device model."""
    header = XlHeader.of_json(CONFIG.dump().decode())
    keys = EmulatorXenstoreData(2, 0, entries)
    return header.pack() + made.stream(STEPS, (keys, *DEVICES))
