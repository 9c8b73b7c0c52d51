"""What should be there: spec, settings and artifact turned into requests, labels and metadata. Pure.

What is there is in `observed`; the difference is `plan`'s business.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from budget_operator.core.actions import JobRequest
from budget_operator.core.api import Spec
from budget_operator.core.artifact import Artifact, Blob, encoded_key, function_blob
from budget_operator.core.conditions import Reason
from budget_operator.core.endpoint import Tls, tls_of
from budget_operator.core.gateways import FunctionRequest, InstanceRequest
from budget_operator.core.names import (
    DELETE,
    LABEL_DELETION,
    LABEL_DISK,
    LABEL_SCHEDULE,
    LABEL_WANTED,
    METADATA_CONFIG,
    METADATA_KEY,
    METADATA_LIMIT,
    METADATA_OWNER,
    RETAIN,
    Owner,
    Shared,
    region_of,
)
from budget_operator.core.observed import Instance
from budget_operator.core.settings import Settings

WANTED_RUNNING = "running"
WANTED_STOPPED = "stopped"  # nobody starts it
WANTED_CHANGING = "changing"  # running, but stopped for a change: the keep-alive holds back for some minutes


@dataclass(frozen=True)
class Pause:
    """Why the VM is to be off: nobody is to be answered."""

    reason: Reason
    state: str
    why: str
    label: str  # on the VM: who starts it again


SUSPENDED = Pause(Reason.SUSPENDED, "Suspended", "spec.suspend is set", WANTED_STOPPED)
PROVISIONING_MODELS = {"Spot": "SPOT", "Standard": "STANDARD"}


@dataclass(frozen=True)
class Parts:
    """Files that are the same for every deployment, read once at the start of the process."""

    startup_script: str
    shutdown_script: str
    function_files: Mapping[str, bytes]

    @cached_property
    def function(self) -> Blob:
        """The keep-alive function's source, as it is uploaded."""
        return function_blob(self.function_files)


@dataclass(frozen=True)
class KeepAlive:
    """The shared topic, Scheduler job and function."""

    job: JobRequest
    function: FunctionRequest
    source: Blob
    schedule_label: str


@dataclass(frozen=True)
class Desired:
    """One deployment as it should be."""

    owner: Owner
    shared: Shared
    zones: tuple[str, ...]
    machine_type: str
    provisioning_model: str
    disk_gib: int
    network: str
    vm_image: str
    vm_service_account: str
    bucket_region: str
    artifact: Artifact
    keep_alive: KeepAlive
    tls: Tls
    image: str  # the server's
    pause: Pause | None
    keeps_address: bool  # also while it is off: a name of its owner's points there
    labels: Mapping[str, str]
    metadata: Mapping[str, str] = field(repr=False)

    def limited(self, document: str, pause: Pause | None) -> "Desired":
        """With what its budget wants; `document` is for the VM."""
        metadata = {**self.metadata, METADATA_LIMIT: document}
        return replace(self, metadata=metadata, pause=self.pause or pause)

    @property
    def region(self) -> str:
        """Region of the zones."""
        return region_of(self.zones[0])

    def instance_request(self, zone: str, address: str) -> InstanceRequest:
        """The insert for one zone."""
        return InstanceRequest(
            name=self.owner.cloud_name,
            zone=zone,
            machine_type=self.machine_type,
            provisioning_model=self.provisioning_model,
            disk_gib=self.disk_gib,
            source_image=self.vm_image,
            network=self.network,
            network_tag=self.shared.network_tag,
            address=address,
            service_account=self.vm_service_account,
            labels=self.labels,
            metadata=self.metadata,
        )


def keep_alive(settings: Settings, parts: Parts) -> KeepAlive:
    """The keep-alive of the installation."""
    shared = Shared(settings.installation)
    label = shared.schedule_label(settings.schedule, settings.time_zone)
    source = parts.function
    return KeepAlive(
        job=JobRequest(
            name=shared.keep_alive,
            schedule=settings.schedule,
            time_zone=settings.time_zone,
            topic=shared.keep_alive,
            data=_compact({"schedule": label}).encode(),
            description=shared.mark,
        ),
        function=FunctionRequest(
            name=shared.keep_alive,
            region=settings.region,
            runtime=settings.function_runtime,
            bucket=settings.bucket,
            source_object=source.name,
            topic=shared.keep_alive,
            environment={
                "BUDGET_PROJECT": settings.project,
                "BUDGET_INSTALLATION": shared.hash,
                "BUDGET_API_ENDPOINT": settings.api_endpoint,
                "BUDGET_CREDENTIALS": settings.credentials,
            },
            labels=shared.labels,
            service_account=settings.function_service_account,
            build_service_account=settings.build_service_account,
            trigger_service_account=settings.trigger_service_account,
        ),
        source=source,
        schedule_label=label,
    )


def build(
    settings: Settings,
    parts: Parts,
    owner: Owner,
    spec: Spec,
    zones: tuple[str, ...],
    artifact: Artifact,
    key: bytes,
) -> Desired:
    """Everything that one deployment needs. `zones` are in order of preference, all in one region."""
    shared = Shared(settings.installation)
    armed, tls = keep_alive(settings, parts), tls_of(settings, spec)
    return Desired(
        owner=owner,
        shared=shared,
        zones=zones,
        machine_type=spec.machine.type,
        provisioning_model=PROVISIONING_MODELS[spec.machine.provisioning],
        disk_gib=spec.machine.disk_gib,
        network=settings.network,
        vm_image=settings.vm_image,
        vm_service_account=settings.vm_service_account,
        bucket_region=settings.region,
        artifact=artifact,
        keep_alive=armed,
        tls=tls,
        image=spec.image or settings.image,
        pause=SUSPENDED if spec.suspend else None,
        keeps_address=spec.endpoint.host is not None,
        labels={
            **owner.labels,
            LABEL_WANTED: WANTED_STOPPED if spec.suspend else WANTED_RUNNING,
            LABEL_SCHEDULE: armed.schedule_label,
            LABEL_DISK: str(spec.machine.disk_gib),
            LABEL_DELETION: RETAIN if spec.deletion_policy == "Retain" else DELETE,
        },
        metadata={
            "startup-script": parts.startup_script,
            "shutdown-script": parts.shutdown_script,
            "enable-guest-attributes": "TRUE",
            "google-logging-enabled": "true",  # Container-Optimized OS ships its containers' output
            METADATA_OWNER: owner.document,
            METADATA_KEY: encoded_key(key),
            METADATA_CONFIG: _config(settings, spec, owner, artifact, armed, tls),
        },
    )


def _config(
    settings: Settings, spec: Spec, owner: Owner, artifact: Artifact, armed: KeepAlive, tls: Tls
) -> str:
    """One line without spaces: the startup script reads it with sed."""
    leaving = _compact({"schedule": armed.schedule_label, "instance": owner.cloud_name})
    return _compact(
        {
            "version": 1,
            "image": spec.image or settings.image,
            **({"imageCode": True} if spec.predictor.image else {}),
            "deployment": owner.cloud_name,
            "revision": artifact.revision,
            "bucket": settings.bucket,
            "bundle": artifact.bundle.name,
            "bundleSha256": artifact.bundle.sha256,
            "sealed": artifact.sealed.name,
            "sealedSha256": artifact.sealed.sha256,
            "apiEndpoint": settings.api_endpoint,
            "tls": tls.document(),
            # what the host publishes when the VM is switched off: the keep-alive then waits for this one
            "keepAliveTopic": f"projects/{settings.project}/topics/{armed.job.topic}",
            "keepAliveData": base64.b64encode(leaving.encode()).decode(),
        }
    )


def told_image(instance: Instance | None) -> str:
    """The server's image that a VM was told to run; empty if it has not been told."""
    try:
        return str(json.loads(instance.metadata[METADATA_CONFIG])["image"]) if instance is not None else ""
    except (KeyError, TypeError, ValueError):
        return ""


def _compact(document: Mapping[str, object]) -> str:
    return json.dumps(document, separators=(",", ":"))
