"""Completion as people have it: keys go to real shells, and what their lines become comes back."""

from __future__ import annotations

import argparse
import importlib.util
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.xen.xenstored import running
from xenqemu.cli.parser import parser
from xenqemu.host.xenstore.store import Store

SCRIPT = Path(__file__).parents[1] / "scripts" / "make_completion.py"
TIMEOUT = 60.0

spec = importlib.util.spec_from_file_location("make_completion", SCRIPT)
make_completion = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = make_completion
spec.loader.exec_module(make_completion)

TOP = make_completion.verb_of(parser(), ("xenqemu",))

RC = r"""
PS1='READY> '
show() { printf '\002%s' "$@"; printf '\003\n'; }
"""
BASHRC = r"""
bind 'set enable-bracketed-paste off'
. "$COMPLETION"
"""
ZSHRC = r"""
unset zle_bracketed_paste
unsetopt prompt_sp
fpath=("${COMPLETION:h}" $fpath)
autoload -Uz compinit && compinit -u -d "$ZDOTDIR/dump"
zle -C all-matches complete-word _generic
bindkey '\e*' all-matches
zstyle ':completion:all-matches:*' insert yes
zstyle ':completion:all-matches::::' completer _all_matches _complete
"""

HOME, TAB, ALL = "\x01", "\t", "\x1b*"
"""Keys: to the start of the line; complete; insert all that it may become."""


class Shell:
    """An interactive shell with our completion."""

    def __init__(self, name: str, folder: Path) -> None:
        completion = folder / {"bash": "xenqemu", "zsh": "_xenqemu"}[name]
        made = subprocess.run([sys.executable, SCRIPT, name], capture_output=True, check=True)
        completion.write_bytes(made.stdout)
        (folder / ".zshrc").write_text(RC + ZSHRC)
        (folder / "bashrc").write_text(RC + BASHRC)
        ours, theirs = pty.openpty()
        self._terminal = ours
        self._process = subprocess.Popen(
            {
                "bash": ["bash", "--noprofile", "--rcfile", folder / "bashrc", "-i"],
                "zsh": ["zsh", "-d", "-i"],
            }[name],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env={
                "PATH": os.environ["PATH"],
                "TERM": "vt100",
                "COMPLETION": str(completion),
                "ZDOTDIR": str(folder),
            },
        )
        os.close(theirs)
        self._heard = b""
        self._await(b"READY> ")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)

    def complete(self, line: str, key: str = TAB) -> list[str]:
        """Return the words that a line has become by a key at its end."""
        self._type(f"{line}{key}{HOME}show \r")
        shown = self._await(b"\x03").partition(b"\x02")[2].rstrip(b"\x03")
        self._await(b"READY> ")
        return shown.decode().split("\x02")

    def run(self, command: str) -> None:
        self._type(f"{command}; show\r")
        self._await(b"\x03")
        self._await(b"READY> ")

    def _type(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def _await(self, words: bytes) -> bytes:
        """Return what is heard up to `words`."""
        end = time.monotonic() + TIMEOUT
        while words not in self._heard:
            ready = select.select([self._terminal], [], [], max(0.0, end - time.monotonic()))[0]
            assert ready, self._heard
            self._heard += os.read(self._terminal, 65536)
        before, _, self._heard = self._heard.partition(words)
        return before + words


@pytest.fixture(scope="module", params=["bash", "zsh"])
def shell(request, tmp_path_factory) -> Iterator[Shell]:
    made = Shell(request.param, tmp_path_factory.mktemp(request.param))
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("web.save", "two words.save", "other"):
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    return tmp_path


@pytest.fixture
def lab(tmp_path) -> Iterator[Path]:
    """The folder of a lab in whose xenstore there are three guests and what is left of one."""
    with running(tmp_path / "xenstored.socket"):
        with Store(tmp_path / "xenstored.socket") as store:
            store.write("/local/domain/0/name", "Domain-0")
            for domid, name in ((3, "web"), (4, "mail box"), (12, f"$(touch {tmp_path}/oops)")):
                store.write(f"/local/domain/{domid}/name", name)
            store.mkdir("/local/domain/7")
        yield tmp_path


def test_every_command_is_offered(shell):
    groups = [verb for verb in TOP.all if verb.verbs]
    assert len(groups) == 4
    for verb in groups:
        found = shell.complete(" ".join(verb.words) + " ", ALL)
        names = {below.words[-1] for below in verb.verbs}
        assert {*found} == {*verb.words, *names}


def test_every_option_is_offered(shell):
    leaves = [verb for verb in TOP.all if not verb.verbs]
    assert len(leaves) >= 14
    for verb in leaves:
        found = shell.complete(" ".join(verb.words) + " --", ALL)
        names = {name for option in verb.options for name in option.names if name.startswith("--")}
        assert {*found} == {*verb.words, *names}


@pytest.mark.parametrize(
    ("line", "last"),
    [
        ("xenqemu sav", "save"),
        ("xenqemu -", "-"),
        ("xenqemu --con", "--conf"),
        ("xenqemu --conf /etc/passw", "/etc/passwd"),
        ("xenqemu --conf /etc/passwd stat", "status"),
        ("xenqemu --host xen stat", "status"),
        ("xenqemu --host=xen stat", "status"),
        ("xenqemu --host lab:/x stat", "status"),
        ("xenqemu --host=lab:/x stat", "status"),
        ("xenqemu save --step", "--step-timeout"),
        ("xenqemu --host la", "lab"),
        ("xenqemu lab pau", "pause"),
        ("xenqemu migrate -s xenstore-lis", "xenstore-list"),
        ("xenqemu migrate --liv", "--live"),
        ("xenqemu lab sav", "sav"),
        ("xenqemu moon /etc/passw", "/etc/passw"),
        ("xenqemu devices save 3 /etc/passw", "/etc/passwd"),
        ("xenqemu devices save 3 /etc/passwd /etc/passw", "/etc/passw"),
        ("xenqemu save -c --step-timeout 4 web /etc/passw", "/etc/passwd"),
        ("xenqemu save web /nowhere /etc/passw", "/etc/passwd"),
        ("xenqemu restore -p /nowhere /etc/passw", "/etc/passwd"),
        ("xenqemu save --step-timeout /etc/passw", "/etc/passw"),
        ("xenqemu verify /nowhere /nowhere /etc/passw", "/etc/passwd"),
        ("xenqemu help stat", "status"),
        ("xenqemu help lab", "lab"),
        ("xenqemu status --host la", "lab"),
        ("xenqemu verify --metrics /etc/passw", "/etc/passwd"),
    ],
)
def test_the_last_word_is_completed(shell, line, last):
    assert shell.complete(line)[-1].removesuffix("=") == last


def test_files_and_folders_are_completed(shell, folder):
    assert shell.complete(f"xenqemu verify {folder}/w") == [
        "xenqemu",
        "verify",
        f"{folder}/web.save",
    ]
    assert shell.complete(f"xenqemu inspect {folder}/tw")[2:] == [f"{folder}/two words.save"]
    assert shell.complete(f"xenqemu lab up {folder}/s")[3].rstrip("/") == f"{folder}/sub"
    assert shell.complete(f"xenqemu lab up {folder}/w")[3:] == [f"{folder}/w"]
    assert shell.complete(f"xenqemu --host lab:{folder}/s")[2].rstrip("/") == f"lab:{folder}/sub"


@pytest.mark.parametrize("host", ["--host lab:{}", "--host=lab:{}"])
def test_domains_of_a_host(shell, lab, host):
    words = host.format(lab)
    assert shell.complete(f"xenqemu {words} status w")[-1] == "web"
    assert shell.complete(f"xenqemu {words} save ma")[-1] == "mail box"
    assert shell.complete(f"xenqemu {words} check ma")[-1] == "mail box"
    assert shell.complete(f"xenqemu {words} check /etc/passw")[-1] == "/etc/passwd"
    found = shell.complete(f"xenqemu {words} lab pause ", ALL)
    assert sorted(found[-3:]) == [f"$(touch {lab}/oops)", "mail box", "web"]
    assert not (lab / "oops").exists()


def test_domains_of_the_host_in_the_environment(shell, lab):
    shell.run(f"export XENQEMU_HOST=lab:{lab}")
    assert shell.complete("xenqemu status we")[-1] == "web"
    assert shell.complete("xenqemu --host lab:/nowhere status we")[-1] == "we"
    shell.run(f"unset XENQEMU_HOST; export XENQEMU_LAB={lab}")
    assert shell.complete("xenqemu lab destroy we")[-1] == "web"
    assert shell.complete("xenqemu --host lab status we")[-1] == "web"
    shell.run("unset XENQEMU_LAB")


def test_what_help_does_not_show_is_not_offered():
    made = argparse.ArgumentParser(add_help=False)
    made.add_argument("--old", metavar="MOON", help=argparse.SUPPRESS)
    made.add_subparsers().add_parser("inner")
    assert make_completion.verb_of(made, ("x",)) == make_completion.Verb(("x",), "", (), ())


@pytest.mark.parametrize("words", [("--moon",), ("moon",)])
def test_what_a_new_word_stands_for_has_to_be_said(words):
    made = argparse.ArgumentParser()
    made.add_argument(*words, metavar="MOON")
    with pytest.raises(KeyError, match="MOON"):
        make_completion.verb_of(made, ("xenqemu",))
