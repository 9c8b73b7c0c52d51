"""What processes and people get as environment: the operator's settings, and the file `env` to source."""

import os
import shlex
from pathlib import Path

from dev import images
from dev.docker import Docker
from dev.paths import BIN, ROOT, VENV_BIN, Home, KindHome

PROJECT = "local-project"
ZONES = "us-central1-a,us-central1-b"
BUCKET = "budgetml-local"
GCLOUD_ROOTS = (
    *("CLOUDSCHEDULER", "PUBSUB", "CLOUDFUNCTIONS", "CLOUDRESOURCEMANAGER"),
    *("SERVICEUSAGE", "IAM", "CLOUDBUILD", "RUN", "EVENTARC"),
)


def path(home: Home) -> Path:
    """The file to source."""
    return home.root / "env"


def operator(home: Home) -> dict[str, str]:
    """The operator's settings: the same variables as on Google Cloud, with the local cloud's endpoint."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "PYTHONUNBUFFERED": "1",
        "KUBECONFIG": str(home.operator_kubeconfig),
        "POD_NAMESPACE": "budgetml-system",
        "BUDGET_PROJECT": PROJECT,
        "BUDGET_ZONES": ZONES,
        "BUDGET_BUCKET": BUCKET,
        "BUDGET_IMAGE": images.server_image(),
        "BUDGET_API_ENDPOINT": home.cloud_url,
        "BUDGET_CREDENTIALS": "anonymous",
        "BUDGET_FUNCTION_SOURCE": str(ROOT / "restart_function"),
        "BUDGET_FUNCTION_RUNTIME": "python311",
        "BUDGET_HEALTH_PORT": str(home.port("operator")),
        "BUDGET_LOGS_COMMAND": "localcloud logs {name}",
    }


def write(home: Home, docker: Docker) -> None:
    """Writes the file that a shell sources to talk to this stack."""
    url = home.cloud_url
    variables = {
        "KUBECONFIG": str(home.kubeconfig),
        "DOCKER_HOST": docker.host,
        "LOCALCLOUD_URL": url,
        "LOCAL_REGISTRY": f"127.0.0.1:{home.known_port('registry')}",
        "CLOUDSDK_CORE_PROJECT": PROJECT,
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE": f"{url}/compute/v1/",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE": f"{url}/storage/v1/",
        **{f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{name}": f"{url}/" for name in GCLOUD_ROOTS},
    }
    if isinstance(home, KindHome):
        variables["LOCALCLOUD_TUNNEL"] = home.tunnel_url
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    lines.append(f'export PATH={shlex.quote(f"{BIN}:{VENV_BIN}")}:"$PATH"')
    path(home).write_text("\n".join(lines) + "\n")
