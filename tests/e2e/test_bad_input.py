"""Mistakes that show once a VM is paid for: the cause stands in the status, no hot loop, mended in place.

One VM goes from mistake to mistake and serves in the end; each test goes on where the one before ended. An
image that cannot be pulled is a setting of the installation: `test_vm_boot` has it.
"""

import re
from collections.abc import Callable, Iterator
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
import os
import time

class Weights:
    def read(self):
        print("reading with", os.environ["API_KEY"])
        raise FileNotFoundError(f"weights.bin?key={os.environ['API_KEY']} was never uploaded")

class Predictor:
    def load(self):
        print(f"load begins at {time.time():.2f}")
        self.weights = Weights().read()

    def predict(self, request):
        return self.weights
"""
WRONG_ANSWER = """
class Predictor:
    def load(self): pass

    def predict(self, request):
        return {"answer": request.payload["no such key"]}
"""
SECRET = "s3cret-key-of-somebody"
READINESS = {"payload": {"question": "?"}, "startupSeconds": 60}


@pytest.fixture(scope="module")
def bad(deploy: Callable[[str], Any]) -> Iterator[Any]:
    made = deploy("bad-input")
    yield made
    made.stack.kubectl("delete", "secret", "bad-input-env", "--namespace=default", "--ignore-not-found")


def failed(reason: str) -> Callable[[dict[str, Any]], bool]:
    def holds(status: dict[str, Any]) -> bool:
        found = {each["type"]: (each["status"], each["reason"]) for each in status["conditions"]}
        told = status.get("lastFailure", {}).get("reason")
        return (found["ModelServing"], told) == (("False", reason), reason)

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
    assert bad.condition("ModelServing", status)["message"].startswith(message.rstrip(". "))
    assert status["state"] == "Failed"


def test_a_version_that_does_not_exist_is_named(bad: Any) -> None:
    bad.apply({"predictor": {"inline": GOOD}, "requirements": ["tomli==999.0"], "readiness": READINESS})

    def told(status: dict[str, Any]) -> bool:
        about = status.get("lastFailure", {}).get("message", "")
        return failed("RequirementsFailed")(status) and "tomli==999.0" in about

    status = bad.wait(told)
    assert "tomli==999.0" in status["lastFailure"]["log"]


def test_a_load_that_fails_shows_the_users_own_traceback(bad: Any) -> None:
    bad.apply_secret("bad-input-env", {"key": SECRET})
    secret = {"name": "API_KEY", "valueFrom": {"secretKeyRef": {"name": "bad-input-env", "key": "key"}}}
    bad.apply({"predictor": {"inline": BROKEN}, "env": [secret], "readiness": READINESS})
    status = bad.wait(failed("LoadFailed"))
    failure = status["lastFailure"]
    assert "FileNotFoundError: weights.bin?key=[secret] was never uploaded" in failure["message"]
    trace = failure["log"].splitlines()
    assert trace[0].startswith("Traceback")
    files = [line for line in trace if line.lstrip().startswith("File ")]
    assert [re.sub(r".*/", "", line) for line in files] == [
        'predictor.py", line 13, in load',
        'predictor.py", line 8, in read',
    ], "none of the server's own frames"
    described = bad.stack.kubectl("describe", "bd", bad.name).stdout
    assert "weights.bin" in described
    assert "reading with [secret]" in bad.console()
    assert SECRET not in described + bad.console()


def test_it_is_tried_again_after_growing_pauses(bad: Any) -> None:
    def begun() -> list[float]:
        return [float(at) for at in re.findall(r"load begins at ([0-9.]+)", bad.console())]

    bad.wait(lambda _: len(begun()) >= 3, 90)
    first, second, third = begun()[:3]
    assert second - first >= 10
    assert third - second >= 20
    assert len(bad.instances()) == 1


def test_a_model_that_cannot_answer_its_own_payload_does_not_serve(bad: Any) -> None:
    bad.apply({"predictor": {"inline": WRONG_ANSWER}, "readiness": READINESS})
    status = bad.wait(failed("ReadinessFailed"))
    assert "readiness.payload" in status["lastFailure"]["message"]
    assert "KeyError: 'no such key'" in status["lastFailure"]["log"]


def test_a_good_spec_is_served_by_the_same_vm(bad: Any) -> None:
    before = bad.instance()["id"]
    bad.apply({"predictor": {"inline": GOOD}, "requirements": ["tomli>=2"], "readiness": READINESS})
    status = bad.wait(lambda status: bad.condition("Ready", status).get("status") == "True")
    assert bad.instance()["id"] == before
    assert status["state"] == "Serving"
    assert "lastFailure" not in status
    assert bad.condition("Reconciling", status)["status"] == "False"
