"""Cloud Scheduler: the jobs that publish a tick to the keep-alive topic, in one region.

A job has no labels: the mark of its owner is its description. Not every region has the service, and a project
with an App Engine app may be bound to that app's region.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from budget_operator.cloud.connection import CALL, Connection
from budget_operator.cloud.failures import translated
from budget_operator.core.errors import InvalidSpec, NotFound, PermissionDenied
from budget_operator.core.observed import Job

if TYPE_CHECKING:
    from google.cloud import scheduler_v1

_BOUND = re.compile(r"Location must equal (\S+) because")
_MAY_NOT_EXIST = "or the resource may not exist"
_UPDATED = ("schedule", "time_zone", "pubsub_target", "description")


class SchedulerGateway:
    """`core.gateways.Scheduler` on the real client."""

    def __init__(self, connection: Connection, location: str) -> None:
        self._connection = connection
        self._location = location
        self._parent = f"projects/{connection.project}/locations/{location}"

    @cached_property
    def _client(self) -> "scheduler_v1.CloudSchedulerClient":
        from google.cloud import scheduler_v1

        return self._connection.client(scheduler_v1.CloudSchedulerClient, transport="rest")

    def job(self, name: str) -> Job | None:
        try:
            with self._translated(f"get Scheduler job {name}"):
                found = self._client.get_job(request={"name": self._path(name)}, **CALL)
        except NotFound:
            return None
        return Job(
            name=name,
            state=found.state.name,
            schedule=found.schedule,
            time_zone=found.time_zone,
            topic=found.pubsub_target.topic_name.rsplit("/", 1)[-1],
            description=found.description,
            data=found.pubsub_target.data,
        )

    def create_job(
        self, name: str, schedule: str, time_zone: str, topic: str, data: bytes, description: str
    ) -> None:
        job = self._job(name, schedule, time_zone, topic, data, description)
        with self._translated(f"create Scheduler job {name}"):
            self._client.create_job(request={"parent": self._parent, "job": job}, **CALL)

    def update_job(
        self, name: str, schedule: str, time_zone: str, topic: str, data: bytes, description: str
    ) -> None:
        """Make the job as given and let it run: a paused one would not bring a VM back."""
        job = self._job(name, schedule, time_zone, topic, data, description)
        with self._translated(f"update Scheduler job {name}"):
            request = {"job": job, "update_mask": {"paths": list(_UPDATED)}}
            updated = self._client.update_job(request=request, **CALL)
            if updated.state.name == "PAUSED":
                self._client.resume_job(request={"name": self._path(name)}, **CALL)

    def delete_job(self, name: str) -> None:
        try:
            with self._translated(f"delete Scheduler job {name}"):
                self._client.delete_job(request={"name": self._path(name)}, **CALL)
        except NotFound:
            return

    def _job(
        self, name: str, schedule: str, time_zone: str, topic: str, data: bytes, description: str
    ) -> dict[str, Any]:
        return {
            "name": self._path(name),
            "schedule": schedule,
            "time_zone": time_zone,
            "description": description,
            "pubsub_target": {
                "topic_name": f"projects/{self._connection.project}/topics/{topic}",
                "data": data,
            },
        }

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            with translated(doing):
                yield
        except (InvalidSpec, PermissionDenied) as error:
            remedy = self._remedy(error.message)
            if not remedy:
                raise
            raise type(error)(error.message, remedy=remedy) from error

    def _remedy(self, text: str) -> str:
        bound = _BOUND.search(text)
        if bound:
            return f"set BUDGET_SCHEDULER_LOCATION={bound[1]}"
        if _MAY_NOT_EXIST in text:
            return (
                f"{PermissionDenied.remedy}; if it has one, {self._location} has no Cloud Scheduler: set "
                "BUDGET_SCHEDULER_LOCATION to a region near it"
            )
        return ""

    def _path(self, name: str) -> str:
        return f"{self._parent}/jobs/{name}"
