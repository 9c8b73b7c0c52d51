"""What is told to the operator."""

import json
import threading
from collections.abc import Callable
from typing import Any

from budget_server.vm.errors import LoadFailed
from budget_server.vm.metadata import MetadataUnavailable
from budget_server.vm.report import Reporter, State
from budget_server.vm.revisions import Failure
from budget_server.vm.room import Usage


def test_the_state_has_the_agreed_form() -> None:
    failure = Failure.of("b" * 12, LoadFailed("ouch", "line"), attempts=3, retry_at=5)
    state = State("serving", "b" * 12, "a" * 12, {"load": 1.23456}, failure)
    assert json.loads(state.to_json(99.9)) == {
        "phase": "serving",
        "target": "b" * 12,
        "active": "a" * 12,
        "boot": {"load": 1.23},
        "failure": {"revision": "b" * 12, "reason": "LoadFailed", "message": "ouch", "log": "line"},
        "at": 99,
    }
    assert json.loads(State(recreated="c" * 12).to_json(0))["recreated"] == "c" * 12
    told = json.loads(State(usage=Usage(((7, 90 * 2**20),), 2**30, 2**29)).to_json(0))
    assert told["workers"] == [{"pid": 7, "rssMiB": 90}]
    assert told["memory"] == {"totalMiB": 1024, "availableMiB": 512}


def test_texts_are_bounded_in_bytes_and_cleaned() -> None:
    error = LoadFailed("m" * 5000, "\x1b[31m\x00" + "€" * 5000 + "end")
    assert len(error.message.encode()) == 1024
    assert len(error.log.encode()) <= 4096
    assert error.log.endswith("€end")
    assert "\x1b" not in LoadFailed("a\x1b\x00b", "").message


def test_the_latest_value_is_written_however_often_it_fails(until: Callable[..., Any]) -> None:
    written: dict[str, str] = {}
    refused = threading.Event()
    open_again = threading.Event()

    def publish(key: str, value: str) -> None:
        if not open_again.is_set():
            refused.set()
            raise MetadataUnavailable("503")
        written[key] = value

    reporter = Reporter(publish, clock=lambda: 7)
    reporter.start()
    reporter.update(phase="load")
    assert refused.wait(5)
    reporter.update(phase="serving")
    reporter.certificate_authority("pem")
    open_again.set()
    until(lambda: len(written) == 2)
    assert json.loads(written["state"])["phase"] == "serving"
    assert written["ca"] == "pem"


def test_closing_writes_what_is_left() -> None:
    written: list[str] = []
    reporter = Reporter(lambda _, value: written.append(value))
    reporter.update(phase="load")
    reporter.took("load", 2)
    reporter.start()
    reporter.close(5)
    assert json.loads(written[-1])["boot"] == {"load": 2}
