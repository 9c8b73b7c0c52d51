"""The keep-alive's decisions, and that it ends well whatever it is sent."""

import base64
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
NOW = 1_795_521_600.0


@pytest.fixture(scope="module")
def main() -> Any:
    """The module as it is deployed: a file of its own, no package, no environment."""
    path = ROOT / "restart_function" / "main.py"
    spec = importlib.util.spec_from_file_location("restart_function_main", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def machine(main: Any) -> Any:
    def make(name: str, status: str = "TERMINATED", **changes: Any) -> Any:
        fields: dict[str, Any] = {"zone": "z", "wanted": "running", "schedule": "s1", "incarnation": "1"}
        return main.Machine(name=name, status=status, **{**fields, **changes})

    return make


@pytest.mark.parametrize(
    ("status", "action"),
    [
        ("TERMINATED", "START"),
        ("STOPPED", "START"),
        ("STOPPING", "WAIT"),
        ("PROVISIONING", "SKIP"),
        ("STAGING", "SKIP"),
        ("RUNNING", "SKIP"),
        ("SUSPENDED", "RESUME"),
        ("SUSPENDING", "WAIT"),
        ("REPAIRING", "SKIP"),
        ("DEPROVISIONING", "SKIP"),
        ("SOMETHING_NEW", "SKIP"),
    ],
)
def test_what_is_done_in_each_state(main: Any, machine: Any, status: str, action: str) -> None:
    assert main.choose([machine("a", status)], "s1", NOW) == [(machine("a", status), main.Action[action])]


@pytest.mark.parametrize(
    ("changes", "schedule", "action"),
    [
        ({"wanted": "stopped"}, "s1", "SKIP"),
        ({"wanted": ""}, "s1", "SKIP"),
        ({"schedule": "s2"}, "s1", "SKIP"),
        ({"schedule": "s2"}, "", "START"),
        ({"schedule": ""}, "s1", "SKIP"),
        ({"wanted": "stopped"}, "", "SKIP"),
        ({"moves": True}, "s1", "SKIP"),
        ({"moves": True}, "", "SKIP"),
        ({"moves": True, "wanted": "changing", "stopped_at": 1.0}, "", "SKIP"),
        ({"moves": True, "status": "SUSPENDED"}, "", "SKIP"),
        ({"reachable": False}, "s1", "SKIP"),
    ],
)
def test_only_what_is_wanted_and_due(
    main: Any, machine: Any, changes: dict[str, Any], schedule: str, action: str
) -> None:
    ((_, chosen),) = main.choose([machine("a", **changes)], schedule, NOW)
    assert chosen is main.Action[action]


@pytest.mark.parametrize(
    ("ago", "action"), [(0.0, "SKIP"), (590.0, "SKIP"), (610.0, "START"), (-60.0, "SKIP"), (NOW, "SKIP")]
)
def test_a_vm_that_is_being_changed_is_left_alone_for_some_minutes(
    main: Any, machine: Any, ago: float, action: str
) -> None:
    changing = machine("a", wanted="changing", stopped_at=NOW - ago)
    assert main.choose([changing], "s1", NOW) == [(changing, main.Action[action])]


def test_what_is_read_of_a_vm(main: Any) -> None:
    from google.cloud import compute_v1

    vm = compute_v1.Instance(
        name="a",
        zone="https://www.googleapis.com/compute/v1/projects/p/zones/z1-a",
        status="TERMINATED",
        labels={"budgetml-wanted": "changing"},
        last_stop_timestamp="2026-11-24T04:00:00.000-08:00",
    )
    read = main._machine(vm)
    assert (read.key, read.wanted, read.stopped_at) == (("z1-a", "a"), "changing", 1795521600.0)
    assert main._machine(compute_v1.Instance(name="new")).stopped_at == 0.0


LIMIT = '{"month":"2026-11","deadline":1795521600,"monthly":10,"running":3,"stopped":2}'


def limited(main: Any, text: str) -> Any:
    from google.cloud import compute_v1

    metadata = compute_v1.Metadata(items=[compute_v1.Items(key="budget-limit", value=text)])
    return main._machine(compute_v1.Instance(name="a", metadata=metadata)).limit


@pytest.mark.parametrize(
    "text", ["", "7", "{", "{}", "[]", LIMIT.replace("3", '"3"'), LIMIT.replace("}", ',"x":1}')]
)
def test_what_is_no_limit_limits_nothing(main: Any, text: str) -> None:
    assert limited(main, text) is None


@pytest.mark.parametrize(("late", "action"), [(-1, "START"), (0, "SKIP"), (86_400, "SKIP")])
def test_a_vm_whose_budget_is_spent_is_left_off(main: Any, machine: Any, late: int, action: str) -> None:
    spent = machine("a", limit=limited(main, LIMIT))
    assert main.choose([spent], "s1", NOW + late) == [(spent, main.Action[action])]


def test_only_a_vm_that_somebody_could_reach_is_started(main: Any) -> None:
    from google.cloud import compute_v1

    given = compute_v1.NetworkInterface(access_configs=[compute_v1.AccessConfig(name="External NAT")])
    for interfaces, reachable in (([given], True), ([compute_v1.NetworkInterface()], False), ([], False)):
        vm = compute_v1.Instance(name="a", network_interfaces=interfaces)
        assert main._machine(vm).reachable is reachable


def test_those_to_wait_for_come_last(main: Any, machine: Any) -> None:
    chosen = main.choose([machine("a", "STOPPING"), machine("c"), machine("b", "RUNNING")], "s1", NOW)
    assert [item.name for item, _ in chosen] == ["b", "c", "a"]


def encoded(content: object) -> str:
    return base64.b64encode(json.dumps(content).encode()).decode()


@pytest.mark.parametrize(
    ("data", "schedule"),
    [
        ({"message": {"data": encoded({"schedule": "abc123"})}}, "abc123"),
        ({"message": {"data": encoded({})}}, ""),
        ({"message": {"data": encoded(None)}}, ""),
        ({"message": {"data": encoded({"schedule": 7})}}, ""),
        ({"message": {"data": encoded({"schedule": "labels.a=b OR x"})}}, ""),
        ({"message": {"data": encoded({"schedule": "x" * 64})}}, ""),
        ({"message": {"data": base64.b64encode(b"\xff\xfe").decode()}}, ""),
        ({"message": {"data": base64.b64encode(b"[" * 20000).decode()}}, ""),
        ({"message": {"data": "not base64!"}}, ""),
        ({"message": {"data": ""}}, ""),
        ({"message": {"data": None}}, ""),
        ({"message": {"data": 5}}, ""),
        ({"message": {}}, ""),
        ({"message": None}, ""),
        ({"message": []}, ""),
        ({}, ""),
        (None, ""),
        ("text", ""),
        (b"bytes", ""),
        ([], ""),
    ],
)
def test_odd_messages_mean_every_schedule(main: Any, data: object, schedule: str) -> None:
    assert main.read_tick("7", data) == main.Tick(schedule, "7")


@pytest.mark.parametrize(
    ("named", "leaving"),
    [("budget-iris-0123456789", "budget-iris-0123456789"), ("../x", ""), ("x" * 64, ""), (7, ""), (None, "")],
)
def test_a_message_may_say_which_vm_has_sent_it(main: Any, named: object, leaving: str) -> None:
    data = {"message": {"data": encoded({"schedule": "s1", "instance": named})}}
    assert main.read_tick("7", data) == main.Tick("s1", "7", leaving)


@pytest.mark.parametrize(
    ("status", "up", "action"),
    [
        ("RUNNING", 31.0, "WAIT"),
        ("STOPPING", 31.0, "WAIT"),
        ("TERMINATED", 31.0, "START"),
        ("RUNNING", 29.0, "LEAVE"),
        ("STOPPING", 29.0, "LEAVE"),
        ("TERMINATED", 29.0, "LEAVE"),
        ("STAGING", 31.0, "SKIP"),
        ("SUSPENDED", 31.0, "RESUME"),
    ],
)
def test_a_vm_that_leaves_is_waited_for_although_it_runs(
    main: Any, machine: Any, status: str, up: float, action: str
) -> None:
    off = status == "TERMINATED"
    times = {"started_at": NOW - up - 10 * off, "stopped_at": NOW - 10 if off else NOW - up - 60}
    leaving, other = machine("a", status, **times), machine("b")
    assert main.choose([leaving, other], "s1", NOW, "a") == [(leaving, main.Action[action])]
    assert main.choose([machine("a", status, wanted="stopped", **times)], "s1", NOW, "a")[0][1].name == "SKIP"


def test_a_vm_whose_start_is_not_told_is_started(main: Any, machine: Any) -> None:
    assert main.choose([machine("a")], "s1", NOW, "a") == [(machine("a"), main.Action.START)]


@pytest.mark.parametrize("event_id", [None, "", 7])
def test_a_tick_without_a_name_gets_one(main: Any, event_id: object) -> None:
    first, second = main.read_tick(event_id, None), main.read_tick(event_id, None)
    assert first.id != second.id


def test_request_ids(main: Any, machine: Any) -> None:
    tick = main.Tick("s1", "77")
    same = main.request_id(tick, machine("a"))
    assert same == main.request_id(tick, machine("a")), "the same tick delivered twice starts once"
    assert same != main.request_id(main.Tick("s1", "78"), machine("a"))
    assert same != main.request_id(tick, machine("b"))
    assert same != main.request_id(tick, machine("a", incarnation="2")), "stopped again since: a new start"


class Cloud:
    """Lists what the script says, one entry per look; the last repeats."""

    def __init__(self, main: Any, *looks: Any, failing: tuple[str, ...] = ()) -> None:
        self.main = main
        self.looks = list(looks)
        self.failing = failing
        self.started: list[str] = []
        self.resumed: list[str] = []

    def machines(self) -> Any:
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(look, Exception):
            raise look
        return self.main.Listing(tuple(look)) if isinstance(look, list) else look

    def start(self, machine: Any, identity: str) -> str:
        if machine.name in self.failing:
            raise RuntimeError("ZONE_RESOURCE_POOL_EXHAUSTED: sold out")
        self.started.append(machine.name)
        return f"operation-{machine.name}"

    def resume(self, machine: Any, identity: str) -> str:
        self.resumed.append(machine.name)
        return f"operation-{machine.name}"


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def run(main: Any, cloud: Cloud, leaving: str = "") -> Time:
    time = Time()
    main.keep_alive(cloud, main.Tick("s1", "1", leaving), time.clock, time.sleep)
    return time


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_one_failure_holds_nobody_back(main: Any, machine: Any, capsys: pytest.CaptureFixture[str]) -> None:
    cloud = Cloud(main, [machine("a"), machine("b"), machine("c"), machine("d", "RUNNING")], failing=("b",))
    run(main, cloud)
    assert cloud.started == ["a", "c"]
    said = lines(capsys)
    assert sorted(line["instance"] for line in said) == ["a", "b", "c", "d"], "one line per VM"
    (error,) = [line for line in said if line["severity"] == "ERROR"]
    assert "sold out" in error["message"]


def test_a_stopping_vm_is_waited_for_after_the_others_were_started(main: Any, machine: Any) -> None:
    stopping = [machine("a", "STOPPING"), machine("b")]
    cloud = Cloud(main, stopping, stopping, stopping, [machine("a"), machine("b", "STAGING")])
    time = run(main, cloud)
    assert cloud.started == ["b", "a"]
    assert time.now == 3 * main.POLL_SECONDS


def test_a_vm_that_stops_for_too_long_is_left_to_the_next_tick(
    main: Any, machine: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud = Cloud(main, [machine("a", "STOPPING")])
    time = run(main, cloud)
    assert cloud.started == []
    assert time.now == pytest.approx(main.STOPPING_SECONDS)
    assert "the next tick" in lines(capsys)[0]["message"]


def test_a_vm_that_leaves_is_started_as_soon_as_it_is_off(main: Any, machine: Any) -> None:
    running, stopping = machine("a", "RUNNING"), machine("a", "STOPPING")
    cloud = Cloud(main, [running], [running], [stopping], [machine("a"), machine("b")])
    time = run(main, cloud, leaving="a")
    assert cloud.started == ["a"], "the other one is the schedule's business"
    assert time.now == 3 * main.POLL_SECONDS


def test_a_message_of_a_vm_that_runs_on_or_that_nobody_knows_does_nothing(
    main: Any, machine: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud = Cloud(main, [machine("a", "RUNNING"), machine("b")])
    assert run(main, cloud, leaving="a").now == pytest.approx(main.STOPPING_SECONDS)
    assert "still RUNNING" in lines(capsys)[-1]["message"]
    assert run(main, cloud, leaving="c").now == 0
    assert cloud.started == []


def test_a_vm_that_another_run_has_started_meanwhile_is_not_waited_for(main: Any, machine: Any) -> None:
    before, after = (machine("a", "RUNNING", started_at=at) for at in (1.0, 2.0))
    cloud = Cloud(main, [before], [after])
    assert run(main, cloud, leaving="a").now == main.POLL_SECONDS
    assert cloud.started == []


def test_a_vm_that_leaves_soon_after_its_start_is_left_to_the_next_tick(
    main: Any, machine: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud = Cloud(main, [machine("a", started_at=1000.0, stopped_at=1003.0)])
    assert run(main, cloud, leaving="a").now == 0
    assert cloud.started == []
    assert "next tick" in lines(capsys)[0]["message"]
    run(main, cloud)
    assert cloud.started == ["a"]


@pytest.mark.parametrize("then", ["stopped", "gone", "started by another"])
def test_a_wait_ends_when_the_vm_need_not_be_started(main: Any, machine: Any, then: str) -> None:
    later = {
        "stopped": [machine("a", wanted="stopped")],
        "gone": [],
        "started by another": [machine("a", "STAGING")],
    }[then]
    cloud = Cloud(main, [machine("a", "STOPPING")], later)
    time = run(main, cloud)
    assert cloud.started == []
    assert time.now == main.POLL_SECONDS


@pytest.mark.parametrize("scope", ["zones/z", "a scope"])
def test_a_waiting_vm_whose_zone_stops_answering_is_waited_for(
    main: Any, machine: Any, capsys: pytest.CaptureFixture[str], scope: str
) -> None:
    silent = main.Listing((), frozenset({scope}))
    down = [machine("a", "STOPPING")]
    cloud = Cloud(main, down, silent, ConnectionError("no route"), silent, down, [machine("a")])
    time = run(main, cloud)
    assert cloud.started == ["a"]
    assert time.now == 5 * main.POLL_SECONDS
    assert "no route" in capsys.readouterr().out


def test_a_zone_that_does_not_answer_is_told(
    main: Any, machine: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud = Cloud(main, main.Listing((machine("a"),), frozenset({"zones/far"})))
    run(main, cloud)
    assert cloud.started == ["a"]
    assert "zones/far did not answer" in lines(capsys)[0]["message"]


def test_a_suspended_vm_is_resumed(main: Any, machine: Any) -> None:
    cloud = Cloud(main, [machine("a", "SUSPENDING")], [machine("a", "SUSPENDED")])
    run(main, cloud)
    assert (cloud.started, cloud.resumed) == ([], ["a"])


def test_all_pages_and_what_they_say_is_missing(main: Any) -> None:
    from google.cloud import compute_v1

    vm = compute_v1.Instance(name="a", zone="zones/z1-a")
    first = compute_v1.InstanceAggregatedList(
        items={
            "zones/z1-a": compute_v1.InstancesScopedList(instances=[vm]),
            "zones/z1-b": compute_v1.InstancesScopedList(warning={"code": "UNREACHABLE"}),
            "zones/z1-d": compute_v1.InstancesScopedList(warning={"code": "PARTIAL_SUCCESS"}),
            "zones/z1-e": compute_v1.InstancesScopedList(warning={"code": "NO_RESULTS_ON_PAGE"}),
        }
    )
    link = "https://www.googleapis.com/compute/v1/projects/p/zones/z1-c"
    second = compute_v1.InstanceAggregatedList(unreachables=[link], warning={"code": "UNREACHABLE"})
    third = compute_v1.InstanceAggregatedList(warning={"code": "LIST_OVERHEAD_QUOTA_EXCEED"})
    asked: list[Any] = []

    def aggregated_list(request: Any, **_: Any) -> Any:
        asked.append(request)
        return SimpleNamespace(pages=[first, second, third])

    cloud = main.Cloud("p", "abc", "", "anonymous")
    cloud.__dict__["_client"] = SimpleNamespace(aggregated_list=aggregated_list)
    listing = cloud.machines()
    assert [machine.name for machine in listing.machines] == ["a"]
    assert listing.silent == {"zones/z1-b", "zones/z1-c", "zones/z1-d", "a scope"}
    assert asked[0].filter == "labels.budgetml-installation=abc"


class Event:
    """As much of a CloudEvent as the function uses."""

    def __init__(self, data: object) -> None:
        self.data = data

    def get(self, key: str) -> str | None:
        return "1" if key == "id" else None


class HttpRequest:
    """As much of a Flask request as the function uses."""

    def __init__(self, body: bytes, headers: dict[str, str] | None = None, method: str = "POST") -> None:
        self.body = body
        self.headers = headers or {}
        self.method = method

    def get_data(self) -> bytes:
        return self.body


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (b'{"message":{"data":"e30="}}', {"ce-id": "5"}, ("5", {"message": {"data": "e30="}})),
        (b'{"message":{"messageId":"6"}}', {}, ("6", {"message": {"messageId": "6"}})),
        (b'{"specversion":"1.0","id":"7","data":{"message":{}}}', {}, ("7", {"message": {}})),
        (b'{"message":[]}', {}, (None, {"message": []})),
        (b"not JSON", {"ce-id": "8"}, ("8", None)),
        (b"[" * 20000, {}, (None, None)),
        (b"", {}, (None, None)),
    ],
)
def test_every_form_of_delivery(main: Any, body: bytes, headers: dict[str, str], expected: Any) -> None:
    assert main.received(HttpRequest(body, headers)) == expected


def test_looking_at_it_starts_nothing(main: Any, machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = Cloud(main, [machine("a")])
    monkeypatch.setattr(main, "_cloud", lambda: cloud)
    assert main.restart(HttpRequest(b"", method="GET"))[1] == 405
    assert cloud.started == []


def test_without_its_settings_it_says_so_and_ends_well(
    main: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("BUDGET_PROJECT", raising=False)
    main.restart(Event(None))
    assert "KeyError: 'BUDGET_PROJECT'" in lines(capsys)[-1]["message"]


def test_a_list_that_fails_ends_well(
    main: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(main, "_cloud", lambda: SimpleNamespace(machines=fail))
    main.restart(Event({"message": {"data": encoded({"schedule": "s1"})}}))
    assert "no route" in lines(capsys)[-1]["message"]


def test_restart_starts_what_is_due(main: Any, machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = Cloud(main, [machine("a"), machine("b", schedule="s2")])
    monkeypatch.setattr(main, "_cloud", lambda: cloud)
    main.restart(Event({"message": {"data": encoded({"schedule": "s1"})}}))
    assert cloud.started == ["a"]
