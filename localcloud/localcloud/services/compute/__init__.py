"""Compute Engine (v1): instances, addresses, firewalls, disks, operations, and what is simply there.

Body shapes are those of the discovery document `compute.v1`; this module only says which path leads where.
"""

from __future__ import annotations

from starlette.routing import BaseRoute, Route

from localcloud.context import Context
from localcloud.operations import Tasks
from localcloud.services.compute.addresses import Addresses
from localcloud.services.compute.catalog import Catalog
from localcloud.services.compute.disks import Disks
from localcloud.services.compute.firewalls import Firewalls
from localcloud.services.compute.guest import GuestAttributes
from localcloud.services.compute.instances import Instances
from localcloud.services.compute.lifecycle import Lifecycle, Parts
from localcloud.services.compute.operation_lists import OperationLists
from localcloud.services.compute.operations import Operations
from localcloud.services.compute.paths import PREFIX
from localcloud.services.compute.quotas import Quotas
from localcloud.services.compute.records import Records
from localcloud.services.compute.targets import Targets
from localcloud.services.compute.watcher import Watcher
from localcloud.web import Handler, route

_PROJECT = PREFIX + "projects/{project}"
_ZONE = _PROJECT + "/zones/{zone}"
_REGION = _PROJECT + "/regions/{region}"


def routes(context: Context) -> list[BaseRoute]:
    tasks = Tasks("compute", context.store, context.clock)
    operations = Operations(context)
    tasks.unless(Targets(context.store, operations).is_over)
    records = Records(context.store)
    addresses = Addresses(context, operations, tasks)
    disks = Disks(context, operations, tasks, records)
    parts = Parts(records, addresses, disks, GuestAttributes(context.store, context.registry.tellers))
    Lifecycle(context, operations, tasks, parts)
    context.registry.background.extend([tasks, Watcher(context, tasks, records)])
    return [
        *_catalog(Catalog(context, Quotas(context, records).of)),
        *_instances(Instances(context, operations, tasks, parts)),
        *_addresses(addresses),
        *_disks(disks),
        *_firewalls(Firewalls(context, operations, tasks)),
        *_operations(operations, OperationLists(context)),
    ]


def _instances(service: Instances) -> list[BaseRoute]:
    one = _ZONE + "/instances/{instance}"
    verbs: dict[str, Handler] = {
        "start": service.start,
        "stop": service.stop,
        "suspend": service.suspend,
        "resume": service.resume,
        "reset": service.reset,
        "setMetadata": service.set_metadata,
        "setLabels": service.set_labels,
        "setTags": service.set_tags,
        "setDiskAutoDelete": service.set_disk_auto_delete,
        "setMachineType": service.set_machine_type,
        "addAccessConfig": service.add_access_config,
        "deleteAccessConfig": service.delete_access_config,
        "simulateMaintenanceEvent": service.simulate_maintenance,
    }
    return [
        route("GET", _PROJECT + "/aggregated/instances", service.aggregated),
        route("GET", _ZONE + "/instances", service.list),
        route("POST", _ZONE + "/instances", service.insert),
        route("GET", one, service.get),
        route("DELETE", one, service.delete),
        route("GET", one + "/serialPort", service.serial_port),
        route("GET", one + "/getGuestAttributes", service.guest_attributes),
        *(route("POST", f"{one}/{verb}", handler) for verb, handler in verbs.items()),
    ]


def _addresses(service: Addresses) -> list[BaseRoute]:
    return [
        route("GET", _PROJECT + "/aggregated/addresses", service.aggregated),
        route("GET", _REGION + "/addresses", service.list),
        route("POST", _REGION + "/addresses", service.insert),
        route("GET", _REGION + "/addresses/{address}", service.get),
        route("DELETE", _REGION + "/addresses/{address}", service.delete),
    ]


def _disks(service: Disks) -> list[BaseRoute]:
    return [
        route("GET", _PROJECT + "/aggregated/disks", service.aggregated),
        route("GET", _ZONE + "/disks", service.list),
        route("GET", _ZONE + "/disks/{disk}", service.get),
        route("DELETE", _ZONE + "/disks/{disk}", service.delete),
        route("POST", _ZONE + "/disks/{disk}/resize", service.resize),
    ]


def _firewalls(service: Firewalls) -> list[BaseRoute]:
    return [
        route("GET", _PROJECT + "/global/firewalls", service.list),
        route("POST", _PROJECT + "/global/firewalls", service.insert),
        route("GET", _PROJECT + "/global/firewalls/{firewall}", service.get),
        route("PATCH", _PROJECT + "/global/firewalls/{firewall}", service.patch),
        route("DELETE", _PROJECT + "/global/firewalls/{firewall}", service.delete),
    ]


def _operations(service: Operations, lists: OperationLists) -> list[BaseRoute]:
    found: list[BaseRoute] = [route("GET", _PROJECT + "/aggregated/operations", lists.aggregated)]
    for scope in (_ZONE, _REGION, _PROJECT + "/global"):
        one = scope + "/operations/{operation}"
        found += [
            route("GET", scope + "/operations", lists.list),
            route("GET", one, service.get),
            Route(one + "/wait", service.wait, methods=["POST"]),
        ]
    return found


def _catalog(service: Catalog) -> list[BaseRoute]:
    family = _PROJECT + "/global/images/family/{family}"
    return [
        route("GET", _PROJECT, service.project),
        route("GET", _PROJECT + "/zones", service.zones),
        route("GET", _ZONE, service.zone),
        route("GET", _PROJECT + "/regions", service.regions),
        route("GET", _REGION, service.region),
        route("GET", _PROJECT + "/aggregated/machineTypes", service.all_machine_types),
        route("GET", _ZONE + "/machineTypes", service.machine_types),
        route("GET", _ZONE + "/machineTypes/{machine}", service.machine_type),
        route("GET", family, service.image_from_family),
    ]
