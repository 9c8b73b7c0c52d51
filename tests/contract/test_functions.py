"""Cloud Functions as google-cloud-functions (REST) and google-api-python-client see them, with real builds.

Builds fetch functions-framework from the package index of the machine; uv keeps it in its cache afterwards.
"""

from __future__ import annotations

import io
import os
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions
from google.api_core.operation import Operation
from google.cloud import functions_v2, storage
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient
from googleapiclient.errors import HttpError

from dev import plain

PARENT = "projects/p1/locations/us-central1"
NAME = f"{PARENT}/functions/budget-keepalive"
TOPIC = "projects/p1/topics/keepalive"
REQUIREMENTS = "functions-framework>=3.10,<4\n"
# Answers with what it was given; its first event after a deployment tells where it runs.
ECHO = """
import json, os
import functions_framework

@functions_framework.http
def main(request):
    names = ("COLOUR", "K_SERVICE", "K_REVISION", "SECRET_OF_THE_SERVER")
    return {name: os.environ.get(name) for name in names} | {"pid": os.getppid(), "version": "%s"}
"""


def archive(main: str, requirements: str = REQUIREMENTS) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        opened.writestr("main.py", main)
        opened.writestr("requirements.txt", requirements)
    return buffer.getvalue()


@pytest.fixture
def client(client_options: dict[str, Any]) -> functions_v2.FunctionServiceClient:
    return functions_v2.FunctionServiceClient(transport="rest", **client_options)


@pytest.fixture
def put(cloud: Any, client_options: dict[str, Any]) -> Callable[[str, bytes], None]:
    """Put an archive into a bucket."""
    options = {"api_endpoint": cloud.url}
    credentials = client_options["credentials"]
    bucket = storage.Client("p1", credentials=credentials, client_options=options).create_bucket("sources")
    return lambda name, content: bucket.blob(name).upload_from_string(content)


def function(source: str = "a.zip", colour: str = "blue") -> functions_v2.Function:
    return functions_v2.Function(
        name=NAME,
        environment="GEN_2",
        labels={"budgetml-installation": "abc"},
        build_config={
            "runtime": "python312",
            "entry_point": "main",
            "source": {"storage_source": {"bucket": "sources", "object_": source}},
        },
        service_config={
            "available_memory": "256M",
            "timeout_seconds": 70,
            "max_instance_count": 1,
            "ingress_settings": "ALLOW_INTERNAL_ONLY",
            "environment_variables": {"COLOUR": colour},
        },
    )


def create(client: functions_v2.FunctionServiceClient, made: functions_v2.Function) -> Operation:
    return client.create_function(parent=PARENT, function=made, function_id="budget-keepalive")


def outcome(operation: Operation, seconds: float) -> Any:
    """The function an operation ends with, or its error."""
    return operation.result(timeout=seconds)  # type: ignore[no-untyped-call]


def test_the_life_of_a_function(
    client: functions_v2.FunctionServiceClient,
    put: Callable[[str, bytes], None],
    cloud: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_SERVER", "x")
    put("a.zip", archive(ECHO % 1))
    operation = create(client, function())
    with pytest.raises(exceptions.Conflict):
        create(client, function())
    made = outcome(operation, 120)
    assert (made.state.name, made.environment.name) == ("ACTIVE", "GEN_2")
    assert made.url == made.service_config.uri
    assert operation.metadata.target == NAME
    first = plain.post(made.url).json()
    assert (first["COLOUR"], first["K_SERVICE"], first["version"]) == ("blue", "budget-keepalive", "1")
    assert first["SECRET_OF_THE_SERVER"] is None

    put("b.zip", archive(ECHO % 2))
    change = function("b.zip", "red")
    updated = client.update_function(
        function=change, update_mask={"paths": ["build_config", "service_config"]}
    )
    assert outcome(updated, 120).labels == {"budgetml-installation": "abc"}
    second = plain.post(made.url).json()
    assert (second["COLOUR"], second["version"]) == ("red", "2")
    assert len(list((cloud.home / "functions" / "environments").iterdir())) == 1, (
        "main.py alone builds nothing"
    )

    cloud.turn()
    third = plain.post(made.url).json()
    assert third["K_REVISION"] == second["K_REVISION"]
    assert third["pid"] != second["pid"]
    assert [one.name for one in client.list_functions(parent=PARENT)] == [NAME]

    outcome(client.delete_function(name=NAME), 30)
    with pytest.raises(exceptions.NotFound):
        client.get_function(name=NAME)
    assert plain.post(made.url).status_code == 404
    assert not Path(f"/proc/{third['pid']}").exists()


def test_a_process_that_died_is_started_again(
    client: functions_v2.FunctionServiceClient,
    put: Callable[[str, bytes], None],
    wait_until: Callable[..., Any],
) -> None:
    put("a.zip", archive(ECHO % 1))
    url = outcome(create(client, function()), 120).url
    first = plain.post(url).json()["pid"]
    os.kill(first, signal.SIGKILL)
    wait_until(
        lambda: (answer := plain.post(url)).is_success and answer.json()["pid"] != first, "a new process"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (archive(ECHO, "no-such-package-of-this-name==99.0\n"), "no-such-package-of-this-name"),
        (archive("import nothing_of_this_name\n"), "nothing_of_this_name"),
        (b"not a zip", "not a zip"),
    ],
    ids=["requirements", "import", "archive"],
)
def test_a_failed_deployment_says_why(
    client: functions_v2.FunctionServiceClient,
    put: Callable[[str, bytes], None],
    content: bytes,
    message: str,
) -> None:
    put("a.zip", content)
    with pytest.raises(exceptions.GoogleAPICallError, match=message):
        outcome(create(client, function()), 120)
    found = client.get_function(name=NAME)
    assert found.state.name == "FAILED"
    assert message in found.state_messages[0].message
    outcome(client.delete_function(name=NAME), 30)


def test_a_failed_update_leaves_the_revision_before_serving(
    client: functions_v2.FunctionServiceClient, put: Callable[[str, bytes], None]
) -> None:
    put("a.zip", archive(ECHO % 1))
    url = outcome(create(client, function()), 120).url
    put("a.zip", archive("raise SystemExit('broken')\n"))
    with pytest.raises(exceptions.GoogleAPICallError, match="broken"):
        outcome(client.update_function(function=function("a.zip")), 120)
    assert client.get_function(name=NAME).state.name == "FAILED"
    assert plain.post(url).json()["version"] == "1"


def test_missing_sources_and_topics_fail_the_operation(
    client: functions_v2.FunctionServiceClient, put: Callable[[str, bytes], None]
) -> None:
    with pytest.raises(exceptions.GoogleAPICallError, match=r"gs://sources/nothing\.zip"):
        outcome(create(client, function("nothing.zip")), 30)
    put("a.zip", archive(ECHO % 1))
    triggered = function()
    triggered.event_trigger = functions_v2.EventTrigger(
        event_type="google.cloud.pubsub.topic.v1.messagePublished", pubsub_topic=TOPIC
    )
    with pytest.raises(exceptions.GoogleAPICallError, match=TOPIC):
        outcome(client.update_function(function=triggered), 120)


def test_the_trigger_is_a_push_subscription(
    client: functions_v2.FunctionServiceClient,
    put: Callable[[str, bytes], None],
    client_options: dict[str, Any],
) -> None:
    publisher = PublisherClient(transport="rest", **client_options)
    subscriber = SubscriberClient(transport="rest", **client_options)
    publisher.create_topic(request={"name": TOPIC})
    put("a.zip", archive("def main(event):\n    print('hello')\n"))
    triggered = function()
    triggered.event_trigger = functions_v2.EventTrigger(
        event_type="google.cloud.pubsub.topic.v1.messagePublished",
        pubsub_topic=TOPIC,
        retry_policy="RETRY_POLICY_RETRY",
        service_account_email="trigger@p1.iam.gserviceaccount.com",
    )
    made = outcome(create(client, triggered), 120)
    assert made.event_trigger.trigger.startswith(f"{PARENT}/triggers/budget-keepalive-")
    assert made.event_trigger.trigger_region == "us-central1"
    (name,) = publisher.list_topic_subscriptions(request={"topic": TOPIC})
    push = subscriber.get_subscription(request={"subscription": name}).push_config
    assert push.push_endpoint.startswith(made.url)
    assert push.oidc_token.service_account_email == "trigger@p1.iam.gserviceaccount.com"
    outcome(client.delete_function(name=NAME), 30)
    assert list(publisher.list_topic_subscriptions(request={"topic": TOPIC})) == []
    assert publisher.get_topic(request={"topic": TOPIC}).name == TOPIC


def test_google_api_python_client(
    cloud: Any, discovered: Callable[[str], Any], wait_until: Callable[..., Any]
) -> None:
    locations = discovered("cloudfunctions.v2").projects().locations()
    names = [one["name"] for one in locations.runtimes().list(parent=PARENT).execute()["runtimes"]]
    assert "python312" in names
    place = locations.functions().generateUploadUrl(parent=PARENT, body={}).execute()
    answer = plain.put(
        place["uploadUrl"], content=archive(ECHO % 1), headers={"Content-Type": "application/zip"}
    )
    assert answer.status_code == 200
    source = {"storageSource": place["storageSource"]}
    build = {"runtime": "python311", "entryPoint": "main", "source": source}
    refused: list[dict[str, Any]] = [
        {"runtime": "cobol"},
        {"entryPoint": ""},
        {"source": {}},
        {"colour": "red"},
        {"source": {"storageSource": source["storageSource"] | {"colour": "red"}}},
    ]
    for bad in refused:
        with pytest.raises(HttpError, match="400"):
            body = {"buildConfig": build | bad}
            locations.functions().create(parent=PARENT, functionId="ff", body=body).execute()
    begun = (
        locations.functions().create(parent=PARENT, functionId="ff", body={"buildConfig": build}).execute()
    )

    def ended() -> Any:
        found = locations.operations().get(name=begun["name"]).execute()
        return found if found["done"] else None

    done = wait_until(ended, "the deployment", 120)
    assert done["response"]["state"] == "ACTIVE"
    assert {stage["name"]: stage["state"] for stage in done["metadata"]["stages"]} == {
        "BUILD": "COMPLETE",
        "SERVICE": "COMPLETE",
    }
    assert plain.post(done["response"]["url"]).json()["version"] == "1"
