"""The role that is named for a missing permission is one that lists it."""

from pathlib import Path

import pytest
import yaml

from budget_operator.core.errors import PermissionDenied
from budget_operator.core.preflight.needs import role_id
from budget_operator.core.roles import role_with
from dev.paths import ROOT

FILES = {role_id(path.stem): path for path in (ROOT / "operator/deploy/iam").glob("operator*.yaml")}
SOURCE = "spec.predictor.gcs: list gs://models/iris/: "


def permissions(path: Path) -> set[str]:
    return set(yaml.safe_load(path.read_text(encoding="utf-8"))["includedPermissions"])


@pytest.mark.parametrize("role", FILES)
def test_every_permission_leads_to_a_role_that_has_it(role: str) -> None:
    before = SOURCE if role == "budgetml_operator_source" else "create it: "
    for permission in permissions(FILES[role]):
        named = role_with(f"{before}Required '{permission}' permission for 'projects/p'")
        assert permission in permissions(FILES[named])
        assert role != "budgetml_operator_source" or named == role


@pytest.mark.parametrize("message", ["no", "compute.googleapis.com is not enabled", "Error 403: Forbidden"])
def test_a_message_without_a_permission_names_no_role(message: str) -> None:
    assert role_with(message) == ""
    assert PermissionDenied(message).remedy == PermissionDenied.remedy


def test_what_the_gateway_knows_better_stands() -> None:
    assert PermissionDenied("compute.zones.get", remedy="enable it").remedy == "enable it"
    named = PermissionDenied("Required 'compute.zones.get' permission")
    assert named.remedy == f"{PermissionDenied.remedy}: budgetml_operator"
    assert named.stalls
