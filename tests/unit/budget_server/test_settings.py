"""What the server is told; a server that cannot work refuses to start."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from budget_server.errors import SettingsError
from budget_server.settings import Settings

REQUIRED = [
    "BUDGET_USERNAME",
    "BUDGET_PWD",
    "BUDGET_TOKEN",
    "BUDGET_SIGNING_KEY",
    "BUDGET_NAME",
    "BUDGET_CODE_DIR",
]


def test_reads_every_variable(environment: dict[str, str]) -> None:
    settings = Settings.from_environment(environment | {"BUDGET_WORKERS": "2", "BUDGET_THREADS": "8"})
    assert (settings.username, settings.name, settings.revision) == ("u", "default/iris", "0123456789ab")
    assert settings.password.get_secret_value() == "p£ss-wörd-✓"
    assert settings.signing_key.get_secret_value() == b"\xab" * 32
    assert (settings.workers, settings.threads, settings.token_ttl) == (2, 8, 3600)
    assert settings.code_dir == Path(environment["BUDGET_CODE_DIR"])


def test_defaults_suit_a_person(environment: dict[str, str]) -> None:
    settings = Settings.from_environment({name: environment[name] for name in REQUIRED})
    assert (settings.entrypoint, settings.workers, settings.threads) == ("predictor:Predictor", 1, 4)
    assert settings.failure_file is None


@pytest.mark.parametrize("value", [None, "", "  "])
@pytest.mark.parametrize("name", REQUIRED)
def test_names_what_is_missing_or_empty(environment: dict[str, str], name: str, value: str | None) -> None:
    del environment[name]
    given = environment if value is None else environment | {name: value}
    with pytest.raises(SettingsError, match=f"{name} is missing or empty"):
        Settings.from_environment(given)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("BUDGET_SIGNING_KEY", "xyz", "not hexadecimal"),
        ("BUDGET_SIGNING_KEY", "ab" * 31, "shorter than 32 bytes"),
        ("BUDGET_PWD", "é" * 513, "longer than 1024 bytes"),
        ("BUDGET_TOKEN", "secret\n", "white space"),
        ("BUDGET_ENTRYPOINT", "predictor.Predictor", "module:Class"),
        ("BUDGET_CODE_DIR", "/nowhere", "not a directory"),
        ("BUDGET_WORKERS", "0", "greater than or equal to 1"),
        ("BUDGET_THREADS", "many", "integer"),
        ("BUDGET_TOKEN_TTL", "-1", "greater than or equal to 1"),
        ("BUDGET_PWD", "\udce9", "BUDGET_PWD"),
    ],
)
def test_says_what_is_wrong(environment: dict[str, str], name: str, value: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem) as caught:
        Settings.from_environment(environment | {name: value})
    assert name in str(caught.value)
    if name in ("BUDGET_PWD", "BUDGET_TOKEN", "BUDGET_SIGNING_KEY"):
        assert value not in str(caught.value)


def test_no_secret_in_its_text_and_frozen(environment: dict[str, str]) -> None:
    settings = Settings.from_environment(environment)
    for secret in ("p£ss", "static-token", "\\xab", "abab"):
        assert secret not in repr(settings)
    with pytest.raises(ValidationError):
        settings.name = "other"  # type: ignore[misc]


def test_gunicorn_refuses_to_start_and_names_the_variable(environment: dict[str, str]) -> None:
    env = {**os.environ, **environment, "BUDGET_PWD": ""}
    command = [sys.executable, "-m", "gunicorn", "-c", "python:budget_server.gunicorn_conf"]
    ended = subprocess.run(
        [*command, "budget_server.app:app"], env=env, capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode != 0
    assert "BUDGET_PWD is missing or empty" in ended.stderr
    assert "Traceback" not in ended.stderr
