"""verify and inspect: of real save files, of layers cut out of them, of damage, from a pipe."""

import json
import os
import re
import subprocess
import sys
import threading

import pytest

from tests.doubles.in_memory.sealed_files import sealed
from tests.doubles.system.commands import spawn
from tests.golden import save_files
from tests.property import strategies as made
from xenqemu.formats.stream import libxl
from xenqemu.formats.stream.detect import Walk
from xenqemu.formats.stream.source import Source

VGA_HEAD = """\
      OFFSET         SIZE  RECORD
         0x0         1733  xl header
       0x6c5           16    libxl header
       0x6d5            8    libxl LIBXC_CONTEXT
       0x6dd           24      libxc image header  version 3
       0x6f5           16      libxc domain header  x86 HVM, Xen 4.17
       0x705         1232      libxc X86_CPUID_POLICY  51 leaves
       0xbd5           40      libxc X86_MSR_POLICY
       0xbfd            8      libxc STATIC_DATA_END
       0xc05     42237888      libxc PAGE_DATA x 1020
   0x2848bc5           32      libxc X86_TSC_INFO  mode 0, 2596140 kHz
   0x2848be5         5488      libxc HVM_CONTEXT  5480 bytes of Xen's state
   0x284a155          208      libxc HVM_PARAMS  12 parameters
   0x284a225            8      libxc END
   0x284a22d       209216    libxl EMULATOR_CONTEXT  209197 bytes of device state
   0x287d36d            8    libxl END

name     vga
uuid     18be6b66-e6e1-11f1-bc13-830b39936407
type     hvm
config   32 MiB, 2 vcpus
disk     hda /tmp/disk.img raw rw
nic      00:16:3e:00:00:01 e1000 xenbr0
memory   8268 pages (32 MiB), 1036212 holes
vcpu 0   rip 0x978 cr3 0x0 efer 0x0

      OFFSET       LENGTH  VERSION  DEVICE
         0x8           24        2  timer
"""
UNSEALED = "well-formed, unsealed"
VGA = "xl, 40.5 MiB; hvm guest vga; 8268 pages (32 MiB), 1036212 holes; 29 devices"


def parts(name: str) -> dict[str, bytes]:
    """Return the layers of a save file, each as a stream of its own."""
    data = save_files.unpacked(name)
    found = {record.name: record for record in Walk(Source.of(data))}
    begin = {record.name: record.offset for record in Walk(Source.of(data)) if record.offset}
    emulator = found["EMULATOR_CONTEXT"]
    image_end = emulator.offset
    return {
        "libxl": data[1733:],
        "libxc": data[begin["image header"] : image_end],
        "device state": emulator.value.state,
    }


def test_inspect_shows_all_layers(run, saved):
    done = run("inspect", saved)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(VGA_HEAD)
    lines = done.out.splitlines()
    end = lines.index("NAMED ON THE HOST")
    assert lines[end - 2].split() == ["0x288b", "198785", "2", "0000:00:04.0/e1000"]
    assert lines[end + 1 :] == [
        "b_info.type.hvm.usbdevice_list=tablet",
        "b_info.type.hvm.serial_list=null",
        "disks.pdev_path=/tmp/disk.img",
        "nics.bridge=xenbr0",
        "nics.script=vif-none",
    ]
    assert sum(" 0000:" in line for line in lines) == 9


def test_inspect_as_json(run, saved):
    found = run("inspect", "--json", saved).json
    assert list(found) == [
        *("file", "kind", "size", "trailing", "checkpoints", "records", "config"),
        *("host_resources", "image", "vcpus", "devices", "ambiguities"),
    ]
    assert (found["kind"], found["size"], found["trailing"], found["checkpoints"]) == (
        *("xl", 42455925),
        *(0, 0),
    )
    assert found["records"][8] == {
        "layer": "libxc",
        "name": "PAGE_DATA",
        "offset": 0xC05,
        "size": 42237888,
        "count": 1020,
        "text": "",
    }
    assert found["config"]["c_info"]["name"] == "vga"
    assert found["image"]["pages"] == {"data": 8268, "zero": 0, "other": 1036212}
    assert (found["image"]["version"], found["image"]["xen_minor"]) == (3, 17)
    assert len(found["image"]["hvm_params"]) == 12
    assert found["vcpus"]["0"]["rip"] == 0x978
    assert found["ambiguities"] == []
    (e1000,) = (each for each in found["devices"] if each["idstr"].endswith("/e1000"))
    assert e1000 == {
        "id": e1000["id"],
        "idstr": "0000:00:04.0/e1000",
        "instance_id": 0,
        "version_id": 2,
        "offset": 0x288B,
        "length": 198785,
        "certain": True,
    }


def test_verify(run, saved):
    assert run("verify", saved) == (0, f"{saved}: {UNSEALED}; {VGA}\n", "")
    found = run("verify", "--json", saved).json
    assert (found.pop("sound"), found.pop("sealed")) == (True, False)
    assert found == run("inspect", "--json", saved).json


@pytest.mark.parametrize("name", save_files.SAVE_FILES)
def test_every_real_record_is_sound(run, tmp_path, name):
    file = tmp_path / name
    file.write_bytes(save_files.unpacked(name))
    done = run("verify", file)
    assert done.code == 0
    said = rf"{file}: {UNSEALED}; xl, [\d.]+ MiB; hvm guest \w+; .*\n"
    assert re.fullmatch(said, done.out)
    assert ("44 bytes after END" in done.out) == (name == save_files.MIGRATION)


@pytest.mark.parametrize(
    ("layer", "summary"),
    [
        ("libxl", "libxl, 40.5 MiB; 8268 pages (32 MiB), 1036212 holes; 29 devices"),
        ("libxc", "libxc, 40.3 MiB; 8268 pages (32 MiB), 1036212 holes"),
        ("device state", "device state, 204 KiB; 29 devices"),
    ],
)
def test_layers_cut_out_of_a_record(run, tmp_path, layer, summary):
    file = tmp_path / "layer"
    file.write_bytes(parts("vga.save")[layer])
    assert run("verify", file).out == f"{file}: {UNSEALED}; {summary}\n"
    shown = run("inspect", file).out
    assert "xl header" not in shown.replace("libxl header", "")
    assert ("e1000" in shown) == (layer != "libxc")
    assert run("inspect", "--json", file).json["kind"] == layer.replace(" ", "_")


def test_from_a_pipe(saved):
    done = spawn("verify", "-", data=saved.read_bytes())
    said = f"-: {UNSEALED}; {VGA}\n".encode()
    assert (done.returncode, done.stdout, done.stderr) == (0, said, b"")
    done = spawn("inspect", "-", data=saved.read_bytes())
    assert done.stdout.decode().startswith(VGA_HEAD)


def test_from_a_fifo(run, tmp_path, saved):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.write_bytes(saved.read_bytes()))
    writer.start()
    done = run("verify", fifo)
    writer.join(60)
    assert done == (0, f"{fifo}: {UNSEALED}; {VGA}\n", "")


def damaged(data: bytes, at: int, put: bytes) -> bytes:
    return data[:at] + put + data[at + len(put) :]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-4], "at offset 0x287d36d: expected 8 bytes, got 4 and then"),
        (lambda data: data[:50000], "libxc PAGE_DATA at offset 0x2c15: expected "),
        (lambda data: b"", "stream at offset 0x0: expected one of XL, LIBXL"),
        (lambda data: b"not a record at all", "not a save file, but b'not a record'"),
        (lambda data: damaged(data, 0xC05, b"\x77\0\0\0"), "libxc record at offset 0xc05"),
        (lambda data: damaged(data, 0x100, b"\0"), "xl header at offset 0x34: expected a config"),
    ],
)
def test_damage(run, tmp_path, saved, damage, message):
    file = tmp_path / "damaged"
    file.write_bytes(damage(saved.read_bytes()))
    done = run("verify", file)
    assert run("inspect", file) == done
    assert (done.code, done.out) == (2, "")
    other = file.read_bytes().startswith(b"not")
    verdict = "not a save file, but .*" if other else "damaged: .*: expected .*, got .*"
    assert re.fullmatch(rf"xenqemu: {file}: {verdict}\n", done.err)
    assert message in done.err


@pytest.mark.parametrize(
    ("name", "why"), [("missing", "No such file or directory"), ("", "Is a directory")]
)
def test_what_cannot_be_read(run, tmp_path, name, why):
    file = tmp_path / name
    assert run("verify", file) == (1, "", f"xenqemu: {file}: {why}\n")


def test_a_remus_file_is_told_as_such(run, tmp_path):
    file = tmp_path / "remus"
    devices = b"QEVM\0\0\0\3\0\0\0\0\0\0"  # none, and what follows their end
    file.write_bytes(made.checkpointed(3).replace(made.EMULATOR.state, devices))
    done = run("inspect", "--json", file)
    assert (done.code, done.json["kind"], done.json["checkpoints"]) == (0, "libxl", 3)


def test_uncertain_devices_and_ids_of_their_own(run, tmp_path):
    stream = made.stream(after=(libxl.EmulatorContext(1, 0, b"of another kind"), libxl.End()))
    file = tmp_path / "traditional"
    file.write_bytes(stream)
    done = run("inspect", file)
    assert done.code == 0
    assert "EMULATOR_CONTEXT  15 bytes of device state" in done.out
    assert "DEVICE" not in done.out


@pytest.mark.parametrize(
    "words",
    [
        ("save", "web", "file", "-"),
        ("devices", "save", "web", "-"),
        ("seal", "-"),
        ("compress", "-"),
        ("migrate", "-C", "-", "web", "there"),
        ("lab", "create", "-"),
    ],
)
def test_a_pipe_is_refused_before_anything_is_looked_at(run, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    done = run(*words)
    assert (done.code, done.out) == (64, "")
    assert done.err.startswith('xenqemu: "-" would be a pipe: name a file')
    assert list(tmp_path.iterdir()) == []


def test_the_standard_input_cannot_be_a_config(run):
    assert run("restore", "-", "file").err == 'xenqemu: "-" cannot be CFG\n'


def test_a_file_of_that_name_can_be_named(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("restore", "./-").err == f"xenqemu: {tmp_path}/-: No such file or directory\n"


def test_a_closed_standard_input_is_named():
    done = spawn("verify", "-", environment={})
    assert done.returncode == 2
    command = ["sh", "-c", '"$0" -m xenqemu verify - <&-', sys.executable]
    closed = subprocess.run(command, capture_output=True, check=False)
    assert (closed.returncode, closed.stderr) == (
        *(1, b"xenqemu: standard input: Bad file descriptor\n"),
    )


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "key"
    path.write_bytes(b"a key")
    path.chmod(0o600)
    return path


def test_seal_and_what_verify_says_then(run, tmp_path, saved, key):
    file = tmp_path / "guest"
    file.write_bytes(saved.read_bytes())
    assert run("seal", file).code == 0
    said = f"{file}: sound and sealed; xl, 40.5 MiB; hvm guest vga; "
    assert run("verify", file).out.startswith(said)
    found = run("verify", "--json", file).json
    assert (found["sound"], found["sealed"], found["trailing"]) == (True, True, 0)
    assert found["seal"]["keyed"] is False
    assert found["seal"]["about"]["guest"]["name"] == "vga"
    assert "\nseal     " in run("inspect", file).out
    done = run("verify", "--key-file", key, file)
    assert (done.code, done.out) == (2, "")
    assert "a seal made with the key, got one without a key" in done.err


def test_verify_names_what_is_damaged(run, tmp_path, key):
    file = tmp_path / "guest"
    whole = bytearray(sealed(file, key=b"a key"))
    assert run("verify", file).code == 64
    at = whole.index(made.PAGE)
    whole[at] ^= 1
    file.write_bytes(whole)
    done = run("verify", "--key-file", key, file)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"xenqemu: {file}: damaged: libxc PAGE_DATA, pfns ")
    found = run("verify", "--json", "--key-file", key, file).json
    assert (found["sound"], found["state"]) == (False, "damaged")
    (place,) = found["places"]
    assert place["record"] == "libxc PAGE_DATA"
    assert place["offset"] <= at < place["offset"] + place["size"]
    assert place["pages"]


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"\x1f\x8b\x08" + bytes(600), "a gzip"), (b"something else altogether", "b'something el")],
)
def test_verify_says_what_else_a_file_is(run, tmp_path, data, said):
    file = tmp_path / "file"
    file.write_bytes(data)
    done = run("verify", file)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"xenqemu: {file}: not a save file, but {said}")
    assert run("verify", "--json", file).json["state"] == "not a save file"


def test_several_files_and_the_exit_code_of_the_first_that_fails(run, tmp_path, saved):
    other = tmp_path / "other"
    other.write_bytes(b"something else altogether")
    done = run("verify", saved, tmp_path / "none", other, saved)
    assert done.code == 1
    assert done.out == f"{saved}: {UNSEALED}; {VGA}\n" * 2
    none, rest = done.err.splitlines()
    assert none == f"xenqemu: {tmp_path}/none: No such file or directory"
    assert rest.startswith(f"xenqemu: {other}: not a save file, but b'something el")
    assert run("verify", other, tmp_path / "none").code == 2


def test_several_files_for_a_program(run, tmp_path, saved):
    other = tmp_path / "other"
    other.write_bytes(b"something else altogether")
    out = run("inspect", "--json", other, saved, tmp_path / "none").out
    bad, rest = out.split("\n", 1)
    bad = json.loads(bad)
    assert (bad["version"], bad["file"], bad["state"]) == (1, str(other), "not a save file")
    assert (bad["error"]["class"], bad["error"]["exit_code"]) == ("BadRecord", 2)
    assert bad["error"]["offset"] == 0
    good, end = json.JSONDecoder().raw_decode(rest)
    assert (good["file"], good["kind"]) == (str(saved), "xl")
    none = json.loads(rest[end:])
    assert none["error"]["class"] == "FileNotFoundError"


def test_several_trees_have_headings(run, saved):
    one = run("inspect", saved).out
    assert one.startswith(VGA_HEAD)
    assert run("inspect", saved, saved).out == f"==> {saved} <==\n{one}" * 2
