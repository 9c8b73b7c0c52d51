"""From an instance's metadata to what its guest tells."""

from __future__ import annotations

import json
from typing import Any

import pytest

from localcloud.guests.guest import Failure, Guest, attributes, read

IP = "127.77.0.10"


def metadata(**tls: str) -> dict[str, str]:
    document = {"deployment": "budget-x", "revision": "a1b2", "image": "r/s:1", "tls": tls}
    return {"budget-config": json.dumps(document)}


def told(guest: Guest) -> dict[str, Any]:
    found = attributes(guest, "PEM", 7)
    return {key: json.loads(value) if key != "budgetml/ca" else value for key, value in found.items()}


def test_it_tells_what_a_vm_that_serves_would() -> None:
    found = told(read(IP, metadata(mode="Internal")))
    state = found["budgetml/state"]
    assert (state["phase"], state["target"], state["active"], state["failure"]) == (
        *("serving", "a1b2", "a1b2"),
        None,
    )
    assert state["at"] == 7
    assert found["budgetml/host"]["image"] == "r/s:1"
    assert found["budgetml/ca"] == "PEM"
    assert (found["budgetml/certificate"]["name"], found["budgetml/certificate"]["state"]) == (IP, "Valid")


def test_it_tells_what_a_vm_that_fails_would() -> None:
    state = told(read(IP, metadata(), Failure("LoadFailed", "no such file")))["budgetml/state"]
    assert (state["phase"], state["active"]) == ("failed", None)
    failure = {"revision": "a1b2", "reason": "LoadFailed", "message": "no such file", "log": ""}
    assert state["failure"] == failure


@pytest.mark.parametrize(
    ("tls", "names"),
    [
        ({}, (IP,)),
        ({"mode": "Off"}, (IP,)),
        ({"mode": "Acme"}, ("127-77-0-10.sslip.io", IP)),
        ({"mode": "Acme", "host": "model.example.org"}, ("model.example.org", IP)),
    ],
)
def test_names(tls: dict[str, str], names: tuple[str, ...]) -> None:
    guest = read(IP, metadata(**tls))
    assert guest.names == names
    assert guest.is_encrypted == (tls.get("mode") != "Off")
    assert (told(guest)["budgetml/ca"] == "PEM") == (not tls)


@pytest.mark.parametrize("config", ["", "{", "[]", '{"revision": 3}', '{"tls": "Off"}', "[" * 100_000])
def test_metadata_that_say_nothing_make_a_guest_that_tells_nothing(config: str) -> None:
    guest = read(IP, {"budget-config": config})
    assert guest == Guest(IP)
    assert attributes(guest, "PEM", 7) == {}
