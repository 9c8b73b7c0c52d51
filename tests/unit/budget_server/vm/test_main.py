"""Process 1 as a whole, with real gunicorn and real Caddy."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

R1, R2, R3 = "a" * 12, "b" * 12, "c" * 12
BROKEN = """
class Predictor:
    def load(self): raise RuntimeError("no weights")
    def predict(self, request): pass
"""
SLOW = """
import time
class Predictor:
    def load(self): time.sleep(600)
    def predict(self, request): pass
"""

Code = Callable[[str], dict[str, str]]


def test_serves_over_https_with_the_published_root(world: Any, vm: Any, predictor: Code) -> None:
    world.publish(R1, predictor("one"))
    vm.boot()
    with vm.client() as client:
        state = world.await_state(phase="serving")
        answer = vm.predict(client, 7)
        warm = time.monotonic() - vm.started
        assert answer.json() == {"says": "one", "x": 7, "env": "y"}
        assert client.post("/predict_dict", json={"payload": {"x": 1}}).status_code == 401
        form = {"username": "me", "password": "hunter22"}
        assert client.post("/token", data=form).status_code == 200
    print(f"start of process 1 to the first good answer: {warm:.2f} s")
    assert (state["target"], state["active"], state["failure"]) == (R1, R1, None)
    assert state["boot"].keys() >= {"engine", "pull", "artifact", "environment", "load"}
    assert (state["boot"]["engine"], state["boot"]["pull"]) == (1.25, 7.5)
    assert set(world.authorizations) == {"Bearer vm-token"}


def test_plain_http_is_sent_to_https(world: Any, vm: Any) -> None:
    vm.boot()
    with vm.client():
        answer = httpx.get(f"http://127.0.0.1:{vm.http}/predict?a=b")
    assert answer.status_code == 308
    assert answer.headers["location"] == f"https://127.0.0.1:{vm.https}/predict?a=b"


def test_answers_503_with_a_reason_while_the_model_loads(world: Any, vm: Any) -> None:
    world.publish(R1, {"predictor.py": SLOW})
    vm.boot()
    with vm.client() as client:
        world.await_state(phase="load")
        answer = client.get("/")
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "5"
        assert "loaded" in answer.json()["detail"]
    code, seconds = vm.shut_down()
    assert code == 0
    assert seconds < 10


def test_rolls_out_without_a_failed_request(world: Any, vm: Any, predictor: Code) -> None:
    world.publish(R1, predictor("one"))
    vm.boot()
    with vm.client() as client:
        world.await_state(active=R1)
        seen: list[tuple[int, str]] = []
        enough = threading.Event()

        def call() -> None:
            while not enough.is_set():
                answer = vm.predict(client)
                seen.append((answer.status_code, answer.json().get("says", "")))

        caller = threading.Thread(target=call)
        caller.start()
        old = vm.children("gunicorn")
        world.publish(R2, predictor("two"))
        world.await_state(active=R2)
        _gone(vm, old)
        enough.set()
        caller.join()
    assert {status for status, _ in seen} == {200}
    assert [says for _, says in seen] == sorted(says for _, says in seen), "never back to the old one"
    assert seen[-1][1] == "two"


def test_a_failing_load_leaves_the_old_revision_serving(world: Any, vm: Any, predictor: Code) -> None:
    world.publish(R1, predictor("one"))
    vm.boot()
    with vm.client() as client:
        world.await_state(active=R1)
        world.publish(R2, {"predictor.py": BROKEN})
        state = world.await_state(phase="serving", target=R2)
        assert state["active"] == R1
        assert state["failure"]["revision"] == R2
        assert state["failure"]["reason"] == "LoadFailed"
        assert "no weights" in state["failure"]["message"]
        assert "predictor.py" in state["failure"]["log"]
        assert vm.predict(client).json()["says"] == "one"
        # the reboot serves what passed, and still says what failed
        vm.shut_down()
        world.states.clear()
        vm.boot()
        state = world.await_state(phase="serving", active=R1)
        assert state["failure"]["revision"] == R2
        # newer intent mends it at once
        world.publish(R3, predictor("three"))
        assert world.await_state(phase="serving", active=R3)["failure"] is None
        assert vm.predict(client).json()["says"] == "three"


def test_a_failing_prediction_is_told(world: Any, vm: Any, predictor: Code) -> None:
    world.publish(R1, predictor("one"), {"readiness": {"payload": {"y": 1}, "startupSeconds": 30}})
    vm.boot()
    state = world.await_state(phase="failed")
    assert state["active"] is None
    assert state["failure"]["reason"] == "ReadinessFailed"
    assert "500" in state["failure"]["message"]
    assert "KeyError: 'x'" in state["failure"]["log"], "to the last line of the traceback"
    with vm.client() as client:
        answer = client.get("/")
        assert answer.status_code == 503
        assert "could not be loaded" in answer.json()["detail"]


def test_requirements_that_cannot_be_installed(world: Any, vm: Any, predictor: Code) -> None:
    world.publish(R1, predictor("one"), {"requirements": ["./not-there"]})
    vm.boot()
    state = world.await_state(phase="failed")
    assert state["failure"]["reason"] == "RequirementsFailed"
    assert "not-there" in state["failure"]["message"]
    assert not list((vm.disk / "environments").iterdir())


def test_what_dies_is_started_again(world: Any, vm: Any, predictor: Code, until: Callable[..., Any]) -> None:
    world.publish(R1, predictor("one"))
    vm.boot()
    with vm.client() as client:
        world.await_state(active=R1)
        os.kill(vm.children("gunicorn")[0], signal.SIGKILL)
        until(lambda: world.state["failure"] and "SIGKILL" in world.state["failure"]["message"])
        assert world.state["active"] is None
        until(lambda: world.state["phase"] == "serving")
        assert world.state["failure"] is None
        door = vm.children("caddy")
        os.kill(door[0], signal.SIGKILL)
        _gone(vm, door)

        def answers() -> bool:
            try:
                return bool(vm.predict(client).status_code == 200)
            except httpx.TransportError:
                return False

        until(answers)


def test_sigterm_lets_a_running_request_finish(world: Any, vm: Any, until: Callable[..., Any]) -> None:
    slow = """
import pathlib, time
class Predictor:
    def load(self): pass
    def predict(self, request):
        pathlib.Path(request.payload["mark"]).touch()
        time.sleep(1)
        return "done"
"""
    world.publish(R1, {"predictor.py": slow}, {"readiness": {"payload": None, "startupSeconds": 30}})
    vm.boot()
    mark = vm.disk.parent / "mark"
    answers: list[httpx.Response] = []
    with vm.client() as client:
        world.await_state(active=R1)
        headers = {"Authorization": "Bearer static-token-of-the-user"}
        body = {"payload": {"mark": str(mark)}}
        caller = threading.Thread(
            target=lambda: answers.append(client.post("/predict_dict", json=body, headers=headers))
        )
        caller.start()
        until(mark.exists)
        gunicorn = vm.children("gunicorn")
        code, seconds = vm.shut_down()
        caller.join()
    assert answers[0].json() == "done"
    assert code == 0
    assert seconds < 10
    assert not any(_alive(pid) for pid in gunicorn)


def test_a_secret_that_does_not_fit_into_the_message_is_not_in_it_in_part(world: Any, vm: Any) -> None:
    refusing = """
import os
from fastapi import HTTPException
class Predictor:
    def load(self): pass
    def predict(self, request): raise HTTPException(502, "x" * 462 + os.environ["BUDGET_TOKEN"])
"""
    payload = {"readiness": {"payload": {"x": 1}, "startupSeconds": 30}}
    world.publish(R1, {"predictor.py": refusing}, payload)
    vm.boot()
    message = world.await_state(phase="failed")["failure"]["message"]
    assert "answered 502: " in message
    assert "static" not in message
    assert "x[secret]" in message


def test_half_a_secret_is_not_in_what_a_failed_load_tells(world: Any, vm: Any) -> None:
    """Wherever the message is cut, and wherever the end of the log begins."""
    telling = """
import os
class Predictor:
    def load(self):
        token = os.environ["BUDGET_TOKEN"]
        raise RuntimeError(token * 40 + "x" * 3900 + token)
    def predict(self, request): pass
"""
    world.publish(R1, {"predictor.py": telling})
    vm.boot()
    failure = world.await_state(phase="failed")["failure"]
    assert "[secret][secret]" in failure["message"]
    told = failure["message"] + failure["log"]
    assert not any(part in told for part in ("static-token", "of-the-user"))


def test_secrets_stay_out_of_log_state_and_disk(world: Any, vm: Any) -> None:
    telling = """
import os
class Predictor:
    def load(self):
        print("token", os.environ["BUDGET_TOKEN"], flush=True)
        print(dict(os.environ), flush=True)
        raise RuntimeError("password " + os.environ["BUDGET_PWD"])
    def predict(self, request): pass
"""
    world.publish(R1, {"predictor.py": telling})
    vm.boot()
    state = world.await_state(phase="failed")
    assert state["failure"]["message"].endswith("password [secret]")
    output = vm.output.read_text()
    assert "token [secret]" in output
    texts = [output, str(world.states), *(p.read_text() for p in vm.disk.glob("*.json"))]
    assert "'BUDGET_NAME': 'team/demo'" in output, "the whole environment was printed"
    signing_key = HKDF(SHA256(), 32, None, b"budgetml/token/v1").derive(bytes(range(32))).hex()
    secrets = ("hunter22", "static-token-of-the-user", signing_key)
    assert not any(secret in text for text in texts for secret in secrets)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _gone(vm: Any, pids: list[int]) -> None:
    deadline = time.monotonic() + 10
    while any(_alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "still there"
        time.sleep(0.02)


def test_code_of_another_image_is_served_once_that_image_runs(
    world: Any, vm: Any, predictor: Code, tmp_path: Path
) -> None:
    """The host ends the old container and starts the new one; here, the same process under another name."""
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "predictor.py").write_text(predictor("two")["predictor.py"])
    world.publish(R1, predictor("one"), image="r/server:1")
    vm.environ["BUDGET_BOOT_IMAGE"] = "r/server:1"
    vm.boot()
    with vm.client() as client:
        world.await_state(active=R1)
        code = {"image": "r/mine:1", "folder": str(folder)}
        world.publish(R2, {}, {"code": code}, image="r/mine:1", imageCode=True)
        world.await_state(target=R2, active=R1)
        assert vm.predict(client).json()["says"] == "one"
    assert vm.shut_down()[0] == 0
    assert f"{R2} is to be served" not in vm.output.read_text(), "nothing was tried in the wrong image"
    vm.environ["BUDGET_BOOT_IMAGE"] = "r/mine:1"
    vm.boot()
    with vm.client() as client:
        world.await_state(active=R2)
        assert vm.predict(client).json()["says"] == "two"
