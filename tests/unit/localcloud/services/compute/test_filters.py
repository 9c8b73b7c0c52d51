import pytest

from localcloud.errors import ApiError
from localcloud.services.compute.filters import grouped, page, parse

VM = {"name": "vm1", "status": "RUNNING", "labels": {"a-b": "x", "env": "Production"}, "flag": True}


@pytest.mark.parametrize(
    ("text", "hit"),
    [
        ("", True),
        ("name=vm1", True),
        ("name = vm1", True),
        ('name="vm1"', True),
        ("name=vm", False),
        ("name!=vm1", False),
        ("missing!=x", True),
        ("labels.a-b=x", True),
        ("labels.a-b=y", False),
        ("labels.env:prod", True),
        ("labels.env:prod*", True),
        ("labels.env:*", True),
        ("labels.none:*", False),
        ("labels.a-b=x AND status=RUNNING", True),
        ("labels.a-b=x status=TERMINATED", False),
        ("(labels.a-b=x) (status=RUNNING)", True),
        ("((labels.a-b=x) AND (status=RUNNING))", True),
        (r'name eq ".*\bvm1\b.*"', True),
        ('name eq "vm"', False),
        ('name ne "vm2"', True),
        ("flag=true", True),
    ],
)
def test_filters(text: str, hit: bool) -> None:
    assert all(term.matches(VM) for term in parse(text)) is hit


@pytest.mark.parametrize("text", ["name", "name > 3", "name=a OR name=b", 'name eq "("'])
def test_what_is_not_understood_is_refused_rather_than_ignored(text: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse(text)
    assert caught.value.code == 400


def test_pages_go_on_even_if_the_last_item_is_gone() -> None:
    documents = [(name, {"name": name}) for name in "abcde"]
    first = page(documents, {"maxResults": "2"})
    assert [key for key, _ in first.items] == ["a", "b"]
    rest = [document for document in documents if document[0] != "b"]
    second = page(rest, {"maxResults": "2", "pageToken": first.next_token or ""})
    assert [key for key, _ in second.items] == ["c", "d"]
    assert page(documents, {"maxResults": "5"}).next_token is None


def test_the_newest_first_if_asked() -> None:
    documents = [("a", {"insertTime": "1"}), ("b", {"insertTime": "3"}), ("c", {"creationTimestamp": "2"})]
    assert [key for key, _ in page(documents, {"orderBy": "creationTimestamp desc"}).items] == ["b", "c", "a"]


@pytest.mark.parametrize("query", [{"maxResults": "501"}, {"maxResults": "-1"}, {"pageToken": "?"}])
def test_wrong_pages_are_refused(query: dict[str, str]) -> None:
    with pytest.raises(ApiError):
        page([], query)


def test_every_scope_is_in_an_aggregated_list() -> None:
    items = [("z1/a", {"n": 1}), ("z1/b", {"n": 2})]
    found = grouped(items, ["z1", "z2"], "vms", lambda key: key.split("/")[0])
    assert found["z1"] == {"vms": [{"n": 1}, {"n": 2}]}
    assert found["z2"]["warning"]["code"] == "NO_RESULTS_ON_PAGE"
