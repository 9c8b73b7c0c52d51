"""Every metric is documented, and what dashboard and alerts ask for is there, with its labels."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics_core import Metric

from budget_operator import health, metrics
from budget_operator.cluster.contact import Reading
from budget_operator.core.cost.stretches import Part, Stretch
from budget_operator.core.cost.told import Figures
from budget_operator.core.orphans.told import Tally
from dev.paths import ROOT

MONITORING = ROOT / "operator" / "deploy" / "monitoring"
DOCUMENT = ROOT / "docs" / "observability.md"
OURS = ("budget_operator_", "budget_cost_")
SUFFIXES = re.compile(r"_(bucket|sum|count|created)$")
SELECTED = re.compile(r"(budget_(?:operator|cost)_\w+)(?:\{([^}]*)\})?")
GROUPED = re.compile(r"by \(([^)]*)\)")
#: Of the rules' own making.
MADE = {"le"}


def families() -> Iterator[Metric]:
    """All that /metrics gives, with one sample at least of each."""
    metrics.PASSES.labels("ok")
    metrics.CLOUD_CALLS.labels("compute", "instances.get", "200")
    metrics.DOWN_SECONDS.labels("Probe")
    metrics.DEPLOYMENTS.tell("somebody", "Serving")
    metrics.ORPHANS.tell({"instance": Tally(1, 2.0)})
    metrics.COSTS.tell("somebody", Figures((), 0.0, 0.0, date(2026, 1, 1)))
    snapshot = health.Snapshot(active=True, lease=Reading(1.0), list=Reading(1.0))
    registry = CollectorRegistry()
    registry.register(health._Gauges(lambda: snapshot))
    yield from (each for source in (REGISTRY, registry) for each in source.collect())
    metrics.DEPLOYMENTS.forget("somebody")
    metrics.ORPHANS.tell({})
    metrics.COSTS.forget("somebody")


def exposed() -> dict[str, set[str]]:
    """Labels by the name that queries use."""
    found: dict[str, set[str]] = {}
    for family in families():
        for sample in family.samples:
            if sample.name.startswith(OURS) and not sample.name.endswith("_created"):
                found.setdefault(sample.name, set()).update(sample.labels)
    return found


def expressions() -> list[str]:
    panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    rules: Any = yaml.safe_load((MONITORING / "alerts.yaml").read_text())
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    return asked + [rule["expr"] for group in rules["groups"] for rule in group["rules"]]


def test_what_is_asked_for_is_there_with_its_labels() -> None:
    there = exposed()
    for expression in expressions():
        asked = SELECTED.findall(expression)
        assert asked, expression
        for name, matchers in asked:
            assert name in there, expression
            assert set(re.findall(r"(\w+)\s*(?:=|!)", matchers)) <= there[name], expression
        grouped = {label.strip() for found in GROUPED.findall(expression) for label in found.split(",")}
        assert grouped - MADE <= set().union(*(there[name] for name, _ in asked)), expression


def test_every_metric_is_documented_with_its_labels_and_shown_or_watched() -> None:
    rows = re.findall(r"^\| `(budget_(?:operator|cost)_\w+)` \|([^|]*)\|", DOCUMENT.read_text(), re.MULTILINE)
    documented = {
        name: set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", labels))) for name, labels in rows
    }
    there: dict[str, set[str]] = {}
    for name, labels in exposed().items():
        there.setdefault(SUFFIXES.sub("", name), set()).update(labels - MADE)
    assert documented == there
    asked = " ".join(expressions())
    assert [name for name in there if name not in asked] == []


def test_deployments_are_counted_by_state_and_forgotten() -> None:
    counted = metrics.Deployments()

    def states() -> dict[str, float]:
        (family,) = counted.collect()
        return {sample.labels["state"]: sample.value for sample in family.samples}

    counted.tell(("a", "b"), "Pending")
    counted.tell(("a", "c"), "Serving")
    counted.tell(("a", "b"), "Serving")
    assert states() == {"Serving": 2}
    counted.forget(("a", "b"))
    counted.forget(("a", "unknown"))
    assert states() == {"Serving": 1}


def test_orphans_are_counted_by_kind_and_not_at_all_where_they_cannot_be_told() -> None:
    counted = metrics.Orphans()

    def samples() -> dict[tuple[str, str], float]:
        return {
            (sample.name.removeprefix(OURS[0]), sample.labels["kind"]): sample.value
            for family in counted.collect()
            for sample in family.samples
        }

    assert samples() == {}
    counted.tell({"disk": Tally(2, 4.0, 1), "job": Tally()})
    assert samples() == {
        ("orphans", "disk"): 2,
        ("orphans", "job"): 0,
        ("orphans_monthly_dollars", "disk"): 4.0,
        ("orphans_monthly_dollars", "job"): 0,
        ("orphans_unpriced", "disk"): 1,
        ("orphans_unpriced", "job"): 0,
    }
    counted.tell({})
    assert samples() == {}


def test_costs_are_added_up_at_the_moment_of_the_scrape() -> None:
    month = datetime(2026, 11, 1, tzinfo=UTC)
    now = [month + timedelta(hours=10)]
    costs = metrics.Costs(lambda: now[0])

    def told() -> dict[str, float]:
        found = {sample.name: sample.value for family in costs.collect() for sample in family.samples}
        return {name.removeprefix("budget_cost_"): value for name, value in found.items()}

    def disk(rate: float | None) -> Stretch:
        return Stretch(Part.DISK, "1", month, month, month, open=True, what="20 GiB", rate=rate)

    assert "prices_timestamp_seconds" not in told(), "there are none yet"
    costs.tell("one", Figures((disk(0.5),), 0.5, 365.0, date(2026, 7, 30)))
    costs.tell("two", Figures((disk(0.1),), 0.1, 73.0, date(2026, 7, 30)))
    costs.tell("three", Figures((disk(None),), None, None, date(2026, 7, 30)))
    assert told() == {
        "month_to_date_dollars": pytest.approx(6.0),
        "hourly_dollars": pytest.approx(0.6),
        "forecast_dollars": pytest.approx(438.0),
        "unpriced_deployments": 1,
        "prices_timestamp_seconds": datetime(2026, 7, 30, tzinfo=UTC).timestamp(),
    }
    now[0] += timedelta(hours=5)
    assert told()["month_to_date_dollars"] == pytest.approx(9.0)
    costs.forget("two")
    costs.forget("nobody")
    assert told()["hourly_dollars"] == pytest.approx(0.5)
