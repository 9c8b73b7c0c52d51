"""Cloud Storage: the installation's one bucket and what lies in it, and what is copied into it from others.

Writes carry no retries; deleting what is gone already is success.
"""

import os
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from google.cloud.storage import Client

from budget_operator.cloud.connection import CONNECT_SECONDS, READ_SECONDS, Connection
from budget_operator.cloud.failures import translated
from budget_operator.core.errors import NotFound
from budget_operator.core.observed import Bucket, Content, Contents, Listed, Object, Stored

# This client speaks `requests` itself and takes its pair of timeouts directly.
_CALL: dict[str, Any] = {"retry": None, "timeout": (CONNECT_SECONDS, READ_SECONDS)}
# A request copies for as long as half a minute before it answers how far it came.
_COPY: dict[str, Any] = _CALL | {"timeout": (CONNECT_SECONDS, 60.0)}
# An eighth of what there is to tell of an object: a list of thousands is taken every other minute.
_CONTENTS = "items(name,size,crc32c),nextPageToken"


class StorageGateway:
    """`core.gateways.Storage` on the real client."""

    def __init__(self, connection: Connection, bucket: str) -> None:
        self._connection = connection
        self._name = bucket

    @cached_property
    def _client(self) -> Any:
        # Or it looks the bucket up by itself, in a thread of its own, only to label traces nobody takes.
        os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
        return self._connection.client(Client, project=self._connection.project)

    def bucket(self) -> Bucket | None:
        with translated(f"get bucket {self._name}"):
            found = self._client.lookup_bucket(self._name, **_CALL)
        return None if found is None else _bucket(found)

    def create_bucket(self, region: str, labels: Mapping[str, str]) -> None:
        made = self._client.bucket(self._name)
        made.labels = dict(labels)
        made.iam_configuration.uniform_bucket_level_access_enabled = True
        made.iam_configuration.public_access_prevention = "enforced"
        with translated(f"create bucket {self._name} in {region}"):
            self._client.create_bucket(made, location=region, **_CALL)

    def delete_bucket(self) -> None:
        """Empty the bucket, old versions included, and delete it."""
        try:
            with translated(f"empty bucket {self._name}"):
                found = list(self._client.list_blobs(self._name, versions=True, **_CALL))
            for blob in found:
                self._delete(blob.name, blob.generation)
            with translated(f"delete bucket {self._name}"):
                self._client.bucket(self._name).delete(**_CALL)
        except NotFound:
            return

    def objects(self, prefix: str) -> Contents:
        with translated(f"list objects {prefix}* in bucket {self._name}"):
            found = self._client.list_blobs(self._name, prefix=prefix, fields=_CONTENTS, **_CALL)
            return {blob.name: Content(int(blob.size), blob.crc32c or "") for blob in found}

    def contents(self, prefix: str) -> tuple[Object, ...]:
        try:
            with translated(f"list objects {prefix}* in bucket {self._name}"):
                found = self._client.list_blobs(self._name, prefix=prefix, **_CALL)
                return tuple(_object(blob) for blob in found)
        except NotFound:
            return ()

    def listed(self, field: str, bucket: str, prefix: str, most: int) -> tuple[Listed, ...]:
        with translated(f"{field}: list gs://{bucket}/{prefix}"):
            found = self._client.list_blobs(bucket, prefix=prefix, max_results=most, **_CALL)
            return tuple(_listed(blob) for blob in found)

    def copy(self, field: str, bucket: str, source: Listed, name: str) -> None:
        """Between distant buckets it takes several requests, each of which goes on from the one before."""
        blob = self._client.bucket(bucket).blob(source.name, generation=source.generation)
        made, token = self._client.bucket(self._name).blob(name), None
        with translated(f"{field}: copy gs://{bucket}/{source.name} to bucket {self._name}"):
            while True:
                token, _, _ = made.rewrite(blob, token=token, **_COPY)
                if token is None:
                    return

    def upload(self, name: str, data: bytes, content_type: str) -> None:
        with translated(f"upload {name} to bucket {self._name}"):
            blob = self._client.bucket(self._name).blob(name)
            blob.upload_from_string(data, content_type=content_type, **_CALL)

    def delete_object(self, name: str) -> None:
        self._delete(name, None)

    def read(self, name: str) -> Stored | None:
        blob = self._client.bucket(self._name).blob(name)
        try:
            with translated(f"read {name} in bucket {self._name}"):
                data = blob.download_as_bytes(**_CALL)
        except NotFound:
            return None
        return Stored(data, int(blob.generation))

    def write(self, name: str, data: bytes, content_type: str, generation: int) -> int:
        blob = self._client.bucket(self._name).blob(name)
        with translated(f"write {name} to bucket {self._name}"):
            blob.upload_from_string(data, content_type=content_type, if_generation_match=generation, **_CALL)
        return int(blob.generation)

    def _delete(self, name: str, generation: int | None) -> None:
        try:
            with translated(f"delete object {name} in bucket {self._name}"):
                self._client.bucket(self._name).delete_blob(name, generation=generation, **_CALL)
        except NotFound:
            return


def _bucket(found: Any) -> Bucket:
    return Bucket(found.name, dict(found.labels), (found.location or "").lower())


def _object(blob: Any) -> Object:
    return Object(blob.name, int(blob.size), int(blob.generation), blob.time_created)


def _listed(blob: Any) -> Listed:
    return Listed(
        name=blob.name,
        generation=int(blob.generation),
        size=int(blob.size),
        crc32c=blob.crc32c or "",
        md5=blob.md5_hash or "",
        encoding=blob.content_encoding or "",
    )
