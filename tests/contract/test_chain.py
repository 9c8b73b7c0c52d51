"""Scheduler, topic, push, function: a tick ends in code of ours that really runs."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.cloud import functions_v2, scheduler_v1, storage
from google.cloud.pubsub_v1 import PublisherClient

PARENT = "projects/p1/locations/us-central1"
ZONE = "us-central1-a"
TOPIC = "projects/p1/topics/budget-keepalive"
FUNCTION = f"{PARENT}/functions/budget-keepalive"
JOB = f"{PARENT}/jobs/budget-keepalive"
# Writes each event down; refuses the first ones where it is told to.
MAIN = """
import base64, json, os, pathlib
import functions_framework

@functions_framework.cloud_event
def main(event):
    proof = pathlib.Path(os.environ["PROOF"])
    with proof.open("a") as file:
        data = base64.b64decode(event.data["message"]["data"]).decode()
        line = {"type": event["type"], "source": event["source"], "id": event["id"], "data": data}
        file.write(json.dumps(line | event.data["message"]["attributes"]) + "\\n")
    print("seen", data)
    if len(proof.read_text().splitlines()) <= int(os.environ.get("REFUSE", "0")):
        raise RuntimeError("not yet")
"""


def archive(**files: str) -> bytes:
    """A zip of `main` and `requirements`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        opened.writestr("main.py", files["main"])
        opened.writestr("requirements.txt", files["requirements"])
    return buffer.getvalue()


@pytest.fixture
def proof(tmp_path: Path) -> Callable[[], list[dict[str, str]]]:
    def read() -> list[dict[str, str]]:
        file = tmp_path / "proof"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    return read


@pytest.fixture
def chain(cloud: Any, client_options: dict[str, Any]) -> Callable[..., None]:
    """Make topic, function and job with the real clients."""

    def make(content: bytes, entry_point: str, retry: str, **variables: str) -> None:
        PublisherClient(transport="rest", **client_options).create_topic(request={"name": TOPIC})
        options = {"api_endpoint": cloud.url}
        client = storage.Client("p1", credentials=client_options["credentials"], client_options=options)
        client.create_bucket("sources").blob("f.zip").upload_from_string(content)
        source = {"storage_source": {"bucket": "sources", "object_": "f.zip"}}
        function = functions_v2.Function(
            build_config={"runtime": "python312", "entry_point": entry_point, "source": source},
            service_config={"environment_variables": variables},
            event_trigger={
                "event_type": "google.cloud.pubsub.topic.v1.messagePublished",
                "pubsub_topic": TOPIC,
                "retry_policy": retry,
            },
        )
        functions = functions_v2.FunctionServiceClient(transport="rest", **client_options)
        short = FUNCTION.rsplit("/", 1)[1]
        made = functions.create_function(parent=PARENT, function=function, function_id=short)
        made.result(timeout=120)  # type: ignore[no-untyped-call]
        target = {"topic_name": TOPIC, "data": b"tick", "attributes": {"schedule": "abc"}}
        job = scheduler_v1.Job(name=JOB, schedule="0 0 1 1 *", time_zone="Etc/UTC", pubsub_target=target)
        scheduler_v1.CloudSchedulerClient(transport="rest", **client_options).create_job(
            parent=PARENT, job=job
        )

    return make


@pytest.fixture
def deploy(chain: Callable[..., None], tmp_path: Path) -> Callable[..., None]:
    """The chain with the function that writes its events down."""
    content = archive(main=MAIN, requirements="functions-framework>=3.10,<4\n")

    def make(retry: str = "RETRY_POLICY_DO_NOT_RETRY", **variables: str) -> None:
        chain(content, "main", retry, PROOF=str(tmp_path / "proof"), **variables)

    return make


def tick(cloud: Any) -> None:
    cloud.context.registry.verbs["tick"]("budget-keepalive")


def test_a_tick_runs_the_function(
    cloud: Any,
    deploy: Callable[..., None],
    proof: Callable[[], list[dict[str, str]]],
    wait_until: Callable[..., Any],
) -> None:
    deploy()
    tick(cloud)
    (seen,) = wait_until(proof, "the function to run")
    assert seen["type"] == "google.cloud.pubsub.topic.v1.messagePublished"
    assert seen["source"] == f"//pubsub.googleapis.com/{TOPIC}"
    assert (seen["data"], seen["schedule"]) == ("tick", "abc")
    wait_until(lambda: not cloud.context.store.list("pubsub.backlog"), "the message to be settled")
    (log,) = [found for read in cloud.context.registry.logs if (found := read("budget-keepalive"))]
    assert "seen tick" in log
    pushes = [entry for entry in cloud.context.journal.entries() if entry.path.startswith("/functions/")]
    assert [entry.status for entry in pushes] == [200]

    cloud.turn()
    tick(cloud)
    wait_until(lambda: len(proof()) == 2, "the function to run after a restart")


def test_a_failed_event_is_not_repeated_unless_the_trigger_says_so(
    cloud: Any,
    deploy: Callable[..., None],
    proof: Callable[[], list[dict[str, str]]],
    wait_until: Callable[..., Any],
) -> None:
    deploy(REFUSE="1")
    tick(cloud)
    wait_until(lambda: proof() and not cloud.context.store.list("pubsub.backlog"), "the event to be given up")
    assert len(proof()) == 1


def test_a_failed_event_is_kept_where_the_trigger_retries(
    cloud: Any,
    deploy: Callable[..., None],
    proof: Callable[[], list[dict[str, str]]],
    wait_until: Callable[..., Any],
) -> None:
    deploy("RETRY_POLICY_RETRY", REFUSE="1")
    tick(cloud)
    wait_until(
        lambda: [body["attempts"] for _, body in cloud.context.store.list("pubsub.backlog")] == [1], "a retry"
    )
    assert len(proof()) == 1


def test_the_keep_alive_starts_a_stopped_vm(
    cloud: Any, chain: Callable[..., None], spot_body: Any, wait_until: Callable[..., Any]
) -> None:
    """The product's own function, built from its pinned requirements, against the same port."""
    folder = Path(__file__).parents[2] / "restart_function"
    names = {"budgetml-installation": "abc", "budgetml-deployment": "d"}
    labels = names | {"budgetml-wanted": "running", "budgetml-schedule": "s1"}
    cloud.compute("POST", f"zones/{ZONE}/instances", spot_body(labels=labels))

    def status() -> str:
        answer = cloud.compute("GET", f"zones/{ZONE}/instances/vm1")
        return str(answer.json()["status"]) if answer.is_success else ""

    wait_until(lambda: status() == "RUNNING", "the VM to run")
    cloud.compute("POST", f"zones/{ZONE}/instances/vm1/stop")
    wait_until(lambda: status() == "TERMINATED", "the VM to stop")
    content = archive(
        main=(folder / "main.py").read_text(), requirements=(folder / "requirements.txt").read_text()
    )
    chain(
        content,
        "restart",
        "RETRY_POLICY_RETRY",
        BUDGET_PROJECT="p1",
        BUDGET_INSTALLATION="abc",
        BUDGET_API_ENDPOINT=cloud.url,
        BUDGET_CREDENTIALS="anonymous",
    )
    tick(cloud)
    wait_until(lambda: status() == "RUNNING", "the function to start the VM", 30)
