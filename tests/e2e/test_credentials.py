"""Credentials are planted where they belong, and looked for everywhere else, though the model prints them."""

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from dev.progress import until
from tests.e2e import package_index

FAILS = """
import os, sys

class Predictor:
    def load(self):
        shown = {name: os.environ[name] for name in ("BUDGET_PWD", "BUDGET_TOKEN", "API_KEY", "INDEX_LOGIN")}
        print("on stdout:", shown)
        print("on stderr:", shown, file=sys.stderr)
        raise RuntimeError(f"refused with {shown}")

    def predict(self, request):
        return {}
"""
SERVES = """
import os
import planted_code

class Predictor:
    def load(self):
        print("loaded with", os.environ["BUDGET_PWD"], os.environ["API_KEY"])

    def predict(self, request):
        headers = getattr(request, "headers", {})  # the readiness prediction has none
        print("asked with", os.environ["BUDGET_TOKEN"], headers.get("authorization"))
        return {"key_of": os.environ["API_KEY"][:3], "private": planted_code.VALUE}
"""
FIRST = {
    "password": "planted-password-of-may",
    "token": "planted-token-of-may",
    "API_KEY": "may-planted-key",
    "INDEX_LOGIN": "reader:planted%2Dindex%2Dlogin",
}
ROTATED = {
    **FIRST,
    "password": "planted-password-of-june",
    "token": "planted-token-of-june",
    "API_KEY": "jun-planted-key",
}
ROTATION_SECONDS = 120


@pytest.fixture(scope="module")
def index(stack: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`host:port` of a package index behind a login."""
    root: Path = tmp_path_factory.mktemp("index")
    package_index.add_wheel(root, "planted-code", "VALUE = 42\n")
    with package_index.served(root, stack.home.gateway, "reader:planted-index-login") as address:
        yield address


def spec(code: str, index: str, package: str = "planted-code==1.0") -> dict[str, Any]:
    names = ("API_KEY", "INDEX_LOGIN")
    return {
        "predictor": {"inline": code},
        "requirements": [f"--extra-index-url http://${{INDEX_LOGIN}}@{index}", package],
        "env": [
            {"name": name, "valueFrom": {"secretKeyRef": {"name": "planted-env", "key": name}}}
            for name in names
        ],
        "auth": {"secretName": "planted-login"},
        "readiness": {"payload": {}, "startupSeconds": 60},
    }


def plant(deployment: Any, values: dict[str, str]) -> None:
    login = {"username": "ada", "password": values["password"], "token": values["token"]}
    deployment.apply_secret("planted-login", login)
    deployment.apply_secret("planted-env", {name: values[name] for name in ("API_KEY", "INDEX_LOGIN")})


@pytest.fixture(scope="module")
def planted(deploy: Callable[[str], Any]) -> Iterator[Any]:
    made = deploy("planted")
    plant(made, FIRST)
    yield made
    made.stack.kubectl("delete", "secret", "planted-login", "planted-env", "--namespace=default")


def told(deployment: Any) -> dict[str, str]:
    """All that others than the credentials' owners may read, by its place."""
    stack, vm = deployment.stack, deployment.instance()
    cloud = httpx.Client(base_url=stack.home.cloud_url, timeout=30, trust_env=False)
    path = httpx.URL(vm["selfLink"]).path
    guest = cloud.get(f"{path}/getGuestAttributes", params={"queryPath": "budgetml/"}).json()
    return {
        "status and spec": json.dumps(deployment.document()),
        "describe": stack.kubectl("describe", "bd", deployment.name, "--namespace=default").stdout,
        "Events": stack.kubectl("get", "events", "--all-namespaces", "--output=json").stdout,
        "serial output": deployment.console(),
        **{f"metadata {item['key']}": item["value"] for item in vm["metadata"]["items"]},
        "instance": json.dumps(vm),
        **{f"guest attribute {item['key']}": item["value"] for item in guest["queryValue"]["items"]},
        "journal of API calls": cloud.get("/_localcloud/v1/journal", params={"limit": 100000}).text,
        "log of the operator": stack.operator.log_file.read_text(),
    }


def spellings(value: str) -> set[str]:
    plain = {value, value.partition(":")[2] or value, value.replace("%2D", "-").partition(":")[2] or value}
    coded = {base64.b64encode(text.encode()).decode().rstrip("=")[:-1] for text in plain}
    return plain | coded | {quote(text, safe="") for text in plain}


def search(deployment: Any, *planted: dict[str, str]) -> None:
    places = told(deployment)
    assert {"metadata startup-script", "metadata budget-config", "guest attribute state"} <= places.keys()
    for values in planted:
        for name, value in values.items():
            for place, text in places.items():
                found = [spelling for spelling in spellings(value) if spelling in text]
                assert not found, f"{name} stands in {place}"


def failed(reason: str) -> Callable[[dict[str, Any]], bool]:
    return lambda status: bool(status.get("lastFailure", {}).get("reason") == reason)


def test_an_installation_that_fails_shows_no_login(planted: Any, index: str) -> None:
    planted.apply(spec(SERVES, index, "planted-code==9.0"))
    status = planted.wait(failed("RequirementsFailed"), 120)
    assert "planted-code==9.0" in status["lastFailure"]["message"]
    search(planted, FIRST)


def test_a_load_that_prints_all_it_knows_shows_nothing(planted: Any, index: str) -> None:
    planted.apply(spec(FAILS, index))
    status = planted.wait(failed("LoadFailed"))
    assert "refused with {'BUDGET_PWD': '[secret]'" in status["lastFailure"]["message"]
    until(lambda: "on stderr: {'BUDGET_PWD': '[secret]'" in planted.console(), 10, planted.console)
    assert "on stdout: {'BUDGET_PWD': '[secret]'" in planted.console()
    search(planted, FIRST)


def test_what_serves_shows_nothing_before_and_after_a_rotation(planted: Any, index: str) -> None:
    planted.apply(spec(SERVES, index))
    planted.wait(lambda status: planted.condition("Ready", status).get("status") == "True")
    vm, before = planted.instance()["id"], planted.status()["revision"]["active"]
    assert answer(planted, FIRST["token"]) == {"key_of": "may", "private": 42}
    search(planted, FIRST)
    plant(planted, ROTATED)
    planted.wait(
        lambda status: status["revision"]["active"] == status["revision"]["target"] != before,
        ROTATION_SECONDS,
    )
    assert answer(planted, ROTATED["token"]) == {"key_of": "jun", "private": 42}
    assert answer(planted, FIRST["token"]) is None, "the old token is of no use any more"
    assert "asked with [secret] Bearer [secret]" in planted.console()
    assert planted.instance()["id"] == vm
    search(planted, FIRST, ROTATED)


def answer(deployment: Any, token: str) -> dict[str, Any] | None:
    """What the model answers; None where the token is refused."""
    with deployment.client(token) as client:
        response = client.post("/predict", json={})
    assert response.status_code in (200, 401), response.text
    return dict(response.json()) if response.status_code == 200 else None
