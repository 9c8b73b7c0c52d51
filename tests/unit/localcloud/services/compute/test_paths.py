import base64

import pytest

from localcloud.errors import ApiError
from localcloud.services.compute import paths

KEY = "projects/p/zones/z/instances/n"


def test_references_of_every_form_name_the_same_thing() -> None:
    for reference in (KEY, f"https://www.googleapis.com/compute/v1/{KEY}", f"http://h:1/compute/v1/{KEY}"):
        assert paths.key_of(reference) == KEY
    assert paths.key_of("zones/z/machineTypes/m") == "zones/z/machineTypes/m"
    assert paths.last(f"{KEY}/") == "n"


def test_scopes() -> None:
    assert paths.scope_of(KEY) == "zones/z"
    assert paths.scope_of("projects/p/regions/r/addresses/a") == "regions/r"
    assert paths.scope_of("projects/p/global/firewalls/f") == "global"


def test_numbers_are_decimal_and_a_project_keeps_its_own() -> None:
    assert int(paths.new_id()) < 2**64
    assert paths.project_number("p1") == paths.project_number("p1") != paths.project_number("p2")


def test_a_fingerprint_follows_the_content() -> None:
    assert paths.fingerprint({"a": 1, "b": 2}) == paths.fingerprint({"b": 2, "a": 1})
    assert paths.fingerprint({"a": 1}) != paths.fingerprint({"a": 2})
    assert len(base64.b64decode(paths.fingerprint([]))) == 8


@pytest.mark.parametrize("name", ["a", "a-b", "a" * 63])
def test_names(name: str) -> None:
    assert paths.check_name(name) == name


@pytest.mark.parametrize("name", ["", "A", "1a", "a-", "a_b", "a" * 64, None, "a\n"])
def test_names_that_google_refuses(name: object) -> None:
    with pytest.raises(ApiError):
        paths.check_name(name)


@pytest.mark.parametrize(
    "labels",
    [{"A": ""}, {"1": ""}, {"a": "B"}, {"a": "b.c"}, {f"k{n}": "" for n in range(65)}],
)
def test_labels_that_google_refuses(labels: dict[str, str]) -> None:
    with pytest.raises(ApiError):
        paths.check_labels(labels)
    assert paths.check_labels({"a_b-1": ""}) == {"a_b-1": ""}
