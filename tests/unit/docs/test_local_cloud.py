"""The page about the local cloud names every fault with all its fields."""

import re
from pathlib import Path
from typing import get_args

from localcloud import faults

PAGE = Path(__file__).parents[3] / "docs" / "local-cloud.md"


def test_every_fault_is_explained_with_its_fields() -> None:
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| ([^|]+) \|", PAGE.read_text(), re.MULTILINE))
    union, _ = get_args(faults.AnyFault)
    kinds = {get_args(model.model_fields["kind"].annotation)[0]: model for model in get_args(union)}
    assert set(rows) == set(kinds)
    for kind, model in kinds.items():
        fields = {
            field.alias or name
            for name, field in model.model_fields.items()
            if name not in ("id", "kind", "since")
        }
        assert set(re.findall(r"`([a-zA-Z]+)`", rows[kind])) == fields, kind
