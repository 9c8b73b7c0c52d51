"""Every permission that one call needs, each with the resource that it is needed on.

The one that names a call is in `permissions`; here are those that depend on what it asks for and on what is
there. They follow Google's pages "Create and start a Compute Engine instance" (required permissions),
"Method: instances.insert" and "Method: firewalls.insert" (IAM permissions), "Compute Engine IAM roles and
permissions" (the serviceAccountUser role), "IAM permissions for JSON methods" (Cloud Storage), "Access
control with IAM" (Pub/Sub) and "Cloud Functions IAM Roles" (additional configuration for deployment). Who has
a permission is `iam`'s affair.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from localcloud.iam import ACT_AS, Demand
from localcloud.permissions import Asked
from localcloud.services.compute import paths
from localcloud.services.compute.catalog import region_of
from localcloud.services.compute.records import INSTANCE
from localcloud.services.storage import multipart
from localcloud.services.storage.buckets import OBJECT
from localcloud.store import Json, Store

_COMPUTE = re.compile(
    r"/compute/v1/(projects/[^/]+)(?:/aggregated/.*|(/(?:zones/[^/]+|regions/[^/]+|global)(?:/[^/]+/[^/]+)?).*)?"
)
_STORAGE = re.compile(r"(?:/upload|/download)?/storage/v1/b(?:/([^/]+)(?:/o(?:/([^/]+).*)?)?.*)?")
_FIREWALL = ("compute.firewalls.create", "compute.firewalls.update", "compute.firewalls.delete")


@dataclass(frozen=True)
class Sent:
    """What tells the demands of a call: `path` is percent-encoded and has no query."""

    path: str
    query: Mapping[str, str]
    content_type: str
    body: bytes

    def json(self) -> Json:
        """The body as an object; empty if it is none, which the service itself will say."""
        with suppress(ValueError):
            found = json.loads(self.body)
            if isinstance(found, dict):
                return found
        return {}


def demands(call: Asked, sent: Sent, store: Store) -> tuple[Demand, ...]:
    """The one that names the call comes first."""
    resource = _resource(sent)
    more = _MORE.get(call.permission)
    rest = () if more is None else more(resource, sent, store)
    if call.permission == "storage.objects.create":
        resource = _written(resource, sent)
    return (Demand(call.permission, resource), *dict.fromkeys(rest))


def _resource(sent: Sent) -> str:
    if compute := _COMPUTE.fullmatch(sent.path):
        return compute[1] + (compute[2] or "")
    if storage := _STORAGE.fullmatch(sent.path):
        bucket, name = storage.groups()
        if bucket is None:  # what concerns no bucket concerns the project
            return f"projects/{sent.query.get('project', '')}"
        return _object(bucket, unquote(name)) if name else _bucket(bucket)
    return unquote(re.sub(r":\w+$", "", sent.path.split("/", 2)[2]))


def _bucket(name: str) -> str:
    return f"projects/_/buckets/{name}"


def _object(bucket: str, name: str) -> str:
    return f"{_bucket(bucket)}/objects/{name}"


Demands = Iterator[Demand]


def _of_new_instance(resource: str, sent: Sent, _: Store) -> Demands:
    body, project = sent.json(), paths.project_of(resource)
    instance = f"{resource}/instances/{body.get('name', '')}"
    for disk in body.get("disks", ()):
        created = disk.get("initializeParams", {})
        new = f"{resource}/disks/{created.get('diskName') or body.get('name')}"
        yield Demand("compute.disks.create", new)
        if created.get("labels"):
            yield Demand("compute.disks.setLabels", new)
        image = paths.key_of(created.get("sourceImage", ""))
        if image.startswith("projects/") and not paths.project_of(image).endswith("-cloud"):  # public ones do
            yield Demand("compute.images.useReadOnly", image)
    region = f"projects/{project}/regions/{region_of(paths.last(resource))}"
    for interface in body.get("networkInterfaces", ()):
        yield from _of_interface(region, interface)
    for permission, wanted in (
        ("setMetadata", body.get("metadata", {}).get("items")),
        ("setTags", body.get("tags", {}).get("items")),
        ("setLabels", body.get("labels")),
        ("setServiceAccount", body.get("serviceAccounts")),
    ):
        if wanted:
            yield Demand(f"compute.instances.{permission}", instance)
    yield from _of_accounts(project, body.get("serviceAccounts"))


def _of_interface(region: str, interface: Json) -> Demands:
    subnetwork = (
        interface.get("subnetwork") or f"subnetworks/{paths.last(interface.get('network', 'default'))}"
    )
    yield Demand("compute.subnetworks.use", f"{region}/subnetworks/{paths.last(subnetwork)}")
    if interface.get("networkIP"):
        yield Demand("compute.addresses.useInternal", f"{region}/addresses/{interface['networkIP']}")
    for access in interface.get("accessConfigs", ()):
        yield Demand("compute.subnetworks.useExternalIp", f"{region}/subnetworks/{paths.last(subnetwork)}")
        if access.get("natIP"):
            yield Demand("compute.addresses.use", f"{region}/addresses/{access['natIP']}")


def _of_new_access(resource: str, sent: Sent, store: Store) -> Demands:
    there = store.get(INSTANCE, resource)
    if there is not None:
        nic = there["body"]["networkInterfaces"][0]
        zone = resource.split("/")[3]
        region = f"projects/{paths.project_of(resource)}/regions/{region_of(zone)}"
        asked = {"network": nic["network"], "accessConfigs": [sent.json()]}
        wanted = ("compute.subnetworks.useExternalIp", "compute.addresses.use")
        yield from (each for each in _of_interface(region, asked) if each.permission in wanted)


def _of_accounts(project: str, accounts: Any) -> Demands:
    """Whoever gives a machine an account, or tells it what to run, acts as that account."""
    for account in accounts or ():
        yield _acting_as(project, account.get("email", ""))


def _acting_as(project: str, account: str) -> Demand:
    return Demand(ACT_AS, f"projects/{project}/serviceAccounts/{paths.account(project, account)}")


def _of_new_metadata(resource: str, _: Sent, store: Store) -> Demands:
    there = store.get(INSTANCE, resource)
    if there is not None:
        yield from _of_accounts(paths.project_of(resource), there["body"].get("serviceAccounts"))


def _of_new_address(resource: str, sent: Sent, _: Store) -> Demands:
    body = sent.json()
    if body.get("labels"):
        yield Demand("compute.addresses.setLabels", f"{resource}/addresses/{body.get('name', '')}")


def _of_firewall(resource: str, _: Sent, __: Store) -> Demands:
    yield Demand("compute.networks.updatePolicy", f"projects/{paths.project_of(resource)}/global/networks")


def _of_written_object(resource: str, sent: Sent, store: Store) -> Demands:
    """What replaces an object deletes it."""
    if "/objects/" in resource:  # a copy's source
        yield Demand("storage.objects.get", resource)
    written = _written(resource, sent)
    bucket, _, name = written.removeprefix("projects/_/buckets/").partition("/objects/")
    if store.get(OBJECT, f"{bucket}/{name}") is not None:
        yield Demand("storage.objects.delete", written)


def _written(resource: str, sent: Sent) -> str:
    """The object that a call writes; the bucket where only an earlier call has told which."""
    if copied := re.search(r"/(?:copyTo|rewriteTo)/b/([^/]+)/o/(.+)", sent.path):
        return _object(copied[1], unquote(copied[2]))
    name = sent.query.get("name") or _name_in(sent)
    return _object(paths.last(resource), name) if name else resource


def _name_in(sent: Sent) -> str:
    """The name that an upload gives in its body."""
    if sent.query.get("uploadType") != "multipart":
        return str(sent.json().get("name", ""))
    with suppress(ValueError, IndexError):
        first = multipart.parse(sent.content_type, sent.body)[0].body
        return str(Sent("", {}, "", first).json().get("name", ""))
    return ""


def _of_read_object(resource: str, __: Sent, store: Store) -> Demands:
    """That an object is not there is told only to those who may list them."""
    bucket, _, name = resource.partition("/objects/")
    if store.get(OBJECT, f"{paths.last(bucket)}/{name}") is None:
        yield Demand("storage.objects.list", bucket)


def _of_subscription(_: str, sent: Sent, __: Store) -> Demands:
    yield Demand("pubsub.topics.attachSubscription", str(sent.json().get("topic", "")))


def _of_function(resource: str, sent: Sent, _: Store) -> Demands:
    body, project = sent.json(), paths.project_of(resource)
    yield _acting_as(project, body.get("serviceConfig", {}).get("serviceAccountEmail", ""))
    if builder := body.get("buildConfig", {}).get("serviceAccount"):
        yield _acting_as(project, builder)
    if "eventTrigger" in body:
        yield _acting_as(project, body["eventTrigger"].get("serviceAccountEmail", ""))


_MORE: dict[str, Callable[[str, Sent, Store], Demands]] = {
    "compute.instances.create": _of_new_instance,
    "compute.instances.addAccessConfig": _of_new_access,
    "compute.instances.setMetadata": _of_new_metadata,
    "compute.addresses.create": _of_new_address,
    **dict.fromkeys(_FIREWALL, _of_firewall),
    "storage.objects.create": _of_written_object,
    "storage.objects.get": _of_read_object,
    "pubsub.subscriptions.create": _of_subscription,
    "cloudfunctions.functions.create": _of_function,
    "cloudfunctions.functions.update": _of_function,
}
