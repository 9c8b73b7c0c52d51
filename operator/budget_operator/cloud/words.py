"""Compute Engine's resources, to and from the operator's own words: pure functions over its messages.

Requests and their errors are in `compute`. Imported only where compute is used: the client takes two seconds
to import.
"""

from datetime import UTC, datetime

from google.cloud import compute_v1 as v1

from budget_operator.core.gateways import HTTPS_PORTS, InstanceRequest
from budget_operator.core.observed import (
    Address,
    Firewall,
    Instance,
    InstanceStatus,
    OperationRef,
    OperationState,
    Preemption,
)

NOTICE_SECONDS = 120  # a Spot VM is told this long before the soft-off
_CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"


def last(url: str) -> str:
    """The last segment of a resource's URL: its name, zone, region or type."""
    return url.rsplit("/", 1)[-1]


def instance(found: v1.Instance) -> Instance:
    """An instance as Compute Engine shows it."""
    boot = next((disk for disk in found.disks if disk.boot), v1.AttachedDisk())
    interfaces = [access.nat_i_p for nic in found.network_interfaces for access in nic.access_configs]
    return Instance(
        name=found.name,
        zone=last(found.zone),
        id=str(found.id),
        status=_status(found.status),
        machine_type=last(found.machine_type),
        provisioning_model=found.scheduling.provisioning_model or "STANDARD",
        external_ip=next((ip for ip in interfaces if ip), None),
        labels=dict(found.labels),
        label_fingerprint=found.label_fingerprint,
        metadata={item.key: item.value for item in found.metadata.items},
        metadata_fingerprint=found.metadata.fingerprint,
        disk=last(boot.source),
        disk_gib=boot.disk_size_gb,
    )


def _status(word: str) -> InstanceStatus:
    try:
        return InstanceStatus(word)
    except ValueError:
        # A state newer than this program. REPAIRING is the state in which nobody acts on an instance.
        return InstanceStatus.REPAIRING


def address(found: v1.Address) -> Address:
    """A regional static address."""
    return Address(
        name=found.name,
        region=last(found.region),
        address=found.address,
        status=found.status,
        labels=dict(found.labels),
    )


def firewall(found: v1.Firewall) -> Firewall:
    """A firewall rule."""
    return Firewall(
        name=found.name,
        description=found.description,
        target_tags=tuple(found.target_tags),
        tcp_ports=tuple(
            port for rule in found.allowed if rule.I_p_protocol in ("tcp", "6") for port in rule.ports
        ),
        network=found.network[max(0, found.network.find("projects/")) :],
    )


def operation(found: v1.Operation, ref: OperationRef) -> OperationState:
    """A polled operation; of several errors the first counts."""
    done = found.status == v1.Operation.Status.DONE
    if found.error.errors:
        first = found.error.errors[0]
        return OperationState(ref, done, first.code or "UNKNOWN", first.message)
    if done and found.http_error_status_code >= 400:
        return OperationState(ref, done, str(found.http_error_status_code), found.http_error_message)
    return OperationState(ref, done)


def preemption(found: v1.Operation, zone: str) -> Preemption | None:
    """A preemption, or None if the operation has no readable time."""
    at = _time(found.insert_time or found.start_time or found.end_time)
    if at is None:
        return None
    return Preemption(operation=found.name, instance=last(found.target_link), zone=zone, at=at)


def _time(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


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
                access_configs=[
                    v1.AccessConfig(
                        name="External NAT", type_="ONE_TO_ONE_NAT", nat_i_p=request.address or None
                    )
                ],
            )
        ],
    )
    if request.service_account:
        made.service_accounts = [v1.ServiceAccount(email=request.service_account, scopes=[_CLOUD_PLATFORM])]
    return made


def _boot_disk(request: InstanceRequest) -> v1.AttachedDisk:
    return v1.AttachedDisk(
        boot=True,
        auto_delete=True,
        initialize_params=v1.AttachedDiskInitializeParams(
            source_image=request.source_image,
            disk_size_gb=request.disk_gib,
            disk_type=f"zones/{request.zone}/diskTypes/pd-balanced",
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
        source_ranges=["0.0.0.0/0"],
        target_tags=[tag],
        allowed=[v1.Allowed(I_p_protocol="tcp", ports=list(HTTPS_PORTS))],
    )
