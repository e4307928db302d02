#!/usr/bin/env python3
"""Print the completion of xenqemu's command line for a shell, made of the parser itself.

Usage: make_completion.py bash|zsh

What a word stands for is told by its metavar (`KINDS`): an option or an argument with a metavar
that is not known here is an error, so that nothing new is left without completion.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from xenqemu.cli.parser import parser

KINDS = {
    "DOM": "domains",
    "NAME": "domains",
    "FILE": "files",
    "DOM|FILE": "subjects",
    "FOLDER": "folders",
    "CFG": "files",
    "[CFG] FILE": "files files",
    "CFG|FILE": "files",
    "DIR": "folders",
    "OUT": "files",
    **dict.fromkeys(("TIME", "N", "PAGES", "SIZE", "LAYOUT", "LEVEL"), "nothing"),
    **dict.fromkeys(("FEATURE,…", "TOKEN", "VERSION", "CLONE", "VDEV=FILE"), "nothing"),
    "CMD": "commands",
    "HOST": "machines",
    "COMMAND": "verbs",
    "xen|lab[:DIR]|auto": "hosts",
}
"""What is completed in the place of each metavar."""

MANY = 20
"""How many words are completed where there may be any number."""

NAMES = r"""
# HOST VERB: the names of that host's domains, one a line
_xenqemu_names() {
    local host=$1 id
    if [[ -z $host || $host == auto ]]; then
        host=lab
        [[ $2 != *\ lab* ]] && grep -qs control_d /proc/xen/capabilities && host=xen
    fi
    case $host in
    lab:*) local -x XENSTORED_PATH=${host#lab:}/xenstored.socket ;;
    lab) local -x XENSTORED_PATH=${XENQEMU_LAB:-/dev/shm/xenqemu-lab-$EUID}/xenstored.socket ;;
    esac
    timeout 2 xenstore-list /local/domain 2>/dev/null | while read -r id; do
        [[ $id == 0 ]] || timeout 2 xenstore-read "/local/domain/$id/name" 2>/dev/null
    done
}
"""
"""For both shells; xenstore's own tools have answered long before Python has started."""

BASH = r"""# bash completion for xenqemu, made of its command line.
@NAMES@
declare -gA _xenqemu_verbs=(
@VERBS@
)
declare -gA _xenqemu_options=(
@OPTIONS@
)
declare -gA _xenqemu_values=(
@VALUES@
)
declare -gA _xenqemu_places=(
@PLACES@
)

# WORD...: keep those that begin as the word at the cursor does; compgen -W would expand names
_xenqemu_offer() {
    local word
    for word; do
        [[ $word == "$cur"* ]] && COMPREPLY+=("$(printf %q "$word")")
    done
}

# KIND: offer what is of that kind
_xenqemu_complete() {
    local -a names
    local word
    case $1 in
    domains)
        mapfile -t names < <(_xenqemu_names "$host" "$verb")
        _xenqemu_offer "${names[@]}"
        ;;
    subjects)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        mapfile -t names < <(_xenqemu_names "$host" "$verb")
        for word in "${names[@]}"; do # bash quotes it, as a file's name
            [[ $word == "$cur"* ]] && COMPREPLY+=("$word")
        done
        ;;
    hosts) _xenqemu_offer xen lab auto ;;
    verbs) _xenqemu_offer ${_xenqemu_verbs[xenqemu]} ;;
    files) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
    commands) mapfile -t COMPREPLY < <(compgen -c -- "$cur") ;;
    machines) mapfile -t COMPREPLY < <(compgen -A hostname -- "$cur") ;;
    folders) mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
    esac
    case $1 in files | folders | subjects) compopt -o filenames ;; esac
}

_xenqemu() {
    local cur=$2 verb=xenqemu host=$XENQEMU_HOST wanted= place=0 index word
    local -a places
    COMPREPLY=()
    [[ $COMP_LINE =~ --host[=\ ]+([^ ]+) ]] && host=${BASH_REMATCH[1]}
    for ((index = 1; index < COMP_CWORD; index++)); do
        word=${COMP_WORDS[index]}
        if [[ $word == = ]]; then # --host=lab:DIR comes as five words
            continue
        elif [[ $word == : ]]; then
            wanted=folders
        elif [[ $wanted ]]; then
            wanted=
        elif [[ $word == -* ]]; then
            wanted=${_xenqemu_values["$verb $word"]}
        elif [[ ${_xenqemu_verbs[$verb]} ]]; then
            verb+=" $word"
        else
            ((place++))
        fi
    done
    case $cur in
    =) cur= ;;
    :) cur= wanted=folders ;;
    esac
    places=(${_xenqemu_places[$verb]})
    if [[ $wanted ]]; then
        _xenqemu_complete "$wanted"
    elif [[ $cur == -* ]]; then
        _xenqemu_offer ${_xenqemu_options[$verb]}
    elif [[ ${_xenqemu_verbs[$verb]} ]]; then
        _xenqemu_offer ${_xenqemu_verbs[$verb]}
    else
        _xenqemu_complete "${places[place]-}"
    fi
}

complete -F _xenqemu xenqemu
"""

ZSH = r"""#compdef xenqemu
# zsh completion for xenqemu, made of its command line.
@NAMES@
_xenqemu_domains() {
    local -a names
    names=("${(@f)$(_xenqemu_names "$host" "$verb")}")
    compadd -a names
}

_xenqemu_subjects() {
    _xenqemu_domains
    _files
}

_xenqemu_hosts() {
    if compset -P lab:; then
        _path_files -/
    else
        compadd xen lab auto
    fi
}

_xenqemu_commands() {
    compadd @COMMANDS@
}
@FUNCTIONS@
_xenqemu "$@"
"""

ZSH_GROUP = r"""
@NAME@() {
    local state line
    local -A opt_args
    _arguments -C \
@OPTIONS@
        '1: :->verb' '*:: :->rest'
@KEEP@
    verb+=" $line[1]"
    case $state in
    verb)
        local -a verbs=(
@VERBS@
        )
        _describe -t commands command verbs
        ;;
    rest) (( $+functions[@NAME@_$line[1]] )) && @NAME@_$line[1] ;;
    esac
}
"""

ZSH_LEAF = r"""
@NAME@() {
    _arguments \
@OPTIONS@
}
"""

ZSH_KINDS = {
    "domains": "_xenqemu_domains",
    "subjects": "_xenqemu_subjects",
    "files": "_files",
    "folders": "_path_files -/",
    "hosts": "_xenqemu_hosts",
    "commands": "_command_names -e",
    "machines": "_hosts",
    "verbs": "_xenqemu_commands",
    "nothing": " ",
}


@dataclass(frozen=True)
class Option:
    """An option: its spellings, its help, and of what kind its value is ("" if it has none)."""

    names: tuple[str, ...]
    text: str
    kind: str = ""


@dataclass(frozen=True)
class Verb:
    """A command: its words, its help, its options, the kinds of its arguments, its commands."""

    words: tuple[str, ...]
    text: str
    options: tuple[Option, ...]
    places: tuple[str, ...]
    verbs: tuple[Verb, ...] = ()

    @property
    def all(self) -> Iterator[Verb]:
        """Yield this one and all below it."""
        yield self
        for verb in self.verbs:
            yield from verb.all


def verb_of(made: argparse.ArgumentParser, words: tuple[str, ...], about: str = "") -> Verb:
    """Return what a parser takes; what its help does not show is not completed either."""
    options, places, verbs = [], [], []
    for action in made._actions:  # noqa: SLF001  argparse has no other way to ask
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            texts = {choice.dest: choice.help for choice in action._choices_actions}  # noqa: SLF001
            shown = {name: p for name, p in action.choices.items() if name in texts}
            verbs = [verb_of(p, (*words, name), texts[name] or "") for name, p in shown.items()]
        elif action.help == argparse.SUPPRESS:
            continue
        elif action.option_strings:
            kind = "" if action.nargs == 0 else KINDS[str(action.metavar)]
            text = (action.help or "") % vars(action)
            options.append(Option(tuple(action.option_strings), text, kind))
        else:
            kinds = KINDS[str(action.metavar)].split()
            several = len(kinds) == 1 and action.nargs in ("+", "*")
            places += kinds * (MANY if several else 1)
    return Verb(words, about, tuple(options), tuple(places), tuple(verbs))


def bash(top: Verb) -> str:
    """Return the completion for bash: tables, and one function that looks into them."""
    verbs, options, values, places = {}, {}, {}, {}
    for verb in top.all:
        name = " ".join(verb.words)
        verbs[name] = [below.words[-1] for below in verb.verbs]
        options[name] = [spelling for option in verb.options for spelling in option.names]
        places[name] = verb.places
        values |= {f"{name} {s}": [o.kind] for o in verb.options for s in o.names if o.kind}
    tables = {"VERBS": verbs, "OPTIONS": options, "VALUES": values, "PLACES": places}
    return filled(BASH, NAMES=NAMES, **{key: table(rows) for key, rows in tables.items()})


def table(rows: dict[str, list[str]]) -> str:
    """Return the rows of an associative array that hold anything."""
    return "\n".join(f"    ['{name}']='{' '.join(row)}'" for name, row in rows.items() if row)


def zsh(top: Verb) -> str:
    """Return the completion for zsh: one function for each command."""
    functions = "".join(zsh_function(verb) for verb in top.all)
    commands = " ".join(verb.words[-1] for verb in top.verbs)
    return filled(ZSH, NAMES=NAMES, COMMANDS=commands, FUNCTIONS=functions)


def zsh_function(verb: Verb) -> str:
    """Return what completes one command."""
    name = "_".join(["", *verb.words])
    rows = [spec for option in verb.options for spec in zsh_option(option)]
    if not verb.verbs:
        rows += [f"'{n}: :{ZSH_KINDS[kind]}'" for n, kind in enumerate(verb.places, 1)]
        return filled(ZSH_LEAF, NAME=name, OPTIONS=" \\\n".join(f"        {row}" for row in rows))
    described = "\n".join(
        f"            {quoted(below.words[-1] + ':' + below.text)}" for below in verb.verbs
    )
    keep = "    local verb=xenqemu host=${${opt_args[--host]//\\\\:/:}:-$XENQEMU_HOST}"
    return filled(
        ZSH_GROUP,
        NAME=name,
        OPTIONS="\n".join(f"        {row} \\" for row in rows),
        KEEP="" if len(verb.words) > 1 else keep,
        VERBS=described,
    )


def zsh_option(option: Option) -> Iterator[str]:
    """Yield the words of `_arguments` for each spelling; a long one may have its value after =."""
    text = option.text.replace("[", r"\[").replace("]", r"\]")
    for spelling in option.names:
        equals = "=" if option.kind and spelling.startswith("--") else ""
        value = f": :{ZSH_KINDS[option.kind]}" if option.kind else ""
        yield quoted(f"{spelling}{equals}[{text}]{value}")


def quoted(text: str) -> str:
    """Return `text` as one word of a shell."""
    return "'" + text.replace("'", r"'\''") + "'"


def filled(template: str, **parts: str) -> str:
    """Return a template with each @NAME@ replaced."""
    for name, part in parts.items():
        template = template.replace(f"@{name}@", part.strip("\n"))
    return template


if __name__ == "__main__":
    choice = argparse.ArgumentParser()
    choice.add_argument("shell", choices=("bash", "zsh"))
    make = {"bash": bash, "zsh": zsh}[choice.parse_args().shell]
    sys.stdout.write(make(verb_of(parser(), ("xenqemu",))))
