"""An operation leaves alone what got its target's name afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from localcloud.app import ground
from localcloud.clock import ManualClock
from localcloud.context import Context
from localcloud.services.compute.addresses import ADDRESS
from localcloud.services.compute.disks import DISK
from localcloud.services.compute.firewalls import FIREWALL
from localcloud.services.compute.operations import Operations
from localcloud.services.compute.paths import key_of
from localcloud.services.compute.records import INSTANCE
from localcloud.services.compute.targets import Targets
from localcloud.settings import Settings

ZONE = "projects/p1/zones/us-central1-a"
KINDS = {
    INSTANCE: f"{ZONE}/instances/vm1",
    DISK: f"{ZONE}/disks/vm1",
    ADDRESS: "projects/p1/regions/us-central1/addresses/vm1",
    FIREWALL: "projects/p1/global/firewalls/budgetml",
}


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return ground(Settings(tmp_path), ManualClock())


def document(kind: str, identity: str) -> Any:
    return {"body": {"id": identity}} if kind == INSTANCE else {"id": identity}


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_replaced_stays(context: Context, kind: str) -> None:
    operations, key = Operations(context), KINDS[kind]
    targets = Targets(context.store, operations)
    asked = [key_of(operations.new(key, verb, "1")["selfLink"]) for verb in ("delete", "stop")]
    delete, stop = ({"operation": operation} for operation in asked)

    context.store.insert(kind, key, document(kind, "1"))
    assert not targets.is_over(delete) and not targets.is_over(stop)
    context.store.put(kind, key, document(kind, "2"))
    assert targets.is_over(delete) and targets.is_over(stop)
    done, failed = map(operations.require, asked)
    assert (done["status"], done.get("error")) == ("DONE", None)
    assert failed["error"]["errors"][0]["code"] == "RESOURCE_NOT_FOUND"


def test_a_second_deletion_has_nothing_left_to_do(context: Context) -> None:
    """It must not wait and then delete what was made in the meantime."""
    operations = Operations(context)
    asked = key_of(operations.new(KINDS[DISK], "delete", "1")["selfLink"])
    assert Targets(context.store, operations).is_over({"operation": asked})
    assert operations.require(asked)["status"] == "DONE"


def test_what_google_does_by_itself_has_no_operation(context: Context) -> None:
    assert not Targets(context.store, Operations(context)).is_over({"operation": ""})
