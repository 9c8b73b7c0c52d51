"""Google's own clients, call by call, and the judge of their answers, who has to see what is wrong."""

import contextlib
import io
import json
from typing import Any

import pytest

from dev.conformance import run
from dev.conformance.clients import Gcloud
from dev.conformance.recording import Answer
from dev.conformance.script import Script
from dev.conformance.server import Cloud

FEWEST = 120
DISK = {"kind": "compute#disk", "id": "7", "name": "d", "sizeGb": "20", "status": "READY"}
DISK_PATH = "/compute/v1/projects/p1/zones/us-central1-a/disks/d"


@pytest.fixture(scope="module")
def printed() -> str:
    """What one run over all clients says."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        run.run()
    return output.getvalue()


@pytest.mark.parametrize("client", run.SCRIPTS)
def test_a_client_believes_every_answer(client: str, printed: str) -> None:
    if client == "gcloud" and not Gcloud.is_here():
        pytest.skip("gcloud is not installed")
    rows = [row for row in json.loads(run.FILE.read_text()) if row["client"] == client]
    assert [row for row in rows if not row["ok"]] == []
    assert rows
    assert all(f"{row['call']} " in printed for row in rows)


def test_there_are_enough_checks(printed: str) -> None:
    rows = json.loads(run.FILE.read_text())
    assert len(rows) >= FEWEST
    assert all(set(row) == {"call", "client", "ok", "detail"} for row in rows)
    assert f"{len(rows)} checks, 0 failing" in printed


def answer(body: Any, path: str = DISK_PATH, status: int = 200, method: str = "GET") -> Answer:
    return Answer(method, path, "", status, "application/json", json.dumps(body).encode())


def test_what_is_as_described_has_no_problems() -> None:
    assert answer(DISK).problems() == []
    wrong = {"code": 404, "message": "was not found", "errors": [{"reason": "notFound"}]}
    assert answer({"error": wrong}, status=404).problems() == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sizeGb": 20}, "sizeGb"),
        ({"status": "FINE"}, "status"),
        ({"colour": "blue"}, "colour"),
        ({"id": "d7"}, "id"),
        ({"users": "vm"}, "users"),
    ],
)
def test_what_is_not_as_described_is_found(change: dict[str, Any], said: str) -> None:
    (*_, problem) = answer(DISK | change).problems()
    assert said in problem


def test_a_message_class_finds_what_the_description_leaves_open() -> None:
    topic = {"name": "projects/p1/topics/t", "messageRetentionDuration": "long"}
    (problem,) = answer(topic, "/v1/projects/p1/topics/ttt").problems()
    assert "does not parse" in problem


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ({"message": "no", "code": 404}, "errors"),
        ({"code": 400, "message": "no", "errors": [{}]}, "code"),
        ({"code": 404, "message": "", "errors": [{}]}, "message"),
        ("no", "error"),
    ],
)
def test_an_error_in_another_form_is_found(error: Any, said: str) -> None:
    (problem,) = answer({"error": error}, status=404).problems()
    assert said in problem


def test_a_call_that_nobody_describes_is_found() -> None:
    (problem,) = answer({}, "/compute/v1/projects/p1/mine").problems()
    assert "no discovery document" in problem


def test_a_call_that_fails_is_told_and_the_next_one_is_made(cloud: Cloud) -> None:
    script = Script("me", cloud)
    with script.call("breaks"):
        raise ValueError("no such thing")
    with script.refused("is not refused", ValueError):
        pass
    with script.refused("is refused", ValueError, saying="no"):
        raise ValueError("no")
    told = [(row.call, row.ok, row.detail) for row in script.rows]
    assert told == [
        ("breaks", False, "ValueError: no such thing"),
        ("is not refused", False, "AssertionError: was not refused"),
        ("is refused", True, ""),
    ]
