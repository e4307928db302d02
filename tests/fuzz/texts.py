"""Texts: the JSON of a config by its tree, an xl.cfg by its words, lists of words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

from tests.fuzz import noise
from tests.fuzz.pieces import Language, Piece, Pieces

DIGITS = "9" * 5000
"""More than Python takes for a number by default."""

WORDS = (
    *("hvm", "pv", "pvh", "qemu_xen", "std", "cirrus", "none", "lab", "tcg", "pty", "True"),
    *("<default>", "", "0", "-1", "/", "../../x", "/dev/null", "hda", "xvdaa", "sdz", "a,b", "é"),
    *("9233e52c-49ca-454f-96be-f53e22f3994d", "00:16:3e:01:02:03", "x" * 3000),
    *("\0", "\ud800", "\x1b[2J", "\u202e"),
)
NUMBERS = (0, 1, -1, 2, 64, 8192, 8193, *(1 << bits for bits in (31, 32, 44, 53, 63, 64)))
VALUES = (
    *(None, True, False, 0.5, -0.0, 1e308, [], {}, [[]], [None], [{}], {"": None}),
    *(*NUMBERS, *(number - 1 for number in NUMBERS), *WORDS),
)
KEYS = (
    *("c_info", "b_info", "type", "name", "domid", "uuid", "max_vcpus", "max_memkb"),
    *("target_memkb", "type.hvm", "vga", "kind", "serial", "serial_list", "disks", "nics"),
    *("vdev", "pdev_path", "format", "readwrite", "is_cdrom", "discard_enable", "direct_io_safe"),
    *("devid", "mac", "model", "rate_interval_usecs", "kernel", "ramdisk", "cmdline"),
    *("xenqemu", "host", "machine", "accel", "bootloader", "extra", "irqs", "iomem", "firmware"),
    *("pcidevs", "bus", "usbdevs", "type.hostdev", "p9s", "path", "channels", "connection.socket"),
    *("vnc", "listen", "spice", "passwd", "script", "bridge", "backend_domid", "xsdata", "later"),
)

_HOLE = "@hole@"
FILLINGS = (
    *("NaN", "-Infinity", "1e999", "-1e-999", "1E5", "01", "+1", "", "nul", "'x'", '"\t"'),
    *(DIGITS, f"-{DIGITS}", f"0.{DIGITS}", r'"\ud800"', r'"\u0000"', r'"\ud83d\ude00"'),
    *("[" * 30 + "]" * 30, "[" * 3000 + "]" * 3000, "[" * 9000, '{"a":' * 3000 + "1" + "}" * 3000),
    *('{"a": 1, "a": 2}', '"' + "x" * 20000 + '"', "[" + "0," * 20000 + "0]"),
)
"""What only text can say."""


def json_changed(chance: Random, data: bytes) -> bytes:
    """Return JSON with values, keys or whole parts of its tree changed; bytes that are none too."""
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return noise.changed(chance, data)
    for _ in range(noise.few(chance)):
        tree = _changed_tree(chance, tree)
    text = json.dumps(tree, indent=4, ensure_ascii=chance.random() < 0.5)
    filled = text.replace(f'"{_HOLE}"', chance.choice(FILLINGS))
    return filled.encode(errors="surrogatepass")


def _changed_tree(chance: Random, tree: Any) -> Any:
    """Return the tree with one of its nodes changed: each level down is as likely as to stop."""
    if isinstance(tree, dict) and tree and chance.random() < 0.8:
        return _changed_object(chance, tree)
    if isinstance(tree, list) and tree and chance.random() < 0.8:
        at = chance.randrange(len(tree))
        return [*tree[:at], _changed_tree(chance, tree[at]), *tree[at + 1 :]]
    if isinstance(tree, list) and chance.random() < 0.5:
        return chance.choice((noise.cut, noise.dropped, noise.swapped, _doubled))(chance, tree)
    return chance.choice((chance.choice(VALUES), chance.choice(VALUES), _HOLE, [tree], {"a": tree}))


def _doubled(_chance: Random, tree: list[Any]) -> list[Any]:
    """Return the list twice: often, and in each other, that must not become without end."""
    return tree * 2


def _changed_object(chance: Random, tree: dict[str, Any]) -> dict[str, Any]:
    """Return the object with a member changed, added, left out or renamed."""
    key, other = chance.choice(list(tree)), chance.choice(KEYS)
    rest = {each: value for each, value in tree.items() if each != key}
    act = chance.random()
    if act < 0.6:
        return {**tree, key: _changed_tree(chance, tree[key])}
    if act < 0.8:
        return {**tree, other: chance.choice((tree[key], chance.choice(VALUES), _HOLE))}
    return rest if act < 0.9 else {**rest, other: tree[key]}


def lines_split(data: bytes) -> Pieces:
    """Cut a text into its lines."""
    return tuple(Piece("line", line) for line in data.splitlines(keepends=True))


def line_changed(chance: Random, data: bytes) -> bytes:
    """Edit a line that is JSON."""
    return json_changed(chance, data.rstrip(b"\n")).replace(b"\n", b" ") + b"\n"


LINES = Language(lines_split, {"line": line_changed}, lambda: ())

# xl.cfg.

_CFG_WORD = re.compile(
    r"(?s)\s+|\#[^\n]*|[A-Za-z_][\w.]*|\d\w*|'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|."
)
SPECS = (
    *("'/dev/null,raw,hda,w'", "',,hdc,cdrom'", "'vdev=xvda,target=/x,y'", "'drbd:r0,xvdd,w'"),
    *("'mac=00:16:3e:01:02:0a,rate=10Mb/s@20ms'", "'devid=" + "0" * 5000 + "1'", "'mtu=1500'"),
    *("'" + "cdrom," * 3000 + "'", "'" + "raw:" * 3000 + "x,hda'", "'" + "," * 3000 + "'"),
    *("'rate=4294967295GB/s@4294967295s'", "'vdev=,format=,target='", "'phy:file:tap:x,hda,w'"),
    *("'" + "x" * 20000 + "'", r"'\x41'", r"'\q'", '"\\', "'a\nb'", "'é'", "''"),
)
CFG_NAMES = (
    *("name", "uuid", "type", "builder", "memory", "maxmem", "vcpus", "maxvcpus", "kernel"),
    *("root", "extra", "cmdline", "disk", "vif", "serial", "vga", "vnc", "usb", "boot", "tsc_mode"),
    "on_crash",
)
CFG_VALUES = (
    *("0", "1", "64", "0x40", "0100", "8192", "8193", "1x", "17179869184", "17179869185", DIGITS),
    *("0x" + "f" * 5000, "0" * 5000, "9223372036854775807", "18446744073709551616", "''", "'x'"),
    *("'hvm'", "'pv'", "'pvh'", "'stdvga'", "'none'", "'restart'", "'native'", "'pty'"),
)
CFG_WORDS = (
    *("=", "+=", "[", "]", ",", ";", "\n", "#", " ", "[" * 40, "[" * 9000, "-1"),
    *(*CFG_NAMES, *CFG_VALUES, *SPECS),
)


def cfg_split(data: bytes) -> Pieces:
    """Cut an xl.cfg into its words."""
    text = data.decode("latin-1")  # as many characters as bytes
    words = (word.encode("latin-1") for word in _CFG_WORD.findall(text))
    return tuple(Piece(_cfg_kind(word), word) for word in words)


def _cfg_kind(word: bytes) -> str:
    return "string" if word[:1] in b"'\"" else "word"


def spec_changed(chance: Random, data: bytes) -> bytes:
    """Change what is between the quotes, by its parts."""
    parts = tuple(data[1:-1].split(b","))
    others = tuple(spec.strip("'\"").encode() for spec in SPECS)
    parts = chance.choice((noise.rearranged(chance, parts), noise.spliced(chance, parts, others)))
    return data[:1] + b",".join(parts) + data[-1:]


def cfg_set(chance: Random, data: bytes) -> bytes:
    """Set another name, or one again, in a way that the grammar allows."""
    values = chance.choices((*SPECS[:9], *CFG_VALUES), k=chance.randint(1, 3))
    value = values[0] if len(values) == 1 else "[" + ", ".join(values) + "]"
    line = f"{chance.choice(CFG_NAMES)} {chance.choice(('=', '=', '+='))} {value}".encode()
    return chance.choice((line + b"\n" + data, data + b"\n" + line))


CFG = Language(
    cfg_split,
    {"string": spec_changed, "word": lambda chance, _old: chance.choice(CFG_WORDS).encode()},
    lambda: tuple(Piece("word", word.encode()) for word in CFG_WORDS),
)


def words_changed(words: tuple[str, ...]) -> Callable[[Random, bytes], bytes]:
    """Return a mutator of words with a NUL between each two."""
    pool = tuple(word.encode() for word in words)

    def changed(chance: Random, data: bytes) -> bytes:
        parts = tuple(data.split(b"\0"))
        act = chance.random()
        if act < 0.5:
            return b"\0".join(noise.rearranged(chance, parts))
        if act < 0.8:
            at = chance.randrange(len(parts))
            return b"\0".join((*parts[:at], chance.choice(pool), *parts[at + 1 :]))
        return noise.changed(chance, data)

    return changed
