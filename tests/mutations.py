#!/usr/bin/env python3
"""Deliberate faults, to see that the tests find them.

    tests/mutations.py [--at REVISION] [--only N[,N...]] [--whole] PYTEST_WORDS...
    tests/mutations.py -m 'not xen'             all that needs no Xen host
    tests/mutations.py -m 'not xen and not lab' some are not found, which need real guests

Each fault is made in a copy of the tree: of REVISION, or of the work tree as it stands.  There
pytest runs the tests that are likely to find it and, if they do not, with --whole all tests;
PYTEST_WORDS go to it as they are.  Before, the same tests have to pass without any fault.  A fault
by which they never end counts as found.  The exit status is 0 if all are found.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
OURS = ROOT / ".venv/bin/python"
PYTHON = str(OURS) if OURS.exists() else sys.executable

LIMIT, WHOLE_LIMIT = 1800.0, 7200.0
"""Seconds for the likely tests of one fault, and for many tests."""

WHOLE = ("-n", "2", "tests")
PASSED, NO_TESTS = 0, 5
HOW = {1: "", 2: ", interrupted", None: " by its time limit"}
"""What pytest ends with where nothing fails, and where something does; None if it does not end."""

AT_IMPORT = ("error during collection", "ImportError while loading conftest")
"""What it says where a test cannot be imported."""

NODE = re.compile(r"^(?:FAILED|ERROR) (tests/.*?)(?: - .*)?$", re.MULTILINE)
SHOWN = 120
"""Characters of the name of a test: some have all of a record in it."""

TABLE = r"""
an xl config may reach four bytes beyond its data
xenqemu/formats/stream/xl.py | tests/unit/formats/stream/test_xl.py
-            left = len(data) - CONFIG_LEN.size
+            left = len(data)

the guest's clock is written in the wrong byte order
xenqemu/formats/stream/libxc_records.py | tests/unit/formats/stream/test_libxc.py
-TSC_INFO = struct.Struct("<IIQII")
+TSC_INFO = struct.Struct(">IIQII")

pages of zeros are lost when a record is compacted
xenqemu/formats/stream/superseded.py | tests/unit/formats/stream/test_superseded.py
-        last = self._left if run.has_data else 0
+        last = self._left

sections are certain though a guest has planted too many headers
xenqemu/formats/device_state/section_search.py
| tests/unit/formats/device_state/test_device_stream.py
-        choice = self.crowded or len(shapes) + len(whole) > 1 or bool(reach.ends)
+        choice = len(shapes) + len(whole) > 1 or bool(reach.ends)

a receiver that gave up is believed to have started the guest
xenqemu/formats/migration/handshake.py | tests/unit/formats/migration/test_handshake.py
-    HandshakeState.GIVEN_UP: {Message.FAILED: HandshakeState.FAILED},
+    HandshakeState.GIVEN_UP: {
+        Message.STARTED: HandshakeState.MIGRATED,
+        Message.FAILED: HandshakeState.FAILED,
+    },

a deadline of nan seconds is taken, and never passes
xenqemu/settings/toml_values.py | tests/unit/settings/test_toml_values.py
-    if not 0 < value <= MAX_SECONDS:  # which no nan is
+    if value <= 0 or value > MAX_SECONDS:

a second signal interrupts the rollback
xenqemu/operations/journal/operation.py | tests/unit/operations/test_signals_come.py
-            self._defer_signals()
-            try:
-                self._close(error)
+            try:
+                self._close(error)

output that cannot be written fails the operation
xenqemu/cli/terminal.py | tests/unit/cli/test_main.py
-            self.trouble = error
-            self._drop_rest()
+            raise

the folder is not synced once the record has its name
xenqemu/system/staged_file.py | tests/unit/system/test_staged_file.py
-                self._rename(self._temporary, self._name)
-                os.fsync(self._folder)
+                self._rename(self._temporary, self._name)

a draft that somebody has replaced is published
xenqemu/system/staged_file.py | tests/unit/system/test_staged_file.py
-            if not self.published:
+            if self._name == "":

a lock is made where a link leads
xenqemu/system/descriptors.py | tests/unit/host/disk/test_lease_file.py
-    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
+    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC

a received config may name any program
xenqemu/operations/receive.py | tests/unit/operations/test_moves.py
-                found = takeable(host, Needs(config, 0, moving=True), config, quick=True)
+                found = host.findings(Needs(config, 0, moving=True), quick=True)

a device state that is too new for QEMU is found once the guest is being built
xenqemu/host/qemu/emulator.py | tests/unit/host/qemu/test_emulator.py
-        if not loaded.oldest <= version <= loaded.newest:
+        if version < loaded.oldest:

an operation that is cancelled while it checks continues
xenqemu/host/findings.py | tests/unit/host/test_findings.py
-        except Cancelled:
-            raise

a warning of a host refuses the guests that migrate to it
xenqemu/operations/preflight.py | tests/unit/operations/test_preflight.py
-    objections = refusal_texts(takeable(host, needs, question.config))
+    objections = map(str, takeable(host, needs, question.config))

a save file may change after it was checked
xenqemu/operations/restore.py | tests/unit/operations/test_restore.py
-                again.require_same()

a pattern of the settings leads out of its folder
xenqemu/host/allowed_resources.py | tests/unit/host/test_allowed_resources.py
-    if "*" in pattern and _climbs(resource.value):
+    if "*" in pattern and not resource.value:

a program that is told to end finds its pipe closed before
xenqemu/system/child.py | tests/unit/system/test_child.py
-        signal.pidfd_send_signal(self._handle, signal.SIGTERM)
-        self.hang_up()
+        self.hang_up()
+        signal.pidfd_send_signal(self._handle, signal.SIGTERM)

Ctrl-C leaves a program running that was given time to end
xenqemu/system/child.py | tests/unit/system/test_child.py
-        finally:  # Ctrl-C may have ended the waits
-            self._kill()
+        except HostError:
+            raise
+        self._kill()

a change of xenstore that is given up is committed
xenqemu/host/xenstore/store.py | tests/unit/host/xenstore/test_store.py
-            link.withdraw(Op.TRANSACTION_END, b"F\0", "giving up a transaction", tx_id)
+            link.withdraw(Op.TRANSACTION_END, b"T\0", "giving up a transaction", tx_id)

a host that came up anew takes the disk of a guest that may have moved
xenqemu/host/disk/lease.py | tests/unit/host/disk/test_lease.py
-    if lease.next_owner and (lease.owner.boot != who.boot or lease.next_owner.vm != who.vm):
+    if lease.next_owner and (lease.owner.boot != who.boot and lease.next_owner.vm != who.vm):

what a killed process wrote of a line runs into the next one of its journal
xenqemu/operations/journal/log.py | tests/unit/operations/journal/test_folder.py
-        return Found(path, about, rest, len(text) - len(cut_off), running)
+        return Found(path, about, rest, len(text), running)

a page that becomes zeros in a later iteration keeps its old contents
xenqemu/host/xen/memory/logged_pages.py | tests/unit/host/xen/memory/test_hvm_memory_live.py
-        self._elide_zeros = False

Ctrl-C leaves the request to suspend in xenstore
xenqemu/host/xen/suspend_request.py | tests/unit/host/xen/test_suspend_request.py
-        except BaseException as error:  # an interrupted wait must not leave the request either
+        except HostError as error:

a QEMU that was not yet noted when its maker was killed is left running
xenqemu/lab/plain_qemu.py
| tests/integration/lab/test_failures.py::test_restore_is_killed_before_qemu_is_noted
-        found = [each.pid for each in commands() if any(memory in word for word in each.words)]
+        found = [each.pid for each in commands() if memory in each.words]

a save file is read back before it is on the disk
xenqemu/operations/save.py | tests/unit/operations/test_save.py
-        if synced:
-            draft.sync()

a save file is renamed only once its guest was unpaused
xenqemu/operations/restore.py | tests/unit/operations/test_restore_all.py
-                    _leave(file, before_run)
-                    unpause(host, Domain(domid, used.uuid, used.name, used.type), job)
+                    unpause(host, Domain(domid, used.uuid, used.name, used.type), job)
+                    _leave(file, before_run)

the devices of a paused guest run on after its save
xenqemu/operations/outgoing_guest.py | tests/unit/operations/test_save.py
-        if self._device_model_ran:
-            self._undos.append(self.job.undo(steps.ContinueDeviceModel(*self.who)))
+        self._undos.append(self.job.undo(steps.ContinueDeviceModel(*self.who)))

save-all replaces the save file of another guest of that name
xenqemu/operations/saved_guests.py | tests/unit/operations/test_save_all.py
-        return all(owner is not None and owner.uuid == uuid.lower() for owner in owners)
+        return all(owners) or bool(uuid)

a save by hand is restored at boot
xenqemu/operations/saved_guests.py | tests/unit/operations/test_restore_all.py
-        if better is None and guest.by_name:
+        if better is None:

no answer to GO is taken for a guest that stayed
xenqemu/operations/migrate.py
| tests/unit/operations/test_moves.py::test_every_call_of_either_side_fails[disk-REFUSED]
-        peer.send(Message.GO)
-    except HostError:  # the message was not sent
-        guest.job.resolve(passed=False)
-        raise
-    peer.receive()
+        peer.send(Message.GO)
+        peer.receive()
+    except HostError:
+        guest.job.resolve(passed=False)
+        raise

a domain is renamed before it is noted how that is undone
xenqemu/operations/outgoing_guest.py
| tests/unit/operations/test_moves.py::test_every_call_of_either_side_fails[disk-REFUSED]
-        self.job.undo(steps.Rename(*self.who, new, old))
-        self.host.rename(self.domid, old, new)
+        self.host.rename(self.domid, old, new)
+        self.job.undo(steps.Rename(*self.who, new, old))

recover --stayed lets a second copy run beside the first
xenqemu/operations/recover.py
| tests/unit/operations/test_moves.py::test_recover_does_not_believe_that_a_guest_stayed
-        _require_no_copy(host, about)
+        pass

a node of xenstore that came or went is no conflict
xenqemu/lab/xenstored/transaction.py | tests/unit/lab/xenstored/test_tree.py
-    return (then and then.generation) != (now and now.generation)
+    return bool(then and now and then.generation != now.generation)

the second disk of a guest is on the second bus
xenqemu/lab/command_line.py | tests/unit/lab/test_command_line.py
-            ide = f"bus=ide.{unit // 2},unit={unit % 2}"
+            ide = f"bus=ide.{unit % 2},unit={unit // 2}"

memory above the PCI hole is saved as if it lay in it
xenqemu/lab/domain_builder.py
| tests/integration/lab/test_guests.py::test_sparse_memory_up_to_the_pci_hole_and_beyond
-        below = min(memory, BELOW)
+        below = memory

a guest may write a disk that another one reads
xenqemu/hotplug/sharing.py | tests/unit/hotplug/test_block.py
-        if (writes or user.writes) and theirs and not ours & theirs:
+        if (writes and user.writes) and theirs and not ours & theirs:
"""


class Mutation(NamedTuple):
    """A fault: `old`, which `file` has once, becomes `new`; `tests` are likely to find it."""

    name: str
    file: str
    tests: list[str]
    old: str
    new: str

    @classmethod
    def of(cls, block: str) -> Mutation:
        """Return what stands in the table."""
        name, *lines = f"{block}\n".splitlines(keepends=True)
        old, new = ("".join(line[1:] for line in lines if line[0] == sign) for sign in "-+")
        file, tests = "".join(line for line in lines if line[0] not in "-+").split("|")
        return cls(name.strip(), file.strip(), tests.split(), old, new)

    def made(self, tree: Path) -> str:
        """Return the file with the fault; end if that cannot be made in this tree."""
        text = (tree / self.file).read_text()
        if text.count(self.old) != 1:
            sys.exit(f"{self.name}: {self.file} has {text.count(self.old)} times\n{self.old}")
        made = text.replace(self.old, self.new)
        compile(made, self.file, "exec")  # else any test would find it
        return made

    def likely(self, tree: Path) -> list[str]:
        """Return those of `tests` that this tree has."""
        found = []
        for test in self.tests:
            path, name, *_ = re.split(r"::|\[", f"{test}::")
            if (tree / path).exists() and f"def {name}" in (tree / path).read_text():
                found.append(test)
        return found


MUTATIONS = tuple(map(Mutation.of, TABLE.strip("\n").split("\n\n")))


def main() -> int:
    """Make the faults that are asked for, and print which test finds each."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--at", metavar="REVISION")
    parser.add_argument("--only", metavar="N[,N...]", type=_numbers, default=range(len(MUTATIONS)))
    parser.add_argument("--whole", action="store_true")
    options, words = parser.parse_known_args()
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell has us ignore the first
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    found = 0
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        pristine = Path(folder).resolve() / "pristine"
        _check_out(options.at, pristine)
        _require_sound(pristine, [MUTATIONS[n] for n in options.only], words, options.whole)
        for number in options.only:
            began = time.monotonic()
            by = _finder(pristine, MUTATIONS[number], words, options.whole)
            found += bool(by)
            text = by or f"NOT FOUND{'' if options.whole else ' by the tests that are likely to'}"
            seconds = time.monotonic() - began
            print(f"{number + 1:2} {MUTATIONS[number].name}: {text} ({seconds:.0f} s)", flush=True)
    print(f"{found} of {len(options.only)} found")
    return 0 if found == len(options.only) else 1


def _numbers(text: str) -> list[int]:
    numbers = [int(word) - 1 for word in text.split(",")]
    if not set(numbers) <= set(range(len(MUTATIONS))):
        raise argparse.ArgumentTypeError(f"expected numbers from 1 to {len(MUTATIONS)}")
    return numbers


def _check_out(revision: str | None, tree: Path) -> None:
    """Make the tree that faults are made in copies of."""
    tree.mkdir()
    if revision:
        command = ["git", "-C", str(ROOT), "archive", revision]
        packed = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
        subprocess.run(["tar", "-x", "-C", str(tree)], input=packed, check=True)
    else:
        command = ["git", "-C", str(ROOT), "ls-files", "-coz", "--exclude-standard"]
        names = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
        for name in names.split("\0")[:-1]:
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # removed, and git was not told yet
                shutil.copy2(ROOT / name, tree / name, follow_symlinks=False)
    subprocess.run(
        ["git", "init", "-q", str(tree)], check=True
    )  # a test asks git which files there are
    (tree / ".cache").symlink_to(ROOT / ".cache")


def _require_sound(
    pristine: Path, mutations: Sequence[Mutation], words: Sequence[str], whole: bool
) -> None:
    """End unless the faults can be made, and the tests pass without any."""
    likely: dict[str, None] = {}
    for mutation in mutations:
        mutation.made(pristine)
        likely |= dict.fromkeys(mutation.likely(pristine))
    with _copied(pristine) as tree:
        status, said = _run(tree, [*words, *(WHOLE if whole else likely)], WHOLE_LIMIT)
    if status != PASSED:
        sys.exit(f"{said}\npytest ends with {status} without any fault")


def _finder(pristine: Path, mutation: Mutation, words: Sequence[str], whole: bool) -> str:
    """Return what finds a fault, "" if nothing does."""
    with _copied(pristine) as tree:
        (tree / mutation.file).write_text(mutation.made(tree))
        likely = mutation.likely(tree)
        for tests, limit in [(likely, LIMIT)] * bool(likely) + [(WHOLE, WHOLE_LIMIT)] * whole:
            status, said = _run(tree, [*words, *tests], limit)
            if status in (PASSED, NO_TESTS):
                continue
            node = NODE.search(said)
            by = node[1][:SHOWN] if node else "pytest"
            if any(words in said for words in AT_IMPORT):
                return f"{by} at import"
            if status not in HOW:
                sys.exit(f"{said}\n{mutation.name}: pytest ends with {status}")
            return by + HOW[status]
    return ""


@contextmanager
def _copied(pristine: Path) -> Iterator[Path]:
    """Yield a copy of the tree; what was started in it ends with the block."""
    tree = pristine.with_name("tree")
    shutil.copytree(pristine, tree, symlinks=True)
    try:
        yield tree
    finally:
        for environment in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):  # it ended by itself
                if f"PYTHONPATH={tree}".encode() in environment.read_bytes():
                    os.kill(int(environment.parent.name), signal.SIGKILL)
        shutil.rmtree(tree)


def _run(tree: Path, words: Sequence[str], limit: float) -> tuple[int | None, str]:
    """Run pytest; return its exit status, None if it takes too long, and what it said."""
    environment = os.environ | {"PYTHONPATH": str(tree)}
    ask = [PYTHON, "-P", "-c", "import xenqemu; print(xenqemu.__path__[0])"]  # as a test may
    imported = subprocess.run(ask, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    if imported.stdout.strip() != str(tree / "xenqemu"):
        sys.exit(f"{imported.stdout.strip()} is imported in place of what is in {tree}")
    options = ("-x", "-q", "-p", "no:cacheprovider", "--basetemp", str(tree.with_name("t")))
    with tempfile.TemporaryFile("w+", errors="replace") as said:  # a pipe would wait for strays
        process = subprocess.Popen(
            [PYTHON, "-m", "pytest", *options, *words],
            cwd=tree,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        status: int | None = None
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:  # the status None says so
            pass
        finally:
            _end(process)
        said.seek(0)
        return status, said.read()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its group, if it has not ended; it has some time to clean up."""
    for number, seconds in ((signal.SIGINT, 60.0), (signal.SIGKILL, None)):
        if process.poll() is None:
            os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(seconds)


if __name__ == "__main__":
    sys.exit(main())
