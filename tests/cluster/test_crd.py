"""A real API server accepts the CRD and refuses by its rules what cannot work."""

import json
import re
import subprocess
from typing import Any

import pytest

GOOD: dict[str, Any] = {
    "apiVersion": "budgetml.dev/v1alpha1",
    "kind": "BudgetDeployment",
    "metadata": {"name": "sample", "namespace": "default"},
    "spec": {"predictor": {"inline": "class Predictor: ..."}},
}


def dry_run(
    control_plane: Any, spec: dict[str, Any], name: str = "sample"
) -> subprocess.CompletedProcess[str]:
    document = {**GOOD, "metadata": {"name": name, "namespace": "default"}, "spec": spec}
    result: subprocess.CompletedProcess[str] = control_plane.kubectl(
        "apply", "--dry-run=server", "-o", "json", "-f", "-", input=json.dumps(document), check=False
    )
    return result


def test_defaults_are_filled_in_by_the_api_server(crd: Any) -> None:
    result = dry_run(crd, GOOD["spec"])
    assert result.returncode == 0, result.stderr
    spec = json.loads(result.stdout)["spec"]
    assert spec["machine"] == {"type": "e2-medium", "provisioning": "Spot", "diskGiB": 20}
    assert spec["auth"] == {"tokenTTL": "24h"}
    assert spec["predictor"]["entrypoint"] == "predictor:Predictor"
    assert spec["server"] == {
        "workers": 1,
        "threads": 4,
        "maxConcurrency": 64,
        "maxQueue": 128,
        "maxBodyMiB": 32,
        "batch": {"maxSize": 32, "windowMilliseconds": 5},
        "corsOrigins": [],
    }


def test_origins_that_browsers_send_are_taken(crd: Any) -> None:
    origins = ["*", "https://app.example.com", "http://localhost:3000", "https://[2001:db8::1]:8443"]
    result = dry_run(crd, {"predictor": INLINE, "server": {"corsOrigins": origins}})
    assert result.returncode == 0, result.stderr


INLINE = {"inline": "class Predictor: ..."}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"predictor": {**INLINE, "configMap": {"name": "x"}}}, "exactly one of"),
        ({"predictor": {}}, "exactly one of"),
        ({"predictor": {**INLINE, "image": "/app"}, "image": "r/mine:1"}, "exactly one of"),
        ({"predictor": {**INLINE, "gcs": "gs://models/iris/"}}, "exactly one of"),
        ({"predictor": {"gcs": "gs://models/iris"}}, "spec.predictor.gcs"),
        ({"predictor": {"gcs": "gs://models/i?/"}}, "spec.predictor.gcs"),
        (
            {"predictor": {"image": "/app"}},
            "spec.predictor.image is a folder of spec.image, which must be set",
        ),
        ({"predictor": {"image": "app"}, "image": "r/mine:1"}, "spec.predictor.image"),
        ({"predictor": {"image": "/app/../etc"}, "image": "r/mine:1"}, "spec.predictor.image"),
        ({"predictor": INLINE, "image": "r/mine 1"}, "spec.image"),
        ({"predictor": {**INLINE, "entrypoint": "no colon"}}, "spec.predictor.entrypoint"),
        ({"predictor": INLINE, "placement": {"zones": ["us-central1"]}}, "spec.placement.zones[0]"),
        (
            {"predictor": INLINE, "placement": {"zones": ["us-central1-a", "europe-west4-a"]}},
            "one region",
        ),
        ({"predictor": INLINE, "placement": {"zones": []}}, "spec.placement.zones"),
        ({"predictor": INLINE, "placement": {}}, "exactly one of zones and regions"),
        (
            {"predictor": INLINE, "placement": {"zones": ["us-east1-b"], "regions": ["us-east1"]}},
            "exactly one of zones and regions",
        ),
        ({"predictor": INLINE, "placement": {"regions": ["us-east1-b"]}}, "spec.placement.regions[0]"),
        (
            {"predictor": INLINE, "placement": {"zones": ["us-east1-b"], "prefer": "Cheapest"}},
            "spec.placement.prefer is for regions",
        ),
        ({"predictor": INLINE, "machine": {"diskGiB": 5}}, "spec.machine.diskGiB"),
        ({"predictor": INLINE, "machine": {"provisioning": "Preemptible"}}, "spec.machine.provisioning"),
        ({"predictor": INLINE, "auth": {"tokenTTL": "forever"}}, "spec.auth.tokenTTL"),
        (
            {"predictor": INLINE, "env": [{"name": "BUDGET_TOKEN", "value": "x"}]},
            "must not start with BUDGET_",
        ),
        ({"predictor": INLINE, "env": [{"name": "A"}]}, "exactly one of value and valueFrom"),
        (
            {"predictor": INLINE, "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]},
            "Duplicate",
        ),
        ({"predictor": INLINE, "requirements": [""]}, "spec.requirements[0]"),
        ({"predictor": INLINE, "server": {"workers": 0}}, "spec.server.workers"),
        ({"predictor": INLINE, "server": {"batch": {"maxSize": 0}}}, "spec.server.batch.maxSize"),
        ({"predictor": INLINE, "server": {"corsOrigins": ["https://a.b/c"]}}, "spec.server.corsOrigins[0]"),
        ({"predictor": INLINE, "server": {"corsOrigins": ["https://a.b", "https://a.b"]}}, "Duplicate"),
        ({"predictor": INLINE, "endpoint": {"host": "*.models.test"}}, "spec.endpoint.host must be"),
        ({"predictor": INLINE, "endpoint": {"host": "https://m.test:8443/"}}, "spec.endpoint.host must be"),
        ({"predictor": INLINE, "endpoint": {"host": "bücher.test"}}, "xn-- form"),
        (
            {"predictor": INLINE, "endpoint": {"tls": {"mode": "Acme", "email": "you@example.com"}}},
            "spec.endpoint.tls.email is a placeholder",
        ),
        ({"predictor": INLINE, "endpoint": {"tls": {"email": "you"}}}, "spec.endpoint.tls.email must be"),
        ({"predictor": INLINE, "endpoint": {"tls": {"mode": "acme"}}}, "spec.endpoint.tls.mode"),
        ({"predictor": INLINE, "readiness": {"payload": "text"}}, "spec.readiness.payload"),
        *(
            ({"predictor": INLINE, "budget": {"monthly": monthly}}, "spec.budget.monthly")
            for monthly in (0, 12.5, "0", "1.234", "$15", 1_000_000)
        ),
        ({"predictor": INLINE, "budget": {"monthly": 15, "onExceeded": "No"}}, "spec.budget.onExceeded"),
        ({"predictor": INLINE, "quota": {"monthly": "15"}}, 'unknown field "spec.quota"'),
    ],
)
def test_the_api_server_refuses_what_cannot_work(crd: Any, spec: dict[str, Any], expected: str) -> None:
    result = dry_run(crd, spec)
    assert result.returncode != 0, f"accepted: {result.stdout}"
    assert expected in result.stderr


def test_a_disk_only_grows(crd: Any) -> None:
    def sized(**machine: Any) -> dict[str, Any]:
        return {**GOOD["spec"], "machine": machine}

    crd.kubectl("apply", "-f", "-", input=json.dumps({**GOOD, "spec": sized(diskGiB=30)}))
    try:
        for machine in ({"diskGiB": 40}, {"diskGiB": 30, "type": "e2-small"}):
            assert dry_run(crd, sized(**machine)).returncode == 0
        for machine in ({"diskGiB": 29}, {}):
            refused = dry_run(crd, sized(**machine))
            assert refused.returncode != 0
            assert "spec.machine.diskGiB can only grow" in refused.stderr
    finally:
        crd.kubectl("delete", "bd", "sample")


def test_a_host_may_have_upper_case_and_a_final_dot(crd: Any) -> None:
    tls = {"mode": "Acme", "email": "me@models.test"}
    result = dry_run(crd, {"predictor": INLINE, "endpoint": {"host": "M.Models.Test.", "tls": tls}})
    assert result.returncode == 0, result.stderr


def test_a_name_that_no_label_can_hold_is_refused(crd: Any) -> None:
    result = dry_run(crd, GOOD["spec"], name="with.dots")
    assert result.returncode != 0
    assert "metadata.name" in result.stderr


def test_a_payload_keeps_what_no_schema_knows(crd: Any) -> None:
    payload = {"text": "hi", "nested": {"list": [1, 2.5, None, True]}}
    result = dry_run(crd, {"predictor": INLINE, "readiness": {"payload": payload}})
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["spec"]["readiness"]["payload"] == payload


def test_the_columns_of_kubectl_get(crd: Any) -> None:
    crd.kubectl("apply", "-f", "-", input=json.dumps(GOOD))
    try:
        header = re.split(" {2,}", crd.kubectl("get", "bd").stdout.splitlines()[0].strip())
        assert header == ["NAME", "READY", "STATE", "ENDPOINT", "ZONE", "$/MONTH", "PREEMPTIONS (24H)", "AGE"]
        wide = crd.kubectl("get", "bd", "-o", "wide").stdout.splitlines()[0].split()
        assert wide[-4:] == ["PREEMPTED", "IP", "REVISION", "MESSAGE"]
    finally:
        crd.kubectl("delete", "bd", "sample")


@pytest.mark.parametrize(
    "image",
    [
        "wine",
        "registry.budget.internal/wine:1",
        "localhost:5000/a/b__c.d-e:v1.0_x",
        f"us-central1-docker.pkg.dev/p-1/budgetml/server@sha256:{'0a' * 32}",
    ],
)
def test_images_that_docker_pulls_are_taken(crd: Any, image: str) -> None:
    result = dry_run(crd, {"predictor": {"image": "/srv/my_app-1/v1.0"}, "image": image})
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("path", ["", "iris/", "a b/ü/v1.0/", "iris.zip", "sub/iris.tar.gz"])
def test_addresses_of_folders_and_archives_are_taken(crd: Any, path: str) -> None:
    result = dry_run(crd, {"predictor": {"gcs": f"gs://models.acme_1/{path}"}})
    assert result.returncode == 0, result.stderr
