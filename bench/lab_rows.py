"""Rows of guests in the lab: save, restore, clones, downtime, beside `cp` and QEMU's own ways."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from lab_guests import NAME, XENQEMU, Guest, command, without_guests
from row import Bench, Row, Values, in_turns, removed, timed, warmer

REWRITE = "frozen=2 rewrite=64,512"
CLONES = 25
PIPE_RATE = 100e6
"""Bytes a second of a slow target."""

PIECE = 1 << 20
QMP_TIMEOUT = 600.0

MAXRSS = """\
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def copied(file: Path, folder: Path, *, sync: bool = False) -> float:
    """Return how long `cp` takes, which reads and writes all of it, and `sync` of the copy."""
    with removed(folder / "copy") as copy:
        script = 'cp --reflink=never "$0" "$1"' + (' && sync "$1"' if sync else "")
        return timed(lambda: command(["sh", "-c", script, file, copy]))


def saved(guest: Guest, folder: Path, *options: str) -> float:
    """Return how long `save -c` takes."""
    with removed(folder / "save_file") as file:
        return timed(lambda: guest.save(file, *options))


def restored(guest: Guest, file: Path, *options: str) -> float:
    """Return how long `restore -p` takes on another host."""
    took = timed(lambda: guest.restore(file, "-p", *options))
    guest.forget()
    return took


@contextmanager
def kept(guest: Guest, folder: Path, *options: str) -> Iterator[Path]:
    """Have a save file of the guest for the block."""
    with removed(folder / "kept") as file:
        guest.save(file, *options)
        yield file


def save(bench: Bench) -> Values:
    """`save -c` to memory."""
    guest = bench.guests.get(bench.mib)
    with kept(guest, guest.folder) as file:
        ours = partial(saved, guest, guest.folder)
        return in_turns(bench.rounds, ours, lambda: copied(file, guest.folder), warmer(bench))


def restore(bench: Bench) -> Values:
    """`restore -p` from memory."""
    guest = bench.guests.get(bench.mib)
    with kept(guest, guest.folder) as file:
        ours = partial(restored, guest, file)
        return in_turns(bench.rounds, ours, lambda: copied(file, guest.folder), warmer(bench))


def save_to_disk(bench: Bench) -> Values:
    """`save -c` to a disk."""
    guest = bench.guests.get(bench.mib)
    with (
        tempfile.TemporaryDirectory(dir=bench.disk) as folder,
        kept(guest, Path(folder)) as file,
    ):
        ours = partial(saved, guest, Path(folder))
        return in_turns(bench.rounds, ours, lambda: copied(file, Path(folder), sync=True))


def restore_from_disk(bench: Bench) -> Values:
    """`restore -p` from a disk into memory."""
    guest = bench.guests.get(bench.mib)
    with (
        tempfile.TemporaryDirectory(dir=bench.disk) as folder,
        kept(guest, Path(folder)) as file,
    ):
        beside = partial(copied, file, Path(folder), sync=True)
        return in_turns(bench.rounds, partial(restored, guest, file), beside)


def reflinked(kind: str, act: str, bench: Bench) -> Values:
    """`save -c` or `restore -p` where RAM files and save files are on one XFS or btrfs."""
    with disk(kind, bench) as folder:
        guest = bench.guests.get(bench.mib, ram=folder)
        try:
            with kept(guest, folder) as file:
                if act == "save":
                    ours: Callable[[], float] = partial(saved, guest, folder)
                else:
                    ours = partial(restored, guest, file)
                return in_turns(bench.rounds, ours, lambda: copied(file, folder))
        finally:
            bench.guests.end()


@contextmanager
def disk(kind: str, bench: Bench) -> Iterator[Path]:
    """Mount a new file system in a loop device."""
    image, folder = bench.disk / f"bench.{kind}", bench.disk / f"bench.{kind}.mount"
    folder.mkdir(exist_ok=True)
    with removed(image):
        with image.open("wb") as file:
            file.truncate((bench.mib * 4 + 2048) << 20)
        command([f"mkfs.{kind}", "-q", "-f", image])
        command(["mount", "-o", "loop", image, folder])
        folder.chmod(0o700)
        try:
            yield folder
        finally:
            command(["umount", folder])
            folder.rmdir()


def no_file_system(kind: str) -> str:
    """Return why there is no such file system here."""
    if os.geteuid():
        return "only root mounts file systems"
    return without_guests() or ("" if shutil.which(f"mkfs.{kind}") else f"there is no mkfs.{kind}")


class Qmp:
    """A guest's QEMU, asked as plainly as can be."""

    def __init__(self, guest: Guest) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(QMP_TIMEOUT)
        self._socket.connect(str(guest.one.folder / "run" / f"qmp-libxl-{guest.domid}"))
        self._lines = self._socket.makefile("rb")
        self._lines.readline()
        self("qmp_capabilities")

    def __call__(self, name: str, **arguments: object) -> object:
        """Return the answer to a command; raise `RuntimeError` if it is an error."""
        self._socket.sendall(json.dumps({"execute": name, "arguments": arguments}).encode())
        while True:
            line = json.loads(self._lines.readline())
            if "error" in line:
                raise RuntimeError(f"{name}: {line['error']['desc']}")
            if "return" in line:
                return line["return"]

    def close(self) -> None:
        """Leave it to others."""
        self._lines.close()
        self._socket.close()


def beside_migrate(bench: Bench) -> Values:
    """QEMU's own `migrate` to a file."""
    guest = bench.guests.get(bench.mib)

    def migrate() -> float:
        with removed(guest.folder / "migrated") as file:
            qmp = Qmp(guest)
            try:
                qmp("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
                qmp("stop")
                took = timed(lambda: _migrate(qmp, file))
                qmp("cont")
            finally:
                qmp.close()
            return took

    ours = partial(saved, guest, guest.folder)
    return in_turns(bench.rounds, ours, migrate, warmer(bench))


def _migrate(qmp: Qmp, file: Path) -> None:
    qmp("migrate", uri=f"exec:cat >{file}")
    deadline = time.monotonic() + QMP_TIMEOUT
    while (status := dict(qmp("query-migrate")).get("status")) != "completed":  # type: ignore[call-overload]
        if status in ("failed", "cancelled") or time.monotonic() > deadline:
            raise RuntimeError(f"QEMU's migration: {status}")
        time.sleep(0.01)


def beside_savevm(bench: Bench) -> Values:
    """QEMU's own `savevm` into a qcow2 disk."""
    with tempfile.TemporaryDirectory(dir=bench.memory) as folder:
        image = Path(folder) / "disk.qcow2"
        command(["qemu-img", "create", "-q", "-f", "qcow2", image, "1G"])
        more = f'disk = ["format=qcow2,vdev=hda,access=rw,target={image}"]'
        guest = bench.guests.get(bench.mib, more=more)

        def savevm() -> float:
            qmp = Qmp(guest)
            try:
                took = timed(lambda: _monitor(qmp, "savevm bench"))
                _monitor(qmp, "delvm bench")
            finally:
                qmp.close()
            return took

        try:
            ours = partial(saved, guest, guest.folder)
            return in_turns(bench.rounds, ours, savevm, warmer(bench))
        finally:
            bench.guests.end()


def _monitor(qmp: Qmp, line: str) -> None:
    said = qmp("human-monitor-command", **{"command-line": line})
    if said:
        raise RuntimeError(f"{line}: {said}")


def live(bench: Bench) -> Values:
    """The downtime of a guest that rewrites 64 MiB all the time, by its own clock."""
    guest = bench.guests.get(min(bench.mib, 1792), words=REWRITE)

    def downtime(*options: str) -> float:
        before = guest.stopped
        saved(guest, guest.folder, *options)
        return guest.stopped - before

    ours = partial(downtime, "--live")
    return in_turns(bench.rounds, ours, downtime, speed=False)


def clones(bench: Bench) -> Values:
    """Clones of one save file, made by one command; the seconds of one."""
    many = ("--clone", "--count", str(CLONES))
    guest = bench.guests.get(340, memory=8192)
    took = []
    with kept(guest, guest.folder) as file:
        for _ in range(bench.rounds):
            took.append(timed(lambda: guest.restore(file, *many)) / CLONES)
            guest.forget()
    return Values(took, [])


def compressed(bench: Bench) -> Values:
    """A save of a Linux guest to a pipe that takes 100 MB/s."""
    guest = bench.guests.get(0, memory=1024)
    return in_turns(bench.rounds, lambda: _to_pipe(guest, "--compress"), lambda: _to_pipe(guest))


def _to_pipe(guest: Guest, *options: str) -> float:
    words = [*XENQEMU, "--host", f"lab:{guest.one.folder}", "save", "-c", *options, NAME, "-"]
    began = time.perf_counter()
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        passed = 0
        while piece := process.stdout.read(PIECE):
            passed += len(piece)
            time.sleep(max(0.0, began + passed / PIPE_RATE - time.perf_counter()))
        words_of_error = process.stderr.read()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words, stderr=words_of_error)
    return time.perf_counter() - began


def peak(bench: Bench) -> Values:
    """The most memory that `save -c` holds."""
    guest = bench.guests.get(bench.mib)
    used = []
    for _ in range(bench.rounds):
        with removed(guest.folder / "save_file") as file:
            words = [*XENQEMU, "--host", f"lab:{guest.one.folder}", "save", "-c", NAME, str(file)]
            done = subprocess.run(
                [sys.executable, "-c", MAXRSS, *words], check=True, capture_output=True
            )
            used.append(int(done.stdout) / 1024)
    return Values(used, [], "MiB")


LAB_ROWS = (
    Row(
        "save", "save -c, digests on, in memory", "cp", ">= 1.2 of its speed", save, without_guests
    ),
    Row("restore", "restore -p, in memory", "cp", ">= 1.3 of its speed", restore, without_guests),
    Row(
        *("save-disk", "save -c to a disk", "cp + sync", ">= 0.95 of its speed"),
        *(save_to_disk, without_guests),
    ),
    Row(
        *("restore-disk", "restore -p from a disk", "cp + sync", ">= 0.95 of its speed"),
        *(restore_from_disk, without_guests),
    ),
    Row("peak", "most memory of save -c", "nothing", "< 128 MiB", peak, without_guests),
    Row("migrate", "save -c", "QEMU's migrate", ">= 3 times", beside_migrate, without_guests),
    Row("savevm", "save -c", "QEMU's savevm", ">= 3 times", beside_savevm, without_guests),
    Row(
        *("live", "downtime of save --live -c, busy guest", "that of save -c", "<= 0.05 s"),
        *(live, without_guests),
    ),
    Row(
        "clone",
        f"one of {CLONES} clones made at once",
        "nothing",
        "p95 <= 0.4 s",
        clones,
        without_guests,
    ),
    Row(
        *("compress", "save --compress to a pipe of 100 MB/s", "the same, plain"),
        *(">= 2.5 times", compressed, without_guests),
    ),
    *(
        Row(
            *(f"{act}-{kind}", f"{act} on {kind}, by reflink", "cp", ">= 50 times"),
            *(partial(reflinked, kind, act), partial(no_file_system, kind)),
        )
        for kind in ("xfs", "btrfs")
        for act in ("save", "restore")
    ),
)
