"""A guest moves between two hosts, and every call of either side fails: where is the guest then?

As in test_faults, the table is made: a move runs once to count the calls of each side, then once
for each call and each `How`, in two processes.  Then users do what they are told: recover what was
left, and, where nobody could tell which copy lives, look and say so.  Never are there two, and in
the end there is one.
"""

import os
import sys
from dataclasses import dataclass

import pytest

from tests.doubles.in_memory.faults import Fault, How
from tests.doubles.in_memory.guest import Guest
from tests.doubles.in_memory.save_files import NAME, UUID, config_with
from tests.doubles.in_memory.world import ACTS, World
from tests.doubles.peers.two_hosts import End, Move
from tests.parts import shortened
from xenqemu.errors import Forbidden, HostError
from xenqemu.formats.migration.handshake import WORDS, HandshakeState, Message
from xenqemu.formats.migration.wrapping import DIGEST, ZSTD
from xenqemu.host.disk import lease
from xenqemu.host.disk.lease import Owner
from xenqemu.host.peer.peer_messages import Peer
from xenqemu.host.precopy_options import PrecopyOptions
from xenqemu.operations.journal import steps
from xenqemu.operations.journal.folder import Journals
from xenqemu.operations.journal.log import About
from xenqemu.operations.journal.operation import Operation
from xenqemu.operations.recover import recover

AWAY = f"{NAME}--migratedaway"
COMING = f"{NAME}--incoming"
BOTH = frozenset({DIGEST, ZSTD})

MOVES = {
    "plain": {},
    "paused": {"paused": True},
    "wrapped": {"features": BOTH},
    "live": {"precopy": PrecopyOptions()},
    "disk": {"disk": True},
}

FAILING = ("plain", "paused", "disk")


def names(world):
    return [guest.config.name for guest in world.guests.values()]


def whole(guest):
    """Return whether nothing of the guest was lost on its way."""
    first = Guest.running(guest.tick, guest.config.with_name(NAME))
    return (guest.pages, guest.tick, guest.config) == (first.pages, first.tick, first.config)


def lives(guest, paused):
    return guest.config.name == NAME and (guest.runs or (paused and guest.paused))


@pytest.mark.parametrize("options", MOVES.values(), ids=MOVES.keys())
def test_a_guest_moves(options):
    move = Move.prepared(**options)
    sent, taken = move.run()
    assert (sent.kind, taken.kind) == (None, None), (sent, taken)
    assert move.source.guests == {}
    (guest,) = move.target.guests.values()
    assert whole(guest)
    assert lives(guest, move.paused)
    assert guest.runs != move.paused
    assert move.owners() == [move.target] * bool(move.image)
    assert (
        Journals(move.source.host.journals).found()
        == Journals(move.target.host.journals).found()
        == []
    )
    assert move.source.broken == move.target.broken == []


def test_a_guest_that_cannot_be_logged_moves_all_the_same():
    move = Move.prepared(precopy=PrecopyOptions())
    move.source.guests[1].can_log_dirty = False
    sent, taken = move.run()
    assert (sent.kind, taken.kind) == (None, None), (sent, taken)
    assert "memory.save" in sent.calls
    assert "memory.save_live" not in sent.calls


def test_a_guest_whose_config_names_what_the_receiver_does_not_allow_stays():
    move = Move.prepared()
    move.source.guests[1].config = config_with(b_info={"bootloader": "/tmp/loader"})
    sent, taken = move.run()
    assert taken.kind is Forbidden
    assert "b_info.bootloader=/tmp/loader (a program)" in taken.words
    assert "host.build" not in taken.calls
    assert sent.rolled_back
    assert move.source.guests[1].runs


def test_the_order_of_acts():
    sent, taken = Move.prepared().run()
    acts = {*ACTS, "host.findings"}
    order = [[call for call in end.calls if call in acts] for end in (sent, taken)]
    assert order == [
        [
            *("hypervisor.suspend", "device_model.stop", "device_model.save", "memory.save"),
            *("host.rename", "host.destroy"),
        ],
        [
            *("host.findings", "host.build", "memory.load", "host.rename", "device_model.cont"),
            "hypervisor.unpause",
        ],
    ]


@dataclass(frozen=True)
class Row:
    """One call of one side that fails in one way."""

    side: str
    fault: Fault

    def run(self, options) -> tuple[Move, End, End]:
        move = Move.prepared(**options)
        getattr(move, self.side).fault = self.fault
        return (move, *move.run())


def rows(options, hows):
    """Yield the whole table of a move, made of one that goes well."""
    ends = dict(zip(("source", "target"), Move.prepared(**options).run(), strict=True))
    for side, end in ends.items():
        assert end.kind is None
        for at in range(len(end.calls)):
            yield from (Row(side, Fault(at, how)) for how in hows)


def judge(move: Move, sent: End, taken: End) -> None:
    """Say what is wrong with what a move left; do what its errors say; say what is wrong then."""
    source, target = move.source, move.target
    assert source.broken == target.broken == []
    assert len(source.running()) + len(target.running()) <= 1
    for world in (source, target):
        if move.image and world.running():
            assert move.owners()[0] is world
    if not sent.killed:
        judge_sender(move, sent)
    if taken.untouched or taken.rolled_back:
        assert target.guests == {}
    moved = recovered(target, move.paused, taken)
    for done in recover(source.host):
        assert done.complete or "nobody here can tell" in done.trouble[0]
    for done in recover(source.host, moved=moved):
        assert done.complete, done
    judge_end(move)
    assert moved or sent.kind or sent.killed


def recovered(target: World, paused: bool, taken: End) -> bool:
    """Recover what the receiver left; return whether the guest is there.

    One of which Xen could not be asked whether it ran is the guest, and may have to be let run.
    """
    for done in recover(target.host):
        assert done.complete, done
    if taken.past_return:
        for guest in target.guests.values():
            guest.paused = paused
    assert all(lives(guest, paused) for guest in target.guests.values())
    return bool(target.guests)


def judge_sender(move: Move, sent: End) -> None:
    """Judge the sender's word, before anything is done about it."""
    source, target = move.source, move.target
    if sent.kind is None:
        assert source.guests == {}
        assert [lives(guest, move.paused) for guest in target.guests.values()] == [True]
    elif sent.unknown:
        assert names(source) == [AWAY]
        assert source.running() == []
        assert AWAY in sent.words
        assert "there" in sent.words
    elif sent.past_return:
        assert source.running() == []
        assert [lives(guest, move.paused) for guest in target.guests.values()] == [True]
    elif not sent.stranded:
        assert sent.rolled_back or sent.untouched
        assert source.running() == [1]
        assert names(source) == [NAME]
        assert not any(lives(guest, move.paused) for guest in target.guests.values())


def judge_end(move: Move) -> None:
    """One guest, whole, under its name; nothing else is left behind, here or there."""
    guests = [*move.source.guests.values(), *move.target.guests.values()]
    assert len(guests) == 1
    assert lives(guests[0], move.paused)
    assert whole(guests[0])
    if move.image:
        assert move.owners() == [move.source if move.source.guests else move.target]
    assert (
        Journals(move.source.host.journals).found()
        == Journals(move.target.host.journals).found()
        == []
    )
    assert move.source.broken == move.target.broken == []


def tried(table, options):
    """Run and judge each row; return what is wrong with any."""
    wrong = []
    for row in table:
        move, sent, taken = row.run(options)
        try:
            judge(move, sent, taken)
        except Exception as error:  # noqa: BLE001  all of them are shown together
            wrong.append(f"{row}\n  {error!r}\n  sender {sent.kind} {sent.words}\n  {taken.words}")
    return wrong


@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", How, ids=lambda how: how.name)
@pytest.mark.parametrize("name", shortened(FAILING, "disk"))
def test_every_call_of_either_side_fails(name, how):
    wrong = tried(rows(MOVES[name], [how]), MOVES[name])
    assert not wrong, "\n\n".join([*wrong[:5], f"{len(wrong)} in all"])


def test_size_of_the_table(capsys):
    size = sum(1 for name in FAILING for _ in rows(MOVES[name], How))
    with capsys.disabled():
        sys.stdout.write(f"\ntable of moves: {size} rows\n")
    assert size >= 600


def in_doubt(**options):
    """A migration whose process was killed once the other host was told."""
    source = Move.prepared(**options).source

    def run():
        def receive(peer):
            if peer.handshake.state is HandshakeState.CLEARED:
                source.die()
            return real(peer)

        real = Peer.receive
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Peer, "receive", receive)
            move = Move(source, World(guests={}, next_domid=7))
            there, back = os.pipe(), os.pipe()
            words = (Message.BANNER, Message.READY)
            os.write(back[1], b"".join(WORDS[message][1] for message in words))
            with open(back[0], "rb", buffering=0) as hears:
                with open(there[1], "wb", buffering=0) as says:
                    move.send(hears, says)

    assert source.outlive(run)
    assert names(source) == [AWAY]
    return source


def test_recover_in_doubt_does_nothing_and_says_what_to_say():
    source = in_doubt()
    for _ in range(2):
        (done,) = recover(source.host)
        assert not done.complete
        assert (done.committed, done.in_doubt) == (False, True)
        (trouble,) = done.trouble
        assert trouble == (
            f"nobody here can tell which copy lives: domain 1 is suspended here as {AWAY}, "
            "sample may run on there; look at both, then run `xenqemu recover --moved sample` "
            "or `--stayed sample`"
        )
        assert names(source) == [AWAY]
        assert source.running() == []


def test_recover_of_a_guest_that_moved():
    source = in_doubt()
    (done,) = recover(source.host, NAME, moved=True)
    assert (done.complete, done.committed, done.meaning) == (
        True,
        True,
        "the guest is on there now",
    )
    assert source.guests == {}


def on_its_way(*acts):
    """A migration in doubt of a guest with a disk, after `acts` of the other host on its lease."""
    source = in_doubt(disk=True)
    there = Owner("there", "boot", UUID)
    lease.take(source.image, there, incoming=True)
    for act in acts:
        act(source.image, there)
    return source


def test_recover_is_told_by_the_disks_that_a_guest_has_moved():
    source = on_its_way(lease.claim, lease.keep)
    with pytest.raises(HostError, match="^another host has the disks of sample: it has moved$"):
        recover(source.host, NAME, moved=False)
    assert source.running() == []
    (done,) = recover(source.host)
    assert (done.complete, done.committed, done.in_doubt) == (True, True, False)
    assert source.guests == {}
    assert lease.held(source.image).owner.host == "there"


@pytest.mark.parametrize("acts", [(), (lease.claim,)], ids=["next_owner", "owner"])
def test_recover_is_not_told_by_disks_that_both_have_a_part_in(acts):
    source = on_its_way(*acts)
    (done,) = recover(source.host)
    assert done.in_doubt
    (done,) = recover(source.host, NAME, moved=False)
    assert (done.complete, done.committed) == (True, False)
    assert source.running() == [1]
    found = lease.held(source.image)
    assert (found.owner.host, found.next_owner) == (str(source.folder), None)


def test_recover_of_a_guest_that_stayed():
    source = in_doubt()
    (done,) = recover(source.host, NAME, moved=False)
    assert (done.complete, done.committed, done.trouble) == (True, False, ())
    assert names(source) == [NAME]
    assert source.running() == [1]


def test_recover_does_not_believe_that_a_guest_stayed():
    """Where a guest moved within one host, its other copy can be seen."""
    source = in_doubt()
    copy = Guest.running()
    source.add(copy)
    with pytest.raises(HostError, match=r"domain 2 \(sample\) runs here: the guest has moved"):
        recover(source.host, NAME, moved=False)
    assert source.running() == [2]
    recover(source.host, NAME, moved=True)
    assert names(source) == [NAME]


def test_moved_and_stayed_change_nothing_where_there_is_no_doubt(tmp_path):
    world = World()
    uuid = world.guests[1].config.uuid
    job = Operation.begin(world.host, About("save", 1, NAME, uuid, "/record"))
    job.undo(steps.Resume(1, uuid))
    world.guests[1].suspended = True
    job.log.unfinished = True
    job.log.close()
    (done,) = recover(world.host, NAME, moved=True)
    assert (done.complete, done.committed) == (True, False)
    assert world.running() == [1]
