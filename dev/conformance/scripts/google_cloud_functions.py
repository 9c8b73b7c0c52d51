"""google-cloud-functions (second generation), over REST, with a real build."""

from typing import Any

from google.api_core import exceptions
from google.cloud import functions_v2
from google.cloud.pubsub_v1 import PublisherClient

from dev import plain
from dev.conformance import bodies, clients
from dev.conformance.bodies import PROJECT
from dev.conformance.script import Script, same
from dev.conformance.server import until

NAME = f"{bodies.PARENT}/functions/conform"
TOPIC = f"projects/{PROJECT}/topics/conform-function"
BUILD_SECONDS = 180


def run(script: Script) -> None:
    """A function from its zip to an event that reached it."""
    client = functions_v2.FunctionServiceClient(transport="rest", **clients.options(script.cloud.url))
    publisher = PublisherClient(transport="rest", **clients.options(script.cloud.url))
    publisher.create_topic(request={"name": TOPIC})
    with script.call("functions.generateUploadUrl"):
        upload = client.generate_upload_url(request={"parent": bodies.PARENT})
        put = plain.put(
            upload.upload_url, content=bodies.archive(), headers={"Content-Type": "application/zip"}
        )
        put.raise_for_status()
    with script.call("runtimes.list"):
        listed = client.list_runtimes(parent=bodies.PARENT).runtimes
        same("python312" in {each.name for each in listed}, True)
    with script.call("functions.create builds and runs it"):
        operation = client.create_function(
            parent=bodies.PARENT, function=_wanted(upload.storage_source), function_id="conform"
        )
        made = outcome(operation)
        same((made.state.name, made.environment.name), ("ACTIVE", "GEN_2"))
    with script.refused("functions.create of the same name", exceptions.Conflict):
        client.create_function(
            parent=bodies.PARENT, function=_wanted(upload.storage_source), function_id="conform"
        )
    with script.call("functions.get"):
        same(dict(client.get_function(name=NAME).service_config.environment_variables), {"COLOUR": "blue"})
    with script.call("functions.list"):
        same([each.name for each in client.list_functions(parent=bodies.PARENT)], [NAME])
    with script.call("a published message reaches the function"):
        publisher.publish(TOPIC, b"hi").result(timeout=10)
        log = script.cloud.home / "log" / "function-conform.log"
        until(lambda: "seen google.cloud.pubsub.topic.v1.messagePublished" in log.read_text(), "the event")
    _change(script, client)


def _change(script: Script, client: Any) -> None:
    with script.call("functions.patch"):
        change = client.get_function(name=NAME)
        change.labels = {"owner": "abc"}
        operation = client.update_function(function=change, update_mask={"paths": ["labels"]})
        same(dict(outcome(operation).labels), {"owner": "abc"})
    with script.call("functions.delete"):
        outcome(client.delete_function(name=NAME))
    with script.refused("functions.get of none", exceptions.NotFound):
        client.get_function(name=NAME)


def outcome(operation: Any) -> Any:
    """What an operation ends with; its error is raised."""
    return operation.result(timeout=BUILD_SECONDS)


def _wanted(source: functions_v2.StorageSource) -> functions_v2.Function:
    return functions_v2.Function(
        name=NAME,
        environment="GEN_2",
        build_config={
            "runtime": "python312",
            "entry_point": "main",
            "source": {"storage_source": source},
        },
        service_config={
            "available_memory": "256M",
            "timeout_seconds": 70,
            "max_instance_count": 1,
            "environment_variables": {"COLOUR": "blue"},
        },
        event_trigger={
            "event_type": "google.cloud.pubsub.topic.v1.messagePublished",
            "pubsub_topic": TOPIC,
            "trigger_region": "us-central1",
        },
    )
