"""Mistakes that show once a VM is paid for: the cause stands in the status, no hot loop, mended in place.

One VM goes from mistake to mistake and serves in the end; each test goes on where the one before ended. An
image that cannot be pulled is a setting of the installation: `test_vm_boot` has it.
"""

import re
from collections.abc import Callable
from typing import Any

import pytest

GOOD = """
class Predictor:
    def load(self):
        self.answer = 42

    def predict(self, request):
        return {"answer": self.answer}
"""
BROKEN = """
import time

class Weights:
    def read(self):
        raise FileNotFoundError("weights.bin was never uploaded")

class Predictor:
    def load(self):
        print(f"load begins at {time.time():.2f}")
        self.weights = Weights().read()

    def predict(self, request):
        return self.weights
"""
READINESS = {"payload": {"question": "?"}, "startupSeconds": 60}


@pytest.fixture(scope="module")
def bad(deploy: Callable[[str], Any]) -> Any:
    return deploy("bad-input")


def failed(reason: str) -> Callable[[dict[str, Any]], bool]:
    def holds(status: dict[str, Any]) -> bool:
        conditions = {each["type"]: each for each in status.get("conditions", ())}
        return (
            conditions["ModelServing"]["status"] == "False"
            and status.get("lastFailure", {}).get("reason") == conditions["ModelServing"]["reason"] == reason
        )

    return holds


def test_a_requirement_at_odds_with_the_server_is_named_with_its_opponent(bad: Any) -> None:
    bad.apply({"predictor": {"inline": GOOD}, "requirements": ["pydantic==1.10.13"], "readiness": READINESS})
    status = bad.wait(failed("RequirementsFailed"), 120)
    assert bad.condition("Ready", status)["status"] == "False"
    assert bad.condition("Ready", status)["reason"] == "RequirementsFailed"
    message = status["lastFailure"]["message"]
    assert "pydantic==1.10.13" in message
    assert "pydantic>=2" in message, "what it collides with"
    assert "the server's own" in message
    assert bad.condition("ModelServing", status)["message"] == message
    assert status["state"] == "Failed"


def test_a_version_that_does_not_exist_is_named(bad: Any) -> None:
    bad.apply({"predictor": {"inline": GOOD}, "requirements": ["tomli==999.0"], "readiness": READINESS})

    def told(status: dict[str, Any]) -> bool:
        about = status.get("lastFailure", {}).get("message", "")
        return failed("RequirementsFailed")(status) and "tomli==999.0" in about

    status = bad.wait(told)
    assert "tomli==999.0" in status["lastFailure"]["log"]


def test_a_load_that_fails_shows_the_users_own_traceback(bad: Any) -> None:
    bad.apply({"predictor": {"inline": BROKEN}, "readiness": READINESS})
    status = bad.wait(failed("LoadFailed"))
    failure = status["lastFailure"]
    assert "FileNotFoundError: weights.bin was never uploaded" in failure["message"]
    trace = failure["log"].splitlines()
    assert trace[0].startswith("Traceback")
    files = [line for line in trace if line.lstrip().startswith("File ")]
    assert [re.sub(r".*/", "", line) for line in files] == [
        'predictor.py", line 11, in load',
        'predictor.py", line 6, in read',
    ], "none of the server's own frames"
    assert "weights.bin" in bad.stack.kubectl("describe", "bd", bad.name).stdout


def test_it_is_tried_again_after_growing_pauses(bad: Any) -> None:
    def begun() -> list[float]:
        return [float(at) for at in re.findall(r"load begins at ([0-9.]+)", bad.console())]

    bad.wait(lambda _: len(begun()) >= 3, 90)
    first, second, third = begun()[:3]
    assert second - first >= 10
    assert third - second >= 20
    assert len(bad.instances()) == 1


def test_a_good_spec_is_served_by_the_same_vm(bad: Any) -> None:
    before = bad.instance()["id"]
    bad.apply({"predictor": {"inline": GOOD}, "requirements": ["tomli>=2"], "readiness": READINESS})
    status = bad.wait(lambda status: bad.condition("Ready", status).get("status") == "True")
    assert bad.instance()["id"] == before
    assert status["state"] == "Serving"
    assert "lastFailure" not in status
    assert bad.condition("Reconciling", status)["status"] == "False"
