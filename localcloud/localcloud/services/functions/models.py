"""The fields of a function."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field

from localcloud.services.wire import Message, enum_reader
from localcloud.store import Json

PUBLISHED = "google.cloud.pubsub.topic.v1.messagePublished"

Environment = Annotated[str, BeforeValidator(enum_reader("ENVIRONMENT_UNSPECIFIED", "GEN_1", "GEN_2"))]
Ingress = Annotated[
    str,
    BeforeValidator(
        enum_reader(
            "INGRESS_SETTINGS_UNSPECIFIED", "ALLOW_ALL", "ALLOW_INTERNAL_ONLY", "ALLOW_INTERNAL_AND_GCLB"
        )
    ),
]
Retry = Annotated[
    str,
    BeforeValidator(
        enum_reader("RETRY_POLICY_UNSPECIFIED", "RETRY_POLICY_DO_NOT_RETRY", "RETRY_POLICY_RETRY")
    ),
]
Egress = Annotated[
    str,
    BeforeValidator(
        enum_reader("VPC_CONNECTOR_EGRESS_SETTINGS_UNSPECIFIED", "PRIVATE_RANGES_ONLY", "ALL_TRAFFIC")
    ),
]
Security = Annotated[
    str, BeforeValidator(enum_reader("SECURITY_LEVEL_UNSPECIFIED", "SECURE_ALWAYS", "SECURE_OPTIONAL"))
]
Registry = Annotated[
    str,
    BeforeValidator(enum_reader("DOCKER_REGISTRY_UNSPECIFIED", "CONTAINER_REGISTRY", "ARTIFACT_REGISTRY")),
]


class StorageSource(Message):
    """A zip in a bucket, or one that was put to an upload URL."""

    bucket: str = ""
    object: str = ""
    generation: Annotated[str, BeforeValidator(str)] | None = None
    source_upload_url: str | None = None


class Source(Message):
    """Where the code is."""

    not_offered: ClassVar[frozenset[str]] = frozenset({"repoSource", "gitUri"})

    storage_source: StorageSource | None = None


class BuildConfig(Message):
    """What to build. Registries, worker pool and account are kept; the build happens on this machine."""

    output_only: ClassVar[frozenset[str]] = frozenset({"build", "sourceProvenance", "sourceToken"})

    runtime: str = ""
    entry_point: str = ""
    source: Source | None = None
    environment_variables: dict[str, str] | None = None
    docker_registry: Registry | None = None
    docker_repository: str | None = None
    worker_pool: str | None = None
    service_account: str | None = None
    automatic_update_policy: Json | None = None
    on_deploy_update_policy: Json | None = None


class ServiceConfig(Message):
    """How it runs. Sizes and counts are kept: here a function is one process without limits."""

    output_only: ClassVar[frozenset[str]] = frozenset({"service", "uri", "revision"})
    not_offered: ClassVar[frozenset[str]] = frozenset({"secretEnvironmentVariables", "secretVolumes"})

    environment_variables: dict[str, str] | None = None
    timeout_seconds: Annotated[int, Field(ge=1, le=3600)] | None = None
    available_memory: str | None = None
    available_cpu: str | None = None
    max_instance_count: int | None = None
    min_instance_count: int | None = None
    max_instance_request_concurrency: int | None = None
    ingress_settings: Ingress | None = None
    service_account_email: str | None = None
    all_traffic_on_latest_revision: bool | None = None
    security_level: Security | None = None
    vpc_connector: str | None = None
    vpc_connector_egress_settings: Egress | None = None


class EventTrigger(Message):
    """Which messages start it."""

    output_only: ClassVar[frozenset[str]] = frozenset({"trigger"})
    not_offered: ClassVar[frozenset[str]] = frozenset({"eventFilters", "channel", "service"})

    event_type: str = ""
    pubsub_topic: str | None = None
    trigger_region: str | None = None
    retry_policy: Retry | None = None
    service_account_email: str | None = None


class Function(Message):
    """A function of the second generation."""

    output_only: ClassVar[frozenset[str]] = frozenset(
        {
            "state", "stateMessages", "updateTime", "createTime", "url", "satisfiesPzs", "satisfiesPzi",
            "upgradeInfo",
        }
    )  # fmt: skip

    name: str = ""
    description: str | None = None
    labels: dict[str, str] | None = None
    environment: Environment | None = None
    kms_key_name: str | None = None
    build_config: BuildConfig | None = None
    service_config: ServiceConfig | None = None
    event_trigger: EventTrigger | None = None
