"""A budget that is spent while nobody is there but the VM and the function: real machines, real ticks."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from dev import environment, plain
from dev.progress import until

PREDICTOR = """
class Predictor:
    def load(self):
        pass

    def predict(self, request):
        return 1
"""
LAST = "9999-12"
"""Of the limit: the present month may end meanwhile. For the operator it is not the limit that it wants."""
LOOKS = 75
"""Seconds within which the VM looks at its limit."""


@pytest.fixture(scope="module")
def limited(deploy: Callable[[str], Any]) -> Any:
    made = deploy("limited")
    made.apply({"predictor": {"inline": PREDICTOR}, "budget": {"monthly": 30}})
    return made


@pytest.fixture(scope="module")
def free(deploy: Callable[[str], Any]) -> Any:
    made = deploy("free")
    made.apply({"predictor": {"inline": PREDICTOR}})
    return made


def ready(deployment: Any, seconds: float = 120) -> dict[str, Any]:
    found: dict[str, Any] = deployment.wait(
        lambda status: deployment.condition("Ready", status).get("status") == "True", seconds
    )
    return found


def call(deployment: Any, verb: str, body: Any = None) -> None:
    """Somebody does something to its VM by hand."""
    vm = deployment.instance()
    zone = vm["zone"].rpartition("/")[2]
    base = f"{deployment.stack.home.cloud_url}/compute/v1/projects/{environment.PROJECT}/zones/{zone}"
    url = f"{base}/instances/{vm['name']}/{verb}"
    plain.post(url, json=body or {}, timeout=30, trust_env=False).raise_for_status()


def limit(deployment: Any) -> dict[str, Any]:
    items = deployment.instance()["metadata"]["items"]
    found: dict[str, Any] = json.loads(next(each["value"] for each in items if each["key"] == "budget-limit"))
    return found


def spend(deployment: Any, **fields: str) -> None:
    """Have its limit be reached now."""
    metadata = deployment.instance()["metadata"]
    spent = limit(deployment) | {"deadline": int(time.time())} | fields
    value = json.dumps(spent, separators=(",", ":"))
    items = [each for each in metadata["items"] if each["key"] != "budget-limit"]
    call(deployment, "setMetadata", metadata | {"items": [*items, {"key": "budget-limit", "value": value}]})


def is_in(deployment: Any, status: str) -> Callable[[], bool]:
    return lambda: bool(deployment.instance()["status"] == status)


def is_over(status: dict[str, Any]) -> bool:
    """Its outage: the status may be of before that."""
    return any(each.get("downSeconds") is not None for each in status.get("timeline", ()))


def tick(deployment: Any) -> None:
    jobs = f"{deployment.stack.home.cloud_url}/v1/projects/{environment.PROJECT}/locations/us-central1/jobs"
    (job,) = plain.get(jobs, trust_env=False).json()["jobs"]
    url = f"{deployment.stack.home.cloud_url}/v1/{job['name']}:run"
    plain.post(url, json={}, trust_env=False).raise_for_status()


def test_vm_and_function_keep_it_without_the_operator(limited: Any, free: Any) -> None:
    status = ready(limited)
    ready(free)
    assert limited.condition("WithinBudget", status)["status"] == "True"
    assert free.condition("WithinBudget", free.status()) == {}
    assert limit(limited)["deadline"] > time.time()
    limited.stack.operator.kill()
    try:
        spend(limited, month=LAST)
        until(is_in(limited, "TERMINATED"), LOOKS + 60, lambda: f"it is on\n{limited.console()}")
        assert "the month's budget is spent: this machine goes off" in limited.console()
        call(free, "stop")
        until(is_in(free, "TERMINATED"), 60, "the other one was not stopped")
        tick(limited)
        until(is_in(free, "RUNNING"), 90, "the function does not start the other one")
        assert limited.instance()["status"] == "TERMINATED"
    finally:
        limited.stack.start_operator()
    limited.wait(is_over, 180)
    assert [each["cause"] for each in ready(limited)["timeline"]] == ["Paused"]


def test_the_operator_stops_it_and_a_higher_one_starts_it_again(limited: Any) -> None:
    """A stopped VM has given its address back, and gets another one."""
    ready(limited)
    until(lambda: limit(limited)["month"] != LAST, 60, "the operator does not write its own limit")
    spend(limited)
    limited.wait(lambda status: status.get("state") == "OverBudget", LOOKS + 60)
    until(lambda: limited.status().get("ip") is None, 60, "it keeps its address")
    message = limited.condition("InstanceRunning")["message"]
    assert message.startswith("$30.00 for ")
    assert message.endswith("and the VM is off; paid on: 20 GiB of disk")
    limited.apply({"predictor": {"inline": PREDICTOR}, "budget": {"monthly": 31}})
    status = ready(limited)
    assert status["endpoint"] == f"https://{status['ip']}"
    with limited.client() as client:
        assert client.get("/healthz/ready").status_code == 200
