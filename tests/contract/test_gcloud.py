"""gcloud, the strictest client, against storage, Pub/Sub, the scheduler and functions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed")
REGION = "us-central1"


@pytest.fixture
def gcloud(gcloud_environment: dict[str, str]) -> Callable[..., Any]:
    """Run a command; its answer is read as JSON."""

    def run(*arguments: str, format_: str = "json") -> Any:
        done = subprocess.run(
            ["gcloud", *arguments, *([f"--format={format_}"] if format_ else [])],
            env=os.environ | gcloud_environment,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if format_ and done.stdout.strip() else done.stdout

    return run


def test_storage(gcloud: Callable[..., Any], tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "in").write_bytes(content)
    gcloud("storage", "buckets", "create", "gs://bucket-g", f"--location={REGION}")
    gcloud("storage", "cp", str(tmp_path / "in"), "gs://bucket-g/a/b c", format_="")
    assert (
        gcloud("storage", "ls", "-r", "gs://bucket-g/**", format_="").split("\n")[0] == "gs://bucket-g/a/b c"
    )
    gcloud("storage", "cp", "gs://bucket-g/a/b c", str(tmp_path / "out"), format_="")
    assert (tmp_path / "out").read_bytes() == content
    gcloud("storage", "rm", "-r", "gs://bucket-g", format_="")
    assert gcloud("storage", "buckets", "list") == []


def test_pubsub_and_scheduler(gcloud: Callable[..., Any]) -> None:
    gcloud("pubsub", "topics", "create", "topic-g", "--labels=a=b")
    gcloud("pubsub", "subscriptions", "create", "sub-g", "--topic=topic-g", "--ack-deadline=20")
    gcloud("pubsub", "topics", "publish", "topic-g", "--message=hi", "--attribute=x=y")
    (pulled,) = gcloud("pubsub", "subscriptions", "pull", "sub-g", "--auto-ack")
    assert (pulled["message"]["data"], pulled["message"]["attributes"]) == ("aGk=", {"x": "y"})
    job = ["job-g", f"--location={REGION}"]
    target = ["--topic=topic-g", "--message-body=tick"]
    made = gcloud("scheduler", "jobs", "create", "pubsub", *job, "--schedule=0 0 1 1 *", *target)
    assert made["state"] == "ENABLED"
    gcloud("scheduler", "jobs", "run", *job)
    (pulled,) = gcloud("pubsub", "subscriptions", "pull", "sub-g", "--auto-ack")
    assert pulled["message"]["data"] == "dGljaw=="
    gcloud("scheduler", "jobs", "update", "pubsub", *job, "--schedule=*/5 * * * *")
    gcloud("scheduler", "jobs", "pause", *job)
    found = gcloud("scheduler", "jobs", "describe", *job)
    assert (found["schedule"], found["state"]) == ("*/5 * * * *", "PAUSED")
    gcloud("scheduler", "jobs", "delete", *job)
    assert gcloud("scheduler", "jobs", "list", f"--location={REGION}") == []


def test_functions(
    gcloud: Callable[..., Any], tmp_path: Path, cloud: Any, wait_until: Callable[..., Any]
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "main.py").write_text("def main(event):\n    print('seen', event['type'])\n")
    (source / "requirements.txt").write_text("functions-framework>=3.10,<4\n")
    gcloud("pubsub", "topics", "create", "topic-g")
    what = ["--runtime=python312", "--entry-point=main", f"--source={source}", "--trigger-topic=topic-g"]
    made = gcloud("functions", "deploy", "fn-g", "--gen2", f"--region={REGION}", *what, "--set-env-vars=A=b")
    assert (made["state"], made["serviceConfig"]["environmentVariables"]) == ("ACTIVE", {"A": "b"})
    gcloud("pubsub", "topics", "publish", "topic-g", "--message=hi")
    log = cloud.home / "log" / "function-fn-g.log"
    wait_until(lambda: "seen google.cloud.pubsub.topic.v1.messagePublished" in log.read_text(), "the event")
    assert [one["state"] for one in gcloud("functions", "list", "--v2")] == ["ACTIVE"]
    gcloud("functions", "delete", "fn-g", "--gen2", f"--region={REGION}")
    assert gcloud("functions", "list", "--v2") == []
