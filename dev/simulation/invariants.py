"""What must be true at every moment of every history, and what must be true once all is calm."""

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from budget_operator.core.cost import ledger
from budget_operator.core.cost.stretches import Part
from budget_operator.core.names import LABEL_INSTALLATION, LABEL_MOVE, METADATA_CONFIG
from dev.simulation.world import NAMESPACE, PROJECT, World, vm
from localcloud.guests.residents import Residents
from localcloud.services.compute.operations import OPERATION
from localcloud.services.compute.records import INSTANCE
from localcloud.store import Json

DISK, ADDRESS, FIREWALL = "compute.disk", "compute.address", "compute.firewall"
JOB, FUNCTION = "scheduler.job", "functions.function"
TOPIC, SUBSCRIPTION = "pubsub.topic", "pubsub.subscription"
BUCKET, OBJECT = "storage.bucket", "storage.object"
#: What an operator could change on a VM of somebody else's; that the VM comes up is its own affair.
CHANGEABLE = ("id", "labels", "metadata", "machineType", "lastStopTimestamp")
TAMPERED = base64.b64encode(b"{}").decode()
"""A message for the function that names no VM."""
DRILL = "compute.instances.simulateMaintenanceEvent"
DRILL_FAILED = ("preempt the VM", "Google preempted nothing")
"""How the words begin that tell of a drill that Google was asked for."""
SERVER_ERROR = 500
SOME_TICKS = timedelta(seconds=200)
PREEMPTED = "compute.instances.preempted"
SHARED = (FIREWALL, JOB, TOPIC, FUNCTION, BUCKET)


def last(key: str) -> str:
    return key.rpartition("/")[2]


def always(
    world: World, names: tuple[str, ...], strangers: dict[str, Json], kept_disks: Set[str] = frozenset()
) -> list[str]:
    """What is wrong although nothing may ever go so wrong. `kept_disks` were left by somebody on purpose."""
    return [
        *_doubles(world),
        *_left_over(world, names, kept_disks),
        *_touched_strangers(world, strangers),
        *_untrue(world, names),
    ]


def _ours(world: World, kind: str) -> list[tuple[str, Json]]:
    found = world.store.list(kind)
    if kind == INSTANCE:
        return [(key, doc) for key, doc in found if LABEL_INSTALLATION in doc["body"].get("labels", {})]
    if kind in (ADDRESS, DISK):
        return [(key, doc) for key, doc in found if LABEL_INSTALLATION in doc.get("labels", {})]
    return found


def _doubles(world: World) -> Iterator[str]:
    for name, count in Counter(last(key) for key, _ in _ours(world, ADDRESS)).items():
        if count > 1:
            yield f"{count} addresses {name}"
    yield from twins(world)
    for kind in SHARED:
        if len(_ours(world, kind)) > 1:
            yield f"more than one {kind}: {[key for key, _ in _ours(world, kind)]}"


def twins(world: World) -> Iterator[str]:
    """Two VMs of one deployment, of which none has moved away, or which both have an address."""
    found = _ours(world, INSTANCE)
    staying = Counter(last(key) for key, doc in found if not _moves(doc))
    reachable = Counter(last(key) for key, doc in found if _has_address(doc))
    for what, counted in (("that stay", staying), ("with an address", reachable)):
        for name, count in counted.items():
            if count > 1:
                yield f"{count} VMs {what}: {name}"


def _moves(document: Json) -> bool:
    return LABEL_MOVE in document["body"].get("labels", {})


def _has_address(document: Json) -> bool:
    access = document["body"]["networkInterfaces"][0].get("accessConfigs", ())
    return any("natIP" in each for each in access)


def _left_over(world: World, names: tuple[str, ...], kept_disks: Set[str]) -> Iterator[str]:
    """Of a deployment that is not there any more."""
    there = {name for _, name in world.kube.objects}
    for name in set(names) - there:
        for kind in (INSTANCE, ADDRESS):
            if any(last(key) == vm(name) for key, _ in _ours(world, kind)):
                yield f"{kind} {vm(name)} is there without its deployment"
        if any(vm(name) in key for key, _ in world.store.list(OBJECT)):
            yield f"objects of {vm(name)} are there without their deployment"
        if any(secret == f"{vm(name)}-key" for _, secret in world.kube.secrets):
            yield f"the key of {vm(name)} is there without its deployment"
    vms = {last(key) for key, _ in world.store.list(INSTANCE)}  # a stranger's has a disk as well
    for disk in {last(key) for key, _ in world.store.list(DISK)} - vms - kept_disks:
        yield f"disk {disk} is there without its VM"


def _touched_strangers(world: World, strangers: dict[str, Json]) -> Iterator[str]:
    for key, before in strangers.items():
        now = world.store.get(INSTANCE, key)
        if now is None or any(now["body"].get(field) != before["body"].get(field) for field in CHANGEABLE):
            yield f"{key} is not ours and was changed"


def _untrue(world: World, names: tuple[str, ...]) -> Iterator[str]:
    """Statuses that contradict themselves."""
    for name in names:
        if (NAMESPACE, name) not in world.kube.objects:
            continue
        status = world.kube.status(name)
        ready = world.kube.condition(name, "Ready")
        if ready[0] == "True" and not (status.get("ip") and status.get("zone")):
            yield f"{name} is Ready without a VM"
        # Without TLS, as here, the endpoint is the address.
        if ready[0] == "True" and status.get("endpoint") != f"http://{status.get('ip')}":
            yield f"{name} is Ready at {status.get('ip')}, and callers are sent to {status.get('endpoint')}"
        if ready[0] == "False" and not ready[2]:
            yield f"{name} is not Ready and does not say why"


def drilled(world: World, asked: Mapping[str, int]) -> Iterator[str]:
    """For a preemption on purpose Google is asked once, and who wants it is not told that nobody asked.

    `asked`: the newest call in the journal when each deployment's owner wanted one.
    """
    for name, since in asked.items():
        entries = world.cloud.context.journal.entries(after=since, permission=DRILL)
        made = [each for each in entries if vm(name) in each.path and each.status < SERVER_ERROR]
        if len({each.path for each in made}) > 1:
            yield f"{name} was to be preempted once, and Google is asked for more"
        told = world.kube.objects.get((NAMESPACE, name), {}).get("status", {}).get("drill") or {}
        refused = told.get("state") == "Refused" and not told["message"].startswith(DRILL_FAILED)
        if refused and any(each.took_effect for each in made):
            yield f"{name}: Google was asked to preempt it, and its owner reads {told['message']}"


def honest(world: World, names: tuple[str, ...]) -> Iterator[str]:
    """After enough time without any change: who is called Ready answers, and has told every loss once."""
    residents = Residents(world.cloud.context, "")
    for name in names:
        if (NAMESPACE, name) not in world.kube.objects:
            continue
        if world.kube.condition(name, "Ready")[0] == "True":
            guest = residents.at(world.kube.status(name)["ip"])
            if guest is None or guest.obstacle:
                yield f"{name} is called Ready and does not answer: {guest and guest.obstacle}"
        told = (world.kube.status(name).get("preemptions") or {}).get("count", 0)
        if told > _losses(world, name):
            yield f"{name} was preempted {_losses(world, name)} times, and {told} are told"


def _losses(world: World, name: str) -> int:
    return sum(
        last(operation["targetLink"]) == vm(name) and operation["operationType"] == PREEMPTED
        for _, operation in world.store.list(OPERATION)
    )


def kept_alive(world: World) -> Iterator[str]:
    """Without an operator: what should run is down for no longer than it takes some ticks to start it."""
    for key, document in _ours(world, INSTANCE):
        body = document["body"]
        if body["status"] != "TERMINATED" or body["labels"].get("budgetml-wanted") != "running":
            continue
        if _moves(document) or not _has_address(document):  # half-way only the operator knows how to go on
            continue
        down = world.clock.now() - datetime.fromisoformat(body["lastStopTimestamp"])
        if down > SOME_TICKS:
            yield f"{last(key)} is down, and nobody starts it"


def calm(world: World, wanted: dict[str, Any], conflicts: frozenset[str]) -> list[str]:
    """What is wrong after all troubles are over and enough time has gone by."""
    suspended = frozenset(name for name in wanted if wanted[name].get("suspend"))
    names = tuple(name for name in wanted if name not in conflicts | suspended)
    return [
        *(problem for name in names for problem in _served(world, name, wanted[name])),
        *(problem for name in suspended for problem in _suspended(world, name)),
        *(problem for name in conflicts for problem in _conflict(world, name)),
        *_only(world, names, conflicts, suspended, shared=bool(wanted)),
    ]


def _served(world: World, name: str, spec: Any) -> Iterator[str]:
    status, ready = world.kube.status(name), world.kube.condition(name, "Ready")
    document = world.kube.objects[NAMESPACE, name]
    if ready[0] != "True":
        yield f"{name} is not Ready: {ready}, {status.get('conditions')}"
        return
    if status.get("observedGeneration") != document["metadata"]["generation"]:
        yield f"{name}: the status is about generation {status.get('observedGeneration')}"
    if status["revision"]["target"] != status["revision"]["active"]:
        yield f"{name}: another revision serves than the wanted one"
    instances = [doc for key, doc in _ours(world, INSTANCE) if last(key) == vm(name)]
    if len(instances) > 1 or _moves(instances[0]):
        yield f"{name}: it has not come to the end of its move: {[doc['body']['zone'] for doc in instances]}"
    yield from _as_wanted(world, name, status, instances[0], spec.get("machine", {}))
    yield from _fetchable(world, name, instances[0])
    yield from _metered(world, name, instances[0]["body"])


def _as_wanted(world: World, name: str, status: Json, instance: Json, machine: Json) -> Iterator[str]:
    body = instance["body"]
    if last(body["zone"]) != status["zone"]:
        yield f"{name}: the VM is in {last(body['zone'])}, the status says {status['zone']}"
    if (body["status"], instance["ip"]) != ("RUNNING", status["ip"]):
        yield f"{name}: the VM is {body['status']} at {instance['ip']}, the status says {status['ip']}"
    if last(body["machineType"]) != machine.get("type", "e2-medium"):
        yield f"{name}: the VM has type {last(body['machineType'])}"
    if body["scheduling"]["provisioningModel"] != machine.get("provisioning", "Spot").upper():
        yield f"{name}: the VM is {body['scheduling']['provisioningModel']}"
    sizes = body["disks"][0]["diskSizeGb"], body["labels"].get("budgetml-disk")
    if sizes != (str(machine.get("diskGiB", 20)),) * 2:
        yield f"{name}: the disk has {sizes[0]} GiB, and the file system {sizes[1]}"
    address = f"projects/{PROJECT}/regions/{last(body['zone'])[:-2]}/addresses/{vm(name)}"
    if (world.store.get(ADDRESS, address) or {}).get("address") != status["ip"]:
        yield f"{name}: the VM is at {status['ip']}, which is not its own address"
    if not body["tags"].get("items"):
        yield f"{name}: no firewall rule covers the VM"
    if body["labels"].get("budgetml-wanted") != "running":
        yield f"{name}: the keep-alive would not start it: {body['labels']}"


def _metered(world: World, name: str, body: Json) -> Iterator[str]:
    """The ledger has this run of this VM as what goes on, and no other one, unless the clock is wrong."""
    if world.clock_error:
        return
    month = world.clock.now().strftime("%Y-%m")
    bucket = f"{world.settings.api_endpoint}/storage/v1/b/{world.settings.bucket}"
    path = quote(ledger.object_name(vm(name), month), safe="")
    answer = world.cloud.answer("GET", f"{bucket}/o/{path}?alt=media", {}, b"")
    book = ledger.load(answer.body) if answer.status == 200 else ()
    found = [(each.of, each.began) for each in book if each.open and each.part is Part.MACHINE]
    if found != [(body["id"], datetime.fromisoformat(body["lastStartTimestamp"]))]:
        yield f"{name}: by the ledger {found} goes on, and {body['id']} since {body['lastStartTimestamp']}"


def _fetchable(world: World, name: str, instance: Json) -> Iterator[str]:
    """What the next boot fetches is what it was told of."""
    items = {item["key"]: item["value"] for item in instance["body"]["metadata"]["items"]}
    config = json.loads(items.get(METADATA_CONFIG, "{}"))
    if not config:
        yield f"{name}: the VM is not told what to serve"
        return
    for what in ("bundle", "sealed"):
        path = f"/storage/v1/b/{config['bucket']}/o/{quote(config[what], safe='')}?alt=media"
        base = world.cloud.context.settings.base_url
        content = world.cloud.answer("GET", f"{base}{path}", {}, b"").body
        if hashlib.sha256(content).hexdigest() != config[f"{what}Sha256"]:
            yield f"{name}: {config[what]} is not what the VM was told of"


def _suspended(world: World, name: str) -> Iterator[str]:
    """Whatever there is of it is off, nobody would start it, and the status tells so."""
    told = world.kube.status(name).get("state"), world.kube.condition(name, "Reconciling")[:2]
    if told != ("Suspended", ("False", "Suspended")):
        yield f"{name} does not say that it is suspended: {world.kube.status(name)}"
    for key, document in _ours(world, INSTANCE):
        found = document["body"]["status"], document["body"]["labels"].get("budgetml-wanted")
        if last(key) == vm(name) and found != ("TERMINATED", "stopped"):
            yield f"{name} is suspended, and its VM is {found}"


def _working(world: World) -> Iterator[str]:
    """What all share does what it is there for."""
    for key, rule in world.store.list(FIREWALL):
        if rule.get("disabled") or rule.get("sourceRanges") != ["0.0.0.0/0"]:
            yield f"{key} lets nobody through"
    for key, job in world.store.list(JOB):
        if job["pubsubTarget"].get("data") in (None, TAMPERED):
            yield f"{key} has somebody else's message"


def _conflict(world: World, name: str) -> Iterator[str]:
    if world.kube.condition(name, "InstanceRunning")[1] != "NameConflict":
        yield f"{name} does not say NameConflict: {world.kube.status(name).get('conditions')}"


def _only(
    world: World,
    names: tuple[str, ...],
    conflicts: frozenset[str],
    suspended: frozenset[str],
    *,
    shared: bool,
) -> Iterator[str]:
    """Exactly what the deployments need, and what there was of those that are suspended; one that waits for
    its name keeps the address it had."""
    wanted, kept = {vm(name) for name in names}, {vm(name) for name in conflicts}
    asleep = {vm(name) for name in suspended}
    for kind in (INSTANCE, ADDRESS):
        found = {last(key) for key, _ in _ours(world, kind)} - asleep
        if found - (kept if kind == ADDRESS else set()) != wanted:
            yield f"{kind}: {sorted(found)} instead of {sorted(wanted)}"
    if not shared and _ours(world, DISK):
        yield f"disks are left: {[key for key, _ in _ours(world, DISK)]}"
    for kind in SHARED:
        count = len(_ours(world, kind))
        needless = kind == FIREWALL and not names and conflicts | suspended  # it would be for nobody's VM
        if count != shared and not needless:
            yield f"{count} of {kind}"
    yield from _working(world)
    heard = {subscription["topic"] for _, subscription in world.store.list(SUBSCRIPTION)}
    if heard != {key for key, _ in world.store.list(TOPIC)}:
        yield f"ticks go to {[key for key, _ in world.store.list(TOPIC)]}, and {heard} are listened to"
