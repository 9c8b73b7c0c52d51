"""A deployment's environment and a client of the application around any predictor source."""

import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from budget_server.app import create_app
from budget_server.settings import Settings

Serve = Callable[..., TestClient]
KEY = "ab" * 32
TOKEN = "static-token"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    code = tmp_path / "code"
    code.mkdir()
    return {
        "BUDGET_USERNAME": "u",
        "BUDGET_PWD": "p£ss-wörd-✓",
        "BUDGET_TOKEN": TOKEN,
        "BUDGET_SIGNING_KEY": KEY,
        "BUDGET_TOKEN_TTL": "3600",
        "BUDGET_NAME": "default/iris",
        "BUDGET_REVISION": "0123456789ab",
        "BUDGET_ENTRYPOINT": "predictor:Predictor",
        "BUDGET_CODE_DIR": str(code),
        "BUDGET_FAILURE_FILE": str(tmp_path / "failure.json"),
    }


@pytest.fixture(autouse=True)
def _fresh_modules() -> Iterator[None]:
    """Each test's `predictor` module is its own, and leaves nothing in __main__."""
    path, main = list(sys.path), dict(vars(sys.modules["__main__"]))
    yield
    sys.path[:] = path
    sys.modules.pop("predictor", None)
    vars(sys.modules["__main__"]).clear()
    vars(sys.modules["__main__"]).update(main)


@pytest.fixture
def write_predictor(environment: dict[str, str]) -> Callable[[str], Path]:
    def write(source: str) -> Path:
        file = Path(environment["BUDGET_CODE_DIR"]) / "predictor.py"
        file.write_text(textwrap.dedent(source), encoding="utf-8")
        return file

    return write


@pytest.fixture
def serve(environment: dict[str, str], write_predictor: Callable[[str], Path]) -> Iterator[Serve]:
    """serve(source, NAME=value…) -> a client of the loaded application, logged in unless told otherwise."""
    with ExitStack() as stack:

        def start(
            source: str, *, login: bool = True, now: Callable[[], float] | None = None, **env: str
        ) -> TestClient:
            write_predictor(source)
            settings = Settings.from_environment(environment | env)
            app = create_app(settings, now) if now else create_app(settings)
            client = TestClient(app, follow_redirects=False, raise_server_exceptions=False)
            if login:
                client.headers["Authorization"] = f"Bearer {TOKEN}"
            return stack.enter_context(client)

        yield start
