"""Random sequences of storage calls, made to the local cloud and to fake-gcs-server, which has to agree.

Where they do not, `KNOWN` says why; a line of it that explains nothing is an error as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from dev.conformance import peers
from dev.conformance.differential import STATUS, Comparison, Known
from dev.conformance.server import Cloud
from dev.conformance.storage_side import Call, Storage
from localcloud.services.storage import ranges

BUCKETS = ("one", "two", "three")
NAMES = ("a", "a/", "a/b", "b c/ü?.py")
PROJECT = (("project", "p1"),)
GUARDS = ("0", "current", "stale")
PREFIXES = (None, "a", "a/", "b c/", "z")
RANGES = (None, None, "bytes=0-0", "bytes=1-3", "bytes=2-", "bytes=-2", "bytes=0-99", "bytes=9-12")

Row = Known[Call]
KNOWN: tuple[Row, ...] = (
    Row(
        "Google makes a bucket without a location in US; fake-gcs-server has a setting for it",
        lambda call, ours, _: call.verb in ("create", "bucket") and ours.parts.get("location") == "US",
        frozenset({"location"}),
    ),
    Row(
        "Google answers a deletion with 204 and nothing; fake-gcs-server with 200",
        lambda call, ours, theirs: (
            call.verb in ("drop", "delete") and (ours.status, theirs.status) == (204, 200)
        ),
        frozenset({STATUS}),
    ),
    Row(
        "Google refuses to delete a bucket with objects with 409 (BucketNotEmpty); fake-gcs-server with 412",
        lambda call, ours, theirs: call.verb == "drop" and (ours.status, theirs.status) == (409, 412),
        frozenset({STATUS}),
    ),
    Row(
        "Google refuses two different content types for one upload; fake-gcs-server takes the part's",
        lambda call, ours, _: (
            call.verb == "upload" and call.body[0].get("contentType") == "a/b" and ours.status == 400
        ),
        parted=True,
    ),
    Row(
        "fake-gcs-server does not count metagenerations",
        lambda call, ours, theirs: any(count != "1" for count in ours.parts.get("metagenerations", ())),
        frozenset({"metagenerations"}),
    ),
    Row(
        "fake-gcs-server answers a patch without kind",
        lambda call, ours, theirs: call.verb == "patch" and "kind" not in theirs.parts,
        frozenset({"kind"}),
    ),
    Row(
        "fake-gcs-server answers a patch with empty fields",
        lambda call, ours, theirs: call.verb == "patch" and theirs.parts.get("cacheControl") == "",
        frozenset({"cacheControl"}),
    ),
    Row(
        "fake-gcs-server heeds preconditions in uploads only",
        lambda call, ours, theirs: (
            call.verb != "upload" and bool(call.guards) and (ours.status, theirs.status) == (412, 200)
        ),
        parted=True,
    ),
)


def pairs(**values: str | None) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in values.items() if value is not None)


def calls() -> st.SearchStrategy[list[Call]]:
    every = (_on_buckets(), _on_objects(), _uploads(), _copies(), _reads())
    return st.lists(st.one_of(*every), min_size=10, max_size=25)


_bucket = st.sampled_from((*BUCKETS[:1] * 4, *BUCKETS))
_name = st.sampled_from((*NAMES[:1] * 3, *NAMES))
_guard = st.none() | st.sampled_from(GUARDS)
_metadata = st.sampled_from(
    ({}, {"metadata": {"k": "v"}}, {"contentType": "text/plain", "cacheControl": "x"}, {"contentType": "a/b"})
)


def _on_buckets() -> st.SearchStrategy[Call]:
    verb = st.sampled_from(("create", "bucket", "bucket", "drop"))
    return st.builds(Call, verb, st.sampled_from(BUCKETS), query=st.just(PROJECT))


def _upload(bucket: str, name: str, metadata: Any, content: str, guard: str | None) -> Call:
    return Call(
        "upload",
        bucket,
        name,
        guards=pairs(ifGenerationMatch=guard),
        query=pairs(uploadType="multipart"),
        body=({"name": name} | metadata, content),
    )


#: Two buckets, one with objects; the third is missing at first.
OPENING = (
    Call("create", "one", query=PROJECT),
    Call("create", "two", query=PROJECT),
    *(_upload("one", name, {}, f"content of {name}", None) for name in NAMES),
)


def _uploads() -> st.SearchStrategy[Call]:
    return st.builds(
        _upload, _bucket, _name, _metadata, st.sampled_from(("", "hello", "0123456789ü")), _guard
    )


def _on_objects() -> st.SearchStrategy[Call]:
    def make(verb: str, bucket: str, name: str, guard: str | None, body: Any) -> Call:
        given = body if verb == "patch" else None
        return Call(verb, bucket, name, guards=pairs(ifGenerationMatch=guard), body=given)

    body = st.sampled_from(
        ({"metadata": {"k": "w", "l": "x"}}, {"contentType": "a/b"}, {"cacheControl": "no"})
    )
    return st.builds(make, st.sampled_from(("get", "patch", "delete")), _bucket, _name, _guard, body)


def _copies() -> st.SearchStrategy[Call]:
    def make(verb: str, bucket: str, name: str, to: tuple[str, str], guard: str | None) -> Call:
        return Call(verb, bucket, name, target=to, guards=pairs(ifGenerationMatch=guard))

    return st.builds(
        make, st.sampled_from(("copyTo", "rewriteTo")), _bucket, _name, st.tuples(_bucket, _name), _guard
    )


def _reads() -> st.SearchStrategy[Call]:
    def read(verb: str, bucket: str, name: str, span: str | None) -> Call:
        headers = (("Range", span),) if span else ()
        return Call(verb, bucket, name, query=pairs(alt="media"), headers=headers)

    def listed(bucket: str, prefix: str | None, delimiter: str | None, more: dict[str, str]) -> Call:
        return Call("list", bucket, query=pairs(prefix=prefix, delimiter=delimiter, **more))

    more = st.sampled_from(
        ({}, {"includeTrailingDelimiter": "true"}, {"startOffset": "a/", "endOffset": "b"})
    )
    lists = st.builds(listed, _bucket, st.sampled_from(PREFIXES), st.sampled_from((None, "/")), more)
    return lists | st.builds(
        read, st.sampled_from(("read", "download")), _bucket, _name, st.sampled_from(RANGES)
    )


@pytest.fixture(scope="module")
def other() -> Iterator[str]:
    try:
        peers.storage_program()
    except peers.AbsentError as error:
        pytest.skip(str(error))
    with peers.storage() as url:
        yield url


@pytest.fixture
def comparison(cloud: Cloud, other: str) -> Iterator[Comparison[Call]]:
    with httpx.Client(base_url=cloud.url) as ours, httpx.Client(base_url=other) as theirs:
        yield Comparison(Storage(ours), Storage(theirs), KNOWN, OPENING)


def compare(comparison: Comparison[Call], examples: int) -> None:
    @settings(max_examples=examples, deadline=None, derandomize=True, phases=[Phase.generate, Phase.shrink])
    @given(calls())
    def agree(sequence: list[Call]) -> None:
        found = comparison.differences(sequence)
        assert not found, "\n".join(found)

    agree()


def test_both_answer_alike_but_for_what_is_known(comparison: Comparison[Call]) -> None:
    compare(comparison, 150)
    assert comparison.never_met() == [], "these lines of the table explain nothing any more"
    assert comparison.calls > 3000


def test_a_wrong_status_is_found(comparison: Comparison[Call], cloud: Cloud) -> None:
    with (
        cloud.fault(kind="call", method="PATCH", path=".*/o/a", code=503, count=0),
        pytest.raises(AssertionError, match=r"verb='patch'.*status differ"),
    ):
        compare(comparison, 50)


def test_a_wrong_content_is_found(comparison: Comparison[Call], monkeypatch: pytest.MonkeyPatch) -> None:
    right = ranges.requested

    def one_too_many(header: str | None, size: int) -> ranges.Span | None:
        span = right(header, size)
        return span and ranges.Span(span.first, span.end + 1)

    monkeypatch.setattr(ranges, "requested", one_too_many)
    with pytest.raises(AssertionError, match="content, range differ"):
        compare(comparison, 50)
