"""Fires jobs at their own times. What firing means is in `jobs`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from localcloud.clock import parse_rfc3339
from localcloud.context import Context
from localcloud.services.loop import Loop
from localcloud.services.scheduler.jobs import JOB, RETRY, Jobs


class Ticker:
    """One loop over all enabled jobs. A job that missed many ticks, the server being down, fires once."""

    def __init__(self, context: Context, jobs: Jobs) -> None:
        self._context = context
        self._jobs = jobs
        self._loop = Loop("scheduler-ticker", context.clock, self.step)

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
            for name, job in self._context.store.list(JOB):
                due = parse_rfc3339(job["scheduleTime"])
                if job["state"] == "ENABLED" and due <= self._context.clock.now():
                    self._jobs.tick(name)
            for name, due in self._retries():
                if due <= self._context.clock.now():
                    self._jobs.retry(name)
            return self._until_next()

    def _retries(self) -> Iterator[tuple[str, datetime]]:
        """Of jobs that are not paused."""
        for name, failed in self._context.store.list(RETRY):
            job = self._context.store.get(JOB, name)
            if job is not None and job["state"] == "ENABLED":
                yield name, parse_rfc3339(failed["due"])

    def _until_next(self) -> float | None:
        now = self._context.clock.now()
        ticks = [
            parse_rfc3339(job["scheduleTime"])
            for _, job in self._context.store.list(JOB)
            if job["state"] == "ENABLED"
        ]
        dues = [*ticks, *(due for _, due in self._retries())]
        return min(((due - now).total_seconds() for due in dues), default=None)
