"""The fields of buckets and objects that clients may set. `buckets` and `objects` add the rest."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from localcloud.services.wire import Message
from localcloud.store import Json

_ADDED = frozenset(
    {
        "etag", "generation", "metageneration", "id", "kind", "owner", "selfLink", "timeCreated", "updated",
        "projectNumber", "locationType", "mediaLink", "size", "timeStorageClassUpdated", "timeFinalized",
        "componentCount", "bucket", "acl", "defaultObjectAcl",
    }
)  # fmt: skip


class BucketFields(Message):
    """What a bucket is made with."""

    output_only: ClassVar[frozenset[str]] = _ADDED
    not_offered: ClassVar[frozenset[str]] = frozenset(
        {"versioning", "lifecycle", "retentionPolicy", "encryption", "website", "autoclass", "logging"}
    )

    name: str | None = None
    labels: dict[str, str | None] | None = None
    location: str | None = None
    storage_class: str | None = None
    iam_configuration: Json | None = None
    soft_delete_policy: Json | None = None


class ObjectFields(Message):
    """What an object is uploaded or patched with; the checksums are verified against the content."""

    output_only: ClassVar[frozenset[str]] = _ADDED
    not_offered: ClassVar[frozenset[str]] = frozenset({"temporaryHold", "eventBasedHold", "retention"})

    name: str | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    content_language: str | None = None
    content_disposition: str | None = None
    cache_control: str | None = None
    custom_time: str | None = None
    storage_class: str | None = None
    metadata: dict[str, str | None] | None = None
    md5_hash: str | None = None
    crc32c: str | None = Field(default=None, alias="crc32c")  # the generator would say crc32C
