"""Fires jobs at their own times. What firing means is in `jobs`, which ticks count is in `ticks`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from localcloud.clock import parse_rfc3339
from localcloud.context import Context
from localcloud.services.loop import Loop
from localcloud.services.scheduler.jobs import JOB, RETRY, Jobs
from localcloud.store import Json


class Ticker:
    """One loop over all enabled jobs. A job that missed many ticks, the server being down, fires once."""

    def __init__(self, context: Context, jobs: Jobs) -> None:
        self._context = context
        self._jobs = jobs
        self._loop = Loop("scheduler-ticker", context.clock, self.step)
        # By job: the time that stands in it, and the later one that jumps have led to.
        self._jumped: dict[str, tuple[str, datetime]] = {}

    def start(self) -> None:
        self._loop.start()

    def stop(self) -> None:
        self._loop.stop()

    def poke(self) -> None:
        """A job was made or changed."""
        self._loop.poke()

    def step(self) -> float | None:
        """Fire what is due; returns the seconds until the next job is."""
        with self._context.store.transaction():
            for name, job in self._enabled():
                if self._due(name, job) <= self._context.clock.now():
                    self._fire(name, job)
            for name, due in self._retries():
                if due <= self._context.clock.now():
                    self._jobs.retry(name)
            return self._until_next()

    def _enabled(self) -> Iterator[tuple[str, Json]]:
        for name, job in self._context.store.list(JOB):
            if job["state"] == "ENABLED":
                yield name, job

    def _due(self, name: str, job: Json) -> datetime:
        stands, jumped_to = self._jumped.get(name, ("", None))
        if jumped_to is not None and stands == job["scheduleTime"]:
            return jumped_to
        return parse_rfc3339(job["scheduleTime"])

    def _fire(self, name: str, job: Json) -> None:
        if self._context.ticks.is_sent():
            self._jobs.tick(name)
        else:
            next_tick = self._jobs.next_tick(job, self._context.clock.now())
            self._jumped[name] = job["scheduleTime"], next_tick

    def _retries(self) -> Iterator[tuple[str, datetime]]:
        """Of jobs that are not paused."""
        for name, failed in self._context.store.list(RETRY):
            job = self._context.store.get(JOB, name)
            if job is not None and job["state"] == "ENABLED":
                yield name, parse_rfc3339(failed["due"])

    def _until_next(self) -> float | None:
        now = self._context.clock.now()
        dues = [self._due(name, job) for name, job in self._enabled()]
        dues += [due for _, due in self._retries()]
        return min(((due - now).total_seconds() for due in dues), default=None)
