"""The lab's commands, and those on domains, where no guest has to run for them."""

import re

import pytest

from tests.doubles.qemu.lab_guest import UUID, config
from tests.doubles.system.commands import Done, answer
from xenqemu.errors import HostError
from xenqemu.host import domain_state
from xenqemu.host.party_deadlines import Deadlines
from xenqemu.lab.lab_host import Lab
from xenqemu.quantities import in_bytes

CFG = 'name = "web"\ntype = "hvm"\nmemory = 8\nvga = "none"\n'


@pytest.fixture
def on(run, folder):
    """A function that runs a command on that host."""
    return lambda *words: run("--host", f"lab:{folder}", *words)


def test_the_host_is_as_the_settings_say(run, folder, ended, place, monkeypatch):
    conf = place / "conf"
    conf.write_text(f'host = "lab:{folder}"')
    assert "no such domain" in run("--conf", conf, "status", "small").out
    assert run("--conf", conf, "--host", f"lab:{place}", "status", "small").code == 3
    conf.write_text(f'host = "xen"\nlab = "{folder}"')
    assert "no such domain" in run("--conf", conf, "--host", "lab", "status", "small").out
    assert run("--conf", conf, "lab", "list").err == "xenqemu: host xen is no lab\n"
    monkeypatch.setenv("XENQEMU_CONF", str(conf))
    assert run("--host", "lab", "lab", "list").code == 0
    conf.write_text('hosd = "xen"')
    assert run("status", "small") == Done(
        64, "", f"xenqemu: {conf}: unknown key 'hosd'; did you mean host?\n"
    )
    monkeypatch.undo()


def test_the_deadlines_of_a_save(run, place, monkeypatch):
    conf = place / "conf"
    conf.write_text("[deadlines]\nacknowledge = 4\nstore_request = 3")
    words = "--conf", conf, "--host", f"lab:{place}", "save"
    opened = []

    def find(host, _who):
        opened.append(host.deadlines)
        raise HostError("nobody")

    monkeypatch.setattr(domain_state, "find", find)
    assert run(*words, "one", "file").code == 3
    assert run(*words, "--step-timeout", "5", "one", "file").code == 3
    assert opened == [
        Deadlines(acknowledge=4.0, store_request=3.0),
        Deadlines(acknowledge=5.0, suspend=5.0, store_request=3.0),
    ]


def test_up_and_down(run, place):
    lab = place / "lab"
    answer = {"folder": str(lab), "xenstored": str(lab / "xenstored.socket")}
    assert run("lab", "up", "--json", lab).json == answer
    assert run("lab", "up", lab).code == 0
    assert run("lab", "down", lab) == Done(0, f"the lab host {lab} is down\n", "")
    assert run("lab", "down", "--json", lab).json == {"folder": str(lab), "ended": []}
    assert not (lab / "xenstored.socket").exists()


def test_up_and_down_of_the_host_that_is_named_otherwise(run, place, monkeypatch):
    assert run("--host", f"lab:{place}/one", "lab", "up").code == 0
    assert run("--host", f"lab:{place}/one", "lab", "down").code == 0
    monkeypatch.setenv("XENQEMU_LAB", str(place / "two"))
    assert run("lab", "up").out == f"the lab host is up: --host lab:{place}/two\n"
    assert run("lab", "list").code == 0
    monkeypatch.setenv("XENQEMU_HOST", "lab")
    assert run("lab", "list").code == 0
    assert run("--host", "auto", "lab", "down").code == 0
    assert sorted(entry.name for entry in place.iterdir()) == ["one", "two"]


def test_down_of_what_is_no_lab(run, place):
    for folder in (place / "nothing", place):
        done = run("lab", "down", folder)
        assert done == Done(
            3, "", f"xenqemu: {folder} is no lab: it has no folders guests and run\n"
        )
    (place / "xenstored.pid").touch()
    (place / "guests").mkdir()
    assert run("lab", "down", place).code == 3
    assert (place / "xenstored.pid").exists()


def test_down_names_what_it_ended(run, folder, ended):
    assert run("lab", "down", folder).out == f"the lab host {folder} is down; ended: small\n"
    assert not ended.exists()


def test_down_as_json(run, folder, ended):
    answer = {"folder": str(folder), "ended": ["small"]}
    assert run("lab", "down", "--json", folder).json == answer


def test_an_empty_host(on):
    assert on("lab", "list").out.split() == ["NAME", "ID", "MEM", "VCPUS", "STATE"]
    assert on("lab", "list", "--json").json["domains"] == []


@pytest.mark.parametrize("who", ["web", "3", "99999999999999999999"])
@pytest.mark.parametrize(
    "words",
    [
        ("status", "{}"),
        ("save", "{}", "{}.save"),
        ("devices", "save", "{}", "{}.qevm"),
        ("lab", "pause", "{}"),
        ("lab", "unpause", "{}"),
        ("lab", "console", "{}"),
        ("lab", "destroy", "{}"),
    ],
)
def test_no_such_domain(on, place, monkeypatch, words, who):
    monkeypatch.chdir(place)
    done = on(*(word.format(who) for word in words))
    assert done == Done(3, "", f"xenqemu: there is no domain {who!r} on this host\n")
    assert [entry.name for entry in place.iterdir()] == ["lab"]


def test_no_host_is_up(run, place):
    lab = place / "lab"
    why = f"xenqemu: no lab host is up in {lab}: xenqemu lab up {lab}\n"
    for words in (("status", "x"), ("lab", "list"), ("save", "x", place / "f")):
        assert run("--host", f"lab:{lab}", *words) == Done(3, "", why)
    assert not lab.exists()


def test_status_of_what_is_left_of_a_domain(on, ended):
    words = "hypervisor: no such domain; name in xenstore: small"
    assert on("status", "small").out == f"domain 3 (small): {words}\n"
    assert on("status", "--json", "small").json == {
        "domid": 3,
        "name": "small",
        "uuid": None,
        "state": None,
        "device_model": None,
        "memory": None,
        "vcpus": None,
        "running": False,
        "trouble": [],
        "operations": [],
        "left": [],
        "damaged": [],
    }
    assert on("lab", "list", "--json").json["domains"] == []
    assert not ended.exists()
    assert on("status", "small").code == 3


def test_damaged_journal_is_shown_by_status_and_recover_and_stops_nobody(on, ended, folder):
    """Its text is of whoever wrote it, and stays one line."""
    file = folder / "operations" / "7.op"
    file.parent.mkdir(mode=0o700, exist_ok=True)
    file.write_bytes(b'{"fly\\u001b[2J": 1}\n')
    shown = on("status", "small")
    assert shown.code == 0
    (line,) = [line for line in shown.out.splitlines() if str(file) in line]
    assert line.startswith(f"{file} is damaged: ")
    assert line.isprintable()
    (broken,) = on("status", "--json", "small").json["damaged"]
    assert broken["path"] == str(file)
    recovered = on("recover")
    assert recovered.code == 11
    assert f"{file} is damaged: " in recovered.err
    assert on("recover", "small").code == 0


def test_trouble_is_listed(on, ended):
    (ended / "machine.json").write_text("{")
    line = on("lab", "list").out.splitlines()[1]
    assert line.startswith(
        f"{'small':<32}     3       0     0  hypervisor: {ended}/machine.json is "
    )
    assert "machine.json is damaged" in line
    (found,) = on("lab", "list", "--json").json["domains"]
    assert (found["domid"], found["state"], found["running"]) == (3, None, False)
    assert "machine.json is damaged" in found["trouble"][0]
    (ended / "machine.json").unlink()


def test_save_of_what_is_left_of_a_domain(on, place, ended):
    done = on("save", "small", place / "file")
    assert done.code == 3
    assert "domain 3 is not running (hypervisor: no such domain" in done.err
    assert sorted(entry.name for entry in place.iterdir()) == ["lab"]


def test_a_console_needs_a_port(on, folder, ended):
    why = 'xenqemu: small has no serial port with serial="pty"\n'
    assert on("lab", "console", "small") == Done(3, "", why)
    with Lab(folder).store() as store:
        store.write("/local/domain/3/serial/0/tty", "/nowhere/tty")
    why = "xenqemu: cannot open /nowhere/tty: No such file or directory\n"
    assert on("lab", "console", "small") == Done(3, "", why)


def test_destroy_of_what_is_left(on, ended):
    assert on("lab", "destroy", "small") == Done(0, "", "")
    assert not ended.exists()
    assert on("lab", "destroy", "small").code == 3


MACHINES = '{"return": [{"name": "pc-i440fx-7.2", "alias": "pc"}]}'


@pytest.mark.parametrize(
    "case",
    [
        ("name = ", 2, "xl.cfg"),
        ('type = "hvm"', 2, "expected name: a name for the guest"),
        (CFG + 'vga = "qxl"', 64, "vga='qxl': the lab has none, std, cirrus"),
        (CFG + 'kernel = "/nowhere"', 3, "web needs /nowhere, which cannot be read"),
        ('name = "x"\nkernel = "/dev/null"', 2, "expected a guest of type hvm, got pv"),
        (CFG, 3, "ended with status 7; qemu-system-x86_64 said: out of order"),
        (CFG + "# " + "x" * (2 << 20), 2, "at most 1048576 bytes"),
    ],
)
def test_create_that_is_refused_leaves_nothing(on, folder, place, fake_qemu, case):
    fake_qemu(f"case $* in *stdio*) echo '{MACHINES}';; *) echo out of order; exit 7;; esac")
    text, code, why = case
    cfg = place / "cfg"
    cfg.write_text(text)
    done = on("lab", "create", cfg)
    assert (done.code, done.out) == (code, "")
    assert why in done.err
    assert list((folder / "guests").iterdir()) == []
    assert on("lab", "list", "--json").json["domains"] == []


def test_create_on_kvm_says_so_to_qemu(on, place, fake_qemu):
    fake_qemu(f"case $* in *stdio*) echo '{MACHINES}';; *) echo \"$*\"; exit 7;; esac")
    cfg = place / "cfg"
    cfg.write_text(CFG)
    done = on("lab", "create", "--kvm", cfg)
    assert (done.code, done.out) == (3, "")
    assert "-machine pc-i440fx-7.2,accel=kvm," in done.err
    assert "-cpu host " in done.err


def test_create_of_a_name_in_use(on, place, fake_qemu, folder):
    fake_qemu(f"echo '{MACHINES}'")
    cfg = place / "cfg"
    cfg.write_text(CFG)
    left = folder / "guests" / "3"
    left.mkdir()
    (left / "config.json").write_bytes(config('name = "web"').dump())
    (left / "machine.json").write_text("{")  # trouble: nobody clears it away
    assert on("lab", "create", cfg) == Done(3, "", "xenqemu: domain 3 is named web already\n")
    cfg.write_text(f'{CFG}name = "other"\nuuid = "{UUID}"')
    why = f"xenqemu: domain 3 (web) has uuid {UUID}\n"
    assert on("lab", "create", cfg) == Done(3, "", why)
    (left / "machine.json").unlink()


def test_no_cfg(on, place):
    cfg = place / "cfg"
    why = f"xenqemu: {cfg}: No such file or directory\n"
    assert on("lab", "create", cfg) == Done(1, "", why)


def test_restore_of_what_is_no_record_of_the_lab(on, saved, place):
    done = on("restore", saved)
    assert (done.code, done.out) == (3, "")
    assert "guest of Xen" in done.err
    file = place / "file"
    file.write_bytes(b"QEVM\0\0\0\3\0")
    done = on("restore", file)
    assert (done.code, done.out) == (2, "")
    assert done.err == f"xenqemu: {file}: not a save file, but a bare DEVICE_STATE stream\n"


def test_restore_reports_as_json(on, saved):
    done = on("restore", "--json", saved)
    *lines, last = [answer(line) for line in done.out.splitlines()]
    assert [(line["phase"], line["event"]) for line in lines] == [
        *(("check", "started"), ("check", "failed"))
    ]
    assert "guest of Xen" in lines[-1]["text"]
    assert last["error"]["message"] == lines[-1]["text"]
    assert (last["error"]["class"], last["error"]["exit_code"]) == ("HostError", 3)


@pytest.mark.lab
def test_a_guest_with_firmware_alone_there_and_back(on, place):
    """Each command as a person and as a program sees it; what guests make of it is elsewhere."""
    cfg, record, devices = place / "cfg", place / "web.save", place / "web.qevm"
    cfg.write_text(f"{CFG}acpi = 1\nsound = 1\n")
    assert on("lab", "create", "-p", cfg).out == "created web: domain 1; ignored: acpi, sound\n"
    line = f"{'web':<32} {1:>5} {8:>7} {1:>5}  paused"
    assert on("lab", "list").out.splitlines()[1:] == [line]
    assert on("lab", "unpause", "web") == Done(0, "", "")
    words = "hypervisor: running; name in xenstore: web; device model: running"
    assert on("status", "1").out == f"domain 1 (web): {words}\n"
    done = on("devices", "save", "web", devices)
    assert done.out.startswith(f"saved the devices of web to {devices}: device state, ")
    assert on("devices", "save", "--json", "web", devices).json == {
        "saved": str(devices),
        "domid": 1,
        "size": devices.stat().st_size,
    }
    assert on("save", "-p", "web", record).code == 0
    assert on("status", "--json", "web").json["state"] == "paused"
    assert on("lab", "unpause", "web").code == 0
    for options in ([], ["--live", "--compact"]):
        told = on("save", "--json", "-c", *options, "web", record).out.splitlines()
        last = answer(told[-1])
        for name in ("downtime", "seconds", "rate"):
            assert last.pop(name) > 0
        assert last.pop("way", None) == ("precopy" if options else None)
        assert last == {"saved": str(record), "domid": 1, "size": record.stat().st_size}
        assert any('"event": "iteration"' in line for line in told) == bool(options)
    took = r"; [^;]+/s; downtime [0-9.]+ m?s\n"
    assert re.search(took, on("save", "-c", "web", record).out)
    assert on("lab", "pause", "web").code == 0
    assert on("save", "web", record).code == 0
    assert on("restore", record).out.startswith(f"restored web from {record}: domain 2, paused; ")
    assert on("status", "--json", "web").json["state"] == "paused"
    assert on("lab", "unpause", "web").code == 0
    done = on("save", "web", record)
    assert done.out.startswith(
        f"saved web to {record}: xl, {in_bytes(record.stat().st_size)}; hvm "
    )
    assert on("lab", "list", "--json").json["domains"] == []
    done = on("restore", record)
    assert done.out.startswith(f"restored web from {record}: domain 3, running; ")
    assert on("lab", "destroy", "web") == Done(0, "", "")
    done = on("restore", "-p", record)
    assert done.out.startswith(f"restored web from {record}: domain 4, paused; ")
    assert f"{record} was restored before (" in done.err
    assert on("lab", "destroy", "4").code == 0
    last = answer(on("restore", "--json", record).out.splitlines()[-1])
    assert (last.pop("seconds") > 0, last.pop("rate") > 0) == (True, True)
    size = last.pop("size")
    assert last == {"restored": str(record), "domid": 5, "name": "web"}
    assert size == record.stat().st_size
    assert on("lab", "destroy", "web").code == 0
    made = on("lab", "create", "--json", cfg).json
    assert (made["domid"], made["name"], made["state"]) == (6, "web", "running")
    assert on("lab", "destroy", "web").code == 0


@pytest.mark.lab
def test_a_config_in_place_of_the_records_own(on, place):
    cfg, other, record = place / "cfg", place / "other", place / "web.save"
    cfg.write_text(CFG)
    other.write_text(CFG.replace("web", "other"))
    assert on("lab", "create", cfg).code == 0
    assert on("save", "--step-timeout", "5", "web", record).code == 0
    done = on("restore", other, record)
    assert done.out.startswith(f"restored other from {record}: domain 2, running; ")
    assert on("status", "other").code == 0
    assert on("status", "web").code == 3
    assert on("lab", "list", "--json").json["domains"][0]["name"] == "other"
