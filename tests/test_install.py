"""What scripts/install puts where, and that it works from there."""

import json
import os
import re
import stat
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from tests.as_root import as_root
from tests.golden import save_files
from xenqemu.cli.parser import COMMANDS
from xenqemu.errors import HostError
from xenqemu.operations.saved_guests import SavedGuest
from xenqemu.settings.hooks import Hooks
from xenqemu.settings.xenqemu_conf import Settings

ROOT = Path(__file__).parents[1]
INSTALL = ROOT / "scripts" / "install"
MODULES = "usr/lib/xenqemu"
MANUAL = "usr/share/man"

FILES = """
-rw-r--r-- etc/logrotate.d/xenqemu
-rw-r--r-- etc/xenqemu/hooks.d/README
-rw-r--r-- etc/xenqemu/xenqemu.conf
-rw-r--r-- usr/lib/python3/dist-packages/xenqemu.pth
-rw-r--r-- usr/lib/systemd/system/session-.scope.d/xenqemu.conf
-rw-r--r-- usr/lib/systemd/system/xenqemu-restore.service
-rw-r--r-- usr/lib/systemd/system/xenqemu-save.service
-rw-r--r-- usr/lib/tmpfiles.d/xenqemu.conf
-rw-r--r-- usr/share/bash-completion/completions/xenqemu
-rw-r--r-- usr/share/doc/xenqemu/CHANGELOG.md
-rw-r--r-- usr/share/doc/xenqemu/README.md
-rw-r--r-- usr/share/doc/xenqemu/copyright
-rwxr-xr-x usr/share/doc/xenqemu/examples/hook-log
-rwxr-xr-x usr/share/doc/xenqemu/examples/libvirt-libxl
-rwxr-xr-x usr/share/doc/xenqemu/examples/save_all_guests.py
-rwxr-xr-x usr/share/doc/xenqemu/examples/system-sleep
-rw-r--r-- usr/share/doc/xenqemu/examples/xendomains.conf
-rw-r--r-- usr/share/zsh/vendor-completions/_xenqemu
"""
NAMES = (
    *("usr/bin/xenqemu", "usr/libexec/xenqemu/libxl-save-helper"),
    *("etc/xen/scripts/xenqemu-block", "etc/xen/scripts/xenqemu-vif"),
)
"""Of the program: it is what it is called."""

HOOKS = {
    *("pre-save.d", "pre-restore.d", "pre-migrate.d", "pre-receive.d"),
    *("post-save.d", "post-restore.d", "post-migrate.d", "post-receive.d"),
    *("failed-save.d", "failed-restore.d", "failed-migrate.d", "failed-receive.d"),
}


def install(*words, check=True, cwd=None):
    command = [INSTALL, "--python", sys.executable, *words]
    return subprocess.run(command, capture_output=True, text=True, check=check, cwd=cwd)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dest")
    assert install("--destdir", folder).stdout == ""
    return folder


def run(installed, program, *words, data=b"", **more):
    """Run an installed program, which finds its own modules there and all others where we do."""
    environment = os.environ | more
    return subprocess.run(
        [installed / program, *words],
        env=environment,
        cwd="/",
        input=data,
        capture_output=True,
        check=False,
    )


def test_all_is_where_debian_expects_it(installed):
    found = {
        f"{stat.filemode(path.stat().st_mode)} {path.relative_to(installed)}"
        for path in installed.rglob("*")
        if path.is_file()
        and not path.is_symlink()
        and not any(folder in str(path) for folder in (MODULES, MANUAL))
    }
    assert found == {*FILES.split("\n")} - {""}
    for path in (installed, *installed.rglob("*")):
        assert path.owner() == installed.owner()
        if path.is_dir() and path != installed:
            assert stat.filemode(path.stat().st_mode) == "drwxr-xr-x"
    assert {path.name for path in (installed / "etc/xenqemu/hooks.d").iterdir()} == {
        "README",
        *HOOKS,
    }


def test_every_module_is_there_and_nothing_else(installed):
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "xenqemu"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    found = [path for path in (installed / MODULES).rglob("*") if path.is_file()]
    kept = {
        str(path.relative_to(installed / MODULES)): stat.filemode(path.stat().st_mode)
        for path in found
        if path.suffix != ".pyc"
    }
    assert kept.pop("start") == "-rwxr-xr-x"
    assert kept.pop("__main__.py")
    assert sorted(kept) == sorted(tracked)
    assert set(kept.values()) == {"-rw-r--r--"}


def test_all_its_names_are_the_one_program(installed):
    for name in NAMES:
        assert (installed / name).resolve() == installed / MODULES / "start"
        assert not (installed / name).readlink().is_absolute()  # it may lie anywhere
    (line,) = (installed / "usr/lib/python3/dist-packages/xenqemu.pth").read_text().splitlines()
    assert line == f"/{MODULES}"


def test_what_is_bundled_lies_beside_ours(tmp_path):
    module = tmp_path / "bundled" / "some" / "module" / "__init__.py"
    module.parent.mkdir(parents=True)
    module.write_text("")
    install("--destdir", tmp_path / "dest", "--bundled", tmp_path / "bundled")
    assert (tmp_path / "dest" / MODULES / "some/module/__init__.py").exists()


def test_what_is_for_users_is_installed(installed):
    """Whoever adds a file to etc or hotplug says where it goes."""
    texts = {
        path.read_text()
        for path in installed.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    for path in (ROOT / "etc").rglob("*"):
        assert not path.is_file() or path.read_text() in texts, path
    assert {path.name for path in (ROOT / "hotplug").iterdir()} <= {
        Path(name).name for name in NAMES
    }


def test_the_program_runs(installed):
    done = run(installed, "usr/bin/xenqemu", "--version")
    assert (done.returncode, done.stderr) == (0, b"")
    assert re.fullmatch(rb"xenqemu \d+\.\d+\S*\n", done.stdout)


def test_the_program_is_the_installed_one(tmp_path):
    install("--destdir", tmp_path)
    (tmp_path / MODULES / "xenqemu/version.py").write_text('VERSION = "of this test"\n')
    assert run(tmp_path, "usr/bin/xenqemu", "--version").stdout == b"xenqemu of this test\n"


def test_there_is_a_manual_page_of_each_command(installed):
    found = {path.name for path in (installed / MANUAL).rglob("*.[1-8]")}
    others = {"xenqemu.1", "xenqemu.conf.5", "libxl-save-helper.8"}
    others |= {"xenqemu-hooks.7", "xenqemu-errors.7"}
    assert found == {f"xenqemu-{command}.1" for command in COMMANDS} | others
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (installed / MANUAL).rglob("*.[1-8]")}
    assert modes == {0o644}


def test_the_save_helper_runs(installed):
    helper = "usr/libexec/xenqemu/libxl-save-helper"
    done = run(installed, helper, "--moon")
    assert done.returncode == 255
    assert done.stderr.startswith(b"xenqemu: ")


def test_what_its_owner_may_have_changed_is_kept(tmp_path):
    install("--destdir", tmp_path)
    conf, hook = (
        tmp_path / "etc/xenqemu/xenqemu.conf",
        tmp_path / "etc/xenqemu/hooks.d/pre-save.d/10",
    )
    conf.write_text("mine")
    hook.write_text("mine")
    gone = tmp_path / MODULES / "xenqemu/gone.py"
    gone.write_text("of an older version")
    install("--destdir", tmp_path)
    assert (conf.read_text(), hook.read_text()) == ("mine", "mine")
    assert not gone.exists()


def test_a_relative_folder(tmp_path):
    install("--destdir", "here", cwd=tmp_path)
    assert (tmp_path / "here/usr/bin/xenqemu").exists()


def test_words_that_make_no_sense(tmp_path):
    done = install("--moon", check=False)
    assert done.returncode == 64
    assert "scripts/install [--destdir DIR]" in done.stderr


def test_a_python_without_the_modules(tmp_path):
    done = install("--python", "/bin/false", "--destdir", tmp_path / "dest", check=False)
    assert done.returncode == 1
    assert "/bin/false has not all modules that xenqemu needs" in done.stderr
    assert not (tmp_path / "dest").exists()


# The files that other programs read.


def test_folders_by_systemd(installed, tmp_path):
    conf = installed / "usr/lib/tmpfiles.d/xenqemu.conf"
    root = tmp_path / "root"
    for name in ("passwd", "group"):
        copy = root / "etc" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(Path("/etc", name).read_bytes())
    for _ in range(2):
        as_root("systemd-tmpfiles", f"--root={root}", "--create", conf)
    for name, mode in (
        ("run/xenqemu", "drwx------"),
        ("var/lib/xen", "drwxr-xr-x"),
        ("var/lib/xen/save", "drwx------"),
        ("var/log/xenqemu", "drwxr-x---"),
    ):
        assert stat.filemode((root / name).stat().st_mode) == mode


def test_logs_by_logrotate(installed, tmp_path):
    log = tmp_path / "domains.log"
    tmp_path.chmod(0o755)
    conf = tmp_path / "conf"
    text = (installed / "etc/logrotate.d/xenqemu").read_text()
    conf.write_text(text.replace("/var/log/xenqemu/", f"{tmp_path}/"))
    for said in ("one", "two", "three"):
        log.write_text(said)
        as_root("logrotate", "-f", "-s", tmp_path / "state", conf)
    names = sorted(path.name for path in tmp_path.glob("domains.log*"))
    assert names == ["domains.log", "domains.log.1", "domains.log.2.gz", "domains.log.3.gz"]
    assert stat.filemode(log.stat().st_mode) == "-rw-r-----"
    assert (log.read_text(), (tmp_path / "domains.log.1").read_text()) == ("", "three")


UNITS = "usr/lib/systemd/system"
EXAMPLES = "usr/share/doc/xenqemu/examples"


@pytest.fixture
def analyzed(installed, tmp_path):
    """A function that has systemd check units, which run the program where it is installed."""

    def analyze(*units, **more):
        for path in [*(installed / UNITS).iterdir(), *more.values()]:
            if path.is_file():
                text = path.read_text().replace("/usr/bin/xenqemu", f"{installed}/usr/bin/xenqemu")
                (tmp_path / path.name).write_text(text)
        environment = os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
        command = ["systemd-analyze", "verify", *(tmp_path / unit for unit in units)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    return analyze


def test_units_by_systemd(analyzed):
    done = analyzed("xenqemu-save.service", "xenqemu-restore.service")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stop_has_the_time_that_the_settings_give(installed):
    unit = (installed / UNITS / "xenqemu-save.service").read_text()
    settings = Settings()
    wanted = settings.save_all
    stop = int(re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)[1])
    hooks = 2 * settings.hooks.deadline  # one before and one after the last save
    assert stop > wanted.deadline + wanted.shutdown_deadline + hooks


def test_a_drop_in_for_xendomains_by_systemd(installed, tmp_path, analyzed):
    """It is laid over the unit that systemd makes of Debian's own script."""
    generator = "/usr/lib/systemd/system-generators/systemd-sysv-generator"
    made = tmp_path / "made"
    made.mkdir()
    subprocess.run([generator, made, made, made], check=True)
    folder = tmp_path / "xendomains.service.d"
    folder.mkdir()
    text = (installed / EXAMPLES / "xendomains.conf").read_text()
    (folder / "xenqemu.conf").write_text(text.replace("/usr/bin", f"{installed}/usr/bin"))
    done = analyzed("xendomains.service", unit=made / "xendomains.service")
    assert (done.returncode, done.stderr) == (0, "")
    (folder / "xenqemu.conf").write_text(text.replace("ExecStop=", "ExecStopp="))
    done = analyzed("xendomains.service", unit=made / "xendomains.service")
    assert "'ExecStopp' in section [Service], ignoring" in done.stderr


# What is called from others' hooks, and ours.


@pytest.fixture
def libvirt(installed, tmp_path):
    """A function that runs the hook as libvirt does."""
    hook = f"{EXAMPLES}/libvirt-libxl"
    path = f"{installed}/usr/bin:{os.environ['PATH']}"

    def run_hook(*words, **more):
        environment = {"PATH": path, "XENQEMU_SAVE": str(tmp_path), **more}
        return run(installed, hook, *words, data=b"<domain/>", **environment)

    return run_hook


def test_libvirt_starts_no_guest_beside_its_record(libvirt, tmp_path):
    record = tmp_path / "web"
    record.write_bytes(save_files.unpacked("vga.save"))
    for name in ("web", "vga"):  # as the file is named, and the guest in it
        done = libvirt(name, "prepare", "begin", "-")
        assert done.returncode == 1
        first, second = done.stderr.decode().splitlines()
        assert first == f"{name} is saved: {record}"
        assert second == "restore it by xenqemu restore FILE, or remove that file to boot it"


@pytest.mark.parametrize(
    "name",
    ["plain", "win+dev", "web:1", "über x", ".hidden", "it's", "a/b", "-h", "a\nb", "\udcff"],
)
def test_however_a_name_is_written_in_the_folder(libvirt, tmp_path, name):
    assert libvirt(name, "prepare", "begin", "-").returncode == 0
    SavedGuest.of(tmp_path, name).path.touch()
    done = libvirt(name, "prepare", "begin", "-")
    assert done.returncode == 1
    assert b" is saved: " in done.stderr


def test_libvirt_starts_no_guest_if_nobody_can_tell(libvirt, tmp_path):
    conf = tmp_path / "conf"
    conf.write_text("no settings")
    done = libvirt("web", "prepare", "begin", "-", XENQEMU_CONF=str(conf), XENQEMU_SAVE="")
    assert done.returncode == 1
    said = f"it is not known whether web is saved: xenqemu: {conf}: not TOML: "
    assert done.stderr.decode().startswith(said)
    done = libvirt("web", "prepare", "begin", "-", PATH="/bin")
    assert done.returncode == 1
    assert done.stderr.startswith(b"it is not known whether web is saved: ")


def test_a_host_that_sleeps(installed, tmp_path):
    """The program stands for itself here: what matters is what it is asked for."""
    program = tmp_path / "bin" / "xenqemu"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\n')
    program.chmod(0o755)
    for moment in ("pre", "post"):
        run(installed, f"{EXAMPLES}/system-sleep", moment, "suspend", PATH=f"{program.parent}:/bin")
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == ["--host xen save-all", "--host xen restore-all"]


@pytest.mark.parametrize(
    "words", [("mail", "prepare", "begin"), ("web", "started", "begin"), ("web", "release", "end")]
)
def test_libvirt_does_all_else_as_ever(libvirt, tmp_path, words):
    (tmp_path / "web").touch()
    done = libvirt(*words, "-")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_hook_that_keeps_a_log(installed, tmp_path):
    text = (installed / EXAMPLES / "hook-log").read_text()
    hook = tmp_path / "post-save.d" / "log"
    hook.parent.mkdir()
    hook.write_text(text.replace("/var/log/xenqemu", str(tmp_path)))
    hook.chmod(0o755)
    for name in ("web", "ma\nil"):
        assert Hooks(tmp_path).run("post", "save", {"name": name}) == ()
    first, second = map(json.loads, (tmp_path / "domains.log").read_text().splitlines())
    assert first["told"] == {"moment": "post", "act": "save", "name": "web"}
    assert second["told"]["name"] == "ma\nil"
    assert datetime.fromisoformat(second["time"]) >= datetime.fromisoformat(first["time"])


def test_the_hook_that_is_shown_works(installed, tmp_path):
    text = (installed / "etc/xenqemu/hooks.d/README").read_text()
    shown = re.search(r"^    #!/bin/sh\n(?:(?:    .*)?\n)+", text, re.MULTILINE)[0]
    script = re.sub("^    ", "", shown, flags=re.MULTILINE).replace("/run/backup", str(tmp_path))
    folder = tmp_path / "hooks"
    hook = folder / "pre-save.d" / "10-backup"
    hook.parent.mkdir(parents=True)
    hook.write_text(script)
    hook.chmod(0o755)
    assert Hooks(folder).run("pre", "save", {"name": "web"}) == ()
    (tmp_path / "web").touch()
    with pytest.raises(HostError, match="10-backup failed .*: the backup of web is running"):
        Hooks(folder).run("pre", "save", {"name": "web"})
