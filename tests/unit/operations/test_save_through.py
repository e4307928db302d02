"""Saves into commands and pipes: taken, refused, broken off, killed; and restores from them."""

import io
import os
import shlex
import signal
import threading
import time

import pytest

from tests.doubles.in_memory.faults import Fault, How, text
from tests.doubles.in_memory.guest import Guest
from tests.doubles.in_memory.world import World, loaded
from tests.parts import shortened
from xenqemu.errors import (
    Forbidden,
    FormatError,
    HostError,
    HostTimeout,
    PastReturn,
    RolledBack,
    UsageError,
)
from xenqemu.host.precopy_options import PrecopyOptions
from xenqemu.host.trust import Trust
from xenqemu.operations.events import Phase
from xenqemu.operations.journal.folder import Journals
from xenqemu.operations.options import After, RestoreOptions, SaveOptions
from xenqemu.operations.recover import recover
from xenqemu.operations.restore_through import restore_through
from xenqemu.operations.save import save
from xenqemu.operations.save_through import save_through
from xenqemu.operations.sources import FromCommand, FromFifo, FromStandardInput, way_from
from xenqemu.operations.targets import ToCommand, ToFifo, ToStandardOutput, way_to
from xenqemu.operations.verify import verify
from xenqemu.system.zstd.unpacked import unpacked


@pytest.fixture
def world():
    return World()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "copy"


def through(world, command, **options):
    with world.watching():
        return save_through(
            world.host,
            world.domain(),
            ToCommand(command),
            SaveOptions(**options),
            observe=world.observe,
        )


def into(path):
    return f"cat > {shlex.quote(str(path))}"


def plain(path):
    """Return what is in a save file, compressed or not."""
    with path.open("rb") as file, unpacked(file) as inside:
        return inside.read(1 << 30)


def guest_of(path):
    """Return the guest of a save file, as another host would build it."""
    data = plain(path)
    path.write_bytes(data)
    return loaded(path)


OPTIONS = {
    "as it is": {},
    "compressed": {"compress": 0},
    "compressed well": {"compress": 9},
    "live": {"precopy": PrecopyOptions()},
    "live, compressed": {"precopy": PrecopyOptions(), "compress": 1},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("after", After)
def test_the_command_has_the_guest(world, path, after, options):
    size = through(world, into(path), after=after, **options)
    assert size == path.stat().st_size
    left = world.guests.get(1)
    found = guest_of(path)
    if left is None:
        assert after is After.DESTROY
        left = Guest.running(found.tick)
    else:
        assert left.run_state.value == {"continue": "running", "pause": "paused"}[after.value]
    assert (found.pages, found.tick) == (left.pages, left.tick)
    assert world.broken == []
    assert Journals(world.host.journals).found() == []


def test_a_file_system_that_gives_little_at_a_time(world, path, monkeypatch):
    """As 9p does: a read of a file may end early, and not at the end of the file."""
    save(world.host, world.domain(), path, SaveOptions(compress=9))
    into = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, to, offset: into(fd, [to[0][:999]], offset))
    with path.open("rb") as file, unpacked(file) as inside:
        assert verify(inside, None).seal


def test_it_is_what_a_save_to_a_file_is(path, tmp_path):
    through(World(), into(path), seal=False)
    other = World()
    save(other.host, other.domain(), tmp_path / "file", SaveOptions(seal=False))
    assert path.read_bytes() == (tmp_path / "file").read_bytes()


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_it_is_sealed(world, path, tmp_path, options):
    key = tmp_path / "key"
    key.write_bytes(b"secret")
    key.chmod(0o600)
    through(world, into(path), key_file=key, **options)
    with path.open("rb") as file, unpacked(file) as inside:
        assert verify(inside, b"secret").seal
    changed = bytearray(plain(path))
    changed[len(changed) // 2] ^= 1
    path.write_bytes(changed)
    there, act = restored(path, key_file=key)
    with pytest.raises((FormatError, RolledBack)):
        act()
    assert there.guests == {}
    assert "hypervisor.unpause" not in there.calls


def test_words_need_no_shell(world, path):
    save_through(world.host, world.domain(), ToCommand(("tee", str(path))))
    assert guest_of(path).pages
    assert world.guests == {}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("echo no space >&2; exit 3", "no space"),
        ("cat > /dev/null; echo refused; exit 3", "ended with status 3: refused"),
        ("cat > /dev/null; kill -9 $$", "ended with signal 9"),
        ("true", "ended before it had read all of the save file: 'true' ended with status 0"),
        ("exec <&-; sleep 0.2", "ended before it had read all of the save file"),
        ("head -c 100 > /dev/null", "ended before it had read all of the save file"),
        ("/no/such/program", "not found"),
    ],
)
@pytest.mark.parametrize("after", After)
def test_a_command_that_does_not_take_it(world, command, said, after):
    with pytest.raises(RolledBack) as error:
        through(world, command, after=after)
    assert said in text(error.value)
    assert "the guest is as it was" in str(error.value)
    assert world.running() == [1]
    assert Journals(world.host.journals).found() == []
    through(world, "cat > /dev/null", after=after)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("cat > /dev/null; sleep 60", "did not end within 0.3 s after the last byte"),
        ("sleep 60", "read nothing for 0.3 s"),
        ("trap '' TERM; cat > /dev/null; sleep 60 & wait; wait", "did not end within 0.3 s"),
    ],
)
def test_a_command_that_hangs_is_ended(world, command, said):
    deadlines = world.host.deadlines.but(command_stall=0.3, command_end=0.3, peer_end=0.2)
    world.host.deadlines = deadlines
    with pytest.raises(RolledBack, match=said) as error:
        through(world, command)
    assert isinstance(error.value.__cause__, HostTimeout)
    assert world.running() == [1]
    if "cat" in command:
        assert "is out of date: do not restore it" in text(error.value.__cause__)


def test_ctrl_c_while_the_command_ends(world, path):
    timer = threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt) as error:
        through(world, f"{into(path)}; sleep 60")
    timer.join()
    assert isinstance(error.value.__cause__, RolledBack)
    assert world.running() == [1]


def test_cancelled_while_the_command_ends(world, path):
    def cancel():
        journals = Journals(world.host.journals)
        while not any(each.state().doubt for each in journals.found()):
            time.sleep(0.05)
        (found,) = journals.found()
        found.path.with_suffix(".cancel").write_text(str(found.about.since))

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(RolledBack, match="cancelled"):
        through(world, f"{into(path)}; sleep 60")
    thread.join()
    assert world.running() == [1]


def test_what_the_command_says_is_passed_on(world):
    said = []
    way = ToCommand("cat > /dev/null; echo one; echo two >&2", said.append)
    save_through(world.host, world.domain(), way)
    assert sorted(said) == ["one", "two"]


def test_a_command_that_prints_much_after_the_end(world):
    through(world, "cat > /dev/null; head -c 1000000 /dev/zero | tr '\\0' x")
    assert world.guests == {}


def test_compacting_needs_a_file(world):
    with pytest.raises(UsageError, match="dropped from a file alone"):
        through(world, "cat", precopy=PrecopyOptions(), compact=True)


SURVIVED = [how for how in How if not how.kills]
CALLS = "observer.event", "os.writev", "journal.fsync"


def whole(path):
    """Return whether a copy is whole."""
    try:
        return path.exists() and bool(loaded(path).pages)
    except (FormatError, HostError):
        return False


def judge(world, path, error):
    """Judge what an operation has left: exactly one guest, or its save file and nothing else."""
    guests = world.guests
    if error is None or isinstance(error, PastReturn) or "is the guest now" in text(error):
        assert whole(path)
        assert world.running() == []
        for done in recover(world.host):
            if done.in_doubt:  # its journal could not be written any more
                (done,) = recover(world.host, done.about.name, moved=True)  # noqa: PLW2901
            assert done.complete
        assert guests == {}
        return
    if "left to do" in text(error):
        for done in recover(world.host):
            assert done.complete
    assert world.running() == [1]


@pytest.mark.parametrize("how", shortened(SURVIVED, *SURVIVED[:2]), ids=lambda how: how.name)
def test_every_call_fails(how, tmp_path):
    first = World()
    through(first, into(tmp_path / "whole"))
    for at, name in enumerate(first.calls):
        world, path = World(), tmp_path / str(at)
        world.fault = Fault(at, how)
        error = None
        try:
            through(world, into(path))
        except BaseException as raised:  # noqa: BLE001  Ctrl-C too
            error = raised
        world.heal()
        assert error is not None or name == "journal.unlink"  # of what need not be there
        judge(world, path, error)
        assert world.broken == [], name


@pytest.mark.parametrize("how", [How.KILLED, How.KILLED_AFTER], ids=lambda how: how.name)
def test_the_process_is_killed_at_every_call(how, tmp_path):
    first = World()
    through(first, into(tmp_path / "whole"))
    doubts = 0
    for at, name in enumerate(first.calls):
        world, path = World(), tmp_path / str(at)
        world.fault = Fault(at, how)
        assert world.outlive(lambda world=world, path=path: through(world, into(path)))
        for done in recover(world.host):
            if not done.in_doubt:
                assert done.complete, name
                continue
            doubts += 1
            assert not world.running()
            deadline = time.monotonic() + 5
            while not whole(path) and time.monotonic() < deadline and "PUBLISH" in name:
                time.sleep(0.05)
            moved = whole(path)
            (ended,) = recover(world.host, world.guests[1].config.name, moved=moved)
            assert (ended.complete, ended.committed) == (True, moved)
        assert Journals(world.host.journals).found() == []
        assert whole(path) if not world.guests else world.running() == [1], name
        assert world.broken == []
    assert doubts


def test_it_can_be_told_where_the_guest_is(world, path):
    """One who knows that it was not taken has it resumed; nothing of a migration is asked for."""
    first = World()
    through(first, into(path))
    told = [number for number, name in enumerate(first.calls) if name == "observer.event"]
    phases = [event.phase for event in first.events]
    world.fault = Fault(told[phases.index(Phase.PUBLISH)], How.KILLED)
    assert world.outlive(lambda: through(world, into(path)))
    (left,) = recover(world.host)
    assert left.in_doubt
    (ended,) = recover(world.host, world.guests[1].config.name, moved=False)
    assert (ended.complete, ended.committed) == (True, False)
    assert world.running() == [1]


def fifo(tmp_path, mode=0o600):
    os.mkfifo(tmp_path / "fifo", mode)
    (tmp_path / "fifo").chmod(mode)
    return tmp_path / "fifo"


def test_a_fifo_there_and_back(world, tmp_path):
    way = way_to(fifo(tmp_path))
    assert isinstance(way, ToFifo)
    saving = threading.Thread(
        target=lambda: save_through(world.host, world.domain(), way, SaveOptions(compress=1))
    )
    saving.start()
    other = World(guests={})
    source = way_from(tmp_path / "fifo")
    assert isinstance(source, FromFifo)
    done = restore_through(other.host, source)
    saving.join()
    assert other.running() == [done.domid]
    assert world.guests == {}


def test_a_fifo_that_others_could_read(world, tmp_path):
    with pytest.raises(Forbidden, match="others may read from .* \\(chmod go-r\\)"):
        save_through(world.host, world.domain(), ToFifo(fifo(tmp_path, 0o644)))
    assert world.running() == [1]


def test_a_fifo_that_others_could_write(tmp_path):
    with pytest.raises(Forbidden, match="others may write to"):
        restore_through(World(guests={}).host, FromFifo(fifo(tmp_path, 0o622)))


def test_a_fifo_without_a_reader(world, tmp_path):
    world.host.deadlines = world.host.deadlines.but(command_stall=0.2)
    with pytest.raises(HostTimeout, match="nobody opened"):
        save_through(world.host, world.domain(), ToFifo(fifo(tmp_path)))
    assert world.running() == [1]


@pytest.fixture
def standard(tmp_path):
    """A function that puts a descriptor in the place of a standard stream."""
    kept = {number: os.dup(number) for number in (0, 1)}

    yield lambda number, fd: os.dup2(fd, number)
    for number, fd in kept.items():
        os.dup2(fd, number)
        os.close(fd)


def test_standard_output_and_input(world, standard, path):
    with path.open("wb") as file:
        standard(1, file.fileno())
        save_through(world.host, world.domain(), ToStandardOutput())
    assert world.guests == {}
    other = World(guests={})
    with path.open("rb") as file:
        standard(0, file.fileno())
        done = restore_through(other.host, FromStandardInput())
    assert other.running() == [done.domid]


def test_a_device_has_no_save_file(world, standard):
    with open(os.devnull, "wb") as file:
        standard(1, file.fileno())
        with pytest.raises(UsageError, match="standard output is a device, expected a pipe or a"):
            save_through(world.host, world.domain(), ToStandardOutput())
    assert world.running() == [1]


@pytest.fixture
def record(path):
    world = World()
    save(world.host, world.domain(), path)
    return path


def restored(record, command="cat {}", trust=None, **options):
    """Restore a guest from what a command prints of a save file."""
    world = World(guests={}, **({"trust": trust} if trust else {}))
    world.host.deadlines = world.host.deadlines.but(command_end=0.5, peer_end=0.3)
    said = FromCommand(command.format(shlex.quote(str(record))))
    return world, lambda: restore_through(world.host, said, RestoreOptions(**options))


@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("command", ["cat {}", "zstd -qc {}", "dd bs=1000 status=none if={}"])
def test_a_guest_comes_from_a_command(record, command, paused):
    world, act = restored(record, command, paused=paused)
    done = act()
    assert world.running() == ([] if paused else [done.domid])
    assert done.contents.config.name == world.guests[done.domid].config.name
    assert Journals(world.host.journals).found() == []


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("cat {}; exit 4", "ended with status 4"),
        ("cat {}; echo lost >&2; kill -9 $$", "ended with signal 9: lost"),
        ("cat {}; exec >&-; sleep 60", "did not end within 0.5 s after the last byte"),
    ],
)
def test_a_command_that_fails_leaves_nothing(record, command, said):
    world, act = restored(record, command)
    with pytest.raises(RolledBack, match=said):
        act()
    assert world.guests == {}
    assert "hypervisor.unpause" not in world.calls


def test_cut_anywhere_nothing_runs(record):
    size = record.stat().st_size
    for end in [*range(0, size, size // 17), size - 8, size - 1]:
        world, act = restored(record, f"head -c {end} {{}}")
        with pytest.raises((FormatError, HostError, RolledBack)):
            act()
        assert world.guests == {}
        assert "hypervisor.unpause" not in world.calls


def test_what_its_config_names_is_looked_at_before_anything_is_built(record):
    world = World()
    world.guests[1].config = world.guests[1].config.with_name("other")
    tree = dict(world.guests[1].config.tree)
    tree["b_info"] = {**tree["b_info"], "device_model": "/tmp/program"}
    world.guests[1].config = type(world.guests[1].config)(tree)
    save(world.host, world.domain(), record)
    there, act = restored(record)
    with pytest.raises(HostError, match="/tmp/program"):
        act()
    assert "host.build" not in there.calls
    allowed = Trust(allow=("b_info.device_model=/tmp/program",))
    there, act = restored(record, trust=allowed)
    act()
    assert len(there.running()) == 1


def test_whether_disks_changed_cannot_be_known(record):
    _, act = restored(record, strict_disks=True)
    with pytest.raises(UsageError, match="--strict-disks needs a file"):
        act()


def test_a_stream_that_is_none(tmp_path):
    (tmp_path / "text").write_bytes(io.BytesIO(b"no save file at all" * 100).getvalue())
    _, act = restored(tmp_path / "text")
    with pytest.raises(FormatError):
        act()
