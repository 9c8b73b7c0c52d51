"""The local cloud as a real server, the foreign clients that are pointed at it, and Google's own description
of answers.

Every answer the server gives on a Compute path is checked against the discovery document, whoever asked for
it.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import googleapiclient
import httpx
import pytest
import uvicorn

from localcloud.app import build_context, create_app
from localcloud.clock import Clock, SystemClock
from localcloud.context import Context
from localcloud.settings import Durations, Settings
from localcloud.vm.simulated import SimulatedBackend

PROJECT = "p1"
ZONE = "us-central1-a"
REGION = "us-central1"
FAST = Durations(
    provisioning=0.02, staging=0.02, operation=0.01, notice=0.3, stop_spot=0.5, stop_standard=0.5, watch=0.05
)


@cache
def discovery(name: str) -> dict[str, Any]:
    """A discovery document as google-api-python-client ships it, e.g. `compute.v1`."""
    documents = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
    loaded: dict[str, Any] = json.loads((documents / f"{name}.json").read_text())
    return loaded


def violations(document: dict[str, Any], schema: dict[str, Any], value: Any, where: str = "$") -> list[str]:
    """Where `value` is not what the schema says: types, enums, formats, unknown keys."""
    schema = document["schemas"][schema["$ref"]] if "$ref" in schema else schema
    kind = schema.get("type", "any")
    if kind == "object":
        return _object_violations(document, schema, value, where)
    if kind == "array":
        if not isinstance(value, list):
            return [f"{where}: {value!r} is not a list"]
        items = enumerate(value)
        return [v for n, item in items for v in violations(document, schema["items"], item, f"{where}[{n}]")]
    return (
        [] if _fits(kind, schema, value) else [f"{where}: {value!r} is not {kind} {schema.get('format', '')}"]
    )


def _object_violations(document: dict[str, Any], schema: dict[str, Any], value: Any, where: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{where}: {value!r} is not an object"]
    found = []
    for name, inner in value.items():
        known = schema.get("properties", {}).get(name) or schema.get("additionalProperties")
        path = f"{where}.{name}"
        found += violations(document, known, inner, path) if known else [f"{path}: unknown field"]
    return found


def _fits(kind: str, schema: dict[str, Any], value: Any) -> bool:
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "string":
        return isinstance(value, str) and _text_fits(schema, value)
    return True


def _text_fits(schema: dict[str, Any], value: str) -> bool:
    if schema.get("format") in ("int64", "uint64"):
        return re.fullmatch(r"-?\d+", value) is not None
    if schema.get("format") == "byte":
        try:
            base64.b64decode(value, altchars=b"-_", validate=True)
        except binascii.Error:
            return False
    return "enum" not in schema or value in schema["enum"]


def find_method(document: dict[str, Any], http_method: str, path: str) -> dict[str, Any] | None:
    """The described method that a request (path below `servicePath`) calls."""
    waiting = [document]
    while waiting:
        node = waiting.pop()
        for method in node.get("methods", {}).values():
            template = method.get("flatPath") or method["path"]
            pattern = re.sub(r"\{\+?\w+\}", "[^/]+", template)
            if method["httpMethod"] == http_method and re.fullmatch(pattern, path):
                found: dict[str, Any] = method
                return found
        waiting += node.get("resources", {}).values()
    return None


@dataclass
class Cloud:
    """A running local cloud; `turn` stops it and starts it again on the same home."""

    home: Path
    port: int
    durations: Durations = FAST
    clock: Clock = field(default_factory=SystemClock)
    context: Context = field(init=False)
    _server: uvicorn.Server = field(init=False)
    _thread: threading.Thread = field(init=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def vms(self) -> SimulatedBackend:
        vms = self.context.vms
        assert isinstance(vms, SimulatedBackend)
        return vms

    def start(self) -> None:
        settings = Settings(self.home, port=self.port, subnet="127.0.77.0/24", durations=self.durations)
        self.context = build_context(settings, self.clock)
        config = uvicorn.Config(
            create_app(self.context), port=self.port, log_level="warning", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        until(lambda: self._server.started, "the server to start")

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(15)
        assert not self._thread.is_alive()

    def turn(self) -> None:
        self.stop()
        self.start()

    def control(self, method: str, path: str, body: Any = None) -> Any:
        answer = httpx.request(method, f"{self.url}/_localcloud/v1{path}", json=body)
        answer.raise_for_status()
        return answer.json()

    def compute(self, method: str, path: str, body: Any = None, **query: Any) -> httpx.Response:
        """A raw call below the project; a successful answer is checked against the discovery document."""
        document = discovery("compute.v1")
        full = f"projects/{PROJECT}/{path}" if path else f"projects/{PROJECT}"
        answer = httpx.request(method, f"{self.url}/compute/v1/{full}", json=body, params=query)
        if answer.is_success:
            described = find_method(document, method, full)
            assert described is not None, f"{method} {full} is not described"
            assert violations(document, described["response"], answer.json()) == []
        return answer


def until(condition: Callable[[], Any], what: str, seconds: float = 10.0) -> Any:
    """The first true value of `condition`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"waited {seconds} s for {what}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    running = Cloud(tmp_path / "home", free_port())
    running.start()
    yield running
    running.stop()


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    return until


@pytest.fixture
def schema_violations() -> Callable[[str, str, Any], list[str]]:
    """`(document, schema name, value)` -> violations, e.g. `("compute.v1", "Instance", body)`."""

    def check(document: str, schema: str, value: Any) -> list[str]:
        return violations(discovery(document), {"$ref": schema}, value)

    return check


@pytest.fixture
def discovery_document() -> Callable[[str], dict[str, Any]]:
    return discovery


@pytest.fixture
def client_options(cloud: Cloud) -> dict[str, Any]:
    """Keyword arguments for every google-cloud-* client."""
    from google.api_core.client_options import ClientOptions
    from google.auth.credentials import AnonymousCredentials

    return {
        "credentials": AnonymousCredentials(),  # type: ignore[no-untyped-call]
        "client_options": ClientOptions(api_endpoint=cloud.url),
    }


@pytest.fixture
def discovered(cloud: Cloud) -> Callable[[str], Any]:
    """A google-api-python-client service from its bundled description: `discovered("compute.v1")`."""
    import httplib2
    from googleapiclient.discovery import build_from_document

    def build(name: str) -> Any:
        document = discovery(name) | {"rootUrl": f"{cloud.url}/"}
        for address in ("mtlsRootUrl", "baseUrl"):
            document.pop(address, None)
        return build_from_document(document, http=httplib2.Http())

    return build


@pytest.fixture
def gcloud_environment(cloud: Cloud, tmp_path: Path) -> dict[str, str]:
    """Environment variables that point gcloud, without an account, at the local cloud."""
    environment = {
        "CLOUDSDK_CONFIG": str(tmp_path / "gcloud"),
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_CORE_PROJECT": PROJECT,
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
        "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE": f"{cloud.url}/compute/v1/",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE": f"{cloud.url}/storage/v1/",
    }
    others = "CLOUDSCHEDULER PUBSUB CLOUDFUNCTIONS CLOUDRESOURCEMANAGER SERVICEUSAGE CLOUDBUILD RUN EVENTARC"
    for service in others.split():
        environment[f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{service}"] = f"{cloud.url}/"
    return environment


@pytest.fixture
def spot_body() -> Callable[..., dict[str, Any]]:
    """An `instances.insert` body like the operator's; keyword arguments replace fields."""

    def body(name: str = "vm1", **fields: Any) -> dict[str, Any]:
        return {
            "name": name,
            "machineType": f"zones/{ZONE}/machineTypes/e2-medium",
            "labels": {"budgetml-installation": "abc"},
            "tags": {"items": ["budget-abc"]},
            "scheduling": {
                "provisioningModel": "SPOT",
                "instanceTerminationAction": "STOP",
                "onHostMaintenance": "TERMINATE",
                "automaticRestart": False,
            },
            "disks": [
                {
                    "boot": True,
                    "autoDelete": True,
                    "initializeParams": {
                        "sourceImage": "projects/cos-cloud/global/images/family/cos-stable",
                        "diskSizeGb": "20",
                    },
                }
            ],
            "networkInterfaces": [
                {
                    "network": "global/networks/default",
                    "accessConfigs": [{"name": "External NAT", "type": "ONE_TO_ONE_NAT"}],
                }
            ],
            "metadata": {"items": [{"key": "enable-guest-attributes", "value": "TRUE"}]},
        } | fields

    return body
