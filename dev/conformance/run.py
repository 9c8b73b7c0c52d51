"""Runs every script against a local cloud of its own; the table and `.local/bench/conformance.json`."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

from dev.conformance.clients import Gcloud
from dev.conformance.script import Row, Script
from dev.conformance.scripts import (
    gcloud,
    google_api,
    google_cloud_compute,
    google_cloud_functions,
    google_cloud_messages,
    google_cloud_storage,
)
from dev.conformance.server import Cloud
from dev.errors import DevError
from dev.paths import ROOT
from localcloud.ports import free_port

FILE = ROOT / ".local" / "bench" / "conformance.json"
SCRIPTS: dict[str, tuple[Callable[[Script], None], ...]] = {
    "google-cloud-compute": (google_cloud_compute.run,),
    "google-cloud-storage": (google_cloud_storage.run,),
    "google-cloud-pubsub": (google_cloud_messages.topics,),
    "google-cloud-scheduler": (google_cloud_messages.jobs,),
    "google-cloud-functions": (google_cloud_functions.run,),
    "google-api-python-client": (
        google_api.compute,
        google_api.storage,
        google_api.messages,
        google_api.functions,
    ),
    "gcloud": (gcloud.run,),
}


def run(only: Iterable[str] = ()) -> bool:
    """Whether every call was good. `only`: words of which one has to be in a client's name."""
    rows = [row for client in _wanted(tuple(only)) for row in rows_of(client)]
    width = max(len(row.call) for row in rows)
    for row in rows:
        print(f"{row.call:<{width}}  {row.client:<24}  {'ok' if row.ok else 'NOT OK'}  {row.detail}".rstrip())
    bad = sum(not row.ok for row in rows)
    print(f"\n{len(rows)} checks, {bad} failing; rows in {FILE.relative_to(ROOT)}")
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return bad == 0


def _wanted(words: tuple[str, ...]) -> list[str]:
    here = [client for client in SCRIPTS if client != "gcloud" or Gcloud.is_here()]
    if len(here) < len(SCRIPTS):
        print("gcloud is not on this machine: its calls are left out\n")
    found = [client for client in here if not words or any(word in client for word in words)]
    if not found:
        raise DevError(f"no such client: {' '.join(words)}; there are {', '.join(here)}")
    return found


def rows_of(client: str) -> list[Row]:
    """All calls of one client, to a cloud of its own."""
    home = Path(tempfile.mkdtemp(prefix="conformance-"))
    cloud = Cloud(home, free_port())
    cloud.start()
    try:
        script = Script(client, cloud)
        for part in SCRIPTS[client]:
            part(script)
        return script.rows
    finally:
        cloud.stop()
        shutil.rmtree(home, ignore_errors=True)
