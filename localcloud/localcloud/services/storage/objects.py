"""Objects: content with generations, preconditions and checksums.

How content travels (multipart, resumable, download headers) is in `uploads` and the routes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from localcloud.clock import rfc3339
from localcloud.context import Context
from localcloud.errors import ApiError, invalid, invalid_field
from localcloud.services.storage import listing
from localcloud.services.storage.blobs import Blobs, crc32c, md5
from localcloud.services.storage.buckets import (
    OBJECT,
    Buckets,
    etag,
    patch_map,
    preconditions,
    require,
    require_read,
    without_nulls,
)
from localcloud.services.storage.models import ObjectFields
from localcloud.services.storage.preconditions import Preconditions, Version
from localcloud.services.storage.ranges import Span
from localcloud.services.wire import parse
from localcloud.store import Json

_COUNTER = "storage.generation"
_LONGEST_NAME = 1024


@dataclass(frozen=True)
class Place:
    """Where an object is."""

    bucket: str
    name: str

    @property
    def key(self) -> str:
        return f"{self.bucket}/{self.name}"


class Objects:
    """The live objects of all buckets; an overwritten or deleted generation is gone."""

    def __init__(self, context: Context, buckets: Buckets) -> None:
        self._context = context
        self._buckets = buckets
        self._blobs = Blobs(context.settings.home)

    def record(self, place: Place, generation: str = "") -> Json:
        """The stored object, or a 404."""
        self._buckets.record(place.bucket)
        found = self._context.store.get(OBJECT, place.key)
        if found is None or (generation and generation != found["generation"]):
            raise ApiError(404, "notFound", f"No such object: {place.key}")
        return found

    def version(self, place: Place) -> Version:
        found = self._context.store.get(OBJECT, place.key)
        return Version() if found is None else _version(found)

    def insert(self, place: Place, fields: ObjectFields, content: bytes, wanted: Preconditions) -> Json:
        """Write a new generation, if the preconditions hold and the checksums are those of the content."""
        _check_name(place.name)
        blob = self._blobs.write(content)
        try:
            record = self._fresh(place, fields, content) | {"blob": blob}
            with self._context.store.transaction():
                self._buckets.record(place.bucket)
                require(wanted, self.version(place))
                before = self._context.store.get(OBJECT, place.key)
                record["generation"] = self._next_generation()
                self._context.store.put(OBJECT, place.key, record)
        except BaseException:
            self._blobs.remove(blob)
            raise
        if before is not None:
            self._blobs.remove(before["blob"])
        return self.show(record)

    def _fresh(self, place: Place, fields: ObjectFields, content: bytes) -> Json:
        now = rfc3339(self._context.clock.now())
        given = fields.wire()
        sums = {"md5Hash": md5(content), "crc32c": crc32c(content)}
        for name, value in sums.items():
            if given.get(name, value) != value:
                raise invalid(f'Provided {name} "{given[name]}" doesn\'t match calculated {name} "{value}".')
        record: dict[str, Any] = {
            "kind": "storage#object",
            "contentType": "application/octet-stream",
            "storageClass": "STANDARD",
        } | given | sums  # fmt: skip
        if fields.metadata is not None:
            record["metadata"] = patch_map({}, fields.metadata)
        return record | {
            "bucket": place.bucket,
            "name": place.name,
            "size": str(len(content)),
            "metageneration": "1",
            "timeCreated": now,
            "updated": now,
            "timeStorageClassUpdated": now,
            "timeFinalized": now,
        }

    def _next_generation(self) -> str:
        """Microseconds, but growing also where the clock stands still."""
        last = self._context.store.get(_COUNTER, "last") or {"value": 0}
        value = max(int(self._context.clock.now().timestamp() * 1_000_000), last["value"] + 1)
        self._context.store.put(_COUNTER, "last", {"value": value})
        return str(value)

    def show(self, record: Json) -> Json:
        """The object as clients see it."""
        shown = {key: value for key, value in record.items() if key != "blob"}
        base = self._context.settings.base_url
        path = f"storage/v1/b/{record['bucket']}/o/{quote(record['name'], safe='')}"
        return shown | {
            "id": f"{record['bucket']}/{record['name']}/{record['generation']}",
            "selfLink": f"{base}/{path}",
            "mediaLink": f"{base}/download/{path}?generation={record['generation']}&alt=media",
            "etag": etag(int(record["generation"]), int(record["metageneration"])),
        }

    def get(self, place: Place, query: Mapping[str, str]) -> Json:
        """The stored object a read with these parameters finds."""
        record = self.record(place, query.get("generation", ""))
        require_read(preconditions(query), _version(record))
        return record

    def content(self, record: Json, span: Span | None = None) -> bytes:
        try:
            return self._blobs.read(record["blob"], span)
        except FileNotFoundError as error:  # overwritten between look-up and read
            message = f"No such object: {record['bucket']}/{record['name']}"
            raise ApiError(404, "notFound", message) from error

    def change(self, place: Place, body: Json, query: Mapping[str, str]) -> Json:
        """Patch metadata: what is given replaces, user metadata merges, null removes."""
        fields = parse(ObjectFields, body, "object")
        change = fields.model_dump(mode="json", by_alias=True, exclude_unset=True)
        for fixed in ("name", "md5Hash", "crc32c"):
            change.pop(fixed, None)
        with self._context.store.transaction():
            record = self.record(place, query.get("generation", ""))
            require(preconditions(query), _version(record))
            if fields.metadata is not None:
                change["metadata"] = patch_map(record.get("metadata"), fields.metadata)
            record = without_nulls(record | change) | {
                "metageneration": str(int(record["metageneration"]) + 1),
                "updated": rfc3339(self._context.clock.now()),
            }
            self._context.store.put(OBJECT, place.key, record)
        return self.show(record)

    def delete(self, place: Place, query: Mapping[str, str]) -> None:
        with self._context.store.transaction():
            record = self.record(place, query.get("generation", ""))
            require(preconditions(query), _version(record))
            self._context.store.delete(OBJECT, place.key)
        self._blobs.remove(record["blob"])

    def copy(self, source: Place, target: Place, body: Json, query: Mapping[str, str]) -> Json:
        """Write the source's content and metadata, or the metadata in the body, as a new generation."""
        record = self.record(source, query.get("sourceGeneration", ""))
        require(preconditions(query, "Source"), _version(record))
        names = [field.alias for field in ObjectFields.model_fields.values()]
        kept = ObjectFields.model_validate({name: record[name] for name in names if name in record})
        fields = parse(ObjectFields, body, "object") if body else kept
        if body and fields.content_type is None:
            fields = fields.model_copy(update={"content_type": record["contentType"]})
        return self.insert(target, fields, self.content(record), preconditions(query))

    def list(self, bucket: str, query: Mapping[str, str]) -> Json:
        self._buckets.record(bucket)
        wanted = _listing_query(query)
        start = len(bucket) + 1
        found = {
            key[start:]: record
            for key, record in self._context.store.list(OBJECT, f"{bucket}/{wanted.prefix}")
        }
        try:
            page = listing.page(found, wanted)
        except listing.BadPageTokenError as error:
            raise invalid(str(error)) from error
        answer: Json = {"kind": "storage#objects"}
        if page.names:
            answer["items"] = [self.show(found[name]) for name in page.names]
        if page.prefixes:
            answer["prefixes"] = list(page.prefixes)
        if page.token:
            answer["nextPageToken"] = page.token
        return answer


def _version(record: Json) -> Version:
    return Version(int(record["generation"]), int(record["metageneration"]))


def _check_name(name: str) -> None:
    too_long = len(name.encode()) > _LONGEST_NAME
    if not name or too_long or "\n" in name or "\r" in name or name in (".", ".."):
        raise invalid_field("name", name, "1 to 1024 bytes, without line ends.")


def _listing_query(query: Mapping[str, str]) -> listing.Query:
    limit = query.get("maxResults", "1000")
    if not limit.isdecimal() or limit == "0":
        raise invalid_field("maxResults", limit)
    return listing.Query(
        prefix=query.get("prefix", ""),
        delimiter=query.get("delimiter", ""),
        start=query.get("startOffset", ""),
        end=query.get("endOffset", ""),
        limit=min(int(limit), 1000),
        token=query.get("pageToken", ""),
        trailing=query.get("includeTrailingDelimiter", "").lower() == "true",
    )
