"""What the commands print, against an application without a port."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner, Result

from localcloud.app import create_app
from localcloud.cli import _durations, app
from localcloud.context import Context, Resource
from localcloud.faults import Faults
from localcloud.journal import Entry
from localcloud.settings import GOOGLES, Settings
from localcloud.store import Store


@pytest.fixture
def run(context: Context, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with TestClient(create_app(context), base_url="http://cloud:1") as client:

        def request(method: str, url: str, json: Any, timeout: float, verify: bool) -> httpx.Response:
            answer: httpx.Response = client.request(method, url, json=json)
            return answer

        monkeypatch.setattr(httpx, "request", request)
        monkeypatch.setenv("LOCALCLOUD_URL", "http://cloud:1")

        def command(*words: str) -> Result:
            return CliRunner().invoke(app, list(words))

        yield command


def test_ls_is_one_line_per_resource_and_nothing_when_empty(run: Any, context: Context) -> None:
    assert run("ls").output == ""
    assert json.loads(run("ls", "--output", "json").output) == []
    context.registry.listers.append(lambda: [Resource("instance", "vm1", "us-central1-a", "RUNNING")])
    context.registry.listers.append(lambda: [Resource("bucket", "b", "US", "READY")])
    assert run("ls").output == "bucket    b    US             READY\ninstance  vm1  us-central1-a  RUNNING\n"
    assert json.loads(run("ls", "-o", "json").output)[1]["state"] == "RUNNING"


def test_verbs_and_logs(run: Any, context: Context) -> None:
    context.registry.verbs["preempt"] = lambda name: {"name": f"systemevent-{name}"}
    context.registry.verbs["tick"] = lambda name: {"messageId": name}
    context.registry.logs.append(lambda name: f"{name} says hello\n")
    assert run("preempt", "vm1").output == "systemevent-vm1\n"
    assert json.loads(run("tick", "job1").output) == {"messageId": "job1"}
    assert run("logs", "vm1").output == "vm1 says hello\n"


def test_an_error_is_said_and_the_exit_is_not_zero(run: Any) -> None:
    failed = run("preempt", "nope")
    assert failed.exit_code == 1
    assert "The resource 'instances/nope' was not found" in failed.output


def test_stock_outs_begin_and_end(run: Any, context: Context) -> None:
    def sold_out() -> bool:
        return context.faults.stock_out("us-central1-a", "e2-small", spot=True, when="operation") is not None

    assert run("stock-out", "us-central1-a", "e2-small").exit_code == 0
    assert sold_out()
    assert run("stock-out", "us-central1-a", "--over").exit_code == 1, "there was no such one"
    assert run("stock-out", "us-central1-a", "e2-small", "--over").exit_code == 0
    assert not sold_out()


def test_faults_are_added_listed_and_removed(run: Any, context: Context) -> None:
    made = run("fault", "add", "quota", "region=us-central1", "limit=4").output.strip()
    [row] = json.loads(run("fault", "ls", "-o", "json").output)
    assert (row["id"], row["kind"], row["limit"]) == (made, "quota", 4)
    assert '"region": "us-central1"' in run("fault", "ls").output
    assert run("fault", "rm", made).exit_code == 0
    assert run("fault", "rm", made).exit_code == 1
    run("fault", "add", "silent-zone", "zone=z")
    assert run("fault", "rm").exit_code == 0
    assert context.faults.all() == ()
    refused = run("fault", "add", "earthquake")
    assert refused.exit_code == 1
    assert "stock-out" in refused.output


FAULTS = {
    "call": ("path=/instances$", "method=POST", "code=0", "latency=2.5", "when=after"),
    "stock-out": ("zone=us-central1-a", "model=SPOT", "code=ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"),
    "quota": ("region=us-central1", "metric=PREEMPTIBLE_CPUS", "limit=4", "when=request"),
    "disabled-api": ("service=cloudscheduler",),
    "fresh-api": ("service=cloudfunctions", "seconds=60"),
    "permission-denied": ("permission=compute.instances.*",),
    "rate-limit": ("service=compute", "calls=read", "perMinute=100"),
    "scheduler-bound": ("location=europe-west1",),
    "no-scheduler": ("location=europe-north1",),
    "duplicates": ("subscription=budget-*", "copies=2"),
    "disorder": ("seconds=3",),
    "silent-zone": ("zone=us-central1-b",),
    "refused-field": ("field=scheduling.preemptionNoticeDuration",),
    "slow-boot": ("instance=budget-*", "seconds=30"),
    "crashing-vm": ("instance=budget-a", "seconds=5"),
}


def test_every_fault_is_set_by_command_outlives_a_restart_and_is_removed(run: Any, context: Context) -> None:
    assert f"tags: {', '.join(map(repr, FAULTS))}" in run("fault", "add", "earthquake").output
    for kind, fields in FAULTS.items():
        made = run("fault", "add", kind, *fields).output.strip()
        [row] = json.loads(run("fault", "ls", "-o", "json").output)
        assert (row["id"], row["kind"]) == (made, kind)
        for name, value in (field.split("=") for field in fields):
            assert str(row[name]).removesuffix(".0") == value
        assert [each.id for each in after_restart(context).all()] == [made]
        assert run("fault", "rm", made).exit_code == 0
        assert after_restart(context).all() == ()


def after_restart(context: Context) -> Faults:
    """What another process finds."""
    return Faults(Store(context.settings.home / "store.db"))


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ("stock-out", "zone"),
        ("stock-out zone=z model=CHEAP", "model"),
        ("stock-out zone=z colour=red", "colour"),
        ("call path=(", "path"),
        ("call path=x code=99", "code"),
        ("call path=x count=many", "count"),
        ("rate-limit service=bigquery calls=read perMinute=1", "service"),
        ("rate-limit service=compute calls=read", "perMinute"),
        ("slow-boot seconds=inf", "seconds"),
    ],
)
def test_a_fault_that_is_none_is_refused_in_one_line_with_its_field(run: Any, words: str, field: str) -> None:
    refused = run("fault", "add", *words.split())
    assert refused.exit_code == 1
    [line] = refused.output.splitlines()
    assert f".{field}: " in line


def test_roles_are_bound_listed_and_unbound(run: Any, context: Context, tmp_path: Path) -> None:
    role, key = tmp_path / "role.yaml", tmp_path / "key.json"
    role.write_text("title: T\nincludedPermissions:\n- compute.zones.get\n- compute.zones.list\n")
    account = "vm@p.iam.gserviceaccount.com"
    assert run("iam", "bind", account, str(role), "--on", "projects/p*").exit_code == 0
    assert run("iam", "ls").output == f"{account}  projects/p*  compute.zones.get compute.zones.list\n"
    assert context.iam.asks(account)
    for wrong in (tmp_path / "nothing.yaml", key):
        key.write_text("title: T\n")
        assert run("iam", "bind", account, str(wrong)).exit_code == 2
    assert run("iam", "key", account, str(key)).exit_code == 0
    assert (json.loads(key.read_text())["client_email"], key.stat().st_mode & 0o77) == (account, 0)
    assert run("iam", "unbind", account).exit_code == 0
    assert run("iam", "unbind", account).exit_code == 1
    assert run("iam", "ls").output == ""


def test_names_are_set_and_unset(run: Any, context: Context) -> None:
    assert run("dns", "set", "model.test", "A", "10.0.0.7", "10.0.0.8").exit_code == 0
    assert context.names.values("model.test", "A") == ["10.0.0.7", "10.0.0.8"]
    for words in (("x..y", "A", "10.0.0.7"), ("x.y", "A", "10.0.0"), ("x.y", "AAAA", "10.0.0.7")):
        refused = run("dns", "set", *words)
        assert (refused.exit_code, len(refused.output.splitlines())) == (1, 1)
    assert run("dns", "unset", "model.test").exit_code == 0
    assert "model.test" in run("dns", "unset", "model.test").output


def test_the_journal_is_counted_beyond_what_it_prints(run: Any, context: Context) -> None:
    for _ in range(3):
        context.journal.record(Entry(0, "t", "POST", "/y", 200, "me", "compute.instances.create", True))
    assert len(run("journal", "--limit", "2").output.splitlines()) == 2
    assert run("journal", "--limit", "2", "--effective", "--count").output == "3\n"
    assert run("journal", "--limit", "-1").output == "limit must be a whole number, not '-1'\n"


def test_the_journal_is_printed_and_asked(run: Any, context: Context) -> None:
    insert = "compute.instances.create"
    context.journal.record(Entry(0, "t", "GET", "/x", 200, "me"))
    context.journal.record(Entry(0, "t", "POST", "/y", 503, "me", insert, took_effect=True))
    context.journal.record(Entry(0, "t", "POST", "/y", 503, "me", insert))
    assert run("journal").output.splitlines()[0] == "t  200  GET   /x  me"
    assert run("journal", "--permission", insert, "--count").output == "2\n"
    assert run("journal", "--permission", "compute.*", "--effective", "--count").output == "1\n"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nowhere", "http://["])
def test_without_a_server_the_variable_is_named(url: str) -> None:
    failed = CliRunner().invoke(app, ["ls", "--url", url])
    assert failed.exit_code == 1
    assert "LOCALCLOUD_URL" in failed.output


def test_listen_must_name_a_port() -> None:
    assert CliRunner().invoke(app, ["serve", "--listen", "nowhere"]).exit_code == 2


@pytest.mark.parametrize("text", ["provisioning", "provisioning=soon", "provisioning=-1", "patience=3"])
def test_a_duration_that_means_nothing_is_refused_with_those_that_do(text: str) -> None:
    failed = CliRunner().invoke(app, ["serve", "--duration", text])
    assert failed.exit_code == 2
    assert "stop_spot" in failed.output


def test_durations_are_googles_but_for_what_is_said() -> None:
    found = _durations(["google", "stop_spot=3"])
    assert (found.provisioning, found.notice, found.stop_spot) == (GOOGLES.provisioning, 120, 3)


@pytest.mark.parametrize("subnet", ["10.202.50.0/24", "127.0.0.0/7", "::1/128", "everywhere"])
def test_guests_must_be_on_loopback(subnet: str) -> None:
    failed = CliRunner().invoke(app, ["serve", "--backend=simulated-guests", f"--subnet={subnet}"])
    assert failed.exit_code == 2
    assert "--subnet" in failed.output


@pytest.mark.parametrize(
    ("backend", "subnet"), [("docker", "10.202.50.0/24"), ("simulated-guests", "127.77.0.0/16")]
)
def test_each_backend_has_its_own_subnet(
    backend: str, subnet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Settings] = []
    monkeypatch.setattr("localcloud.app.build_context", built.append)
    monkeypatch.setattr("localcloud.app.create_app", lambda _: None)
    monkeypatch.setattr("uvicorn.run", lambda *_, **__: None)
    done = CliRunner().invoke(app, ["serve", f"--backend={backend}", f"--home={tmp_path}"])
    assert done.exit_code == 0, done.output
    assert [(settings.subnet, settings.guests) for settings in built] == [(subnet, backend != "docker")]
