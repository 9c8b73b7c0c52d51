"""Lines for programs and for people, and which pass they are about."""

import json
import logging
from collections.abc import Iterator

import pytest

from budget_operator import logs
from budget_operator.core import trail
from budget_operator.core.artifact import encoded_key


@pytest.fixture(autouse=True)
def _root_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(captured: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in captured.splitlines()]


def test_json_lines_say_which_pass_they_are_of(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up({"BUDGET_LOG_FORMAT": "json"})
    with trail.following("ml", "iris"):
        logging.getLogger("budget_operator.process").info("looks")
        trail.read(3)
        logging.getLogger("google.auth").warning("a\nb %s", "ü")
    logging.getLogger("kopf").warning("outside")
    first, second, third = lines(capsys.readouterr().err)
    assert (first["namespace"], first["name"], first["generation"]) == ("ml", "iris", 0)
    assert (second["message"], second["generation"], second["pass"]) == ("a\nb ü", 3, first["pass"])
    assert (second["severity"], second["logger"], second["thread"]) == (
        "WARNING",
        "google.auth",
        "MainThread",
    )
    assert str(second["time"]).endswith("+00:00")
    assert third.keys() == {"time", "severity", "message", "logger", "thread"}


def test_each_pass_has_an_id_of_its_own() -> None:
    with trail.following("a", "b") as first, trail.following("a", "c") as second:
        assert trail.current() is second
        assert first.id != second.id
    assert trail.current() is None
    trail.read(1)


def test_a_traceback_is_in_the_same_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up({"BUDGET_LOG_FORMAT": "json"})
    try:
        int("why")
    except ValueError:
        logging.getLogger("x").exception("failed")
    (line,) = lines(capsys.readouterr().err)
    assert str(line["exception"]).endswith("ValueError: invalid literal for int() with base 10: 'why'")


@pytest.mark.parametrize("form", logs.FORMATS)
def test_no_key_is_logged(capsys: pytest.CaptureFixture[str], form: str) -> None:
    """Not even where Google has repeated it and the call failed in a way that nobody knows."""
    logs.set_up({"BUDGET_LOG_FORMAT": form})
    key = encoded_key(bytes(range(32)))
    try:
        int(f"said Google: {key}")
    except ValueError:
        logging.getLogger("x").exception("failed with %s", key)
    written = capsys.readouterr().err
    assert "said Google: …" in written
    assert key not in written


def test_text_lines_say_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up({})
    with trail.following("ml", "iris") as made:
        logging.getLogger("x").info("looks")
    logging.getLogger("x").info("outside")
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith(f"INFO MainThread x [ml/iris generation 0 pass {made.id}]: looks")
    assert second.endswith("INFO MainThread x: outside")


def test_the_level_is_kept_and_chatty_loggers_are_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up({"BUDGET_LOG_LEVEL": "warning"})
    for name in ("x", "kopf.objects"):
        logging.getLogger(name).info("not told")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["BUDGET_LOG_FORMAT", "BUDGET_LOG_LEVEL"])
def test_a_wrong_setting_is_named(name: str) -> None:
    with pytest.raises(logs.LogSettingsError, match=f"{name}: 'loud'"):
        logs.set_up({name: "loud"})


def test_clients_lines_come_through_but_never_whole_requests(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("google").propagate = False  # as google.api_core does when a client is imported
    logs.set_up({"BUDGET_LOG_FORMAT": "json", "BUDGET_LOG_LEVEL": "DEBUG"})
    client = logging.getLogger("google.cloud.compute_v1")
    client.debug("a request with metadata")
    client.warning("slow")
    assert [line["message"] for line in lines(capsys.readouterr().err)] == ["slow"]
