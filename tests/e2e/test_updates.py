"""A deployment that serves is changed: nobody who asks it notices, the VM stays, a mistake harms nothing.

Each test goes on where the one before ended.
"""

import base64
import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from dev import plain
from dev.progress import until
from tests.e2e.watch import ask, under_watch

PREDICTOR = """
import os

class Predictor:
    def load(self):
        self.word = "{word}"

    def predict(self, request):
        return {{"word": self.word, "key": os.environ["API_KEY"]}}
"""
BROKEN = """
class Predictor:
    def load(self):
        raise RuntimeError("the new weights are damaged")

    def predict(self, request):
        return {}
"""
OLD = {"username": "ada", "password": "lovelace-1815", "token": "the-first-static-token"}
NEW = {"username": "ada", "password": "byron-1816-✓", "token": "the-second-static-token"}
ROTATION_SECONDS = 120


def spec(code: str) -> dict[str, Any]:
    return {
        "predictor": {"inline": code},
        "env": [{"name": "API_KEY", "valueFrom": {"secretKeyRef": {"name": "updated-env", "key": "key"}}}],
        "auth": {"secretName": "updated-login"},
        "readiness": {"payload": {"question": "?"}, "startupSeconds": 60},
    }


@pytest.fixture(scope="module")
def updated(deploy: Callable[[str], Any]) -> Iterator[Any]:
    """It serves the word "one"."""
    made = deploy("updated")
    made.apply_secret("updated-login", OLD)
    made.apply_secret("updated-env", {"key": "key-1"})
    made.apply(spec(PREDICTOR.format(word="one")))
    made.wait(settled, 120)
    yield made
    made.stack.kubectl("delete", "secret", "updated-login", "updated-env", "--namespace=default")


def condition(status: dict[str, Any], kind: str) -> str:
    conditions = {each["type"]: each["status"] for each in status.get("conditions", ())}
    return str(conditions.get(kind, ""))


def settled(status: dict[str, Any]) -> bool:
    """The wanted revision serves and nothing moves."""
    revision = status.get("revision", {})
    return (
        condition(status, "Ready") == "True"
        and condition(status, "Reconciling") == "False"
        and revision.get("active") == revision.get("target")
    )


def log_in(client: httpx.Client, login: dict[str, str]) -> int:
    form = {"username": login["username"], "password": login["password"]}
    return client.post("/token", data=form).status_code


def changes(deployment: Any, since: int) -> list[str]:
    """Calls of the operator that changed something, after this id of the journal."""
    url = f"{deployment.stack.home.cloud_url}/_localcloud/v1/journal"
    entries = plain.get(url, params={"after": since, "limit": 100000}, trust_env=False).json()["entries"]
    return [
        entry["path"].partition("?")[0].rpartition("/")[2]
        for entry in entries
        if entry["method"] not in ("GET", "HEAD")
        and "computeMetadata" not in entry["path"]
        and entry["agent"] != "CloudPubSub-Google"  # a tick, on its way to the function
    ]


def passes(deployment: Any) -> float:
    """How many passes the operator has ended well; no other deployment is there."""
    url = f"http://127.0.0.1:{deployment.stack.home.known_port('operator')}/metrics"
    metrics = plain.get(url, trust_env=False).text
    return sum(
        float(count)
        for count in re.findall(r'^budget_operator_passes_total{result="ok"} (.+)$', metrics, re.M)
    )


def journal_end(deployment: Any) -> int:
    url = f"{deployment.stack.home.cloud_url}/_localcloud/v1/journal"
    return int(plain.get(url, params={"limit": 1}, trust_env=False).json()["entries"][-1]["id"])


def test_new_code_takes_over_without_a_gap(updated: Any) -> None:
    vm, before = updated.instance()["id"], updated.status()["revision"]["active"]
    with under_watch(updated, OLD["token"]) as words:
        started = time.monotonic()
        updated.apply(spec(PREDICTOR.format(word="two")))
        status = updated.wait(settled)
        print(f"new code: apply to settled {time.monotonic() - started:.1f} s")
        until(lambda: words[-1] == "two", 10, lambda: f"still {words[-1]}")
    assert words == sorted(words, key=["one", "two"].index), "never back to the old one"
    assert status["revision"]["active"] != before
    assert updated.instance()["id"] == vm
    assert "lastFailure" not in status


def test_broken_code_leaves_the_old_one_serving(updated: Any) -> None:
    serving = updated.status()["revision"]["active"]
    with under_watch(updated, OLD["token"]) as words:
        updated.apply(spec(BROKEN))
        status = updated.wait(lambda status: status.get("lastFailure", {}).get("reason") == "LoadFailed")
        assert condition(status, "Reconciling") == "True"
        assert condition(status, "ModelServing") == "True"
        assert status["revision"]["active"] == serving
        assert status["revision"]["target"] != serving
        assert "the new weights are damaged" in status["lastFailure"]["log"]
        assert "the new weights are damaged" in updated.stack.kubectl("describe", "bd", "updated").stdout
    assert set(words) == {"two"}


def test_going_back_to_the_old_spec_starts_nothing(updated: Any) -> None:
    generations = updated.console().count("is to be served")
    with under_watch(updated, OLD["token"]) as words:
        updated.apply(spec(PREDICTOR.format(word="two")))
        status = updated.wait(settled)
        assert "lastFailure" not in status
    assert set(words) == {"two"}
    assert updated.console().count("is to be served") == generations


def test_an_object_that_is_touched_without_a_change_changes_nothing(updated: Any) -> None:
    status, since = updated.wait(settled), journal_end(updated)
    updated.apply(spec(PREDICTOR.format(word="two")))
    for touch in ("touched=yes", "touched-"):  # the first pass seen may have begun before, the second has not
        before = passes(updated)
        updated.stack.kubectl("annotate", "bd", "updated", touch, "--namespace=default")
        until(lambda: passes(updated) > before, 90, "the operator makes no pass over a touched object")  # noqa: B023
    assert updated.status() == status
    assert changes(updated, since) == []


def test_rotated_secrets_roll_out_within_two_minutes(updated: Any) -> None:
    vm = updated.instance()["id"]
    with updated.client() as client:
        assert log_in(client, OLD) == 200
        assert log_in(client, NEW) == 401
        started = time.monotonic()
        updated.apply_secret("updated-login", NEW)
        updated.apply_secret("updated-env", {"key": "key-2"})
        until(lambda: log_in(client, NEW) == 200, ROTATION_SECONDS, "the new password is not accepted")
        print(f"rotated Secret: change to accepted {time.monotonic() - started:.1f} s")
        assert log_in(client, OLD) == 401
        assert client.post("/predict_dict", json={}, headers=bearer(OLD["token"])).status_code == 401
    until(lambda: asked_key(updated) == "key-2", ROTATION_SECONDS, "the environment holds the old value")
    status = updated.wait(settled)
    assert condition(status, "Ready") == "True"
    assert updated.instance()["id"] == vm
    written = json.dumps(updated.document()) + updated.console()
    for value in (*OLD.values(), *NEW.values(), "key-1", "key-2"):
        if value != OLD["username"]:
            assert value not in written
            assert base64.b64encode(value.encode()).decode() not in written


def test_a_lost_secret_is_told_while_the_server_goes_on(updated: Any) -> None:
    updated.stack.kubectl("delete", "secret", "updated-login", "--namespace=default")
    with under_watch(updated, NEW["token"]) as words:
        status = updated.wait(lambda status: condition(status, "Stalled") == "True", ROTATION_SECONDS)
        assert "updated-login" in updated.condition("Stalled", status)["message"]
    assert words


def test_a_secret_that_changed_while_the_operator_was_off_rolls_out(updated: Any) -> None:
    vm, stack = updated.instance()["id"], updated.stack
    stack.operator.stop()
    try:
        updated.apply_secret("updated-login", OLD)
    finally:
        stack.start_operator()
    with updated.client() as client:
        until(lambda: log_in(client, OLD) == 200, ROTATION_SECONDS, "the changed password is not accepted")
        assert log_in(client, NEW) == 401
    status = updated.wait(settled)
    assert condition(status, "Stalled") == "False"
    assert updated.instance()["id"] == vm


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def asked_key(updated: Any) -> str:
    with updated.client(NEW["token"]) as client:
        return str(ask(client)["key"])
