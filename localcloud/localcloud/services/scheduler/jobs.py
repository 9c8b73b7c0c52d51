"""Jobs: made, changed, paused, run. When they tick by themselves is up to `ticker`."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from localcloud.clock import parse_rfc3339, rfc3339
from localcloud.context import Context
from localcloud.errors import ApiError, failed_precondition, invalid
from localcloud.faults import NoScheduler, SchedulerBound
from localcloud.services.pubsub.broker import Broker
from localcloud.services.pubsub.models import PubsubMessage
from localcloud.services.scheduler import retries
from localcloud.services.scheduler.cron import BadScheduleError, BadTimeZoneError, next_tick
from localcloud.services.scheduler.models import Job
from localcloud.services.wire import merge, parse
from localcloud.store import AlreadyExists, Json

JOB = "scheduler.job"
RETRY = "scheduler.retry"
_ID = re.compile(r"[A-Za-z0-9_-]{1,500}")
_TOPIC = re.compile(r"projects/[^/]+/topics/[^/]+")
_GRPC = {"INVALID_ARGUMENT": 3, "NOT_FOUND": 5, "FAILED_PRECONDITION": 9}


class Jobs:
    """The jobs of all projects and locations."""

    def __init__(self, context: Context, broker: Broker) -> None:
        self._context = context
        self._store = context.store
        self._broker = broker

    def create(self, parent: str, body: Json) -> Json:
        self._check_location(parent)
        given = parse(Job, body, "job")
        name = given.name or f"{parent}/jobs/job-{self._store.revision}"
        if not name.startswith(f"{parent}/jobs/") or not _ID.fullmatch(name.removeprefix(f"{parent}/jobs/")):
            raise invalid(f"Job name must be formatted: \"{parent}/jobs/<JOB_ID>\", not '{name}'")
        job = self._scheduled(given.wire() | {"name": name, "state": "ENABLED"})
        try:
            self._store.insert(JOB, name, job)
        except AlreadyExists as error:
            raise ApiError(409, "alreadyExists", f"Job {name} already exists.") from error
        return job

    def get(self, name: str) -> Json:
        self._check_location(name)
        return self._require(name)

    def _require(self, name: str) -> Json:
        found = self._store.get(JOB, name)
        if found is None:
            raise ApiError(404, "notFound", f"Job not found: {name}")
        return found

    def change(self, name: str, body: Json, mask: str) -> Json:
        new = parse(Job, body, "job").wire()
        with self._store.transaction():
            job = merge(Job, self.get(name), new, mask) | {"name": name}
            parse(Job, job, "job")
            job = self._scheduled(job)
            self._store.put(JOB, name, job)
        return job

    def delete(self, name: str) -> None:
        self._check_location(name)
        if not self._store.delete(JOB, name):
            raise ApiError(404, "notFound", f"Job not found: {name}")
        self._store.delete(RETRY, name)

    def pause(self, name: str) -> Json:
        return self._turn(name, "ENABLED", "PAUSED")

    def resume(self, name: str) -> Json:
        return self._turn(name, "PAUSED", "ENABLED")

    def _check_location(self, name: str) -> None:
        """Raises:
        ApiError: jobs cannot be there, in Google's words.
        """
        location, place = name.split("/")[3], "/".join(name.split("/")[:4])
        for _ in self._context.faults.of(NoScheduler, lambda each: each.location == location):
            message = (
                'The principal (user or service account) lacks IAM permission "cloudscheduler.jobs.create" '
                f'for the resource "{place}" (or the resource may not exist).'
            )
            raise ApiError(403, "forbidden", message)
        for bound in self._context.faults.of(SchedulerBound, lambda each: each.location != location):
            app = "the App Engine app that is associated with this project is located in"
            raise invalid(f"Location must equal {bound.location} because {app} {bound.location}")

    def _turn(self, name: str, before: str, after: str) -> Json:
        with self._store.transaction():
            job = self.get(name)
            if job["state"] != before:
                raise failed_precondition(f"Job {name} must be {before}; it is {job['state']}.")
            job = self._scheduled(job | {"state": after})
            self._store.put(JOB, name, job)
        return job

    def _scheduled(self, job: Json) -> Json:
        """The job as it stands after its user touched it: checked, and with its next tick."""
        _check_target(job)
        now = self._context.clock.now()
        job = {"timeZone": "Etc/UTC"} | job | {"userUpdateTime": rfc3339(now)}
        return job | {"scheduleTime": rfc3339(self.next_tick(job, now))}

    def next_tick(self, job: Json, after: datetime) -> datetime:
        try:
            return next_tick(job.get("schedule", ""), job["timeZone"], after)
        except (BadScheduleError, BadTimeZoneError) as error:
            raise invalid(f"Invalid job: {error}") from error

    def run(self, name: str) -> Json:
        """Publish now, whatever the schedule and the state say; the outcome stands in `status`."""
        self._check_location(name)
        return self._run(name)

    def _run(self, name: str) -> Json:
        """A job ticks wherever it is: only requests are bound to a location."""
        now = self._context.clock.now()
        with self._store.transaction():
            job = self._require(name) | {"lastAttemptTime": rfc3339(now)}
            target = job["pubsubTarget"]
            message = {key: target[key] for key in ("data", "attributes") if key in target}
            try:
                self._broker.publish(target["topicName"], [PubsubMessage.model_validate(message)])
                job["status"] = {}
            except ApiError as error:
                job["status"] = {"code": _GRPC.get(error.status, 13), "message": error.message}
            self._store.put(JOB, name, job)
        return job

    def tick(self, name: str) -> Json:
        """Run a job that is due, and set its next tick in the future: missed ticks are not made up for."""
        with self._store.transaction():
            self._store.delete(RETRY, name)
            job = self._run_and_note(name)
            job = job | {"scheduleTime": rfc3339(self.next_tick(job, self._context.clock.now()))}
            self._store.put(JOB, name, job)
        return job

    def retry(self, name: str) -> None:
        """Run a job once more whose last run failed."""
        with self._store.transaction():
            self._run_and_note(name)

    def _run_and_note(self, name: str) -> Json:
        job, now = self._run(name), self._context.clock.now()
        failed = self._store.get(RETRY, name) or {"failures": 0, "first": rfc3339(now)}
        self._store.delete(RETRY, name)
        if job["status"]:
            failures = failed["failures"] + 1
            since_first = (now - parse_rfc3339(failed["first"])).total_seconds()
            wait = retries.pause(parse(Job, job, "job").retry_config, failures, since_first)
            if wait is not None:
                due = rfc3339(now + timedelta(seconds=wait))
                self._store.put(RETRY, name, failed | {"failures": failures, "due": due})
        return job


def _check_target(job: Json) -> None:
    target = job.get("pubsubTarget")
    if not target:
        raise invalid("Invalid job: a pubsubTarget must be set")
    if not _TOPIC.fullmatch(target.get("topicName", "")):
        raise invalid(
            f"Invalid topic name '{target.get('topicName', '')}': projects/<PROJECT>/topics/<TOPIC>"
        )
    if not target.get("data") and not target.get("attributes"):
        raise invalid("Pubsub message must contain either non-empty data, or at least one attribute.")
