"""google-cloud-storage."""

import io
import os
from typing import Any

from google.api_core import exceptions
from google.cloud import storage

from dev.conformance import clients
from dev.conformance.bodies import PROJECT, REGION
from dev.conformance.script import Script, same

BUCKET = "conform-bucket"
NAME = "code/a b/ü?#%2F+.py"


def run(script: Script) -> None:
    """Buckets, objects, generations, every kind of upload and download."""
    client = storage.Client(PROJECT, **clients.options(script.cloud.url))
    _buckets(script, client)
    _objects(script, client.bucket(BUCKET))
    _generations(script, client.bucket(BUCKET))
    _uploads(script, client.bucket(BUCKET))
    _lists(script, client)
    _end(script, client.bucket(BUCKET))


def _buckets(script: Script, client: Any) -> None:
    with script.call("buckets.insert"):
        made = client.bucket(BUCKET)
        made.labels = {"owner": "abc"}
        client.create_bucket(made, location=REGION)
    with script.refused("buckets.insert of the same name", exceptions.Conflict):
        client.create_bucket(BUCKET)
    with script.refused("buckets.insert of a bad name", exceptions.BadRequest):
        client.create_bucket("goog-bucket")
    with script.call("buckets.get"):
        same(
            (client.get_bucket(BUCKET).labels, client.get_bucket(BUCKET).location),
            ({"owner": "abc"}, REGION.upper()),
        )
    with script.call("buckets.patch"):
        changed = client.get_bucket(BUCKET)
        changed.labels = {"owner": "def"}
        changed.patch()
        same(client.get_bucket(BUCKET).labels, {"owner": "def"})
    with script.refused("buckets.get of none", exceptions.NotFound):
        client.get_bucket("nobodys-bucket")
    with script.call("buckets.list"):
        same([each.name for each in client.list_buckets()], [BUCKET])


def _objects(script: Script, bucket: Any) -> None:
    content = os.urandom(5000)
    with script.call("objects.insert with metadata"):
        blob = bucket.blob(NAME)
        blob.metadata = {"sha256": "abc"}
        blob.upload_from_string(content, content_type="application/zip")
    with script.call("objects.get"):
        got = bucket.get_blob(NAME)
        same((got.size, got.content_type, got.metadata), (5000, "application/zip", {"sha256": "abc"}))
    with script.call("objects.get of the content, checksums verified"):
        same(bucket.blob(NAME).download_as_bytes(), content)
    with script.call("objects.get of a range"):
        same(bucket.blob(NAME).download_as_bytes(start=10, end=19), content[10:20])
    with script.call("objects.patch"):
        got.metadata = {"more": "x"}
        got.patch()
        same(bucket.get_blob(NAME).metadata, {"sha256": "abc", "more": "x"})
    with script.call("objects.get of none"):
        same(bucket.get_blob("nobody"), None)
    with script.refused("objects.get of the content of none", exceptions.NotFound):
        bucket.blob("nobody").download_as_bytes()
    with script.call("objects.insert of nothing"):
        bucket.blob("empty").upload_from_string(b"")
        same(bucket.blob("empty").download_as_bytes(), b"")


def _generations(script: Script, bucket: Any) -> None:
    with script.call("objects.insert ifGenerationMatch=0"):
        bucket.blob("guarded").upload_from_string("one", if_generation_match=0)
    with script.refused("objects.insert ifGenerationMatch=0 again", exceptions.PreconditionFailed):
        bucket.blob("guarded").upload_from_string("two", if_generation_match=0)
    with script.call("objects.insert ifGenerationMatch"):
        generation = bucket.get_blob("guarded").generation
        bucket.blob("guarded").upload_from_string("two", if_generation_match=generation)
    with script.refused("objects.delete with an old generation", exceptions.PreconditionFailed):
        bucket.blob("guarded").delete(if_generation_match=generation)
    with script.refused("objects.patch with an old metageneration", exceptions.PreconditionFailed):
        blob = bucket.get_blob("guarded")
        blob.metadata = {"a": "b"}
        blob.patch(if_metageneration_match=99)
    with script.call("objects.delete with the generation"):
        blob = bucket.get_blob("guarded")
        blob.delete(if_generation_match=blob.generation)
        same(bucket.blob("guarded").exists(), False)


def _uploads(script: Script, bucket: Any) -> None:
    content = os.urandom(700_000)
    with script.call("objects.insert, resumable"):
        blob = bucket.blob("large", chunk_size=256 * 1024)
        blob.upload_from_file(io.BytesIO(content), size=len(content))
        same(bucket.blob("large").download_as_bytes(), content)
    with script.refused("objects.insert with a wrong md5Hash", exceptions.BadRequest):
        wrong = bucket.blob("wrong")
        wrong.md5_hash = "AAAAAAAAAAAAAAAAAAAAAA=="
        wrong.upload_from_string("x")
    with script.call("objects.rewrite"):
        token, done, _ = bucket.blob("copy").rewrite(bucket.blob("large"))
        same((token, done), (None, len(content)))
        same(bucket.blob("copy").download_as_bytes(), content)


def _lists(script: Script, client: Any) -> None:
    for name in ("a/1", "a/2", "b/1"):
        client.bucket(BUCKET).blob(name).upload_from_string("x")
    with script.call("objects.list with a prefix"):
        same([blob.name for blob in client.list_blobs(BUCKET, prefix="a/")], ["a/1", "a/2"])
    with script.call("objects.list with a delimiter"):
        found = client.list_blobs(BUCKET, delimiter="/")
        list(found)
        same(found.prefixes, {"a/", "b/", "code/"})
    with script.call("objects.list in pages"):
        pages = client.list_blobs(BUCKET, page_size=2, prefix="a").pages
        same([[blob.name for blob in page] for page in pages], [["a/1", "a/2"]])


def _end(script: Script, bucket: Any) -> None:
    with script.refused("buckets.delete of one with objects", exceptions.Conflict):
        bucket.delete()
    with script.call("objects.delete"):
        for blob in list(bucket.list_blobs()):
            blob.delete()
    with script.refused("objects.delete of none", exceptions.NotFound):
        bucket.blob("nobody").delete()
    with script.call("buckets.delete"):
        bucket.delete()
        same(bucket.exists(), False)
