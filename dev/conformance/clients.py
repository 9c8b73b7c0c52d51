"""The clients that nobody here wrote, pointed at a local cloud without an account."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httplib2
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from googleapiclient.discovery import build_from_document

from dev.conformance import discovery, warm_gcloud
from dev.progress import until

SERVICES = (
    "CLOUDSCHEDULER PUBSUB CLOUDFUNCTIONS CLOUDRESOURCEMANAGER SERVICEUSAGE IAM CLOUDBUILD RUN EVENTARC"
)
SECONDS = 180


def options(url: str) -> dict[str, Any]:
    """Keyword arguments for every google-cloud-* client."""
    return {
        "credentials": AnonymousCredentials(),  # type: ignore[no-untyped-call]
        "client_options": ClientOptions(api_endpoint=url),
    }


def discovered(url: str, name: str) -> Any:
    """A google-api-python-client service from its bundled description, e.g. of `compute.v1`."""
    document = discovery.document(name) | {"rootUrl": f"{url}/"}
    for address in ("mtlsRootUrl", "baseUrl"):
        document.pop(address, None)
    return build_from_document(document, http=httplib2.Http())


def gcloud_environment(url: str, project: str, config: Path) -> dict[str, str]:
    """Environment variables that point gcloud at a local cloud."""
    return {
        "CLOUDSDK_CONFIG": str(config),
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_CORE_PROJECT": project,
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
        "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE": f"{url}/compute/v1/",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE": f"{url}/storage/v1/",
        **{f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{service}": f"{url}/" for service in SERVICES.split()},
    }


@contextmanager
def warm_gcloud_environment(environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """For many calls of gcloud in the same environment: it, and that modules are loaded once for all of them.

    It is the same `gcloud`, and each call has a process of its own. In other settings it loads them anew.
    """
    with tempfile.TemporaryDirectory(prefix="warm-gcloud-") as place:
        program, address = Path(place) / "warm.py", Path(place) / "socket"
        shutil.copy(warm_gcloud.__file__, program)  # the checkout's path may have spaces
        server = subprocess.Popen(
            ["gcloud", str(address)],
            env={**environment, warm_gcloud.ARGUMENTS: f"-S {program} serve"},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        stand_in = Path(f"{address}.python")
        try:
            until(lambda: stand_in.exists() or server.poll() is not None, SECONDS, "gcloud does not load")
            assert server.poll() is None, f"gcloud has ended: {server.returncode}"
            yield {**environment, warm_gcloud.OWN: str(stand_in)}
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


class GcloudFailed(Exception):
    """It ended with another code than 0; the text is what it said."""


@dataclass(frozen=True)
class Gcloud:
    """The command line client of this machine."""

    environment: dict[str, str]

    @staticmethod
    def is_here() -> bool:
        return shutil.which("gcloud") is not None

    def __call__(self, *words: str, form: str = "json") -> Any:
        """Run a command; its answer is read as JSON, or as text where `form` is empty."""
        done = subprocess.run(
            ["gcloud", *words, *([f"--format={form}"] if form else [])],
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise GcloudFailed(done.stderr.strip())
        return json.loads(done.stdout) if form == "json" and done.stdout.strip() else done.stdout
