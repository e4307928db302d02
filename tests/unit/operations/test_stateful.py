"""Any history of saves, restores, cancels, crashes and recoveries leaves exactly one guest.

A model in hypothesis' hands: whatever is done in whatever order, and wherever a process is killed
or a party fails, there is never a second running copy, and never none: the guest runs, or it can
be brought back from a record, after `recover` at the latest.
"""

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.doubles.in_memory.faults import Fault, How, text
from tests.doubles.in_memory.world import World, loaded
from xenqemu.errors import OperationError, XenqemuError
from xenqemu.operations.events import Kind
from xenqemu.operations.journal.folder import Journals
from xenqemu.operations.options import After, RestoreOptions, SaveOptions
from xenqemu.operations.recover import recover
from xenqemu.operations.restore import restore
from xenqemu.operations.save import save

WORDS = ("as it was", "it is rolled back", "left to do", "is the guest now")
"""What an error says where something was begun: where the guest is, or what to do."""

FAULTS = st.one_of(
    st.none(), st.builds(Fault, st.integers(0, 120), st.sampled_from([*How])).filter(bool)
)


class Host(RuleBasedStateMachine):
    """One guest on one host, and save files of it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.world = World()
        self.said = []
        self.met = None

    def records(self):
        return sorted(path for path in self.folder.iterdir() if not path.name.startswith("."))

    def operate(self, operation, fault):
        """Run an operation with a fault, in a process of its own if that is killed."""
        self.world.calls.clear()
        self.world.fault = fault
        if fault is not None and fault.how.kills:
            if not self.world.outlive(lambda: self.attempt(operation)):
                self.attempt(operation)  # it does not come so far: here then, for its results
            return
        self.attempt(operation)

    def attempt(self, operation):
        try:
            with self.world.watching():
                operation()
        except OperationError as error:
            self.said.append(text(error))
        except (XenqemuError, OSError, KeyboardInterrupt) as error:
            self.met = error  # nothing had been touched, or it says so in its notes
        finally:
            self.world.heal()

    @rule(after=st.sampled_from(After), fault=FAULTS, name=st.sampled_from("ab"))
    @precondition(lambda self: self.world.running())
    def save(self, after, fault, name):
        (domid,) = self.world.running()
        self.operate(
            lambda: save(
                self.world.host,
                self.world.domain(domid),
                self.folder / name,
                SaveOptions(after=after),
            ),
            fault,
        )

    @rule(fault=FAULTS, paused=st.booleans(), data=st.data())
    @precondition(lambda self: self.records() and not self.world.guests)
    def bring_back(self, fault, paused, data):
        record = data.draw(st.sampled_from(self.records()))
        self.operate(lambda: restore(self.world.host, record, RestoreOptions(paused=paused)), fault)

    @rule(phase=st.integers(0, 6))
    @precondition(lambda self: self.world.running())
    def cancel(self, phase):
        (domid,) = self.world.running()
        seen = []

        def observe(event):
            seen.append(event)
            if event.kind is Kind.STARTED and len(seen) > phase:
                for found in Journals(self.world.host.journals).found():
                    Journals(self.world.host.journals).cancel(found)

        def operation():
            save(
                self.world.host,
                self.world.domain(domid),
                self.folder / "c",
                SaveOptions(after=After.CONTINUE),
                observe=observe,
            )

        self.operate(operation, None)
        assert self.world.running() == [domid]

    @rule()
    def time_passes(self):
        for guest in self.world.guests.values():
            if guest.runs:
                guest.tick += 1

    @rule()
    def recover(self):
        for done in recover(self.world.host):
            assert done.complete, done
        assert Journals(self.world.host.journals).found() == []
        stands = [guest for guest in self.world.guests.values() if not guest.runs]
        for guest in stands:  # left paused, as somebody wanted it
            assert guest.run_state.value == "paused"
            guest.paused, guest.devices_run = False, True

    @invariant()
    def there_is_never_a_second_copy(self):
        assert self.world.broken == []
        assert len(self.world.guests) <= 1

    @invariant()
    def every_error_says_where_the_guest_is(self):
        assert [said for said in self.said if not any(word in said for word in WORDS)] == []

    @invariant()
    def there_is_never_none(self):
        assert self.world.guests or self.records()

    @invariant()
    def every_file_under_a_final_name_is_a_record(self):
        for record in self.records():
            loaded(record)

    def teardown(self):
        self.recover()
        assert self.world.running() or self.records()
        assert [each.name for each in self.folder.iterdir() if each.name.startswith(".")] == []
        shutil.rmtree(self.folder)


Host.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestHost = Host.TestCase
