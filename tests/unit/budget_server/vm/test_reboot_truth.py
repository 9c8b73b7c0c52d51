"""What a reboot serves after any history: the accepted revision, or the last that passed; never an older one.

The machine does what `converge` does with `revisions`, in the same order and without processes.
"""

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from budget_server.vm.config import BudgetConfig
from budget_server.vm.errors import ArtifactUnreachable, LoadFailed, OutOfMemory
from budget_server.vm.revisions import Choice, Record, choose, load, save

LETTERS = "abc"
#: The usual ones more often.
OUTCOMES = (*["passes", "fails"] * 3, "bucket away", "power lost", "memory", "overtaken")
ERRORS = {
    "fails": LoadFailed("ouch"),
    "bucket away": ArtifactUnreachable("away"),
    "memory": OutOfMemory("too big"),
}


def config(letter: str, image: str) -> BudgetConfig:
    fields = {"image": image, "deployment": "d", "bucket": "b", "bundle": "x", "sealed": "y"}
    digests = {"bundleSha256": "0", "sealedSha256": "1"}
    return BudgetConfig.model_validate({**fields, **digests, "revision": letter * 12})


class Vm(RuleBasedStateMachine):
    """A VM with its disk, and beside it what a bystander with a notebook would expect."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.disk = Path(self.directory.name, "revisions.json")
        self.metadata: BudgetConfig | None = None
        self.now = 1_000_000.0
        self.record = Record()
        self.active: BudgetConfig | None = None
        # the notebook
        self.last_passed: BudgetConfig | None = None
        self.condemned: BudgetConfig | None = None

    def teardown(self) -> None:
        """Left alone, and with nothing failing any more, it ends up with the accepted revision."""
        for _ in range(20):
            self._take_intent()
            choice = choose(self.record, self._active_revision, self.now)
            if choice.serve:
                self._attempt(choice.serve, "passes", "a")
            else:
                self.now += choice.wait or 0
        self.directory.cleanup()
        assert self._active_revision == (self.metadata and self.metadata.revision)

    @rule(
        letter=st.sampled_from(LETTERS),
        image=st.sampled_from(("i", "j")),
        outcome=st.none() | st.sampled_from(OUTCOMES),
    )
    def edit(self, letter: str, image: str, outcome: str | None) -> None:
        """The operator accepts a spec; the VM gets to it at once, or later, or not before the next one."""
        self.metadata = config(letter, image)
        if outcome:
            self.work(outcome, letter)

    @rule(outcome=st.sampled_from(OUTCOMES), letter=st.sampled_from(LETTERS))
    def work(self, outcome: str, letter: str) -> None:
        """One step of the loop: take the intent, choose, attempt. An attempt is overtaken by this letter."""
        self._take_intent()
        choice = choose(self.record, self._active_revision, self.now)
        if choice.serve is None:
            return
        before = self.active
        self._attempt(choice.serve, outcome, letter)
        if before is not None and outcome not in {"passes", "power lost"}:
            assert self.active == before, "what serves serves on"

    @precondition(lambda self: self.active is not None)
    @rule()
    def the_server_dies(self) -> None:
        self.active = None

    @rule(seconds=st.sampled_from((1.0, 4000.0, -4000.0)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def power_off(self) -> None:
        """Preempted or cut off: only the disk remains; and then it boots, the operator being off."""
        self._reboot()
        choice = choose(self.record, None, self.now)
        if self.metadata is None:
            assert choice == Choice(), "nothing was accepted"
        elif self.condemned != self.metadata:
            assert choice.serve == self.metadata, "the accepted one"
        elif self.last_passed and self.last_passed.revision != self.metadata.revision:
            stand_in_failed = self.record.failure(self.last_passed.revision)
            assert choice.serve == self.last_passed or stand_in_failed, "the last that passed"
            assert choice.serve in (None, self.last_passed, self.metadata)
        else:
            assert choice.serve == self.metadata, "there is no other"

    @invariant()
    def nothing_older_is_ever_chosen(self) -> None:
        chosen = choose(self.record, self._active_revision, self.now).serve
        assert chosen in (None, self.record.accepted, self.last_passed)

    @invariant()
    def the_disk_says_what_the_process_knows(self) -> None:
        on_disk = load(self.disk)
        assert (on_disk.accepted, on_disk.passed) == (self.record.accepted, self.record.passed)
        assert self.record.passed == self.last_passed

    @property
    def _active_revision(self) -> str | None:
        return self.active.revision if self.active else None

    def _take_intent(self) -> None:
        if self.metadata:
            if self.metadata != self.record.accepted:
                self.condemned = None  # any change that it sees brings another try
            self._keep(self.record.accept(self.metadata))

    def _reboot(self) -> None:
        self.active = None
        self.record = load(self.disk).after_boot()
        self._take_intent()

    def _attempt(self, target: BudgetConfig, outcome: str, letter: str) -> None:
        if outcome == "power lost":
            self._reboot()
        elif outcome == "overtaken":
            self.metadata = config(letter, "k")
        elif outcome == "passes":
            self.active = target
            self._keep(self.record.passes(target))
            self.last_passed = target
            if self.condemned and self.condemned.revision == target.revision:
                self.condemned = None
        else:
            error = ERRORS[outcome]
            served = self.active is not None or self.record.stand_in(target.revision) is not None
            self._keep(self.record.fail(target, error, served, self.now))
            if target == self.metadata:
                # a bucket out of reach says nothing about the revision, so it does not outlive the boot
                self.condemned = None if error.transient else target

    def _keep(self, record: Record) -> None:
        self.record = record
        save(record, self.disk)


TestRebootTruth = Vm.TestCase
TestRebootTruth.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
