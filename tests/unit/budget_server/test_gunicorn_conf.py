"""gunicorn itself, on a unix socket, as process 1 starts it."""

import json
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

Write = Callable[[str], Path]
Start = Callable[..., Any]
PREDICTOR = """
    import pathlib, time
    class Predictor:
        def load(self):
            pathlib.Path("loads").open("a").write("1")
            print("user print")
        def predict(self, request):
            pathlib.Path("predicting").touch()
            time.sleep(request.payload)
            return "done"
"""


def failure(environment: dict[str, str]) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(environment["BUDGET_FAILURE_FILE"]).read_text())
    return content


def test_log_in_predict_and_drain_at_sigterm(start: Start, tmp_path: Path) -> None:
    server = start(PREDICTOR, BUDGET_WORKERS="2")
    server.until("readiness", server.ready)
    server.until("second load", lambda: (tmp_path / "loads").read_text() == "11")
    token = server.client.post("/token", data={"username": "u", "password": "p£ss-wörd-✓"}).json()[
        "access_token"
    ]
    headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": "192.0.2.7"}
    assert server.client.post("/predict", headers=headers, json={"payload": 0}).json() == "done"
    (tmp_path / "predicting").unlink()

    answers: list[Any] = []
    slow = threading.Thread(
        target=lambda: answers.append(
            server.client.post("/predict", headers=headers, json={"payload": 1.5}).json()
        )
    )
    slow.start()
    server.until("prediction", (tmp_path / "predicting").exists)
    server.process.send_signal(signal.SIGTERM)
    assert server.ended(15) == 0
    slow.join(5)
    assert answers == ["done"]
    said = server.log.read_text()
    assert "user print" in said
    assert "Traceback" not in said
    assert token not in said
    assert not (tmp_path / "home" / ".gunicorn").exists()  # no control socket


def test_a_failing_load_ends_gunicorn_with_the_users_own_traceback(
    start: Start, environment: dict[str, str]
) -> None:
    # Four workers fail at about the same time: gunicorn must still end in order.
    server = start(
        """
        class Predictor:
            def load(self): open("weights.bin")
            def predict(self, request): pass
        """,
        BUDGET_WORKERS="4",
    )
    assert server.ended(20) == 3
    assert "FileNotFoundError" in failure(environment)["message"]
    assert "predictor.py" in failure(environment)["log"]
    said = server.log.read_text()
    assert failure(environment)["log"] in said
    assert "site-packages" not in said


@pytest.mark.parametrize("death", ["os.kill(os.getpid(), 9)", "os._exit(1)", "os._exit(0)"])
def test_a_load_that_dies_without_a_word_ends_gunicorn_too(
    start: Start, environment: dict[str, str], death: str
) -> None:
    server = start(
        f"import os\nclass Predictor:\n    def load(self): {death}\n    def predict(self, r): pass\n"
    )
    assert server.ended(20) == 3
    assert failure(environment)["reason"] == "WorkerDied"
    assert "ended meanwhile" in failure(environment)["message"]


def test_a_worker_that_dies_later_is_replaced(
    start: Start, environment: dict[str, str], tmp_path: Path
) -> None:
    server = start("""
        import os, pathlib
        class Predictor:
            def load(self): pathlib.Path("loads").open("a").write("1")
            def predict(self, request): os._exit(1)
    """)
    server.until("readiness", server.ready)
    with pytest.raises(httpx.TransportError):
        server.client.post("/predict", headers={"Authorization": "Bearer static-token"})
    server.until("second load", lambda: (tmp_path / "loads").read_text() == "11")
    server.until("readiness", server.ready)
    assert not Path(environment["BUDGET_FAILURE_FILE"]).exists()


def test_workers_that_have_ended_are_not_counted(start: Start, tmp_path: Path) -> None:
    server = start(PREDICTOR)
    server.until("readiness", server.ready)
    server.process.send_signal(signal.SIGHUP)  # the new worker takes another slot, then the old one ends
    server.until("second load", lambda: (tmp_path / "loads").read_text() == "11")
    server.until("end of the first", lambda: "Finished server process" in server.log.read_text())
    headers = {"Authorization": "Bearer static-token"}

    def counted() -> bool:
        return "budget_server_workers 1.0" in server.client.get("/metrics", headers=headers).text

    server.until("one worker", counted)


def test_sigterm_ends_a_long_load_at_once(start: Start, environment: dict[str, str], tmp_path: Path) -> None:
    server = start("""
        import pathlib, time
        class Predictor:
            def load(self):
                pathlib.Path("loading").touch()
                time.sleep(60)
            def predict(self, request): pass
    """)
    server.until("load", (tmp_path / "loading").exists)
    server.process.send_signal(signal.SIGTERM)
    assert server.ended(5) == 0
    assert not Path(environment["BUDGET_FAILURE_FILE"]).exists()
