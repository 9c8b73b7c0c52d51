"""Storage as google-cloud-storage, google-api-python-client and raw HTTP see it."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from googleapiclient.errors import HttpError
from googleapiclient.http import MediaIoBaseUpload, build_http

from dev import plain

PROJECT = "p1"
NAME = "code/budget-a b/ü?#%2F+.py"


@pytest.fixture
def client(cloud: Any) -> storage.Client:
    options = {"api_endpoint": cloud.url}
    credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]
    return storage.Client(project=PROJECT, credentials=credentials, client_options=options)


@pytest.fixture
def bucket(client: storage.Client) -> storage.Bucket:
    return client.create_bucket("bucket-one", location="us-central1")


def test_buckets(client: storage.Client, cloud: Any) -> None:
    bucket = client.bucket("bucket-one")
    bucket.labels = {"owner": "abc"}
    client.create_bucket(bucket, location="us-central1")
    with pytest.raises(exceptions.Conflict):
        client.create_bucket("bucket-one")
    found = client.get_bucket("bucket-one")
    assert (found.labels, found.location) == ({"owner": "abc"}, "US-CENTRAL1")
    found.labels = {"owner": "def", "more": "x"}
    found.patch()
    del_label = client.get_bucket("bucket-one")
    labels = del_label.labels
    del labels["more"]
    del_label.labels = labels
    del_label.patch()
    assert client.get_bucket("bucket-one").labels == {"owner": "def"}
    assert [one.name for one in client.list_buckets()] == ["bucket-one"]
    found.delete()
    assert client.lookup_bucket("bucket-one") is None


def test_a_bucket_with_objects_is_not_deleted(bucket: storage.Bucket) -> None:
    bucket.blob("a").upload_from_string("x")
    with pytest.raises(exceptions.Conflict, match="not empty"):
        bucket.delete()
    bucket.blob("a").delete()
    bucket.delete()


def test_content_comes_back_as_it_went(bucket: storage.Bucket, cloud: Any) -> None:
    content = bytes(range(256)) * 4 + b"\r\n--==\r\n"
    blob = bucket.blob(NAME)
    blob.metadata = {"sha256": "abc"}
    blob.upload_from_string(content, content_type="application/zip")
    again = bucket.get_blob(NAME)
    assert again.download_as_bytes() == content
    assert again.download_as_bytes(start=3, end=9) == content[3:10]
    assert (again.content_type, again.metadata, again.size) == (
        "application/zip",
        {"sha256": "abc"},
        len(content),
    )
    assert again.md5_hash == base64.b64encode(hashlib.md5(content).digest()).decode()
    raw = plain.get(f"{cloud.url}/storage/v1/b/bucket-one/o/{quote(NAME, safe='')}").json()
    assert raw["name"] == NAME
    assert plain.get(raw["mediaLink"]).content == content
    assert plain.get(raw["selfLink"]).json() == raw


def test_an_empty_object(bucket: storage.Bucket) -> None:
    bucket.blob("empty").upload_from_string(b"")
    assert bucket.get_blob("empty").size == 0
    assert bucket.blob("empty").download_as_bytes() == b""


def test_generations_guard_writes_and_deletes(bucket: storage.Bucket) -> None:
    blob = bucket.blob("owner")
    blob.upload_from_string("one", if_generation_match=0)
    first = blob.generation
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("owner").upload_from_string("two", if_generation_match=0)
    blob.upload_from_string("two", if_generation_match=first)
    assert blob.generation > first
    with pytest.raises(exceptions.PreconditionFailed):
        blob.delete(if_generation_match=first)
    with pytest.raises(exceptions.NotFound):
        bucket.blob("owner", generation=first).download_as_bytes()
    assert bucket.blob("owner").download_as_bytes() == b"two"
    blob.delete(if_generation_match=blob.generation)
    assert not bucket.blob("owner").exists()
    blob.upload_from_string("three", if_generation_match=0)


def test_metadata_has_generations_of_its_own(bucket: storage.Bucket) -> None:
    blob = bucket.blob("a")
    blob.upload_from_string("x")
    blob.metadata = {"one": "1", "two": "2"}
    blob.patch(if_metageneration_match=1)
    with pytest.raises(exceptions.PreconditionFailed):
        blob.patch(if_metageneration_match=1)
    blob.metadata = {"one": None}
    blob.patch()
    found = bucket.get_blob("a")
    assert (found.metadata, found.metageneration) == ({"two": "2"}, 3)


def test_checksums_are_verified(bucket: storage.Bucket) -> None:
    blob = bucket.blob("a")
    blob.md5_hash = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    with pytest.raises(exceptions.BadRequest, match="md5Hash"):
        blob.upload_from_string("x")
    assert not bucket.blob("a").exists()


def test_a_content_type_comes_back_as_it_went(bucket: storage.Bucket, cloud: Any) -> None:
    for kind in ("text/plain", "text/html; charset=latin-1", "application/json"):
        bucket.blob("a").upload_from_string("x", content_type=kind)
        media = plain.get(f"{cloud.url}/storage/v1/b/bucket-one/o/a?alt=media")
        assert media.headers["content-type"] == kind


def test_two_content_types_for_one_upload_are_refused(bucket: storage.Bucket) -> None:
    blob = bucket.blob("a")
    blob.content_type = "a/b"
    with pytest.raises(exceptions.BadRequest, match="does not match Content-Type specified in metadata"):
        blob.upload_from_string("x", content_type="text/plain")
    blob.upload_from_string("x", content_type="a/b")


def test_resumable_uploads(bucket: storage.Bucket, cloud: Any) -> None:
    content = bytes(range(256)) * 2400
    blob = bucket.blob(NAME, chunk_size=262_144)
    blob.upload_from_file(io.BytesIO(content), content_type="application/zip", if_generation_match=0)
    assert blob.content_type == "application/zip"
    assert bucket.blob(NAME).download_as_bytes() == content
    statuses = [entry.status for entry in cloud.context.journal.entries() if entry.method == "PUT"]
    assert statuses == [308, 308, 200]


def test_a_resumable_upload_goes_on_after_a_lost_answer_and_a_restart(
    bucket: storage.Bucket, cloud: Any
) -> None:
    begun = plain.post(
        f"{cloud.url}/upload/storage/v1/b/bucket-one/o", params={"uploadType": "resumable", "name": "a"}
    )
    place = begun.headers["location"]
    assert plain.put(place, content=b"0123", headers={"Content-Range": "bytes 0-3/*"}).status_code == 308
    cloud.turn()
    asked = plain.put(place, headers={"Content-Range": "bytes */*"})
    assert (asked.status_code, asked.headers["range"]) == (308, "bytes=0-3")
    done = plain.put(place, content=b"2345", headers={"Content-Range": "bytes 2-5/6"})
    assert done.json()["size"] == "6"
    assert bucket.blob("a").download_as_bytes() == b"012345"


def test_listing(bucket: storage.Bucket, client: storage.Client, cloud: Any) -> None:
    for name in ("a/1", "a/2", "b/1", "c"):
        bucket.blob(name).upload_from_string(name)
    assert [blob.name for blob in client.list_blobs("bucket-one", prefix="a/")] == ["a/1", "a/2"]
    folders = client.list_blobs("bucket-one", delimiter="/")
    assert ([blob.name for blob in folders], folders.prefixes) == (["c"], {"a/", "b/"})
    pages = client.list_blobs("bucket-one", page_size=3).pages
    assert [[blob.name for blob in page] for page in pages] == [["a/1", "a/2", "b/1"], ["c"]]


def test_copy(bucket: storage.Bucket, client: storage.Client) -> None:
    other = client.create_bucket("bucket-two")
    blob = bucket.blob(NAME)
    blob.metadata = {"k": "v"}
    blob.upload_from_string("x", content_type="text/x-python")
    copied = bucket.copy_blob(blob, other, "b/c", if_generation_match=0)
    assert copied.download_as_bytes() == b"x"
    token, _, total = other.blob("d").rewrite(blob)
    assert (token, total) == (None, 1)
    found = other.get_blob("d")
    assert (found.content_type, found.metadata) == ("text/x-python", {"k": "v"})


def test_what_is_missing(bucket: storage.Bucket, client: storage.Client) -> None:
    with pytest.raises(exceptions.NotFound):
        bucket.blob("nothing").download_as_bytes()
    with pytest.raises(exceptions.NotFound):
        bucket.blob("nothing").delete()
    with pytest.raises(exceptions.NotFound):
        client.bucket("no-bucket").blob("a").upload_from_string("x")


def test_a_restart_forgets_nothing(bucket: storage.Bucket, cloud: Any) -> None:
    blob = bucket.blob("a")
    blob.upload_from_string("x")
    cloud.turn()
    assert bucket.get_blob("a").generation == blob.generation
    assert bucket.blob("a").download_as_bytes() == b"x"


def test_raw_requests(bucket: storage.Bucket, cloud: Any) -> None:
    upload = f"{cloud.url}/upload/storage/v1/b/bucket-one/o"
    made = plain.post(upload, params={"uploadType": "media", "name": "m"}, content=b"0123456789").json()
    media = f"{cloud.url}/storage/v1/b/bucket-one/o/m?alt=media"
    tail = plain.get(media, headers={"Range": "bytes=-3"})
    assert (tail.status_code, tail.content) == (206, b"789")
    assert tail.headers["content-range"] == "bytes 7-9/10"
    assert tail.headers["x-goog-hash"] == f"crc32c={made['crc32c']},md5={made['md5Hash']}"
    assert plain.get(media, headers={"Range": "bytes=10-"}).status_code == 416
    same = plain.get(media, params={"alt": "media", "ifGenerationNotMatch": made["generation"]})
    assert (same.status_code, same.content) == (304, b"")
    bad = plain.post(
        upload, params={"uploadType": "multipart"}, content=b"x", headers={"Content-Type": "a/b"}
    )
    assert (bad.status_code, bad.json()["error"]["errors"][0]["reason"]) == (400, "invalid")
    unknown = plain.post(f"{cloud.url}/storage/v1/b?project=p", json={"name": "bucket-x", "colour": "red"})
    assert unknown.status_code == 400
    assert "colour" in unknown.json()["error"]["message"]


def test_gclouds_multipart(bucket: storage.Bucket, cloud: Any) -> None:
    """Single-quoted boundary and bare line feeds."""
    boundary = "===============0123456789=="
    parts = [
        "application/json",
        "",
        '{"name": "g"}',
        "application/octet-stream\nMIME-Version: 1.0",
        "",
        "a\r\nb\n",
    ]
    first, second = "\n".join(parts[:3]), "\n".join(parts[3:])
    body = f"--{boundary}\nContent-Type: {first}\n--{boundary}\nContent-Type: {second}\n--{boundary}--"
    answer = plain.post(
        f"{cloud.url}/upload/storage/v1/b/bucket-one/o?uploadType=multipart",
        content=body.encode(),
        headers={"Content-Type": f"multipart/related; boundary='{boundary}'"},
    )
    assert answer.json()["name"] == "g"
    assert bucket.blob("g").download_as_bytes() == b"a\r\nb\n"


def test_google_api_python_client(cloud: Any, discovered: Callable[[str], Any]) -> None:
    service = discovered("storage.v1")
    service.buckets().insert(project=PROJECT, body={"name": "bucket-three"}).execute()
    media = MediaIoBaseUpload(io.BytesIO(b"x" * 300_000), "text/plain", chunksize=262_144, resumable=True)
    request = service.objects().insert(bucket="bucket-three", name="a/b", media_body=media)
    response = None
    while response is None:
        _, response = request.next_chunk(http=build_http())
    assert response["size"] == "300000"
    small = MediaIoBaseUpload(io.BytesIO(b"y"), "text/plain")
    service.objects().insert(bucket="bucket-three", body={"name": "c"}, media_body=small).execute()
    assert service.objects().get_media(bucket="bucket-three", object="a/b").execute() == b"x" * 300_000
    with pytest.raises(HttpError, match="412"):
        service.objects().delete(bucket="bucket-three", object="c", ifGenerationMatch="1").execute()
    listed = service.objects().list(bucket="bucket-three").execute()
    assert [one["name"] for one in listed["items"]] == ["a/b", "c"]
