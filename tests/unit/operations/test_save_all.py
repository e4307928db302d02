"""All guests before a shutdown: who is saved, who is shut down, who is left, and who is told."""

import os
import signal
import stat
import threading

import pytest

from tests.doubles.in_memory import host, parties
from tests.doubles.in_memory.everyone import Everyone, FakeHooks
from tests.doubles.in_memory.faults import Fault, How
from tests.doubles.in_memory.world import World, loaded
from xenqemu.errors import HostError
from xenqemu.operations import save_all as module
from xenqemu.operations.restore_all import restore_all
from xenqemu.operations.saved_guests import saved
from xenqemu.settings.choice import Choice
from xenqemu.settings.xenqemu_conf import RestoreAll


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "not" / "there" / "yet"


def test_all_are_saved(folder):
    everyone = Everyone(folder, web={}, mail={}, old={"tick": 7})
    assert everyone.save() == {"web": "saved", "mail": "saved", "old": "saved"}
    assert everyone.world.guests == {}
    assert [kept.name for kept in saved(folder)] == ["mail", "old", "web"]
    assert loaded(folder / "old").tick == 7
    assert everyone.text("web") == f"to {folder}/web"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_a_host_without_guests_has_nothing_to_save(folder):
    assert Everyone(folder).save() == {}


def test_guests_that_ended_are_nobodys_concern(folder):
    assert Everyone(folder, web={"down": True}, mail={"crashed": True}).save() == {}


@pytest.mark.parametrize(
    ("plan", "own", "became"),
    [
        ({}, {"b": Choice.SHUT_DOWN}, ("saved", "shut down", "saved")),
        ({}, {"b": Choice.LEAVE, "a": Choice.SAVE}, ("saved", "left alone", "saved")),
        ({"leave": ("a",), "shut_down": ("b", "x")}, {}, ("left alone", "shut down", "saved")),
        ({"leave": ("a",)}, {"a": Choice.SHUT_DOWN}, ("left alone", "saved", "saved")),
        ({"shut_down": ("a",)}, {"a": Choice.SAVE}, ("shut down", "saved", "saved")),
        ({"save": False}, {}, ("shut down", "shut down", "shut down")),
        (
            {"save": False, "leave": ("a",)},
            {"b": Choice.SAVE, "c": Choice.LEAVE},
            ("left alone", "shut down", "left alone"),
        ),
        ({"others": Choice.LEAVE}, {"b": Choice.SAVE}, ("left alone", "saved", "left alone")),
        ({"others": Choice.SHUT_DOWN}, {"b": Choice.SAVE}, ("shut down", "saved", "shut down")),
        (
            {"others": Choice.LEAVE, "save": False, "shut_down": ("c",)},
            {"b": Choice.SAVE},
            ("left alone", "shut down", "shut down"),
        ),
    ],
)
def test_a_guests_own_choice_goes_before_the_plan(folder, plan, own, became):
    everyone = Everyone(folder, a={}, b={}, c={})
    assert tuple(everyone.save(own, **plan)[name] for name in "abc") == became
    left = [guest.config.name for guest in everyone.world.guests.values() if guest.runs]
    assert left == [name for name, what in zip("abc", became, strict=True) if what == "left alone"]


def test_what_cannot_be_saved_is_shut_down(folder):
    everyone = Everyone(folder, a={}, b={})
    everyone.world.blockers = ["nvme"]
    assert everyone.save() == {"a": "shut down", "b": "shut down"}
    assert "it could not be saved: the device model of domain 1" in everyone.text("a")
    assert not list(folder.iterdir())


def test_what_neither_can_be_saved_nor_listens_is_told(folder):
    everyone = Everyone(folder, a={"obeys": False}, b={})
    everyone.world.blockers = ["nvme"]
    assert everyone.save() == {"a": "failed", "b": "shut down"}
    assert everyone.text("a").startswith("it could not be saved: ")
    assert everyone.text("a").endswith("; it has not shut down within 0.3 s")


def test_a_paused_guest_that_must_answer_is_told(folder):
    everyone = Everyone(folder, a={"paused": True, "must_answer": True}, b={})
    assert everyone.save() == {"a": "failed", "b": "saved"}
    text = everyone.text("a")
    assert "it could not be saved: domain 1 cannot be suspended: it is paused" in text
    assert "; it could not be shut down: it does not run (hypervisor: paused" in text
    assert text.endswith("; unpause it, or it ends with the host")
    assert everyone.world.guests[1].paused


def test_a_paused_guest_that_need_not_answer_is_saved(folder):
    everyone = Everyone(folder, a={"paused": True})
    assert everyone.save() == {"a": "saved"}
    assert loaded(folder / "a").run_state.value == "paused"


def test_two_guests_of_one_name_are_both_saved(folder):
    """As `xl rename` leaves them; and again at the next shutdown, if neither has come back."""
    uuids = []
    for _shutdown in range(2):
        everyone = Everyone(folder, a={"tick": 1}, b={"tick": 2})
        first, second = everyone.world.guests.values()
        second.config = second.config.with_name("a")
        uuids = [first.config.uuid, second.config.uuid]
        everyone.save(parallel=2)
        assert everyone.world.guests == {}
        files = sorted(path.name for path in folder.iterdir())
        assert len(files) == 2
        assert files[0] == "a"
        assert files[1] in [f"a~{uuid}" for uuid in uuids]
        assert sorted(loaded(folder / file).config.uuid for file in files) == sorted(uuids)


def test_a_save_file_of_another_guest_that_has_not_come_back_is_not_replaced(folder):
    Everyone(folder, a={"tick": 1}).save()
    for hidden in (False, True):
        if hidden:
            (folder / "a").rename(folder / ".a.ran")
        older = (folder / (".a.ran" if hidden else "a")).read_bytes()
        everyone = Everyone(folder, b={"tick": 2})
        everyone.world.guests[1].config = everyone.world.guests[1].config.with_name("a")
        uuid = everyone.world.guests[1].config.uuid
        everyone.save()
        assert everyone.text("a") == f"to {folder}/a~{uuid}"
        assert (folder / (".a.ran" if hidden else "a")).read_bytes() == older
        assert loaded(folder / f"a~{uuid}").tick == 2


@pytest.mark.parametrize("what", ["text", "folder", "FIFO", "dangling link"])
def test_what_may_be_another_guests_is_not_replaced(folder, what):
    folder.mkdir(parents=True)
    there = folder / "a"
    {
        "text": lambda: there.write_text("older"),
        "folder": there.mkdir,
        "FIFO": lambda: os.mkfifo(there),
        "dangling link": lambda: there.symlink_to("nowhere"),
    }[what]()
    before = there.lstat()
    everyone = Everyone(folder, a={})
    uuid = everyone.world.guests[1].config.uuid
    assert everyone.save() == {"a": "saved"}
    assert everyone.text("a") == f"to {folder}/a~{uuid}"
    assert there.lstat() == before


def test_a_newer_save_takes_the_place_of_what_was_restored_and_not_seen_to_run(folder):
    Everyone(folder, a={"tick": 1}).save()
    (folder / "a").rename(folder / ".a.ran")
    Everyone(folder, a={"tick": 2}).save()
    assert [path.name for path in folder.iterdir()] == ["a"]
    assert loaded(folder / "a").tick == 2


def test_a_folder_without_any_place_for_a_guest_costs_that_guest_alone(folder):
    folder.mkdir(parents=True)
    everyone = Everyone(folder, a={}, b={})
    uuid = everyone.world.guests[1].config.uuid
    for name in ("a", f"a~{uuid}", f"a~{uuid}~1"):
        (folder / name).mkdir()
    assert everyone.save() == {"a": "shut down", "b": "saved"}
    assert "are taken by other guests' save files" in everyone.text("a")


LONG = ["n" * 252, "n" * 4000, "ж" * 42, "ж" * 127, "/" * 255, "\n" * 300]


@pytest.mark.parametrize("name", LONG)
def test_a_long_name_is_saved_and_comes_back(folder, name):
    for what in (name, f"{name[:-1]}x"):  # as alike as can be
        everyone = Everyone(folder, **{what: {}})
        assert everyone.save() == {what: "saved"}
    assert len(list(folder.iterdir())) == 2
    world, told = World(guests={}), []
    restore_all(lambda: world.host, folder, RestoreAll(proof=0.01), told.append)
    assert {each.name: each.how.value for each in told} == {
        name: "restored",
        f"{name[:-1]}x": "restored",
    }
    assert list(folder.iterdir()) == []


def test_whose_save_is_forbidden_is_left_alone(folder):
    everyone = Everyone(folder, a={}, b={})
    hooks = FakeHooks("a")
    assert everyone.save(hooks=hooks) == {"a": "forbidden", "b": "saved"}
    assert everyone.text("a") == "the backup runs; it is left alone"
    assert [guest.runs for guest in everyone.world.guests.values()] == [True]
    assert [path.name for path in folder.iterdir()] == ["b"]
    assert hooks.seen == [
        ("save", {"domid": domid, "name": name, "file": f"{folder}/{name}"})
        for domid, name in ((1, "a"), (2, "b"))
    ]


def test_nothing_is_around_what_is_not_saved(folder):
    everyone = Everyone(folder, a={}, b={})
    hooks = FakeHooks()
    everyone.save(leave=("a",), shut_down=("b",), hooks=hooks)
    Everyone(folder, c={}).save(deadline=1e-9, hooks=hooks)
    assert hooks.seen == []


def test_what_is_around_a_save_sees_it_fail(folder):
    everyone = Everyone(folder, a={})
    everyone.world.blockers = ["nvme"]
    assert everyone.save(hooks=FakeHooks()) == {"a": "shut down"}
    assert everyone.text("a").endswith("; reported")


def test_time_for_all_of_them(folder):
    everyone = Everyone(folder, a={}, b={}, c={})
    assert everyone.save(deadline=1e-9) == {"a": "shut down", "b": "shut down", "c": "shut down"}
    assert (
        everyone.text("c")
        == "it could not be saved: the deadline of 1e-09 s for all domains has passed"
    )
    assert not folder.exists()


def test_a_record_that_is_there_survives_a_save_that_fails(folder):
    folder.mkdir(parents=True)
    (folder / "a").write_text("older")
    everyone = Everyone(folder, a={})
    everyone.world.blockers = ["nvme"]
    everyone.save()
    assert (folder / "a").read_text() == "older"


def calls(folder) -> int:
    everyone = Everyone(folder / "probe", a={}, b={})
    everyone.save()
    return len(everyone.world.calls)


@pytest.mark.parametrize("how", [How.REFUSED, How.LOST])
def test_whatever_fails_once_costs_one_guest_at_most(folder, how):
    """Each is saved, or shut down, or told; never none of it, and never two of it."""
    for at in range(calls(folder)):
        everyone = Everyone(folder / f"{how.name}{at}", a={}, b={})
        everyone.world.fault = Fault(at, how)
        if at == 0:  # which guests there are
            with pytest.raises(HostError, match=r"host\.domids failed"):
                everyone.save()
            continue
        became = everyone.save()
        assert sorted(became) == ["a", "b"], everyone.world.calls[at]
        for name, domid in (("a", 1), ("b", 2)):
            there = everyone.world.guests.get(domid)
            record = everyone.plan.folder / name
            if became[name] == "saved":
                assert there is None
                assert loaded(record).tick == 41
            elif became[name] == "shut down":
                assert there.down
                assert not record.exists()
        assert list(became.values()).count("saved") >= 1


def test_an_interrupt_takes_back_what_goes_on(folder, monkeypatch):
    everyone = Everyone(folder, a={}, b={})
    really = module.save_domain
    begun = threading.Event()

    def slowly(host, domain, path, options):
        def observe(event):
            if event.total:  # memory is being written
                begun.set()
                ended.wait(20)

        return really(host, domain, path, options, observe=observe)

    def interrupt():
        begun.wait(20)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        while not list((everyone.world.folder / "operations").glob("*.cancel")):
            pass
        ended.set()

    ended = threading.Event()
    monkeypatch.setattr(module, "save_domain", slowly)
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        everyone.save()
    thread.join(20)
    assert everyone.reported == []
    assert [guest.runs for guest in everyone.world.guests.values()] == [True, True]
    assert list(folder.iterdir()) == []
    assert os.listdir(everyone.world.folder / "operations") == ["lock"]  # noqa: PTH208


def test_a_guest_without_a_name_in_xenstore(folder, monkeypatch):
    everyone = Everyone(folder, a={}, b={})
    monkeypatch.setattr(parties.Store, "read", lambda _store, _path: None)
    assert everyone.save(leave=("b",)) == {"a": "saved", "b": "left alone"}


def test_a_guest_without_any_name(folder, monkeypatch):
    everyone = Everyone(folder, a={}, b={})

    def nobody_knows(_host, _domid):
        raise HostError("xl list -l does not list it")

    monkeypatch.setattr(parties.Store, "read", lambda _store, _path: None)
    monkeypatch.setattr(host.Host, "config", nobody_knows)
    assert everyone.save() == {"1": "shut down", "2": "shut down"}
    assert everyone.text("2") == "it could not be saved: xl list -l does not list it"
