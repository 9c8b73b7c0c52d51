"""What 412 and 304 depend on."""

from __future__ import annotations

import pytest

from localcloud.services.storage.preconditions import BadPreconditionError, Preconditions, Version

THERE = Version(7, 2)


@pytest.mark.parametrize(
    ("query", "there", "unmet", "unchanged"),
    [
        ({}, THERE, False, False),
        ({"ifGenerationMatch": "7"}, THERE, False, False),
        ({"ifGenerationMatch": "6"}, THERE, True, False),
        ({"ifGenerationMatch": "0"}, THERE, True, False),
        ({"ifGenerationMatch": "0"}, Version(), False, False),
        ({"ifMetagenerationMatch": "1"}, THERE, True, False),
        ({"ifMetagenerationMatch": "2", "ifGenerationMatch": "7"}, THERE, False, False),
        ({"ifGenerationNotMatch": "7"}, THERE, False, True),
        ({"ifGenerationNotMatch": "0"}, Version(), False, True),
        ({"ifMetagenerationNotMatch": "3"}, THERE, False, False),
    ],
)
def test_preconditions(query: dict[str, str], there: Version, unmet: bool, unchanged: bool) -> None:
    wanted = Preconditions.of(query)
    assert (wanted.unmet(there), wanted.unchanged(there)) == (unmet, unchanged)


def test_the_source_of_a_copy_has_its_own() -> None:
    query = {"ifSourceGenerationMatch": "6", "ifGenerationMatch": "7"}
    assert Preconditions.of(query, "Source").unmet(THERE)
    assert not Preconditions.of(query).unmet(THERE)


def test_only_numbers_are_generations() -> None:
    with pytest.raises(BadPreconditionError, match="ifGenerationMatch"):
        Preconditions.of({"ifGenerationMatch": "latest"})
