"""Brings this VM to serve what `budget-config` names, and keeps it so.

`Converger` holds the little state there is and runs one attempt after another. Which comes next is decided
in `revisions`; the steps are in `artifact`, `environment`, `generations` and `frontdoor`. A newer entry in
metadata or the end of the process ends an attempt at its next look. What fails here is told, and ends nothing
else.
"""

import base64
import binascii
import os
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from budget_server.vm import revisions, room
from budget_server.vm.artifact import Artifact, Artifacts
from budget_server.vm.config import BudgetConfig, parse_config
from budget_server.vm.environment import Environment, Environments
from budget_server.vm.errors import (
    ArtifactInvalid,
    ArtifactUnreachable,
    DiedServing,
    DiskFull,
    Interrupted,
    LoadFailed,
    RolloutError,
)
from budget_server.vm.exhaustion import KillWatch, told_apart
from budget_server.vm.frontdoor import FAILED, LOADING, FrontDoor
from budget_server.vm.generations import Generation, Launch
from budget_server.vm.intent import Intent
from budget_server.vm.metadata import MetadataServer, MetadataUnavailable
from budget_server.vm.process import Identity, log
from budget_server.vm.report import Reporter
from budget_server.vm.settings import Settings, image_paths

TICK_SECONDS = 0.5
#: Between two looks at who uses how much memory.
_USAGE_SECONDS = 60.0
#: A server that ends so soon after the kernel killed a part of it ended because of that.
_KILL_EXPLAINS_SECONDS = 30.0
#: How long a killed worker of a server that goes on is told.
_KILL_TOLD_SECONDS = 600.0


class Converger:
    """What serves here, and how that becomes what is wanted."""

    def __init__(
        self,
        settings: Settings,
        metadata: MetadataServer,
        reporter: Reporter,
        door: FrontDoor,
        intent: Intent,
    ) -> None:
        self._settings = settings
        self._metadata = metadata
        self._reporter = reporter
        self._door = door
        self._intent = intent
        self._identity = Identity.of(settings.predictor_user)
        self._prepare_directories()
        self._artifacts = Artifacts(settings.artifacts, metadata.access_token, self._pause, self._given_up)
        self._environments = Environments(
            settings.environments, settings.cache, image_paths(), self._identity
        )
        self._record = revisions.load(settings.revisions).after_boot()
        self._taken: str | None = None
        #: Came during an attempt, and changed nothing about it.
        self._alike: str | None = None
        self._active: Generation | None = None
        self._draining: dict[Generation, threading.Thread] = {}
        #: For which revision the one before was stopped.
        self._stopped_for: str | None = None
        self._numbers = 0
        self._deaths = 0
        self._not_before = 0.0
        self._machine = ""
        self._kills = KillWatch.begin()
        self._last_kill: float | None = None
        self._to_prune = False
        self._booted = False
        self._measured: Generation | None = None
        self._measured_at = 0.0

    def run(self) -> None:
        """Until told to stop."""
        self._artifacts.sweep()
        self._environments.sweep()
        while not self._intent.stopping.is_set():
            self._intent.changed.clear()
            self._take_intent()
            self._watch_active()
            self._watch_memory()
            self._prune()
            self._tell_usage()
            try:
                wait = self._step()
            except Interrupted:
                continue
            self._intent.changed.wait(wait)

    def stop(self, seconds: float) -> None:
        """End what serves, and what still drains."""
        for generation in (*self._draining, *([self._active] if self._active else [])):
            generation.terminate()
        deadline = time.monotonic() + seconds
        for generation in (*self._draining, *([self._active] if self._active else [])):
            generation.stop(max(deadline - time.monotonic(), 0))

    def _prepare_directories(self) -> None:
        settings = self._settings
        settings.artifacts.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._identity.remove(settings.scratch)
        for path in (settings.environments, settings.cache, settings.home, settings.scratch):
            self._identity.own(path)

    def _step(self) -> float:
        """Do what is due; the seconds until the next look."""
        held = self._not_before - time.monotonic()
        if held > 0:
            return min(held, TICK_SECONDS)
        choice = revisions.choose(self._record, self._active_revision, time.time(), self._settings.image)
        if choice.serve:
            self._attempt(choice.serve)
            return 0
        return TICK_SECONDS if choice.wait is None else min(choice.wait, TICK_SECONDS)

    @property
    def _active_revision(self) -> str | None:
        return self._active.revision if self._active else None

    def _take_intent(self) -> None:
        text = self._intent.text
        if text is None or text == self._taken:
            return
        self._taken = text
        self._look_at_machine()
        try:
            config = parse_config(text).served
        except ArtifactInvalid as error:
            log(error.message)
            self._reporter.update(phase=self._resting_phase(), failure=revisions.Failure.of("", error))
            return
        self._not_before = 0
        if config != self._record.accepted:
            self._door.notice(LOADING)
        self._keep(self._record.accept(config))
        phase = "serving" if self._active_revision == config.revision else "boot"
        self._reporter.update(
            phase=phase, target=config.revision, failure=self._record.failure(config.revision)
        )

    def _look_at_machine(self) -> None:
        if self._machine:
            return
        try:
            self._machine = self._metadata.machine_type()
        except MetadataUnavailable as error:
            log(str(error))
        self._keep(self._record.on_machine(self._machine))

    def _given_up(self) -> bool:
        """Whether the attempt under way is no longer wanted."""
        return self._intent.stopping.is_set() or not self._still_wanted(self._intent.text)

    def _still_wanted(self, text: str | None) -> bool:
        """Whether this entry wants served what was wanted before; after the attempt it is taken as any."""
        if text in (self._taken, self._alike):
            return True
        try:
            same = text is not None and parse_config(text).served == self._record.accepted
        except ArtifactInvalid:
            return False
        if same:
            self._alike = text
        return same

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self._given_up():
            self._intent.stopping.wait(0.1)

    def _attempt(self, config: BudgetConfig) -> None:
        log(f"revision {config.revision} is to be served")
        kills = KillWatch.begin()
        try:
            self._serve(config)
        except RolloutError as error:
            self._note_failure(config, told_apart(error, kills.killed(), self._machine) or error)
        except Interrupted:
            log(f"revision {config.revision} is given up")
            raise
        except Exception as error:
            traceback.print_exc()
            failure = LoadFailed(f"{type(error).__name__}: {error}", traceback.format_exc())
            self._note_failure(config, told_apart(error, kills.killed(), self._machine) or failure)
        finally:
            if kills.killed():  # told already, if it mattered
                self._kills = KillWatch.begin()

    def _serve(self, config: BudgetConfig) -> None:
        with self._phase("artifact"):
            key = self._key()
            artifact = self._artifacts.fetch(config, key)
        with self._phase("environment"):
            self._environments.prune(self._kept(config))  # room for the next one
            environment = self._provide(artifact)
        with self._phase("load"):
            self._make_way(config)
            generation = self._load(artifact, environment, key)
        self._switch(generation, config)

    def _provide(self, artifact: Artifact) -> Environment:
        scratch = self._settings.scratch / "environment"
        self._identity.remove(scratch)
        env = self._base_env() | {"TMPDIR": str(self._identity.own(scratch))}
        try:
            return self._environments.provide(artifact, env, self._given_up)
        finally:
            # what was ended in the middle leaves its files behind
            self._identity.remove(scratch)

    def _load(self, artifact: Artifact, environment: Environment, key: bytes) -> Generation:
        self._numbers += 1
        scratch = self._settings.scratch / f"generation-{self._numbers}"
        launch = Launch(artifact, environment.python, key, self._base_env(), scratch)
        generation = Generation(self._numbers, launch, self._settings.run_dir, self._identity)
        try:
            generation.wait_ready(self._given_up_or_watching)
        except BaseException:
            generation.discard()
            raise
        return generation

    def _make_way(self, config: BudgetConfig) -> None:
        """Stop what serves, if memory does not hold two; once for a revision that fails all the same."""
        if not self._memory_is_short() or self._record.failed_alone(config.revision):
            return
        self._drained()
        active = self._active
        if active is None or not self._memory_is_short():
            return
        log(f"memory does not hold two models: revision {active.revision} is stopped first")
        self._active, self._stopped_for = None, config.revision
        self._door.notice(LOADING)
        self._door.switch(None)
        self._reporter.update(active=None, recreated=config.revision)
        self._draining[active] = active.retire()
        self._drained()

    def _memory_is_short(self) -> bool:
        free = room.available(self._settings.memory_info)
        return self._active is not None and room.short(self._active.memory(), free)

    def _drained(self) -> None:
        """Return once nothing but the active generation runs."""
        while any(thread.is_alive() for thread in self._draining.values()):
            if self._given_up_or_watching():
                raise Interrupted
            self._pause(0.1)

    def _given_up_or_watching(self) -> bool:
        self._watch_active()
        return self._given_up()

    def _switch(self, generation: Generation, config: BudgetConfig) -> None:
        self._door.switch(generation.socket)
        before, self._active = self._active, generation
        generation.settle()
        if before:
            self._draining[before] = before.retire()
        self._booted = True
        self._stopped_for = None
        self._to_prune = True
        record = self._record.passes(config)
        target = record.accepted
        failure = record.failure(target.revision) if target else None
        self._reporter.update(phase="serving", active=config.revision, failure=failure)
        log(f"revision {config.revision} serves")
        self._keep(record)

    def _watch_active(self) -> None:
        """Notice that the serving generation died; it is started again after a pause that grows."""
        generation = self._active
        if generation is None or generation.ended is None:
            return
        self._active = None
        self._door.notice(LOADING)
        self._door.switch(None)
        self._deaths = revisions.deaths_in_a_row(self._deaths, generation.age)
        pause = revisions.restart_pause(self._deaths)
        self._not_before = time.monotonic() + pause
        lived = f"{generation.age:.0f} s"
        message = f"The server {generation.ended} after {lived}; started again in {pause:.0f} s"
        error: RolloutError = DiedServing(message, generation.tail())
        killed = self._kills.killed() or self._killed_within(_KILL_EXPLAINS_SECONDS)
        error = told_apart(error, killed, self._machine) or error
        log(error.message)
        failure = revisions.Failure.of(generation.revision, error)
        self._reporter.update(phase="load", active=None, failure=failure)
        generation.discard()

    def _watch_memory(self) -> None:
        """Notice that the kernel killed a worker of what serves; its server starts another by itself."""
        target = self._record.accepted
        failure = self._record.failure(target.revision) if target else None
        if self._active and self._kills.killed():
            self._kills = KillWatch.begin()
            self._last_kill = time.monotonic()
            died = DiedServing("A worker was killed; another one takes its place", self._active.tail())
            error = told_apart(died, True, self._machine) or died
            log(error.message)
            told = failure or revisions.Failure.of(self._active.revision, error)
            self._reporter.update(failure=told)
        elif self._last_kill is not None and not self._killed_within(_KILL_TOLD_SECONDS):
            self._last_kill = None
            if self._active:
                self._reporter.update(failure=failure)

    def _tell_usage(self) -> None:
        """Once a minute, and at once when something else serves."""
        now = time.monotonic()
        if self._active is None or (
            self._active is self._measured and now < self._measured_at + _USAGE_SECONDS
        ):
            return
        self._measured, self._measured_at = self._active, now
        self._reporter.update(usage=room.usage(self._active.workers(), self._settings.memory_info))

    def _killed_within(self, seconds: float) -> bool:
        return self._last_kill is not None and time.monotonic() - self._last_kill < seconds

    def _note_failure(self, config: BudgetConfig, error: RolloutError) -> None:
        log(f"revision {config.revision} failed: {error.reason}: {error.message}")
        served = self._active is not None or self._record.stand_in(config.revision) is not None
        if isinstance(error, DiskFull):
            self._make_room()
        record = self._record.fail(config, error, served, time.time(), self._machine)
        self._keep(record.alone(config.revision) if self._stopped_for == config.revision else record)
        self._stopped_for = None
        if not self._active:
            self._door.notice(FAILED)
        failure = self._record.failure(config.revision)
        self._reporter.update(phase=self._resting_phase(), failure=failure)

    def _make_room(self) -> None:
        """What serves needs some of the disk; the packages can be had again."""
        # not the directory itself: a disk without room may not take another one
        self._identity.run(["find", str(self._settings.cache), "-mindepth", "1", "-delete"])

    def _resting_phase(self) -> str:
        return "serving" if self._active else "failed"

    def _keep(self, record: revisions.Record) -> None:
        unchanged, self._record = record == self._record, record
        if unchanged:
            return
        try:
            revisions.save(record, self._settings.revisions)
        except OSError as error:  # a full disk is no reason to stop serving
            log(f"The record of revisions was not written: {error}")

    def _prune(self) -> None:
        """Remove what no revision needs any more, once nothing drains that may still read it."""
        self._draining = {each: thread for each, thread in self._draining.items() if thread.is_alive()}
        if not self._to_prune or self._draining:
            return
        self._to_prune = False
        kept = revisions.kept_revisions(self._record, self._active_revision)
        self._artifacts.prune(kept)
        self._environments.prune(kept)

    def _kept(self, config: BudgetConfig) -> frozenset[str]:
        """Whose environments are needed while this revision is about to be served."""
        under_way = {config.revision, *(generation.revision for generation in self._draining)}
        return revisions.kept_revisions(self._record, self._active_revision) | under_way

    def _key(self) -> bytes:
        try:
            text = self._metadata.attribute("budget-key").value
        except MetadataUnavailable as error:
            raise ArtifactUnreachable(str(error)) from error
        try:
            key = base64.b64decode(text or "", validate=True)
        except binascii.Error:
            key = b""
        if not key:
            raise ArtifactInvalid("The metadata entry budget-key is missing or not base64")
        return key

    def _base_env(self) -> dict[str, str]:
        own = {"HOME": str(self._settings.home), "TMPDIR": str(self._settings.scratch)}
        return child_environment(os.environ) | own

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        self._reporter.update(phase=name)
        started = time.monotonic()
        yield
        if not self._booted:
            self._reporter.took(name, time.monotonic() - started)


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The container's environment without what is meant for process 1 alone."""
    return {name: value for name, value in environ.items() if not name.startswith("BUDGET_")}
