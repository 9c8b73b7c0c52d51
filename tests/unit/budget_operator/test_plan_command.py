"""`budget-operator plan`: the text about a file, and what is refused in it."""

import re
from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner

from budget_operator.core.errors import InvalidSpec
from budget_operator.core.prices.table import shipped
from budget_operator.main import app
from budget_operator.plan_command import Place, plan
from dev.paths import ROOT

PLACE = Place("default", ("us-central1-a", "us-central1-b"), "bucket-1")
TODAY = date(2026, 8, 1)
HEAD = "apiVersion: budgetml.dev/v1alpha1\nkind: BudgetDeployment\nmetadata: {name: a}\n"
CODE = 'predictor: {inline: "class Predictor: ..."}'


def planned(tmp_path: Path, text: str, place: Place = PLACE, today: date = TODAY) -> str:
    file = tmp_path / "deployment.yaml"
    file.write_text(text)
    return plan(file, place, today, shipped())


def test_it_tells_what_is_made_what_it_costs_and_what_a_change_does() -> None:
    told = plan(ROOT / "examples" / "iris" / "deployment.yaml", PLACE, TODAY, shipped())
    for part in (
        "BudgetDeployment default/iris",
        "VM          budget-iris-94b8d787e1: e2-medium, Spot, in us-central1-a, else us-central1-b",
        "disk        20 GiB, balanced, with the VM",
        "machine        14.",
        "together       18.",
        "List prices of 2026-07-30",
        "us-west4",
        "recreate    the VM and its disk are made anew behind the same address: machine.provisioning",
    ):
        assert part in told
    assert "WARNING" not in told


def test_old_prices_are_warned_of(tmp_path: Path) -> None:
    assert "WARNING" in planned(tmp_path, f"{HEAD}spec: {{{CODE}}}", today=date(2026, 11, 29))


def test_a_machine_without_a_price_is_told_so(tmp_path: Path) -> None:
    told = planned(tmp_path, f"{HEAD}spec: {{{CODE}, machine: {{type: g2-standard-4}}}}")
    assert "there is no price of g2-standard-4 (Spot) in us-central1" in told


def test_every_deployment_of_a_file_is_told(tmp_path: Path) -> None:
    one = f"{HEAD}spec: {{{CODE}}}\n"
    told = planned(tmp_path, f"{one}---\n{one.replace('name: a', 'name: b')}")
    assert [name for name in ("default/a", "default/b") if f"BudgetDeployment {name}" in told] == [
        "default/a",
        "default/b",
    ]


def test_code_of_a_config_map_in_the_same_file_is_checked(tmp_path: Path) -> None:
    deployment = f"{HEAD}spec: {{predictor: {{configMap: {{name: code}}}}}}\n"
    code = (
        'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: code}\ndata: {predictor.py: "class Other: ..."}\n'
    )
    with pytest.raises(InvalidSpec, match=r"predictor\.py defines no Predictor"):
        planned(tmp_path, f"{deployment}---\n{code}")
    assert "Not checked" not in planned(tmp_path, f"{deployment}---\n{code.replace('Other', 'Predictor')}")
    assert "Not checked: the code: it is in the ConfigMap code" in planned(tmp_path, deployment)


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        ("{predictor: {gcs: gs://bucket/f/}}", "gs://bucket/f/"),
        ("{image: r/s:1, predictor: {image: /app}}", "/app of r/s:1"),
    ],
)
def test_code_that_lies_elsewhere_is_named(tmp_path: Path, spec: str, where: str) -> None:
    told = planned(tmp_path, f"{HEAD}spec: {spec}")
    assert re.search(rf"Not checked: the code: it is (at|in) {re.escape(where)}, not in this file", told)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("{}", "spec.predictor"),
        ('{predictor: {inline: "def"}}', "does not compile"),
        (f"{{{CODE}, machine: {{diskGiB: 1}}}}", "spec.machine.diskGiB"),
        (f"{{{CODE}, requirements: [-e .]}}", "spec.requirements"),
    ],
)
def test_what_cannot_work_is_refused_by_its_field(tmp_path: Path, spec: str, said: str) -> None:
    with pytest.raises(InvalidSpec, match=said):
        planned(tmp_path, f"{HEAD}spec: {spec}")


@pytest.mark.parametrize("text", ["", "a: [", "kind: Deployment\n"])
def test_a_file_without_a_deployment_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidSpec, match=r"deployment\.yaml"):
        planned(tmp_path, text)


def test_without_zones_it_says_where_to_give_them(tmp_path: Path) -> None:
    text = f"{HEAD}spec: {{{CODE}}}"
    with pytest.raises(InvalidSpec, match="--zones"):
        planned(tmp_path, text, Place("default", (), ""))
    with_zones = f"{HEAD}spec: {{{CODE}, placement: {{zones: [us-west4-a]}}}}"
    assert "in us-west4-a\n" in planned(tmp_path, with_zones, Place("default", (), ""))


def test_of_several_regions_the_cheapest_is_told(tmp_path: Path) -> None:
    placed = f"{HEAD}spec: {{{CODE}, placement: {{regions: [us-central1, us-west4, europe-west1]}}}}"
    told = planned(tmp_path, placed, Place("default", (), ""))
    assert "in a zone of us-west4\n" in told
    assert "static, in us-west4\n" in told
    assert "No region that is known is cheaper" in told


def test_the_command_ends_with_one_sentence_and_1(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["plan", "-f", str(tmp_path / "absent.yaml")])
    assert (told.exit_code, told.stdout) == (1, "")
    assert "absent.yaml cannot be read" in told.stderr
    good = CliRunner().invoke(
        app,
        ["plan", "-f", str(ROOT / "examples" / "iris" / "deployment.yaml")],
        env={"BUDGET_ZONES": "us-west4-a"},
    )
    assert good.exit_code == 0, good.stderr
    assert "No region that is known is cheaper" in good.stdout
