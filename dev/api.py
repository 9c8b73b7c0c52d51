"""The control plane's API without a process for each question: kubectl takes 0.1 s of a processor for one."""

import json
import ssl
from pathlib import Path

import httpx


def administrator(kubeconfig: Path) -> httpx.Client:
    """With the rights of a kubeconfig that was written here (`cluster.write_kubeconfig`)."""
    view = json.loads(kubeconfig.read_text())
    place, token = view["clusters"][0]["cluster"], view["users"][0]["user"]["token"]
    return httpx.Client(
        base_url=place["server"],
        headers={"Authorization": f"Bearer {token}"},
        verify=ssl.create_default_context(cafile=place["certificate-authority"]),
        timeout=60,
        trust_env=False,
    )
