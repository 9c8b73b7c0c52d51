"""google-api-python-client, which knows nothing but the discovery documents it is built from."""

import base64
import io
from collections.abc import Callable
from typing import Any

from googleapiclient.errors import HttpError
from googleapiclient.http import MediaIoBaseUpload

from dev.conformance import bodies, clients
from dev.conformance.bodies import PROJECT, REGION, ZONE
from dev.conformance.script import Script, same
from dev.conformance.server import until

AT = {"project": PROJECT, "zone": ZONE}
BUCKET = "conform-api"
TOPIC = f"projects/{PROJECT}/topics/conform-api"
SUBSCRIPTION = f"projects/{PROJECT}/subscriptions/conform-api"
JOB = f"{bodies.PARENT}/jobs/conform-api"
FUNCTION = f"{bodies.PARENT}/functions/conform-api"


def compute(script: Script) -> None:
    """An instance with an address and a firewall rule, from insert to delete."""
    api = clients.discovered(script.cloud.url, "compute.v1")

    def done(operation: Any) -> None:
        while operation["status"] != "DONE":
            operation = api.zoneOperations().wait(operation=operation["name"], **AT).execute()
        same(operation.get("error"), None)

    instances = api.instances()
    with script.call("instances.insert"):
        done(instances.insert(body=bodies.spot_instance("api-1"), **AT).execute())
    with script.call("instances.get"):
        same(instances.get(instance="api-1", **AT).execute()["status"], "RUNNING")
    with script.call("instances.list"):
        same([each["name"] for each in instances.list(**AT).execute()["items"]], ["api-1"])
    with script.call("instances.aggregatedList"):
        scopes = instances.aggregatedList(project=PROJECT).execute()["items"]
        same([each["name"] for each in scopes[f"zones/{ZONE}"]["instances"]], ["api-1"])
    with script.call("instances.getSerialPortOutput"):
        same("booted" in instances.getSerialPortOutput(instance="api-1", **AT).execute()["contents"], True)
    with script.call("instances.setMetadata"):
        metadata = instances.get(instance="api-1", **AT).execute()["metadata"]
        change = metadata | {"items": [{"key": "a", "value": "b"}]}
        done(instances.setMetadata(instance="api-1", body=change, **AT).execute())
    with script.refused("instances.setMetadata with an old fingerprint", HttpError, saying="412"):
        instances.setMetadata(instance="api-1", body=change, **AT).execute()
    _power_and_disk(script, api, done)
    with script.call("instances.simulateMaintenanceEvent"):
        done(instances.simulateMaintenanceEvent(instance="api-1", **AT).execute())
        gone = lambda: instances.get(instance="api-1", **AT).execute()["status"] == "TERMINATED"  # noqa: E731
        until(gone, "the VM to be off")
    with script.call("zoneOperations.list"):
        kind = 'operationType="compute.instances.preempted"'
        found = api.zoneOperations().list(filter=kind, **AT).execute()["items"]
        same([each["user"] for each in found], ["system"])
    with script.call("instances.delete"):
        done(instances.delete(instance="api-1", **AT).execute())
    with script.refused("instances.get of none", HttpError, saying="404"):
        instances.get(instance="api-1", **AT).execute()
    _rest_of_compute(script, api)


def _power_and_disk(script: Script, api: Any, done: Callable[[Any], None]) -> None:
    with script.call("instances.stop and start"):
        done(api.instances().stop(instance="api-1", **AT).execute())
        done(api.instances().start(instance="api-1", **AT).execute())
    with script.call("disks.resize"):
        done(api.disks().resize(disk="api-1", body={"sizeGb": "30"}, **AT).execute())
        same(api.disks().get(disk="api-1", **AT).execute()["sizeGb"], "30")


def _rest_of_compute(script: Script, api: Any) -> None:
    with script.call("addresses.insert, list and delete"):
        place = {"project": PROJECT, "region": REGION}
        made = api.addresses().insert(body={"name": "ip-api"}, **place).execute()
        while made["status"] != "DONE":
            made = api.regionOperations().wait(operation=made["name"], **place).execute()
        same([each["status"] for each in api.addresses().list(**place).execute()["items"]], ["RESERVED"])
        api.addresses().delete(address="ip-api", **place).execute()
    with script.call("firewalls.insert, get and delete"):
        rule = {"name": "fw-api", "allowed": [{"IPProtocol": "tcp", "ports": ["443"]}]}
        made = api.firewalls().insert(project=PROJECT, body=rule).execute()
        while made["status"] != "DONE":
            made = api.globalOperations().wait(project=PROJECT, operation=made["name"]).execute()
        same(api.firewalls().get(project=PROJECT, firewall="fw-api").execute()["allowed"], rule["allowed"])
        api.firewalls().delete(project=PROJECT, firewall="fw-api").execute()
    with script.call("zones.list, regions.list, machineTypes.list"):
        same(ZONE in {each["name"] for each in api.zones().list(project=PROJECT).execute()["items"]}, True)
        api.regions().list(project=PROJECT).execute()
        api.machineTypes().list(**AT).execute()


def storage(script: Script) -> None:
    """Buckets and objects, multipart and resumable."""
    api = clients.discovered(script.cloud.url, "storage.v1")
    with script.call("buckets.insert"):
        api.buckets().insert(project=PROJECT, body={"name": BUCKET}).execute()
    with script.refused("buckets.insert of the same name", HttpError, saying="409"):
        api.buckets().insert(project=PROJECT, body={"name": BUCKET}).execute()
    with script.call("buckets.get and list"):
        same(api.buckets().get(bucket=BUCKET).execute()["name"], BUCKET)
        same([each["name"] for each in api.buckets().list(project=PROJECT).execute()["items"]], [BUCKET])
    for name, resumable in (("multipart", False), ("resumable", True)):
        with script.call(f"objects.insert, {name}"):
            media = MediaIoBaseUpload(io.BytesIO(b"content"), "text/plain", resumable=resumable)
            api.objects().insert(bucket=BUCKET, name=name, media_body=media).execute()
            same(api.objects().get_media(bucket=BUCKET, object=name).execute(), b"content")
    with script.call("objects.list"):
        found = api.objects().list(bucket=BUCKET).execute()["items"]
        same([each["name"] for each in found], ["multipart", "resumable"])
    with script.call("objects.copy"):
        copied = api.objects().copy(
            sourceBucket=BUCKET,
            sourceObject="multipart",
            destinationBucket=BUCKET,
            destinationObject="copy",
            body={},
        )
        same(copied.execute()["name"], "copy")
    with script.call("objects.patch"):
        change = {"metadata": {"a": "b"}}
        same(api.objects().patch(bucket=BUCKET, object="copy", body=change).execute()["metadata"], {"a": "b"})
    with script.call("objects.delete and buckets.delete"):
        for name in ("multipart", "resumable", "copy"):
            api.objects().delete(bucket=BUCKET, object=name).execute()
        api.buckets().delete(bucket=BUCKET).execute()


def messages(script: Script) -> None:
    """A job that publishes to a topic that is read."""
    pubsub = clients.discovered(script.cloud.url, "pubsub.v1").projects()
    jobs = clients.discovered(script.cloud.url, "cloudscheduler.v1").projects().locations().jobs()
    with script.call("topics.create"):
        pubsub.topics().create(name=TOPIC, body={}).execute()
    with script.call("subscriptions.create"):
        pubsub.subscriptions().create(name=SUBSCRIPTION, body={"topic": TOPIC}).execute()
    with script.call("topics.publish"):
        data = base64.b64encode(b"hi").decode()
        pubsub.topics().publish(topic=TOPIC, body={"messages": [{"data": data}]}).execute()
    with script.call("subscriptions.pull and acknowledge"):
        (found,) = (
            pubsub.subscriptions()
            .pull(subscription=SUBSCRIPTION, body={"maxMessages": 5})
            .execute()["receivedMessages"]
        )
        same(found["message"]["data"], data)
        ids = {"ackIds": [found["ackId"]]}
        pubsub.subscriptions().acknowledge(subscription=SUBSCRIPTION, body=ids).execute()
    with script.call("jobs.create"):
        job = {"name": JOB, "schedule": "* * * * *", "pubsubTarget": {"topicName": TOPIC, "data": data}}
        same(jobs.create(parent=bodies.PARENT, body=job).execute()["state"], "ENABLED")
    with script.call("jobs.pause, get, resume, run and list"):
        same(jobs.pause(name=JOB).execute()["state"], "PAUSED")
        same(jobs.get(name=JOB).execute()["state"], "PAUSED")
        jobs.resume(name=JOB).execute()
        jobs.run(name=JOB).execute()
        same([each["name"] for each in jobs.list(parent=bodies.PARENT).execute()["jobs"]], [JOB])
    with script.refused("jobs.create with a bad schedule", HttpError, saying="400"):
        jobs.create(parent=bodies.PARENT, body=job | {"name": f"{JOB}-2", "schedule": "never"}).execute()
    with script.call("jobs.delete, subscriptions.delete, topics.delete"):
        jobs.delete(name=JOB).execute()
        pubsub.subscriptions().delete(subscription=SUBSCRIPTION).execute()
        pubsub.topics().delete(topic=TOPIC).execute()


def functions(script: Script) -> None:
    """A function from a zip in a bucket."""
    api = clients.discovered(script.cloud.url, "cloudfunctions.v2").projects().locations()
    storage_api = clients.discovered(script.cloud.url, "storage.v1")
    storage_api.buckets().insert(project=PROJECT, body={"name": "conform-sources"}).execute()
    media = MediaIoBaseUpload(io.BytesIO(bodies.archive()), "application/zip")
    storage_api.objects().insert(bucket="conform-sources", name="a.zip", media_body=media).execute()

    def done(operation: Any) -> dict[str, Any]:
        ended = until(lambda: _ended(api, operation["name"]), "the operation", 180)
        same(ended.get("error"), None)
        return dict(ended["response"])

    source = {"storageSource": {"bucket": "conform-sources", "object": "a.zip"}}
    wanted = {
        "environment": "GEN_2",
        "buildConfig": {"runtime": "python312", "entryPoint": "main", "source": source},
        "serviceConfig": {"environmentVariables": {"COLOUR": "blue"}},
    }
    with script.call("functions.create"):
        made = api.functions().create(parent=bodies.PARENT, body=wanted, functionId="conform-api")
        same(done(made.execute())["state"], "ACTIVE")
    with script.call("functions.get and list"):
        same(api.functions().get(name=FUNCTION).execute()["state"], "ACTIVE")
        found = api.functions().list(parent=bodies.PARENT).execute()["functions"]
        same([each["name"] for each in found], [FUNCTION])
    with script.call("functions.delete"):
        operation = api.functions().delete(name=FUNCTION).execute()
        until(lambda: _ended(api, operation["name"]), "the operation", 30)


def _ended(api: Any, name: str) -> dict[str, Any] | None:
    found: dict[str, Any] = api.operations().get(name=name).execute()
    return found if found.get("done") else None
