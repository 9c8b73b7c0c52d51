"""Compute Engine's resources, to and from the operator's own words: pure functions over its messages.

Requests and their errors are in `compute`, what pictures are made of in `listed`. Imported only where compute
is used: the client takes a second to import.
"""

from budget_operator.cloud.compute_client import types as v1
from budget_operator.core.gateways import HTTPS_PORTS, InstanceRequest
from budget_operator.core.names import LABEL_DEPLOYMENT, LABEL_INSTALLATION
from budget_operator.core.observed import (
    Firewall,
    OperationRef,
    OperationState,
)

NOTICE_SECONDS = 120  # a Spot VM is told this long before the soft-off
PRIORITY = 1000  # of a firewall rule: what Google gives one that asks for none
_FURTHER = (
    "denied",
    "destination_ranges",
    "source_service_accounts",
    "source_tags",
    "target_service_accounts",
)
_CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"


def firewall(found: v1.Firewall) -> Firewall:
    """A firewall rule."""
    return Firewall(
        name=found.name,
        description=found.description,
        target_tags=tuple(found.target_tags),
        allowed=tuple(sorted(each for rule in found.allowed for each in _protocols(rule))),
        network=found.network[max(0, found.network.find("projects/")) :],
        source_ranges=tuple(found.source_ranges),
        direction=found.direction,
        priority=found.priority,
        disabled=found.disabled,
        further=tuple(name for name in _FURTHER if getattr(found, name)),
    )


def _protocols(rule: v1.Allowed) -> list[str]:
    name = {"6": "tcp"}.get(rule.I_p_protocol, rule.I_p_protocol)
    return [f"{name}:{port}" for port in rule.ports] or [name]


def operation(found: v1.Operation, ref: OperationRef) -> OperationState:
    """A polled operation; of several errors the first counts."""
    done = found.status == v1.Operation.Status.DONE
    if found.error.errors:
        first = found.error.errors[0]
        return OperationState(ref, done, first.code or "UNKNOWN", first.message)
    if done and found.http_error_status_code >= 400:
        return OperationState(ref, done, str(found.http_error_status_code), found.http_error_message)
    return OperationState(ref, done)


def new_instance(request: InstanceRequest) -> v1.Instance:
    """The body of instances.insert: one disk that goes with the VM, one interface with the static address."""
    made = v1.Instance(
        name=request.name,
        machine_type=f"zones/{request.zone}/machineTypes/{request.machine_type}",
        labels=dict(request.labels),
        tags=v1.Tags(items=[request.network_tag]),
        metadata=v1.Metadata(items=[v1.Items(key=k, value=v) for k, v in sorted(request.metadata.items())]),
        scheduling=scheduling(request.provisioning_model),
        disks=[_boot_disk(request)],
        network_interfaces=[
            v1.NetworkInterface(
                network=request.network,
                access_configs=[access_config(request.address)],
            )
        ],
    )
    if request.service_account:
        made.service_accounts = [v1.ServiceAccount(email=request.service_account, scopes=[_CLOUD_PLATFORM])]
    return made


def access_config(address: str) -> v1.AccessConfig:
    """What gives an instance its external address; empty: some address."""
    return v1.AccessConfig(name="External NAT", type_="ONE_TO_ONE_NAT", nat_i_p=address or None)


def _boot_disk(request: InstanceRequest) -> v1.AttachedDisk:
    return v1.AttachedDisk(
        boot=True,
        auto_delete=True,
        initialize_params=v1.AttachedDiskInitializeParams(
            source_image=request.source_image,
            disk_size_gb=request.disk_gib,
            disk_type=f"zones/{request.zone}/diskTypes/pd-balanced",
            # Whoever keeps the disk and not the VM still finds whose it was.
            labels={
                key: value
                for key, value in request.labels.items()
                if key in (LABEL_INSTALLATION, LABEL_DEPLOYMENT)
            },
        ),
    )


def scheduling(provisioning_model: str) -> v1.Scheduling:
    """Spot: stopped, never deleted, when Google needs the room; only the keep-alive starts it again."""
    if provisioning_model != "SPOT":
        return v1.Scheduling(
            provisioning_model="STANDARD", automatic_restart=True, on_host_maintenance="MIGRATE"
        )
    spot = v1.Scheduling(
        provisioning_model="SPOT",
        instance_termination_action="STOP",
        automatic_restart=False,
        on_host_maintenance="TERMINATE",
    )
    if "preemption_notice_duration" in v1.Scheduling.meta.fields:  # clients before 1.30 do not know it
        spot.preemption_notice_duration = v1.Duration(seconds=NOTICE_SECONDS)
    return spot


def new_firewall(name: str, network: str, tag: str, description: str) -> v1.Firewall:
    """The body of firewalls.insert: the world may reach 80 and 443 of what carries the tag."""
    return v1.Firewall(
        name=name,
        network=network,
        description=description,
        direction="INGRESS",
        priority=PRIORITY,
        source_ranges=["0.0.0.0/0"],
        target_tags=[tag],
        allowed=[v1.Allowed(I_p_protocol="tcp", ports=list(HTTPS_PORTS))],
    )
