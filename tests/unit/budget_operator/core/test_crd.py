"""The CRD is what the models say, and the file in crds/ is what the generator prints."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from budget_operator.core import api, crd, errors

COMMITTED = Path(__file__).parents[4] / "crds" / "budgetdeployments.yaml"


def test_the_committed_file_is_current() -> None:
    assert COMMITTED.read_text() == crd.render(), "run `make crds` and commit the result"


def spec_schema() -> dict[str, Any]:
    version = crd.definition()["spec"]["versions"][0]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return schema


def test_nested_defaults_apply_on_their_own() -> None:
    machine = spec_schema()["properties"]["machine"]
    assert machine["default"] == {}
    assert machine["properties"]["type"]["default"] == "e2-medium"


def test_optional_fields_have_no_null_default() -> None:
    assert "null" not in yaml.safe_dump(crd.definition())


def test_a_keyword_that_is_not_understood_is_refused() -> None:
    with pytest.raises(crd.UnsupportedSchemaError, match="prefixItems"):
        crd.structural({"type": "array", "prefixItems": []}, {})


def test_a_union_is_refused() -> None:
    with pytest.raises(crd.UnsupportedSchemaError, match="union"):
        crd.structural({"anyOf": [{"type": "string"}, {"type": "integer"}]}, {})


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"predictor": {}}, "spec.predictor"),
        ({"predictor": {"inline": "x", "configMap": {"name": "y"}}}, "spec.predictor"),
        ({"predictor": {"inline": "x", "gcs": "gs://b-1/c/"}}, "spec.predictor: exactly one of"),
        ({"predictor": {"gcs": "gs://b-1/c"}}, "spec.predictor.gcs"),
        ({"predictor": {"gcs": "https://b-1/c/"}}, "spec.predictor.gcs"),
        ({"predictor": {"gcs": "gs://b-1/*/"}}, "spec.predictor.gcs"),
        ({"predictor": {"image": "/app"}}, "spec.predictor.image is a folder of spec.image"),
        ({"predictor": {"image": "/a/../b"}, "image": "r/i:1"}, "spec.predictor.image"),
        ({"predictor": {"inline": "x"}, "image": "r/i 1"}, "spec.image"),
        ({"predictor": {"inline": "x"}, "image": "r/i:1\n"}, "spec.image"),
        ({"predictor": {"inline": "x"}, "machine": {"diskGiB": 1}}, "spec.machine.diskGiB"),
        ({"predictor": {"inline": "x"}, "placement": {"zones": ["mars"]}}, "spec.placement.zones.0"),
        ({"predictor": {"inline": "x"}, "placement": {}}, "spec.placement: exactly one of"),
        (
            {"predictor": {"inline": "x"}, "placement": {"zones": ["us-east1-b"], "regions": ["us-east1"]}},
            "spec.placement: exactly one of",
        ),
        ({"predictor": {"inline": "x"}, "placement": {"regions": ["us-a"]}}, "spec.placement.regions.0"),
        (
            {"predictor": {"inline": "x"}, "placement": {"regions": ["us-east1"], "prefer": "Near"}},
            "spec.placement.prefer",
        ),
        ({"predictor": {"inline": "x"}, "server": {"maxBodyMiB": 2048}}, "spec.server.maxBodyMiB"),
        ({"predictor": {"inline": "x"}, "server": {"batch": {"maxSize": 0}}}, "spec.server.batch.maxSize"),
        ({"predictor": {"inline": "x"}, "server": {"corsOrigins": ["a.b"]}}, "spec.server.corsOrigins.0"),
        *(
            ({"predictor": {"inline": "x"}, "budget": {"monthly": monthly}}, "spec.budget.monthly")
            for monthly in (0, -3, True, 1_000_000, 12.5, "0", "0.00", "1.234", "-1", "$15", "1e3", "", None)
        ),
        ({"predictor": {"inline": "x"}, "budget": {}}, "spec.budget.monthly"),
        ({"predictor": {"inline": "x"}, "budget": {"monthly": 1, "warnAt": 0}}, "spec.budget.warnAt"),
        (
            {"predictor": {"inline": "x"}, "budget": {"monthly": 1, "onExceeded": "No"}},
            "spec.budget.onExceeded",
        ),
        ({"predictor": {"inline": "x"}, "budget": {"weekly": "15"}}, "spec.budget"),
        ({}, "spec.predictor"),
    ],
)
def test_what_cannot_work_is_refused_by_the_name_of_its_field(document: dict[str, Any], field: str) -> None:
    with pytest.raises(errors.InvalidSpec) as caught:
        api.parse_spec(document)
    assert caught.value.message.startswith(field)


@pytest.mark.parametrize(
    ("monthly", "dollars"),
    [(15, 15.0), ("15", 15.0), ("12.5", 12.5), ("0.50", 0.5), ("999999.99", 999_999.99)],
)
def test_a_budget_is_a_number_or_what_reads_like_one(monthly: object, dollars: float) -> None:
    spec = api.parse_spec({"predictor": {"inline": "x"}, "budget": {"monthly": monthly}})
    assert spec.budget is not None
    assert (spec.budget.dollars, spec.budget.on_exceeded, spec.budget.warn_at) == (dollars, "Stop", 80)


@pytest.mark.parametrize(("text", "expected"), [("30s", 30), ("5m", 300), ("24h", 86_400), ("2d", 172_800)])
def test_durations(text: str, expected: int) -> None:
    assert api.seconds(text) == expected


ORIGINS = {
    "*": True,
    "https://app.example.com": True,
    "http://localhost:3000": True,
    "https://[2001:db8::1]:8443": True,
    "https://my_host.example": True,
    "": False,
    "app.example.com": False,
    "ftp://app.example.com": False,
    "https://*.example.com": False,
    "https://app.example.com/": False,
    "https://App.example.com": False,
    "https://app.example.com:0": False,
    "https://me@app.example.com": False,
    "https://a.example https://b.example": False,
    "https://a.example\n": False,
    "null": False,
}


@pytest.mark.parametrize(("origin", "good"), ORIGINS.items())
def test_an_origin_is_what_a_browser_sends_and_what_the_server_takes(origin: str, good: bool) -> None:
    document = {"predictor": {"inline": "x"}, "server": {"corsOrigins": [origin]}}
    if good:
        assert api.parse_spec(document).server.cors_origins == (origin,)
    else:
        with pytest.raises(errors.InvalidSpec, match="corsOrigins"):
            api.parse_spec(document)
