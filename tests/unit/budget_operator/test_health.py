"""What the process says of itself, decided from a snapshot; and that it says so over HTTP."""

from dataclasses import replace

import httpx
import pytest

from budget_operator.cluster.contact import Contact, Reading
from budget_operator.health import (
    LEASE_SILENT_SECONDS,
    SILENT_SECONDS,
    STUCK_SECONDS,
    Snapshot,
    alive,
    ready,
    report,
    serve,
)

GRACE = 15.0
FINE = Reading(ok_age=1.0)
BRIEF = Reading(9.0, 1.0, GRACE / 2, "refused")
LASTING = Reading(99.0, 1.0, GRACE * 2, "the Kubernetes API answered 403 Forbidden")
WORKING = Snapshot(active=True, holder="me", lease=FINE, list=FINE, watch=FINE, grace=GRACE)
STANDBY = Snapshot(active=False, holder="pod-7", lease=FINE, grace=GRACE)


@pytest.mark.parametrize(
    ("seen", "well", "able", "message"),
    [
        (WORKING, True, True, "active"),
        (STANDBY, True, True, "standing by: pod-7 is active"),
        (replace(STANDBY, lease=LASTING), True, False, "lease cannot be read or written: the Kubernetes API"),
        (Snapshot(active=False), True, False, "not tried yet"),
        (replace(WORKING, list=Reading()), True, False, "active: waiting for the first list"),
        (
            replace(WORKING, list=Reading(None, 1.0, 1.0, "403 Forbidden")),
            True,
            False,
            "first list; 403 Forbidden",
        ),
        (replace(WORKING, list=BRIEF, watch=BRIEF, lease=BRIEF), True, True, "active"),
        (replace(WORKING, list=LASTING), True, False, "deployments cannot be listed: the Kubernetes API"),
        (replace(WORKING, watch=LASTING), True, False, "the watch fails: the Kubernetes API answered 403"),
        (replace(WORKING, ended="watch"), False, False, "the watch has ended"),
        (replace(WORKING, watch=Reading(200.0, SILENT_SECONDS + 1)), False, False, "no request for 151 s"),
        (replace(STANDBY, lease=Reading(90.0, LEASE_SILENT_SECONDS)), True, True, "standing by"),
        (replace(STANDBY, lease=Reading(90.0, LEASE_SILENT_SECONDS + 1)), False, False, "written for 61 s"),
        (replace(STANDBY, lease=Reading(None, 99.0)), False, False, "the lease was neither read nor written"),
        (replace(WORKING, lease=Reading(99.0, 99.0)), False, False, "nor written for 99 s"),
        (replace(WORKING, resync=20.0, list=Reading(60.0, 60.0)), True, True, "active"),
        (replace(WORKING, resync=20.0, list=Reading(61.0, 61.0)), False, False, "were not listed for 61 s"),
        (replace(WORKING, list=Reading(None, 901.0)), False, False, "deployments were not listed for 901 s"),
        (replace(WORKING, longest_pass=STUCK_SECONDS + 1), False, False, "a pass has been running for 901 s"),
        (replace(WORKING, ended="worker-1", stopping=True), True, False, "stopping"),
    ],
)
def test_what_is_said(seen: Snapshot, well: bool, able: bool, message: str) -> None:
    assert (alive(seen).ok, ready(seen).ok) == (well, able)
    assert message in ready(seen).message


def test_the_report_tells_when_the_api_server_was_last_heard() -> None:
    seen = replace(WORKING, list=Reading(300.4), watch=LASTING, lease=Reading())
    assert report(seen, ready(seen)).splitlines()[1:] == [
        "lease: no answer yet",
        "list: answered 300 s ago",
        "watch: answered 99 s ago, failing for 30 s: the Kubernetes API answered 403 Forbidden",
    ]


def test_a_failure_lasts_since_the_first_of_its_row() -> None:
    now = [10.0]
    contact = Contact(lambda: now[0])
    assert contact.read() == Reading()
    contact.begin()
    assert contact.read() == Reading(None, 0.0)
    contact.succeeded()
    now[0] = 12.0
    contact.failed("one")
    now[0] = 15.0
    contact.failed("two")
    assert contact.read() == Reading(5.0, 0.0, 3.0, "two")
    contact.succeeded()
    assert contact.read() == Reading(0.0, 0.0)


def test_it_is_served() -> None:
    seen = [WORKING]
    with serve(0, lambda: seen[0]) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        assert client.get("/healthz").text.splitlines()[0] == "active"
        seen[0] = replace(WORKING, list=LASTING)
        assert [client.get(path).status_code for path in ("/healthz", "/readyz", "/x")] == [200, 503, 404]
        metrics = client.get("/metrics").text.splitlines()
    assert "budget_operator_active 1.0" in metrics
    assert "budget_operator_ready 0.0" in metrics
    assert 'budget_operator_contact_age_seconds{call="list"} 99.0' in metrics
