"""The VM's own words: what is sound is read, everything else is as if it had not been said."""

import json
from datetime import UTC, datetime

import pytest

from budget_operator.cloud.guest import clean, report
from budget_operator.core.observed import GuestReport, Host

PEM = "-----BEGIN CERTIFICATE-----\nMIIB+/==\n-----END CERTIFICATE-----\n"
STATE = {
    "phase": "failed",
    "target": "abcdef012345",
    "active": "0123456789ab",
    "boot": {"engine": 1, "pull": 2.5},
    "failure": {
        "revision": "abcdef012345",
        "reason": "LoadFailed",
        "message": "ValueError: no",
        "log": "line 1\nline 2",
    },
    "recreated": "abcdef012345",
    "at": 1.0,
}


def test_a_sound_report() -> None:
    assert report({"state": json.dumps(STATE), "host": "{}", "ca": PEM}) == GuestReport(
        phase="failed",
        target="abcdef012345",
        active="0123456789ab",
        boot={"engine": 1.0, "pull": 2.5},
        failure_reason="LoadFailed",
        failure_message="ValueError: no",
        failure_log="line 1\nline 2",
        failure_revision="abcdef012345",
        recreated="abcdef012345",
        ca_certificate=PEM,
        host=Host(),
    )


@pytest.mark.parametrize("at", [None, True, "1", -1, 0, 1.5, 2**40])
def test_when_google_gave_notice(at: object) -> None:
    assert report({"notice": json.dumps({"at": at})}).noticed_at is None
    told = report({"notice": json.dumps({"at": 1_796_029_961})}).noticed_at
    assert told == datetime(2026, 11, 30, 9, 12, 41, tzinfo=UTC)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ('{"image":"r/s:1","reason":"","message":""}', Host("r/s:1")),
        ('{"image":"","reason":"ImagePullFailed","message":"denied"}', Host("", "ImagePullFailed", "denied")),
        ('{"reason":"ImagePullFailed","message":"denied"}', Host(None, "ImagePullFailed", "denied")),
        (
            '{"image":"r/s:2","replaced":{"image":"r/s:2","downSeconds":2.31}}',
            Host("r/s:2", replaced="r/s:2", down_seconds=2.31),
        ),
        ('{"replaced":{"image":7,"downSeconds":-1}}', Host()),
        ('{"replaced":{"image":"r/s:2","downSeconds":true}}', Host(replaced="r/s:2")),
        ("{}", Host()),
        ('{"image":["r/s:1"],"reason":7,"message":{}}', Host()),
        ('{"image":"a\\u001b[31m","reason":"not a word","message":"m\\u0000"}', Host("a[31m", "", "m")),
    ],
)
def test_the_host_tells_its_image(host: str, expected: Host) -> None:
    assert report({"host": host}) == GuestReport(host=expected)


def test_what_the_host_says_is_bounded() -> None:
    found = report({"host": json.dumps({"image": "i" * 9000, "reason": "R" * 900, "message": "m" * 9000})})
    assert [len(found.host.image or ""), len(found.host.reason), len(found.host.message)] == [512, 64, 1024]


@pytest.mark.parametrize(
    "state",
    ["", "null", "[]", "{", "1", '"x"', "[" * 20000, '{"phase":"' + "x" * 40000 + '"}', '{"phase":"root"}'],
)
def test_documents_that_are_none(state: str) -> None:
    assert report({"state": state}) == GuestReport()


@pytest.mark.parametrize(
    "field",
    [
        {"phase": 1},
        {"target": ["a"]},
        {"active": "../../etc"},
        {"boot": [1]},
        {"boot": {"engine": "1", "pull": True, "load": -1, "artifact": 1e400, "other": 1}},
        {"failure": "no"},
        {"failure": {"reason": {"a": 1}, "message": 7, "log": None, "revision": "zz"}},
    ],
)
def test_wrong_types_are_ignored(field: dict[str, object]) -> None:
    assert report({"state": json.dumps(field)}) == GuestReport()


def test_an_integer_beyond_all_floats_is_ignored() -> None:
    assert report({"state": '{"boot":{"load":1' + "0" * 400 + "}}"}).boot == {}


def test_sizes_are_bounded_and_the_log_keeps_its_end() -> None:
    failure = {"reason": "LoadFailed", "message": "m" * 9000, "log": "a" * 9000 + "end"}
    found = report({"state": json.dumps({"failure": failure})})
    assert len(found.failure_message) == 1024
    assert len(found.failure_log) == 4096
    assert found.failure_log.endswith("end")


def test_control_characters_leave() -> None:
    assert clean("a\x1b[31mred\x00\u202e\r\n\tb") == "a[31mred\n\tb"


@pytest.mark.parametrize(
    "ca", ["", "hello", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----", "x" * 99999]
)
def test_only_a_certificate_is_a_certificate(ca: str) -> None:
    assert report({"ca": ca}).ca_certificate == ""


def test_a_private_key_is_not_passed_on_with_the_certificate() -> None:
    key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
    assert report({"ca": key + PEM + key}).ca_certificate == PEM
