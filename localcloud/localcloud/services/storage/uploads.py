"""The three ways content comes in: media, multipart and resumable. Ends in `Objects.insert`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import quote

from starlette.responses import JSONResponse, Response

from localcloud.context import Context
from localcloud.errors import ApiError, invalid
from localcloud.services.storage import multipart, ranges
from localcloud.services.storage.blobs import Parts
from localcloud.services.storage.buckets import Buckets, preconditions
from localcloud.services.storage.models import ObjectFields
from localcloud.services.storage.objects import Objects, Place
from localcloud.services.wire import parse
from localcloud.store import Json
from localcloud.web import Call

_UPLOAD = "storage.upload"
_RESUME_INCOMPLETE = 308


class Uploads:
    """Uploads into any bucket; unfinished resumable ones survive a restart."""

    def __init__(self, context: Context, buckets: Buckets, objects: Objects) -> None:
        self._context = context
        self._buckets = buckets
        self._objects = objects
        self._parts = Parts(context.settings.home)

    def begin(self, call: Call) -> Response:
        """`POST /upload/storage/v1/b/{bucket}/o`, in the form that `uploadType` names."""
        bucket = call.params["bucket"]
        kind = call.query.get("uploadType", "")
        if kind == "resumable":
            return self._begin_resumable(bucket, call)
        if kind == "multipart":
            metadata, content, content_type = _two_parts(call)
            _check_types(content_type, metadata.get("contentType"))
        elif kind == "media":
            metadata, content = {}, call.body
            content_type = call.headers.get("content-type", "")
        else:
            raise invalid(f"uploadType must be media, multipart or resumable, not '{kind}'")
        if content_type:
            metadata = {"contentType": content_type} | metadata
        return JSONResponse(self._store(bucket, metadata, content, call.query))

    def _store(self, bucket: str, metadata: Json, content: bytes, query: Mapping[str, str]) -> Json:
        fields = parse(ObjectFields, metadata, "object")
        name = query.get("name") or fields.name
        if not name:
            raise invalid("Required parameter: name")
        if query.get("contentEncoding"):
            fields = fields.model_copy(update={"content_encoding": query["contentEncoding"]})
        return self._objects.insert(Place(bucket, name), fields, content, preconditions(query))

    def _begin_resumable(self, bucket: str, call: Call) -> Response:
        self._buckets.record(bucket)
        preconditions(call.query)
        metadata = call.json()
        declared = call.headers.get("x-upload-content-type")
        if declared:
            metadata = {"contentType": declared} | metadata
        parse(ObjectFields, metadata, "object")
        upload = self._parts.begin()
        query = {key: value for key, value in call.query.items() if key != "uploadType"}
        self._context.store.insert(_UPLOAD, upload, {"bucket": bucket, "metadata": metadata, "query": query})
        base = f"{self._context.settings.base_url}/upload/storage/v1/b/{quote(bucket)}/o"
        location = f"{base}?uploadType=resumable&upload_id={upload}"
        return Response(headers={"Location": location, "X-GUploader-UploadID": upload})

    def resume(self, call: Call) -> Response:
        """One `PUT` of a resumable upload: 308 with what has arrived, or the finished object."""
        upload, record = self._record(call)
        try:
            chunk = ranges.chunk(call.headers.get("content-range"), len(call.body))
        except ranges.BadRangeError as error:
            raise invalid(str(error)) from error
        arrived = self._parts.size(upload)
        if chunk.span is not None:
            if chunk.span.first > arrived:
                raise ApiError(
                    503, "backendError", f"bytes {arrived}-{chunk.span.first - 1} have not arrived"
                )
            # A client that lost our answer sends bytes again; those that are here already are skipped.
            self._parts.append(upload, call.body[arrived - chunk.span.first :])
            arrived = self._parts.size(upload)
        if chunk.total is None or arrived < chunk.total:
            received = {"Range": f"bytes=0-{arrived - 1}"} if arrived else {}
            return Response(status_code=_RESUME_INCOMPLETE, headers=received)
        return self._finish(upload, record)

    def _finish(self, upload: str, record: Json) -> Response:
        self._context.store.delete(_UPLOAD, upload)
        content = self._parts.finish(upload)
        return JSONResponse(self._store(record["bucket"], record["metadata"], content, record["query"]))

    def cancel(self, call: Call) -> Response:
        upload, _ = self._record(call)
        self._context.store.delete(_UPLOAD, upload)
        self._parts.drop(upload)
        return Response(status_code=499)

    def _record(self, call: Call) -> tuple[str, Json]:
        upload = call.query.get("upload_id", "")
        found = self._context.store.get(_UPLOAD, upload)
        if found is None:
            raise ApiError(404, "notFound", f"No such upload: '{upload}'")
        return upload, found


def _check_types(sent: str, named: object) -> None:
    """The content type may be given twice, but not differently."""
    if sent and named and sent != named:
        raise invalid(
            f"Content-Type specified in the upload ({sent}) does not match Content-Type specified in metadata"
            f" ({named}). If it was a manual override, please make sure both the content types match."
        )


def _two_parts(call: Call) -> tuple[Json, bytes, str]:
    """Metadata, content and content type of a multipart body."""
    try:
        parts = multipart.parse(call.headers.get("content-type", ""), call.body)
        if len(parts) != 2:
            raise multipart.BadMultipartError(f"{len(parts)} parts instead of metadata and content")
        metadata = json.loads(parts[0].body)
    except ValueError as error:
        raise invalid(f"Malformed multipart body. {error}") from error
    if not isinstance(metadata, dict):
        raise invalid("Malformed multipart body. The metadata is not an object.")
    return metadata, parts[1].body, parts[1].headers.get("content-type", "")
