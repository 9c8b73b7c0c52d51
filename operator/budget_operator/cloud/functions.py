"""Cloud Functions, second generation: the one function that starts what should be running.

Builds take minutes: calls start them, and a later look at the function's state tells the end.
"""

from functools import cached_property
from typing import TYPE_CHECKING, Any

from budget_operator.cloud.connection import CALL, Connection
from budget_operator.cloud.failures import translated
from budget_operator.core.errors import NotFound
from budget_operator.core.gateways import FunctionRequest
from budget_operator.core.observed import Function

if TYPE_CHECKING:
    from google.cloud import functions_v2

ENTRY_POINT = "restart"
_MESSAGE_PUBLISHED = "google.cloud.pubsub.topic.v1.messagePublished"
# The Compute client alone takes 170 MB; one run waits up to a minute for a VM that is stopping.
_MEMORY = "512Mi"
_TIMEOUT_SECONDS = 300
# Each run takes one message; while one waits for a VM, others of VMs and ticks must not be turned away.
_INSTANCES = 10
_INGRESS = "ALLOW_INTERNAL_ONLY"
_UPDATED = (
    "labels",
    "build_config.runtime",
    "build_config.entry_point",
    "build_config.source",
    "build_config.service_account",
    "service_config.available_memory",
    "service_config.timeout_seconds",
    "service_config.max_instance_count",
    "service_config.ingress_settings",
    "service_config.environment_variables",
    "service_config.service_account_email",
)


class FunctionsGateway:
    """`core.gateways.Functions` on the real client, in one region."""

    def __init__(self, connection: Connection, region: str) -> None:
        self._connection = connection
        self._region = region

    @cached_property
    def _client(self) -> "functions_v2.FunctionServiceClient":
        from google.cloud import functions_v2

        return self._connection.client(functions_v2.FunctionServiceClient, transport="rest")

    def function(self, name: str) -> Function | None:
        try:
            with translated(f"get function {name}"):
                found = self._client.get_function(request={"name": self._path(name, self._region)}, **CALL)
        except NotFound:
            return None
        return Function(
            name=name,
            state=found.state.name,
            source_object=found.build_config.source.storage_source.object_,
            topic=found.event_trigger.pubsub_topic.rsplit("/", 1)[-1],
            environment=dict(found.service_config.environment_variables),
            labels=dict(found.labels),
            message="; ".join(item.message for item in found.state_messages if item.message),
            runtime=found.build_config.runtime,
            service_account=found.service_config.service_account_email,
            build_service_account=found.build_config.service_account.rsplit("/", 1)[-1],
            trigger_service_account=found.event_trigger.service_account_email,
            as_made=_is_as_made(found),
        )

    def create_function(self, request: FunctionRequest) -> None:
        body = {
            "parent": f"projects/{self._connection.project}/locations/{request.region}",
            "function_id": request.name,
            "function": self._function(request),
        }
        with translated(f"create function {request.name}"):
            self._client.create_function(request=body, **CALL)

    def update_function(self, request: FunctionRequest) -> None:
        body = {"function": self._function(request), "update_mask": {"paths": list(_UPDATED)}}
        with translated(f"update function {request.name}"):
            self._client.update_function(request=body, **CALL)

    def delete_function(self, name: str) -> None:
        try:
            with translated(f"delete function {name}"):
                self._client.delete_function(request={"name": self._path(name, self._region)}, **CALL)
        except NotFound:
            return

    def _path(self, name: str, region: str) -> str:
        return f"projects/{self._connection.project}/locations/{region}/functions/{name}"

    def _function(self, request: FunctionRequest) -> dict[str, Any]:
        project = self._connection.project
        build_account = request.build_service_account
        return {
            "name": self._path(request.name, request.region),
            "environment": "GEN_2",
            "labels": dict(request.labels),
            "build_config": {
                "runtime": request.runtime,
                "entry_point": ENTRY_POINT,
                "source": {"storage_source": {"bucket": request.bucket, "object_": request.source_object}},
                "service_account": (
                    f"projects/{project}/serviceAccounts/{build_account}" if build_account else ""
                ),
            },
            "service_config": {
                "available_memory": _MEMORY,
                "timeout_seconds": _TIMEOUT_SECONDS,
                "max_instance_count": _INSTANCES,
                "ingress_settings": _INGRESS,
                "environment_variables": dict(request.environment),
                "service_account_email": request.service_account,
            },
            "event_trigger": {
                "trigger_region": request.region,
                "event_type": _MESSAGE_PUBLISHED,
                "pubsub_topic": f"projects/{project}/topics/{request.topic}",
                # The next tick comes within a minute; a repeated old one would only add to it.
                "retry_policy": "RETRY_POLICY_DO_NOT_RETRY",
                "service_account_email": request.trigger_service_account,
            },
        }


def _is_as_made(found: "functions_v2.Function") -> bool:
    """Not the memory, which Google may write in another unit."""
    service = found.service_config
    limits = service.timeout_seconds, service.max_instance_count, service.ingress_settings.name
    return (found.build_config.entry_point, *limits) == (ENTRY_POINT, _TIMEOUT_SECONDS, _INSTANCES, _INGRESS)
