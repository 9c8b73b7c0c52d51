"""Cloud Scheduler: the jobs that publish a tick to the keep-alive topic, in one region.

A job has no labels: the mark of its owner is its description.
"""

from functools import cached_property
from typing import TYPE_CHECKING, Any

from budget_operator.cloud.connection import CALL, Connection
from budget_operator.cloud.failures import translated
from budget_operator.core.errors import NotFound
from budget_operator.core.observed import Job

if TYPE_CHECKING:
    from google.cloud import scheduler_v1

_UPDATED = ("schedule", "time_zone", "pubsub_target", "description")


class SchedulerGateway:
    """`core.gateways.Scheduler` on the real client."""

    def __init__(self, connection: Connection, region: str) -> None:
        self._connection = connection
        self._parent = f"projects/{connection.project}/locations/{region}"

    @cached_property
    def _client(self) -> "scheduler_v1.CloudSchedulerClient":
        from google.cloud import scheduler_v1

        return self._connection.client(scheduler_v1.CloudSchedulerClient, transport="rest")

    def job(self, name: str) -> Job | None:
        try:
            with translated(f"get Scheduler job {name}"):
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
        )

    def create_job(
        self, name: str, schedule: str, time_zone: str, topic: str, data: bytes, description: str
    ) -> None:
        job = self._job(name, schedule, time_zone, topic, data, description)
        with translated(f"create Scheduler job {name}"):
            self._client.create_job(request={"parent": self._parent, "job": job}, **CALL)

    def update_job(
        self, name: str, schedule: str, time_zone: str, topic: str, data: bytes, description: str
    ) -> None:
        """Make the job as given and let it run: a paused one would not bring a VM back."""
        job = self._job(name, schedule, time_zone, topic, data, description)
        with translated(f"update Scheduler job {name}"):
            request = {"job": job, "update_mask": {"paths": list(_UPDATED)}}
            updated = self._client.update_job(request=request, **CALL)
            if updated.state.name == "PAUSED":
                self._client.resume_job(request={"name": self._path(name)}, **CALL)

    def delete_job(self, name: str) -> None:
        try:
            with translated(f"delete Scheduler job {name}"):
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

    def _path(self, name: str) -> str:
        return f"{self._parent}/jobs/{name}"
