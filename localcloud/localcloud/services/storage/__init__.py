"""Cloud Storage, JSON API: `/storage/v1`, `/upload/storage/v1` and `/download/storage/v1`.

Here are the routes and the reading of paths; buckets, objects and uploads have modules of their own.
Object versioning, ACLs, lifecycle rules and signed URLs are not offered.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import unquote

from starlette.responses import Response
from starlette.routing import BaseRoute

from localcloud.context import Context, Resource
from localcloud.errors import ApiError
from localcloud.services.iam.policies import Policies
from localcloud.services.storage import ranges
from localcloud.services.storage.buckets import BUCKET, Buckets, NotModifiedError
from localcloud.services.storage.objects import Objects, Place
from localcloud.services.storage.uploads import Uploads
from localcloud.store import Json
from localcloud.web import Call, Handler, route

_ROOT = "/storage/v1/b"
_NO_CONTENT = 204


def routes(context: Context) -> list[BaseRoute]:
    buckets = Buckets(context)
    objects = Objects(context, buckets)
    context.registry.listers.append(lambda: _resources(context))
    return [
        *_bucket_routes(buckets),
        *_policy_routes(buckets, Policies(context)),
        *_upload_routes(Uploads(context, buckets, objects)),
        *_object_routes(objects),
    ]


def _resources(context: Context) -> Iterator[Resource]:
    for name, record in context.store.list(BUCKET):
        yield Resource("bucket", name, record["location"].lower(), "")


def _bucket_routes(buckets: Buckets) -> list[BaseRoute]:
    def delete(call: Call) -> Response:
        buckets.delete(call.params["bucket"], call.query)
        return Response(status_code=_NO_CONTENT)

    one = _ROOT + "/{bucket}"
    return [
        route("POST", _ROOT, lambda call: buckets.insert(call.json(), call.query.get("project", ""))),
        route(
            "GET",
            _ROOT,
            lambda call: buckets.list(call.query.get("project", ""), call.query.get("prefix", "")),
        ),
        route("GET", one, _reading(lambda call: buckets.get(call.params["bucket"], call.query))),
        route("PATCH", one, lambda call: buckets.change(call.params["bucket"], call.json(), call.query)),
        route("DELETE", one, delete),
        # gcloud asks both before it removes a bucket with its objects.
        route("GET", one + "/storageLayout", lambda call: buckets.layout(call.params["bucket"])),
        route("GET", one + "/managedFolders", lambda call: buckets.managed_folders(call.params["bucket"])),
    ]


def _policy_routes(buckets: Buckets, policies: Policies) -> list[BaseRoute]:
    def shown(call: Call, policy: Json) -> Json:
        return {"kind": "storage#policy", "resourceId": _resource(call), **policy}

    def get(call: Call) -> Json:
        buckets.record(call.params["bucket"])
        return shown(call, policies.get(_resource(call)))

    def change(call: Call) -> Json:
        buckets.record(call.params["bucket"])
        return shown(call, policies.set(_resource(call), call.json()))

    def test(call: Call) -> Json:
        buckets.record(call.params["bucket"])
        held = policies.test(_resource(call), call.query_lists.get("permissions", ()), call)
        return {"kind": "storage#testIamPermissionsResponse", **held}

    path = _ROOT + "/{bucket}/iam"
    return [
        route("GET", path, get),
        route("PUT", path, change),
        route("GET", path + "/testPermissions", test),
    ]


def _resource(call: Call) -> str:
    return f"projects/_/buckets/{call.params['bucket']}"


def _upload_routes(uploads: Uploads) -> list[BaseRoute]:
    path = "/upload" + _ROOT + "/{bucket}/o"
    return [
        route("POST", path, uploads.begin),
        route("PUT", path, uploads.resume),
        route("DELETE", path, uploads.cancel),
    ]


def _object_routes(objects: Objects) -> list[BaseRoute]:
    def delete(call: Call) -> Response:
        objects.delete(_place(call), call.query)
        return Response(status_code=_NO_CONTENT)

    def read(call: Call) -> Json | Response:
        record = objects.get(_place(call), call.query)
        return _media(objects, record, call) if call.query.get("alt") == "media" else objects.show(record)

    def download(call: Call) -> Response:
        return _media(objects, objects.get(_place(call), call.query), call)

    one = _ROOT + "/{bucket}/o/{rest:path}"
    return [
        route("GET", _ROOT + "/{bucket}/o", lambda call: objects.list(call.params["bucket"], call.query)),
        route("GET", one, _reading(read)),
        route("GET", "/download" + one, _reading(download)),
        route("PATCH", one, lambda call: objects.change(_place(call), call.json(), call.query)),
        route("DELETE", one, delete),
        route("POST", one, lambda call: _copy(objects, call)),
    ]


def _reading(handler: Handler) -> Handler:
    """Answer 304 without a body where the caller has the version already."""

    def read(call: Call) -> Json | Response:
        try:
            return handler(call)
        except NotModifiedError:
            return Response(status_code=304)

    return read


def _segments(call: Call) -> list[str]:
    """The path behind `/o/`, split before it is decoded: names arrive with `/` as `%2F`."""
    return [unquote(part) for part in call.raw_path.split("/o/", 1)[1].split("/")]


def _place(call: Call) -> Place:
    segments = _segments(call)
    if len(segments) != 1:
        raise ApiError(404, "notFound", f"Not Found: write the name as one segment ({'%2F'.join(segments)})")
    return Place(call.params["bucket"], segments[0])


def _copy(objects: Objects, call: Call) -> Json:
    """`{source}/copyTo/b/{bucket}/o/{name}`, and `rewriteTo`, which is done at once."""
    match _segments(call):
        case [source, "copyTo" | "rewriteTo" as verb, "b", bucket, "o", name]:
            made = objects.copy(
                Place(call.params["bucket"], source), Place(bucket, name), call.json(), call.query
            )
            return made if verb == "copyTo" else _rewritten(made)
        case _:
            raise ApiError(404, "notFound", f"Not Found: {call.raw_path}")


def _rewritten(made: Json) -> Json:
    size = made["size"]
    done = {"kind": "storage#rewriteResponse", "done": True, "objectSize": size, "totalBytesRewritten": size}
    return done | {"resource": made}


def _media(objects: Objects, record: Json, call: Call) -> Response:
    """The content, or the range of it that was asked for."""
    size = int(record["size"])
    try:
        span = ranges.requested(call.headers.get("range"), size)
    except ranges.UnsatisfiableRangeError as error:
        return Response(str(error), 416, {"Content-Range": f"bytes */{size}"})
    headers = _headers(record, objects)
    if span is not None:
        headers["Content-Range"] = f"bytes {span.first}-{span.end - 1}/{size}"
    return Response(objects.content(record, span), 200 if span is None else 206, headers)


def _headers(record: Json, objects: Objects) -> dict[str, str]:
    headers = {
        "Content-Type": record["contentType"],  # as it is: no charset is added to a text
        "x-goog-hash": f"crc32c={record['crc32c']},md5={record['md5Hash']}",
        "x-goog-generation": record["generation"],
        "x-goog-metageneration": record["metageneration"],
        "x-goog-stored-content-length": record["size"],
        "x-goog-stored-content-encoding": record.get("contentEncoding", "identity"),
        "x-goog-storage-class": record["storageClass"],
        "ETag": objects.show(record)["etag"],
        "Accept-Ranges": "bytes",
    }
    for field, header in (
        ("contentEncoding", "Content-Encoding"),
        ("cacheControl", "Cache-Control"),
        ("contentDisposition", "Content-Disposition"),
        ("contentLanguage", "Content-Language"),
    ):
        if field in record:
            headers[header] = record[field]
    return headers
