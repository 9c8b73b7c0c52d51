"""Buckets: made, labelled, listed, deleted when empty. Their objects live in `objects`."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

from localcloud.clock import rfc3339
from localcloud.context import Context
from localcloud.errors import ApiError, condition_not_met, conflict, invalid, invalid_field
from localcloud.policies import POLICY
from localcloud.services.storage.models import BucketFields
from localcloud.services.storage.preconditions import BadPreconditionError, Preconditions, Version
from localcloud.services.wire import parse
from localcloud.store import AlreadyExists, Json

BUCKET = "storage.bucket"
OBJECT = "storage.object"
# Google's rules: parts between dots of at most 63, no address, nothing that looks like Google's own.
_NAME = re.compile(
    r"(?!goog)(?!.*google)(?!(?:\d+\.){3}\d+$)(?!.*[^.]{64})[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"
)
_LABEL = re.compile(r"[a-z0-9_-]{0,63}")


class NotModifiedError(Exception):
    """The caller has what it asks for already: 304, without a body."""


def preconditions(query: Mapping[str, str], infix: str = "") -> Preconditions:
    """Read preconditions, or answer 400."""
    try:
        return Preconditions.of(query, infix)
    except BadPreconditionError as error:
        raise invalid(str(error)) from error


def require(wanted: Preconditions, there: Version) -> None:
    """Answer 412 unless every precondition of a write holds."""
    if wanted.unmet(there) or wanted.unchanged(there):
        raise condition_not_met("At least one of the pre-conditions you specified did not hold.")


def require_read(wanted: Preconditions, there: Version) -> None:
    """Answer 412 or, for a read of what the caller has already, 304."""
    if wanted.unmet(there):
        require(wanted, there)
    if wanted.unchanged(there):
        raise NotModifiedError


def etag(generation: int, metageneration: int) -> str:
    """Opaque to clients, but gcloud wants base64."""
    return base64.b64encode(f"{generation}/{metageneration}".encode()).decode()


def patch_map(current: Mapping[str, str] | None, change: Mapping[str, str | None]) -> Json:
    """Merge a map the way JSON merge patch does: null removes a key."""
    return without_nulls({**(current or {}), **change})


def without_nulls(record: Json) -> Json:
    """A patch sets a field to null to remove it."""
    return {key: value for key, value in record.items() if value is not None}


class Buckets:
    """The buckets of all projects; names are global."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def insert(self, body: Json, project: str) -> Json:
        if not project:
            raise invalid("Required parameter: project")
        fields = parse(BucketFields, body, "bucket")
        name = fields.name or ""
        if not _NAME.fullmatch(name):
            raise invalid(f"Invalid bucket name: '{name}'")
        _check_labels(fields)
        record = self._fresh(fields, name, project)
        try:
            self._context.store.insert(BUCKET, name, record)
        except AlreadyExists as error:
            message = "Your previous request to create the named bucket succeeded and you already own it."
            raise conflict(message) from error
        return self.show(record)

    def _fresh(self, fields: BucketFields, name: str, project: str) -> Json:
        now = rfc3339(self._context.clock.now())
        location = (fields.location or "US").upper()
        record: dict[str, Any] = {
            "kind": "storage#bucket",
            "id": name,
            "projectNumber": "1",
            "locationType": "multi-region" if location in ("US", "EU", "ASIA") else "region",
            "metageneration": "1",
            "timeCreated": now,
            "updated": now,
            "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}},
            "project": project,
        } | fields.wire()  # fmt: skip
        record["location"] = location
        record["storageClass"] = fields.storage_class or "STANDARD"
        return record

    def record(self, name: str) -> Json:
        """The stored bucket, or a 404."""
        found = self._context.store.get(BUCKET, name)
        if found is None:
            raise ApiError(404, "notFound", "The specified bucket does not exist.")
        return found

    def show(self, record: Json) -> Json:
        """The bucket as clients see it."""
        shown = {key: value for key, value in record.items() if key != "project"}
        link = f"{self._context.settings.base_url}/storage/v1/b/{record['name']}"
        return shown | {"selfLink": link, "etag": etag(0, int(record["metageneration"]))}

    def get(self, name: str, query: Mapping[str, str]) -> Json:
        record = self.record(name)
        require_read(preconditions(query), _version(record))
        return self.show(record)

    def layout(self, name: str) -> Json:
        """Whether names are a true hierarchy: never."""
        record = self.record(name)
        return {
            "kind": "storage#storageLayout",
            "bucket": name,
            "location": record["location"],
            "locationType": record["locationType"],
            "hierarchicalNamespace": {"enabled": False},
        }

    def managed_folders(self, name: str) -> Json:
        """There are none."""
        self.record(name)
        return {"kind": "storage#managedFolders"}

    def list(self, project: str, prefix: str) -> Json:
        if not project:
            raise invalid("Required parameter: project")
        found = [
            self.show(record)
            for _, record in self._context.store.list(BUCKET, prefix)
            if record["project"] == project
        ]
        return {"kind": "storage#buckets"} | ({"items": found} if found else {})

    def change(self, name: str, body: Json, query: Mapping[str, str]) -> Json:
        """Patch a bucket: what is given replaces, labels merge."""
        fields = parse(BucketFields, body, "bucket")
        _check_labels(fields)
        with self._context.store.transaction():
            record = self.record(name)
            require(preconditions(query), _version(record))
            change = fields.model_dump(mode="json", by_alias=True, exclude_unset=True)
            _refuse_moving(record, change)
            if fields.labels is not None:
                change["labels"] = patch_map(record.get("labels"), fields.labels)
            if fields.iam_configuration is not None:
                change["iamConfiguration"] = patch_map(
                    record.get("iamConfiguration"), fields.iam_configuration
                )
            record = without_nulls(record | change) | {
                "metageneration": str(int(record["metageneration"]) + 1),
                "updated": rfc3339(self._context.clock.now()),
            }
            self._context.store.put(BUCKET, name, record)
        return self.show(record)

    def delete(self, name: str, query: Mapping[str, str]) -> None:
        with self._context.store.transaction():
            require(preconditions(query), _version(self.record(name)))
            if self._context.store.list(OBJECT, f"{name}/"):
                raise conflict("The bucket you tried to delete is not empty.")
            self._context.store.delete(BUCKET, name)
            self._context.store.delete(POLICY, f"projects/_/buckets/{name}")


def _version(record: Json) -> Version:
    return Version(metageneration=int(record["metageneration"]))


def _refuse_moving(record: Json, change: Json) -> None:
    for field in ("name", "location"):
        if str(change.pop(field, record[field])).upper() != record[field].upper():
            raise invalid_field(field, record[field], "It cannot be changed.")


def _check_labels(fields: BucketFields) -> None:
    for key, value in (fields.labels or {}).items():
        if not key or not _LABEL.fullmatch(key) or not _LABEL.fullmatch(value or ""):
            raise invalid_field("labels", f"{key}={value}", "Lower case, at most 63 characters.")
