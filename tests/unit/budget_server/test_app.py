"""The application's start and end: loaded before it accepts, and a failure told to who started it."""

import asyncio
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from budget_server.app import ModelServer, create_app
from budget_server.metrics import State
from budget_server.settings import Settings

Write = Callable[[str], Path]


def run_lifespan(app: ModelServer) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> dict[str, Any]:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(dict(message))

    asyncio.run(app({"type": "lifespan"}, receive, send))
    return sent


def test_the_model_is_loaded_before_startup_completes(
    environment: dict[str, str], write_predictor: Write
) -> None:
    write_predictor("class Predictor:\n    def load(self): pass\n    def predict(self, r): pass\n")
    app = create_app(Settings.from_environment(environment))
    assert app.parts.slot.state is State.LOADING
    sent = run_lifespan(app)
    assert [message["type"] for message in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    assert (app.parts.slot.state, app.parts.host.state) == (State.LOADED, "ready")


def test_a_failed_load_is_logged_and_reported(
    environment: dict[str, str], write_predictor: Write, caplog: pytest.LogCaptureFixture
) -> None:
    file = write_predictor("import nonesuch\n")
    app = create_app(Settings.from_environment(environment))
    assert [message["type"] for message in run_lifespan(app)] == ["lifespan.startup.failed"]
    assert app.parts.slot.state is State.TOLD
    report = json.loads(Path(environment["BUDGET_FAILURE_FILE"]).read_text())
    assert report["reason"] == "LoadFailed"
    assert "No module named 'nonesuch'" in report["message"]
    assert f'File "{file}", line 1' in report["log"]
    assert report["log"] in caplog.text


def test_the_module_needs_no_environment_until_app_is_asked_for() -> None:
    code = textwrap.dedent("""
        import budget_server.app as module
        for name in ("app", "nothing"):
            try:
                getattr(module, name)
            except Exception as error:
                print(repr(error))
    """)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={}, check=True)
    assert "BUDGET_USERNAME is missing or empty" in ended.stdout
    assert ended.stdout.endswith("AttributeError('nothing')\n")
